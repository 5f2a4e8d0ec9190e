"""Sources that a recipe declares on this machine: what is read of a path, and what is said of one that cannot be."""

import gzip
import hashlib
import json
import os
import re
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from nemo_distill.config import digests
from nemo_distill.config.sources import Source
from nemo_distill.data import local
from nemo_distill.data.declared import entry_of
from nemo_distill.data.documents import rows
from nemo_distill.data.entry import Entry
from nemo_distill.data.find import find_files
from nemo_distill.data.hub import locate
from nemo_distill.data.tally import Tally
from nemo_distill.errors import UserError


def lines(*texts: str) -> bytes:
    return b"".join(json.dumps({"text": text}).encode() + b"\n" for text in texts)


def zstd(data: bytes) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.CompressedOutputStream(sink, "zstd") as stream:
        stream.write(data)
    return sink.getvalue().to_pybytes()


@pytest.fixture
def data(tmp_path) -> Path:
    """A folder of files of every kind, two of them in a folder that is a link, with a link back to the top."""
    folder, linked = tmp_path / "data", tmp_path / "elsewhere"
    (folder / "a").mkdir(parents=True)
    linked.mkdir()
    (folder / "a" / "1.jsonl").write_bytes(lines("one"))
    (folder / "a" / "2.jsonl.gz").write_bytes(gzip.compress(lines("two")))
    (folder / "3.jsonl.zst").write_bytes(zstd(lines("three")) + zstd(lines("and a half")))
    pq.write_table(pa.table({"text": pa.array(["four"]).cast(pa.string_view())}), linked / "4.parquet")
    (linked / "5.jsonl").write_bytes(lines("five"))
    (folder / "notes.txt").write_text("no data")
    (folder / ".hidden.jsonl").write_bytes(lines("hidden"))
    (folder / "b").symlink_to(linked)
    (linked / "back").symlink_to(folder)
    return folder


def read(**of) -> list[str]:
    entry = entry_of(
        Source(**{"name": "mine"} | {key: str(value) if key == "path" else value for key, value in of.items()})
    )
    return list(rows(find_files(entry, {}).files, field=entry["field"], column=entry.get("column"), tally=Tally()))


@pytest.mark.parametrize(
    ("path", "texts"),
    [
        ("", ["three", "and a half", "one", "two", "four", "five"]),
        ("a", ["one", "two"]),
        ("a/1.jsonl", ["one"]),
        ("a/*.jsonl*", ["one", "two"]),
        ("*/*.jsonl", ["one", "five"]),
        ("**/*.jsonl", ["one", "five"]),
        ("**/*.jsonl*", ["three", "and a half", "one", "two", "five"]),
        ("b/[45].*", ["four", "five"]),
        ("?.jsonl.zst", ["three", "and a half"]),
        ("b/[!5].parquet", ["four"]),
    ],
)
def test_a_file_a_folder_or_a_pattern_is_read_through_links_and_in_the_order_of_names(data, path, texts):
    assert read(path=data / path) == texts


def test_a_path_may_be_a_link_or_begin_at_home(data, tmp_path, monkeypatch):
    (tmp_path / "link.jsonl").symlink_to(data / "a" / "1.jsonl")
    assert read(path=tmp_path / "link.jsonl") == ["one"]
    monkeypatch.setenv("HOME", str(tmp_path))
    assert read(path="~/data/a") == ["one", "two"]
    monkeypatch.chdir(tmp_path)
    assert entry_of(Source(name="mine", path="data/a"))["path"] == str(data / "a")


def test_files_choose_within_a_folder_and_a_split_as_on_the_hub(data):
    assert read(path=data, files="b/*.jsonl") == ["five"]
    assert read(path=data, files=("a/*", "a/1.jsonl")) == ["one", "two"]
    (data / "README.md").write_text(
        "---\nconfigs:\n- config_name: x\n  data_files:\n  - split: held\n    path: a/1.jsonl\n---\n"
    )
    assert read(path=data, subset="x", split="held") == ["one"]
    with pytest.raises(UserError, match=r"has no split 'helt'. Did you mean 'held'"):
        read(path=data, subset="x", split="helt")


def test_a_mirror_of_links_is_read_and_a_link_that_leads_nowhere_is_named(data, tmp_path):
    mirror = tmp_path / "mirror"
    (mirror / "org").mkdir(parents=True)
    (mirror / "org" / "name").symlink_to(data)
    source = {"name": "mine", "field": "text", "dataset": "org/name", "files": ["b/*.jsonl"]}
    assert [file.name for file in locate(source, mirror=str(mirror)).files] == ["b/5.jsonl"]
    (data / "b" / "6.jsonl").symlink_to("gone.jsonl")
    with pytest.raises(UserError, match=r"b/6.jsonl is a link to gone.jsonl, which is not there"):
        locate(source, mirror=str(mirror))


@pytest.mark.parametrize(
    ("path", "complaint"),
    [
        ("c", "there is no .*data/c: .*data has no 'c'. "),
        ("a/1.josnl", "Did you mean '1.jsonl'"),
        ("aa/1.jsonl", "has no 'aa'. "),
        ("a/*.json", "no file fits '.*a/.*json'. Did you mean '.*jsonl'"),
        ("nowhere/*.jsonl", "has no 'nowhere'"),
        ("notes.txt", r"notes.txt is none of .jsonl, .jsonl.gz, .jsonl.zst, .parquet"),
        ("*.txt", r"notes.txt is none of .jsonl, .jsonl.gz, .jsonl.zst, .parquet"),
    ],
)
def test_a_path_that_is_not_there_is_refused_with_the_nearest(data, path, complaint):
    with pytest.raises(UserError, match=complaint) as refused:
        read(path=data / path)
    assert "source 'mine'" in str(refused.value)


def test_a_folder_without_data_and_links_that_lead_nowhere_are_named(data, tmp_path):
    empty = tmp_path / "empty"
    empty.mkdir()
    (empty / "notes.csv").touch()
    with pytest.raises(UserError, match=r"no file below .*empty ends in .jsonl, .*; it has notes.csv"):
        read(path=empty)
    (data / "part").symlink_to("/gone/part")
    with pytest.raises(UserError, match=r"data/part is a link to /gone/part, which is not there"):
        read(path=data)
    with pytest.raises(UserError, match=r"data/part is a link to /gone/part, which is not there"):
        read(path=data / "part")
    (data / "part").unlink()
    (data / "round.jsonl").symlink_to("round.jsonl")
    with pytest.raises(UserError, match=r"data/round.jsonl is a link to round.jsonl, which is not there"):
        read(path=data)
    with pytest.raises(UserError, match=r"source 'mine': .* cannot be read: File name too long"):
        read(path=data / ("a" * 300))


@pytest.mark.parametrize(
    ("row", "field", "complaint"),
    [
        ({"content": "x", "id": 1}, "text", "no field 'text'. Known: 'content'.* field='text:content'"),
        ({"body": "x"}, "text:boby", "no field 'boby'. Did you mean 'body'"),
        ({"text": 5}, "text", "'text' is no text"),
        ({"dialog": [], "id": 1}, "messages", "no chat in a schema that is known; it has dialog, id"),
        ({"text": "x"}, "messages:text", "'text' is no list of messages"),
        ({"messages": [{"role": "user", "content": "hi"}], "id": "7"}, "text", "a chat is field='messages'"),
    ],
)  # fmt: skip
def test_a_source_whose_first_rows_hold_something_else_is_refused_before_anything_runs(tmp_path, row, field, complaint):
    for name in ("a.jsonl", "a.parquet"):
        path = tmp_path / name
        if name.endswith("jsonl"):
            path.write_text(json.dumps(row) + "\n")
        elif row != {"dialog": [], "id": 1}:  # a list of nothing has no type in parquet
            pq.write_table(pa.Table.from_pylist([row]), path)
        else:
            continue
        with pytest.raises(UserError, match=complaint.replace("[", r"\[")) as refused:
            read(path=path, field=field)
        assert f"none of the first 1 rows of {path}" in str(refused.value)


def test_a_column_of_another_name_is_read(tmp_path):
    (tmp_path / "a.jsonl").write_text('{"content": "x", "chat": [{"role": "user", "content": "hi"}]}\n')
    assert read(path=tmp_path / "a.jsonl", field="text:content") == ["x"]
    assert read(path=tmp_path / "a.jsonl", field="messages:chat") == [[{"role": "user", "content": "hi"}]]


def test_a_source_without_rows_is_refused(tmp_path):
    (tmp_path / "a.jsonl").write_text("\n\n")
    with pytest.raises(UserError, match=r"source 'mine' has no documents: .*a.jsonl has no row"):
        read(path=tmp_path / "a.jsonl")


def test_other_content_is_another_entry_and_files_that_changed_since_the_launch_are_refused(data):
    source = Source(name="mine", path=str(data / "a"))
    entry = entry_of(source)
    assert re.fullmatch("[0-9a-f]{12}", entry["sha256"])
    os.rename(data / "a" / "1.jsonl", data / "a" / "0.jsonl")
    find_files(entry, {})  # called otherwise, of the same content
    (data / "a" / "0.jsonl").write_bytes(lines("ONE"))
    with pytest.raises(UserError, match="are not those with which the run was launched"):
        find_files(entry, {})
    assert local.identity(local.locate(Entry.of({k: v for k, v in entry.items() if k != "sha256"}))) != entry["sha256"]


def test_a_large_file_is_hashed_once_for_as_long_as_it_stays(tmp_path, monkeypatch):
    monkeypatch.setattr(digests, "SMALL", 10)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    hashed: list[str] = []
    whole = hashlib.file_digest
    monkeypatch.setattr(hashlib, "file_digest", lambda file, kind: hashed.append(file.name) or whole(file, kind))
    path = tmp_path / "a.jsonl"
    path.write_bytes(lines("a text of some length"))
    recent = digests.digest_of(path)
    assert digests.digest_of(path) == recent and len(hashed) == 2  # changed a moment ago: it may be changed again
    monkeypatch.setattr(digests, "_SETTLED_SECONDS", 0.0)
    assert digests.digests_of([path, path]) == {path: recent}
    hashed.clear()
    assert digests.digest_of(path) == recent and not hashed
    path.write_bytes(lines("another of that length"))
    os.utime(path, ns=(10**18, 2 * 10**18))
    assert digests.digest_of(path) != recent and hashed
    (record,) = (tmp_path / "cache").rglob("*.json")
    record.write_text("{")
    assert digests.digest_of(path) == hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.mark.parametrize("key", ["fieldd", "pathh"])
def test_a_key_that_no_entry_has_is_named_with_the_nearest(key):
    with pytest.raises(UserError, match=f"source 'mine' has the key '{key}' in its config. Did you mean"):
        Entry.of({"name": "mine", "field": "text", key: "x"})
