"""Runs at hand are listed, told apart, made again or said why not, and told to machines: real finished runs of 0.1."""

import csv
import json
import shutil
import subprocess
from pathlib import Path

import pytest

from nemo_distill.cli import main
from nemo_distill.run.manifest import find
from nemo_distill.run.step import FAILED, SUCCESS
from nemo_distill.upkeep.difference import compare
from nemo_distill.upkeep.listing import list_runs
from nemo_distill.upkeep.reproduce import LOCK, reproduction
from tests import old_runs

ONE, OTHER = "distill_v1v3-debug", "distill_v3-debug"
KEPT = ("spec.json", SUCCESS, "sources.json", "card.json", "scores.csv", "report.html")


@pytest.fixture(scope="module")
def packed(tmp_path_factory) -> Path:
    return old_runs.unpack(tmp_path_factory.mktemp("old") / "runs")


@pytest.fixture
def runs(packed, tmp_path) -> Path:
    """What is small of the two runs, which a test may change."""
    for path in [*packed.glob("*.json"), *(path for name in KEPT for path in packed.rglob(name))]:
        to = tmp_path / "runs" / path.relative_to(packed)
        to.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, to)
    return tmp_path / "runs"


def change(path: Path, **values) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def change_provenance(runs: Path, name: str, steps: tuple[str, ...] = (), **values) -> None:
    """What the steps of a run, all or some, say of the code that they ran."""
    for step, spec in find(name, runs=runs).specs.items():
        if not steps or step in steps:
            path = spec.folder / "spec.json"
            change(path, provenance=json.loads(path.read_text())["provenance"] | values)


def said(capsys, *words: str) -> str:
    assert main(list(words)) == 0
    return capsys.readouterr().out


def test_a_list_has_every_run_with_its_scores_and_what_it_takes_on_disk(packed, capsys):
    listed, unreadable = list_runs(packed)
    assert [run.name for run in listed] == [ONE, OTHER] and unreadable == []
    for run in listed:
        specs = find(run.name, runs=packed).specs
        folders = {spec.folder for spec in specs.values()}
        folders |= {
            (specs["prepare"].folder / source["prefix"]).resolve().parent
            for source in json.loads((specs["prepare"].folder / "sources.json").read_text()).values()
        }
        files = [path for folder in folders for path in folder.rglob("*") if path.is_file()]
        assert run.size == sum(path.stat().st_size for path in files) > run.own_size > 0
        with open(specs["report"].folder / "scores.csv", newline="") as file:
            last = [row for row in csv.DictReader(file) if row["role"] == "milestone"][-6:]
        assert run.milestone == "0.61M"
        assert run.scores == pytest.approx({row["benchmark"]: 100 * float(row["mean"]) for row in last})
    both = {spec.folder for name in (ONE, OTHER) for spec in find(name, runs=packed).specs.values()}
    everything = sum(p.stat().st_size for p in packed.rglob("*") if p.is_file() and not p.name.endswith("-debug.json"))
    assert len(both) == 32 and sum(run.own_size for run in listed) < everything < sum(run.size for run in listed)
    assert json.loads(said(capsys, "list", "--runs", str(packed), "--json"))["runs"][0]["size"] == listed[0].size


@pytest.mark.parametrize("columns", [80, 140])
def test_a_list_fits_the_terminal_and_cuts_no_name(runs, capsys, monkeypatch, columns):
    monkeypatch.setenv("COLUMNS", str(columns))
    long = "distill_v1v3-debug-lr3e-4-seed7-milestones25_75"
    shutil.copy(runs / f"{ONE}.json", runs / f"{long}.json")
    change(runs / f"{long}.json", name=long, changed={"distill.learning_rate": 3e-4})
    change(runs / f"{OTHER}.json", command=["nemo-run", "recipes/distill_v3.py", "seed=7", "layout.nodes=1"])
    (runs / "notes.json").write_text("[]")
    failed = find(OTHER, runs=runs).specs["report"].folder
    (failed / SUCCESS).unlink()
    (failed / FAILED).write_text(json.dumps({"error": "no", "refused": False}))
    out = said(capsys, "list", "--runs", str(runs))
    assert all(len(line) <= columns for line in out.splitlines()) and "…" not in out
    lines = [line.split() for line in out.splitlines()]
    names = [word for word, *_ in lines[1:] if word.startswith("distill_v") and not word.endswith(",")]
    assert len(names) == 3 and (names[0], names[2]) == (ONE, OTHER)
    assert names[1] == long or (columns == 80 and f"{names[1]}{lines[3][0]}" == long)  # in two lines, and whole
    failing = next(line for line in lines if line[0] == OTHER)
    assert "failed" in failing and "18/19" in failing
    assert "seed=7" in out and "layout" not in out and "notes.json is no run's file." in out


def test_two_runs_are_told_apart_by_what_is_in_them(runs, capsys):
    found = compare(find(ONE, runs=runs), find(OTHER, runs=runs))
    assert found["settings"]["blend.shares.stem"] == [10.0, None]
    assert found["settings"].keys() == {"blend.name"} | {
        f"blend.shares.{name}"
        for name in ("stem", "science-mcq", "science-rqa", "instruction-reasoning-on", "instruction-reasoning-off")
    }
    assert not (found["code"] or found["packages"] or found["protocol"] or found["beside"])
    assert list(found["sources"]) == ["stem"] and "prune" in found["shared_steps"]
    assert found["scores"]["0.61M: Average"] == pytest.approx([97.875, 97.0])
    same = compare(find(ONE, runs=runs), find(ONE, runs=runs))
    assert not any(same[section] for section in ("settings", "code", "packages", "sources", "protocol", "scores"))


def test_another_version_other_sources_and_another_protocol_are_differences(runs, capsys):
    twin = runs.parent / "twin"
    shutil.copytree(runs, twin)
    change_provenance(twin, ONE, git={"commit": "f" * 40, "dirty": True}, packages={"torch": "9.0"})
    for card in twin.glob("sources/stem/*/card.json"):
        change(card, inputs=[{"file": "stem.jsonl", "bytes": 1, "content": "sha256:0"}])
    record = json.loads((twin / f"{ONE}.json").read_text())
    next(step for step in record["steps"] if step["name"] == "evaluate-0.61M")["config"]["protocol"] = "another"
    change(twin / f"{ONE}.json", seed=2, **{key: record[key] for key in ("steps",)})
    found = compare(find(ONE, runs=runs), find(ONE, runs=twin))
    assert found["settings"] == {"seed": [1234, 2]}
    assert found["code"]["commit"] == ["dbb32a4d8d1f", "ffffffffffff with changes"]
    assert found["packages"]["torch"] == ["2.13.0+cpu", "9.0"] and found["packages"]["nemo_run"][1] is None
    assert list(found["sources"]) == ["stem"] and list(found["protocol"]) == ["0.61M: protocol"]
    assert not found["scores"]
    file = str(twin / f"{ONE}.json")
    out = said(capsys, "diff", ONE, file, "--runs", str(runs))
    assert "ffffffffffff with changes" in out and "The same: what no result depends on, scores." in out
    assert json.loads(said(capsys, "diff", ONE, file, "--runs", str(runs), "--json")) == found


def test_a_run_whose_file_was_damaged_is_said_to_be_and_keeps_no_other_from_being_seen(runs, capsys):
    change(runs / f"{OTHER}.json", blend={"name": "no shares"}, time=7)
    listed, unreadable = list_runs(runs)
    assert [run.name for run in listed] == [ONE] and unreadable == [runs / f"{OTHER}.json"]
    assert main(["diff", ONE, OTHER, "--runs", str(runs)]) == 2
    assert f"{runs / OTHER}.json says of the settings what cannot be: 'shares'." in capsys.readouterr().err


@pytest.fixture
def checkout(tmp_path) -> Path:
    """A git checkout with a lock file and the recipe, of one commit."""
    place = tmp_path / "checkout"
    for name, text in ((LOCK, "torch==2.13.0\nnumpy==0.1  # via x\n"), ("recipes/distill_v1v3.py", "")):
        (place / name).parent.mkdir(parents=True)
        (place / name).write_text(text)
    git = ["git", "-c", "user.name=a", "-c", "user.email=a@b"]
    for words in (["init", "-q"], ["add", "."], ["commit", "-qm", "first"]):
        subprocess.run([*git, *words], cwd=place, check=True)
    return place


def head(checkout: Path) -> str:
    return subprocess.run(
        ["git", "rev-parse", "HEAD"], cwd=checkout, capture_output=True, text=True, check=True
    ).stdout.strip()


def test_a_run_of_one_commit_is_made_again_by_a_script(runs, checkout, capsys, monkeypatch):
    monkeypatch.chdir(checkout)
    change_provenance(runs, ONE, git={"commit": head(checkout), "dirty": False})
    change(runs / f"{ONE}.json", command=["/x/nemo-run", "recipes/distill_v1v3.py", "--until", "prune", "seed=1234"])
    digest = subprocess.run(["sha256sum", LOCK], capture_output=True, text=True, check=True).stdout.split()[0]
    numpy = json.loads((find(ONE, runs=runs).specs["prune"].folder / "spec.json").read_text())["provenance"]["packages"]
    assert said(capsys, "reproduce", ONE, "--runs", str(runs)).splitlines() == [
        f"# {LOCK}: sha256 {digest}",
        f"git checkout {head(checkout)}",
        "make setup",
        f".venv/bin/python -m pip install --no-deps numpy=={numpy['numpy']}",
        ".venv/bin/nemo-run recipes/distill_v1v3.py seed=1234",
    ]


def test_why_a_run_would_be_another_is_said(runs, checkout, capsys, monkeypatch):
    def why() -> str:
        return " ".join(reproduction(find(ONE, runs=runs), checkout=checkout).obstacles)

    def ran(steps: tuple[str, ...] = (), **git) -> None:
        change_provenance(runs, ONE, steps, git=git)

    assert "Its commit dbb32a4d8d1f8969a26b9f01c03dfa88d0093b69 is not in the checkout" in why()
    change_provenance(runs, ONE, git=None)
    assert "Its commit is not known: nemo-distill 0.1.0 was installed, from no checkout" in why()
    ran(commit=head(checkout), dirty=False)
    assert why() == ""
    ran(("prune",), commit="e" * 40, dirty=False)
    assert "several states of the code" in why() and "eeeeeeeeeeee (prune)" in why()
    ran(commit=head(checkout), dirty=True, diff="-a+b", untracked=["mine.py"])
    assert "changes that no commit has" in why() and "git did not track: mine.py" in why()
    ran(commit=head(checkout), dirty=False)
    for command, sentence in (
        ([], "Its command is not known."),
        (["nemo-run", "recipes/mine.py"], "Its recipe recipes/mine.py is not in commit"),
        (["nemo-run", "recipes/distill_v1v3.py", "executor.env_vars.TOKEN=***"], "held a secret"),
    ):
        change(runs / f"{ONE}.json", command=command)
        assert sentence in why()
    monkeypatch.chdir(checkout)
    assert main(["reproduce", ONE, "--runs", str(runs)]) == 2
    out, err = capsys.readouterr()
    assert "it would be another run. Its command held a secret" in err
    assert all(line.startswith("# ") for line in out.splitlines())


def test_a_source_and_a_teacher_that_are_not_what_they_were_are_said(runs, checkout, tmp_path):
    change_provenance(runs, ONE, git={"commit": head(checkout), "dirty": False})
    data, teacher = tmp_path / "mine.jsonl", tmp_path / "teacher"
    data.write_text('{"text": "a"}\n')
    teacher.mkdir()
    (teacher / "config.json").write_text("{}")
    record = json.loads((runs / f"{ONE}.json").read_text())
    for step in record["steps"]:
        if step["name"] == "prepare":
            step["config"]["sources"] = [{"name": "mine", "field": "text", "path": str(data), "sha256": "0" * 64}]
        if step["name"] == "import-teacher":
            step["config"]["sha256"] = "0" * 12
    change(runs / f"{ONE}.json", steps=record["steps"], teacher=str(teacher))
    told = reproduction(find(ONE, runs=runs), checkout=checkout).obstacles
    assert [sentence.partition(" is not what it was")[0] for sentence in told] == [
        f"The source mine at {data}",
        f"The teacher {teacher}",
    ]
    data.unlink()
    shutil.rmtree(teacher)
    told = reproduction(find(ONE, runs=runs), checkout=checkout).obstacles
    assert "source mine cannot be read any more" in told[0] and "is not there any more" in told[1]


def test_status_and_report_are_told_to_machines_and_a_watch_ends_with_the_run(runs, packed, capsys):
    told = json.loads(said(capsys, "status", ONE, "--runs", str(runs), "--json"))
    assert (told["schema"], told["name"], told["state"], len(told["steps"])) == (1, ONE, "done", 19)
    assert told["steps"][2]["name"] == "prune" and told["steps"][2]["seconds"] > 1
    assert Path(told["report"]).is_file()
    folder = find(ONE, runs=runs).specs["distill-0.61M"].folder
    (folder / SUCCESS).unlink()
    (folder / FAILED).write_text(json.dumps({"error": "the disk is full", "refused": False}))
    told = json.loads(said(capsys, "status", ONE, "--runs", str(runs), "--json"))
    assert told["state"] == "failed"
    assert [step["error"] for step in told["steps"] if step["state"] == "failed"] == ["the disk is full"]
    assert "the disk is full" in said(capsys, "status", ONE, "--watch", "--runs", str(runs))
    report = json.loads(said(capsys, "report", ONE, "--runs", str(packed), "--json"))
    with open(find(ONE, runs=packed).specs["report"].folder / "scores.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["mean"] for row in report["scores"]] == [float(row["mean"]) for row in rows]
    assert report["runs"] == [ONE] and report["verdicts"] == []
