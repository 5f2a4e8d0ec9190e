"""Where sources come from: a mirror in the hub's own layout, and a hub on this machine that the real client asks."""

import gzip
import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from nemo_distill.data import hub as hub_module
from nemo_distill.data.documents import Tally, rows
from nemo_distill.data.hub import locate
from nemo_distill.data.models import model_folder, without_links
from nemo_distill.errors import UserError

README = """---
license: cc-by-4.0
configs:
- config_name: default
  data_files:
  - split: stem
    path: data/stem-*.parquet
  - split: chat
    path: data/chat-*.parquet
- config_name: Nemotron-SFT-Code
  data_files:
  - split: train
    path: Nemotron-SFT-Code/*.jsonl
---
# A data set
"""
NAME = "org/name"


def lines(*texts: str) -> bytes:
    return b"".join(json.dumps({"text": text}).encode() + b"\n" for text in texts)


def parquet(*texts: str) -> bytes:
    sink = pa.BufferOutputStream()
    pq.write_table(pa.table({"uuid": list(range(len(texts))), "text": list(texts)}), sink, row_group_size=2)
    return sink.getvalue().to_pybytes()


FILES = {
    "README.md": README.encode(),
    "data/chat-00000-of-00001.parquet": parquet("chat"),
    "data/stem-00000-of-00002.parquet": parquet("s1", "s2", "s3"),
    "data/stem-00001-of-00002.parquet": parquet("s4"),
    "Nemotron-SFT-Code/a.jsonl": lines("a1", "a2"),
    "Nemotron-SFT-Code/b.jsonl": lines("b1"),
    "extra/packed.jsonl.gz": gzip.compress(lines("packed")),
}


def source(**of) -> dict:
    return {"name": "stem", "field": "text", "dataset": NAME, "subset": None, "split": None, "files": []} | of


def texts(found) -> list[str]:
    return list(rows(found.files, field="text", tally=Tally()))


@pytest.fixture
def mirror(tmp_path) -> Path:
    """A folder in the hub's own layout, as `hf download --local-dir` leaves it."""
    for path, data in FILES.items():
        (tmp_path / "mirror" / NAME / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "mirror" / NAME / path).write_bytes(data)
    (tmp_path / "mirror" / NAME / ".cache" / "huggingface" / "download").mkdir(parents=True)
    return tmp_path / "mirror"


@pytest.fixture
def hub(local_hub):
    """A hub that holds the data set, with an empty cache and no token here."""
    local_hub.add(NAME, FILES)
    return local_hub


SPLITS = [
    ({"subset": "default", "split": "stem"}, ["s1", "s2", "s3", "s4"]),
    ({"split": "chat"}, ["chat"]),  # of the configuration called default
    ({"subset": "Nemotron-SFT-Code", "split": "train"}, ["a1", "a2", "b1"]),
    ({"subset": "Nemotron-SFT-Code"}, ["a1", "a2", "b1"]),  # its only split
    ({"files": ["extra/packed.jsonl.gz"]}, ["packed"]),
    ({"files": ["Nemotron-SFT-Code/*.jsonl"]}, ["a1", "a2", "b1"]),
]


@pytest.mark.parametrize(("which", "expected"), SPLITS)
def test_a_mirror_reads_as_the_hub_does(mirror, hub, which, expected):
    from_mirror, from_hub = locate(source(**which), mirror=str(mirror)), locate(source(**which))
    assert texts(from_mirror) == texts(from_hub) == expected
    assert [file.name for file in from_mirror.files] == [file.name for file in from_hub.files]
    assert [file.content for file in from_mirror.files] == [file.content for file in from_hub.files]
    assert from_hub.revision == hub.repositories[NAME].commit


@pytest.mark.parametrize(("which", "expected"), SPLITS)
def test_reading_by_ranges_gives_the_same_and_keeps_nothing(hub, tmp_path, which, expected):
    assert texts(locate(source(**which), streaming=True)) == expected
    kept = [path.name for path in (tmp_path / "hub-cache").rglob("*") if path.is_file()]
    assert not [name for name in kept if name.endswith((".jsonl", ".parquet", ".gz"))]


MODEL = {"config.json": b"{}", "tokenizer.json": b"[]", "a.safetensors": b"weights", "pytorch_model.bin": b"not read"}


def test_a_model_is_fetched_once_and_without_its_weights_where_they_are_not_wanted(local_hub):
    local_hub.add("org/model", MODEL)
    folder = model_folder("org/model", weights=False)
    assert sorted(path.name for path in folder.iterdir()) == ["config.json", "tokenizer.json"]
    folder = model_folder("org/model")
    assert sorted(path.name for path in folder.iterdir()) == ["a.safetensors", "config.json", "tokenizer.json"]
    asked = [request for request in local_hub.requests if request.startswith("GET") and "resolve" in request]
    assert sorted(request.rpartition("/")[2] for request in asked) == ["a.safetensors", "config.json", "tokenizer.json"]


def test_a_checkpoint_of_the_hubs_cache_is_given_to_a_container_as_files(local_hub, tmp_path):
    local_hub.add("org/model", MODEL)
    cached = model_folder("org/model")
    assert all(path.is_symlink() for path in cached.iterdir())
    given = without_links(cached, tmp_path / "given")
    assert {path.name: path.read_bytes() for path in given.iterdir()} == {
        path.name: path.read_bytes() for path in cached.iterdir()
    }
    assert not any(path.is_symlink() for path in given.iterdir())
    assert without_links(given, tmp_path / "again") == given and not (tmp_path / "again").exists()


def test_a_model_at_hand_or_in_the_mirror_asks_no_hub(local_hub, tmp_path, monkeypatch):
    folder = tmp_path / "mirror" / "org" / "model"
    folder.mkdir(parents=True)
    assert model_folder(str(folder)) == folder
    monkeypatch.setenv(hub_module.MIRROR, str(tmp_path / "mirror"))
    assert model_folder("org/model") == folder
    with pytest.raises(UserError, match="Did you mean 'org/model'"):
        model_folder("org/modle")
    assert local_hub.requests == []


def test_a_model_that_is_gated_not_there_or_out_of_reach_is_refused_in_a_sentence(local_hub, monkeypatch):
    local_hub.add("org/gated", MODEL, gated=True)
    with pytest.raises(UserError, match="the model org/gated is gated and no token is set .*/org/gated and set"):
        model_folder("org/gated")
    with pytest.raises(UserError, match="there is no model org/none at"):
        model_folder("org/none")
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(UserError, match="could not be reached for the model org/other"):
        model_folder("org/other")


def test_what_hf_download_leaves_is_a_mirror(hub, tmp_path):
    folder = tmp_path / "fetched" / NAME
    command = [
        str(Path(sys.executable).parent / "hf"),
        "download",
        NAME,
        "--repo-type",
        "dataset",
        "--local-dir",
        str(folder),
    ]
    subprocess.run(command, env=os.environ | {"HF_HOME": str(tmp_path / "home")}, check=True, capture_output=True)
    hub.requests.clear()
    found = locate(source(split="stem"), mirror=str(tmp_path / "fetched"))
    assert texts(found) == ["s1", "s2", "s3", "s4"]
    assert hub.requests == []


def test_nothing_but_the_readme_is_fetched_to_find_out_what_there_is(hub):
    locate(source(split="stem"))
    assert hub.fetched() == ["README.md"]


def test_a_source_that_names_its_files_costs_two_requests(hub):
    found = locate(source(files=["Nemotron-SFT-Code/a.jsonl"]))
    assert [file.bytes for file in found.files] == [len(FILES["Nemotron-SFT-Code/a.jsonl"])]
    assert len(hub.requests) == 2
    locate(source(files=["Nemotron-SFT-Code/b.jsonl"]))
    assert len(hub.requests) == 2  # sources share what was asked of their data set


def test_files_are_fetched_one_at_a_time_as_they_are_read_and_once(hub):
    found = locate(source(subset="Nemotron-SFT-Code"))
    reading = rows(found.files, field="text", tally=Tally())
    assert next(reading) == "a1"
    assert "Nemotron-SFT-Code/b.jsonl" not in hub.fetched()
    assert list(reading) == ["a2", "b1"]
    asked = len(hub.requests)
    assert texts(found) == ["a1", "a2", "b1"]
    assert len(hub.requests) == asked


def test_a_revision_pins_what_is_read(hub):
    pinned = hub.repositories[NAME].commit
    assert locate(source(split="stem", revision=pinned)).revision == pinned
    with pytest.raises(UserError, match=r"org/name has no revision 'v9'"):
        locate(source(split="stem", revision="v9"))


@pytest.mark.parametrize("place", ["mirror", "hub"])
@pytest.mark.parametrize(
    ("which", "complaint"),
    [
        ({"subset": "default", "split": "stm"}, r"org/name has no split 'stm'. Did you mean 'stem'\?"),
        ({"subset": "default"}, r"org/name has more than one split. Known: 'chat', 'stem'"),
        ({"subset": "Nemotron-SFT-Cod"}, r"no subset 'Nemotron-SFT-Cod'. Did you mean 'Nemotron-SFT-Code'\?"),
        (
            {"files": ["extra/paked.jsonl.gz"]},
            r"no file 'extra/paked.jsonl.gz'. Did you mean 'extra/packed.jsonl.gz'\?",
        ),
        ({"files": ["README.md"]}, r"README.md is none of \.jsonl"),
    ],
)
def test_what_is_not_there_is_refused_with_the_nearest(mirror, hub, place, which, complaint):
    with pytest.raises(UserError, match=complaint):
        locate(source(**which), mirror=str(mirror) if place == "mirror" else None)


def test_a_data_set_that_is_not_there_is_refused_with_the_nearest(mirror, hub):
    with pytest.raises(
        UserError, match=r"no data set nvidia/Nemotron-Science-v2 at http.*'nvidia/Nemotron-Science-v1'"
    ):
        locate(source(dataset="nvidia/Nemotron-Science-v2"))
    with pytest.raises(UserError, match=r"the mirror .* has no folder org/nam. Did you mean 'org/name'\?"):
        locate(source(dataset="org/nam"), mirror=str(mirror))
    with pytest.raises(UserError, match=r"'a/b/c' is no name of a data set"):
        locate(source(dataset="a/b/c"))


def test_a_data_set_without_a_readme_goes_by_the_names_of_its_files(hub):
    hub.add("org/plain", {"data/train-00000-of-00001.jsonl": lines("t"), "data/test-00000-of-00001.jsonl": lines("e")})
    assert texts(locate(source(dataset="org/plain", split="train"))) == ["t"]


def test_a_mirror_that_was_not_fetched_to_its_end_is_refused(mirror):
    (mirror / NAME / ".cache" / "huggingface" / "download" / "abc.incomplete").touch()
    with pytest.raises(
        UserError, match=r"not fetched to its end \(abc.incomplete is there\): run `hf download org/name"
    ):
        locate(source(split="stem"), mirror=str(mirror))


def test_a_gated_data_set_says_where_to_ask_and_what_to_set(hub, monkeypatch):
    hub.add("org/gated", FILES, gated=True, readers={"hf_good"})
    with pytest.raises(UserError) as refused:
        locate(source(dataset="org/gated", split="stem"))
    assert "org/gated is gated and no token is set (HF_TOKEN" in str(refused.value)
    assert f"ask for access at {hub.url}/datasets/org/gated and set HF_TOKEN" in str(refused.value)
    monkeypatch.setenv("HF_TOKEN", "hf_bad")
    with pytest.raises(UserError, match=r"the token that is set has no access to it: ask for access at") as refused:
        texts(locate(source(dataset="org/gated", files=["Nemotron-SFT-Code/a.jsonl"])))
    assert "hf_bad" not in str(refused.value)
    monkeypatch.setenv("HF_TOKEN", "hf_good")
    assert texts(locate(source(dataset="org/gated", split="stem"))) == ["s1", "s2", "s3", "s4"]


@pytest.mark.parametrize(
    "file", ["Nemotron-SFT-Code/a.jsonl", "extra/packed.jsonl.gz", "data/stem-00001-of-00002.parquet"]
)
@pytest.mark.parametrize("streaming", [False, True])
def test_a_gate_met_while_reading_says_the_same(hub, streaming, file):
    hub.add("org/gated", FILES, gated=True)
    found = locate(source(dataset="org/gated", files=[file]), streaming=streaming)
    with pytest.raises(UserError, match=r"org/gated is gated and no token is set"):
        texts(found)


def test_a_port_that_nobody_listens_on_is_one_sentence(hub, monkeypatch):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}"
    monkeypatch.setenv("HF_ENDPOINT", url)
    with pytest.raises(
        UserError, match=rf"{url} could not be reached for the data set org/name .* set {hub_module.MIRROR}"
    ):
        locate(source(split="stem"))


def test_a_connection_that_drops_once_is_taken_up_where_it_was(hub, monkeypatch):
    monkeypatch.setattr("time.sleep", lambda seconds: None)  # the client's own pause before its next attempt
    data = b"".join(lines(f"{number} " + "x" * 1000) for number in range(20_000))
    hub.add("org/big", {"big.jsonl": data})
    hub.drop_after = 12 << 20
    assert len(texts(locate(source(dataset="org/big", files=["big.jsonl"])))) == 20_000
    assert hub.drop_after is None
    assert hub.sent < len(data) + (12 << 20)


def test_a_hub_that_dies_on_the_way_is_one_sentence_and_files_fetched_whole_are_kept(hub, monkeypatch):
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    data = b"".join(lines(f"{number} " + "x" * 1000) for number in range(1_000))
    hub.add("org/big", {"0.jsonl": data, "1.jsonl": data[::-1].replace(b"\n", b" ")})
    found = locate(source(dataset="org/big", files=["*.jsonl"]))
    hub.die_after = len(data) * 3 // 2
    with pytest.raises(UserError, match=r"could not be reached for the data set org/big .*run again to go on"):
        texts(found)
    hub.die_after, hub.sent = None, 0
    assert len(texts(found)) == 1_000
    assert hub.sent == len(data)


def test_the_first_rows_by_ranges_cost_a_part_of_the_file(hub):
    data = b"".join(lines(f"{number} " + os.urandom(500).hex()) for number in range(25_000))
    hub.add("org/big", {"big.jsonl": data})
    reading = rows(
        locate(source(dataset="org/big", files=["big.jsonl"]), streaming=True).files, field="text", tally=Tally()
    )
    assert next(reading).startswith("0 ")
    reading.close()
    assert 0 < hub.sent < len(data) / 2
