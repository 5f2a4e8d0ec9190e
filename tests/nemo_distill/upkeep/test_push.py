"""A real checkpoint of a finished run goes to a hub on this machine, through the hub's own client."""

import base64
import hashlib
import json
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import yaml

from benchmarks.made_up_runs import make_run
from evaluator.suites.catalogue import get_suite
from nemo_distill.cli import main
from nemo_distill.run.manifest import find
from nemo_distill.run.step import mark_done
from tests import old_runs

RUN = "distill_v1v3-debug"
TOKEN = "hf_good"


class Hub(ThreadingHTTPServer):
    """What the Hub's API does for an upload: repositories, large files by their hash, commits of all or nothing."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.private: dict[str, bool] = {}
        self.large: dict[str, bytes] = {}
        self.commits: list[dict[str, bytes]] = []
        self.received = 0
        self.fails_at = ""
        """Part of a path that is answered by 503."""


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Hub

    def do_POST(self) -> None:
        body, hub = self.rfile.read(int(self.headers.get("Content-Length") or 0)), self.server
        if self.headers.get("Authorization") != f"Bearer {TOKEN}" and not self.path.startswith("/large/"):
            return self.answer(401, {"error": "Invalid credentials"})
        if hub.fails_at and hub.fails_at in self.path:
            return self.answer(403, {"error": "over your quota"})
        if self.path == "/api/repos/create":
            asked = json.loads(body)
            name = f"{asked['organization']}/{asked['name']}" if asked.get("organization") else asked["name"]
            if name in hub.private:
                return self.answer(409, {"error": "You already created this model repo", "url": f"{hub.url}/{name}"})
            hub.private[name] = asked.get("private") or asked.get("visibility") == "private"
            return self.answer(200, {"url": f"{hub.url}/{name}", "name": name})
        if self.path == "/api/validate-yaml":
            metadata = yaml.safe_load(json.loads(body)["content"].split("---")[1])
            assert metadata["license"]
            return self.answer(200, {"errors": [], "warnings": []})
        if "/preupload/" in self.path:
            files = json.loads(body)["files"]
            mode = {True: "lfs", False: "regular"}
            return self.answer(200, {"files": [
                {"path": f["path"], "uploadMode": mode[f["path"].endswith(".safetensors")], "shouldIgnore": False}
                for f in files
            ]})  # fmt: skip
        if self.path.endswith("/info/lfs/objects/batch"):
            objects = []
            for one in json.loads(body)["objects"]:
                upload = {"upload": {"href": f"{hub.url}/large/{one['oid']}"}}
                objects.append(one | ({} if one["oid"] in hub.large else {"actions": upload}))
            return self.answer(200, {"objects": objects, "transfer": "basic"})
        if "/commit/" in self.path:
            files = {}
            for line in map(json.loads, body.splitlines()):
                value = line["value"]
                if line["key"] == "file":
                    files[value["path"]] = base64.b64decode(value["content"])
                elif line["key"] == "lfsFile":
                    files[value["path"]] = hub.large[value["oid"]]
            hub.commits.append(files)
            name = re.search("/api/models/(.+)/commit/", self.path)[1]
            return self.answer(200, {"commitUrl": f"{hub.url}/{name}/commit/1", "commitOid": "1", "success": True})
        return self.answer(404, {"error": "Not found"})

    def do_PUT(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        assert hashlib.sha256(body).hexdigest() == self.path.rpartition("/")[2]
        self.server.large[self.path.rpartition("/")[2]] = body
        self.server.received += 1
        self.answer(200, {})

    def answer(self, status: int, value: dict) -> None:
        body = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        if status >= 400:
            self.send_header("X-Error-Message", value["error"])
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_) -> None:
        """Nothing."""


@pytest.fixture
def hub(monkeypatch):
    with Hub() as server:
        server.url = f"http://127.0.0.1:{server.server_port}"
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", server.url)
        monkeypatch.setattr("huggingface_hub.hf_api.ENDPOINT", server.url, raising=False)
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DISABLE_XET", True)  # whose server is not played here
        monkeypatch.setenv("HF_TOKEN", TOKEN)
        yield server
        server.shutdown()


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> Path:
    return old_runs.unpack(tmp_path_factory.mktemp("old") / "runs")


def push(runs: Path, *words: str) -> int:
    return main(["push", RUN, "--runs", str(runs), *words])


def test_checkpoint_and_card_arrive_in_one_commit_in_a_private_repository(hub, runs, capsys):
    assert push(runs, "--to", "mine/student", "--milestone", "0.61M") == 0
    (files,) = hub.commits
    (export,) = (folder for folder in runs.glob("export-0.61M/*/hf") if folder.parent.name in record_of(runs))
    expected = {path.relative_to(export).as_posix(): path.read_bytes() for path in export.rglob("*") if path.is_file()}
    assert {name: data for name, data in files.items() if name != "README.md"} == expected
    assert files["README.md"].startswith(b"---\n") and b"0.61M" in files["README.md"]
    assert hub.private == {"mine/student": True} and hub.received == 1
    assert capsys.readouterr().out.splitlines()[-1] == f"{hub.url}/mine/student/commit/1"


def record_of(runs: Path) -> str:
    return (runs / f"{RUN}.json").read_text()


def test_a_dry_run_shows_what_would_be_sent_and_asks_nobody(hub, runs, capsys):
    assert push(runs, "--to", "mine/student", "--dryrun") == 0
    out = capsys.readouterr().out
    assert "model.safetensors" in out and "README.md" in out and "would be sent to mine/student" in out
    assert not (hub.private or hub.commits or hub.received)


def test_what_was_cut_goes_on_and_the_large_files_are_not_sent_again(hub, runs, capsys):
    hub.fails_at = "/commit/"
    assert push(runs, "--to", "mine/student") == 2
    assert "over your quota" in capsys.readouterr().err and hub.commits == []
    hub.fails_at = ""
    assert push(runs, "--to", "mine/student", "--public") == 0
    assert len(hub.commits) == 1 and hub.received == 1
    assert hub.private == {"mine/student": True}  # as it was made


def test_what_cannot_be_pushed_is_said_before_anything_is_sent(hub, runs, monkeypatch, capsys):
    for words, sentence in (
        (["--to", "student"], "--to 'student' is no repository: say whose it is, as in ORG/student."),
        (["--to", "a/b/c"], "--to 'a/b/c' is no repository"),
        (["--to", "mine/bad name"], "--to 'mine/bad name' is no repository"),
        (["--to", "mine/student", "--milestone", "0.6M"], "no milestone '0.6M'. Did you mean '0.61M'?"),
    ):
        assert push(runs, *words) == 2
        assert sentence in capsys.readouterr().err
    monkeypatch.setenv("HF_TOKEN", "hf_bad")
    assert push(runs, "--to", "mine/student") == 2
    assert "takes no such token" in capsys.readouterr().err
    (export,) = (folder for folder in runs.glob("export-0.61M/*") if folder.name in record_of(runs))
    (export / "hf" / "config.json").write_text("{")
    assert push(runs, "--to", "mine/student", "--milestone", "0.61M") == 2
    assert "the output of export-0.61M is damaged" in capsys.readouterr().err
    assert not (hub.private or hub.commits)


@pytest.fixture(scope="module")
def quantised_runs(tmp_path_factory) -> Path:
    """Run `fp8`, whose last milestone is quantised, `nvfp4`, where nothing is asked of what is, and `plain`."""
    runs = tmp_path_factory.mktemp("quantised")
    for format in ("fp8", "nvfp4", None):
        how = {"quantised": (format, 0.001)} if format else {}
        shares, suite = {"stem": 100}, get_suite("offline")
        run = make_run(runs, format or "plain", skills=(0.0, 2.0), shares=shares, suite=suite, exports=0.001, **how)
        for name, spec in run.specs.items():
            if name.startswith("quantize-"):
                mark_done(spec.folder, seconds=1)  # of the files as large as they are
    return runs


def test_the_quantised_checkpoint_goes_with_a_card_of_its_own(hub, quantised_runs, capsys):
    words = ["--to", "mine/fp8", "--quantised", "--runs", str(quantised_runs)]
    assert main(["push", "fp8", *words, "--dryrun"]) == 0
    assert "fp8 5B-fp8: " in capsys.readouterr().out and not hub.commits
    assert main(["push", "fp8", *words]) == 0
    (files,) = hub.commits
    step = find("fp8", runs=quantised_runs).specs["quantize-5B"]
    expected = {path.name: path.read_bytes() for path in (step.folder / "hf").iterdir()}
    card = files.pop("README.md").decode()
    assert files == expected
    head, text = card.split("---\n")[1:3]
    assert {"fp8", "modelopt"} <= set(yaml.safe_load(head)["tags"]) and "# blend_fp8 5B-fp8" in text
    assert "| As trained | **This model** |" in text and "- Quantised to fp8." in text
    own, trained = re.search(
        r"scores \*\*(.+?)\*\* in these answers, .*as it was trained it scores (.+?), pruned", text
    ).groups()
    assert re.search(rf"\| Average \| \|.*\| {trained} \| {own} \|", text) and own.split()[0] != trained.split()[0]
    assert main(["push", "nvfp4", *words]) == 0
    card = hub.commits[1]["README.md"].decode()
    assert "Nothing was asked of it in NVFP4" in card and "model-index" not in card and "**This model**" not in card


def test_what_is_not_quantised_is_said_with_what_is(hub, quantised_runs, capsys):
    for run, words, sentence in (
        (
            "plain",
            ["--quantised"],
            "plain has nothing quantised: give the run's command again with quantize.format=fp8.",
        ),
        ("fp8", ["--quantised", "--milestone", "2.5B"], "2.5B of fp8 is not quantised, and 5B is: say --milestone 5B"),
        ("fp8", ["--milestone", "5B-fp8"], "'5B-fp8' is 5B quantised: say --milestone 5B --quantised."),
    ):
        assert main(["push", run, *words, "--to", "mine/fp8", "--runs", str(quantised_runs)]) == 2
        assert sentence in capsys.readouterr().err
    assert not (hub.private or hub.commits)


def test_a_hub_that_is_not_there_is_said(runs, monkeypatch, capsys):
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    assert push(runs, "--to", "mine/student", "--milestone", "0.3M") == 2
    assert "http://127.0.0.1:9 could not be reached" in capsys.readouterr().err
