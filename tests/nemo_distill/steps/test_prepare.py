import dataclasses
import gzip
import json
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from nemo_distill.config.plain import resolve_package_paths
from nemo_distill.data.prepared import SOURCES_FILE, read_sources
from nemo_distill.debug import corpora
from nemo_distill.errors import UserError
from nemo_distill.run.step import SUCCESS, Step, mark_done, place
from nemo_distill.steps import prepare

TEACHER = resolve_package_paths("package:debug/teacher")
COUNT = 40


@pytest.fixture
def runs(tmp_path) -> Path:
    """A runs folder, with a space in its name."""
    return tmp_path / "my runs"


def spec_of(runs: Path, *names: str, files: dict[str, str] | None = None, count: int = COUNT, **config):
    """A prepare step over stand-ins called `names`, after a world step that is done."""
    world = Step("world", "nemo_distill.steps.debug_world", {"seed": 0, "documents": dict.fromkeys(names, count)})
    sources = [
        {
            "name": name,
            "field": corpora.STAND_INS[name].field,
            "files": [(files or {}).get(name, f"world:corpora/{name}.jsonl")],
        }
        for name in names
    ]
    step = Step(
        "prepare", "nemo_distill.steps.prepare", {"tokenizer": TEACHER, "sources": sources} | config, ("world",)
    )
    specs = place([world, step], runs=runs)
    corpora.write(specs["world"].folder / "corpora", seed=0, counts=dict.fromkeys(names, count))
    mark_done(specs["world"].folder)
    specs["prepare"].save()
    return specs["prepare"]


def prepared(spec) -> dict[str, dict]:
    prepare.main(spec)
    return read_sources(spec.folder)


def documents(prefix: str) -> list[list[int]]:
    """What Megatron reads."""
    from megatron.core.datasets.indexed_dataset import IndexedDataset

    dataset = IndexedDataset(prefix)
    return [dataset[index].tolist() for index in range(len(dataset))]


@pytest.fixture(scope="module")
def tokenizer():
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(TEACHER)


@pytest.mark.slow
def test_megatron_reads_what_the_teachers_tokenizer_makes_of_each_document(runs, tokenizer):
    found = prepared(spec_of(runs, "sft-general", "math-v2-part00"))
    texts = [row["text"].replace("\n", " ") for row in corpora.documents("sft-general", seed=0, count=COUNT)]
    assert documents(found["sft-general"]["prefix"]) == [
        [*tokenizer.encode(text), tokenizer.eos_token_id] for text in texts
    ]
    chats = [row["messages"] for row in corpora.documents("math-v2-part00", seed=0, count=COUNT)]
    assert documents(found["math-v2-part00"]["prefix"]) == [
        tokenizer.apply_chat_template(chat, tokenize=True, return_dict=False) for chat in chats
    ]
    assert found["sft-general"]["documents"] == COUNT
    assert found["sft-general"]["tokens"] == sum(map(len, documents(found["sft-general"]["prefix"])))


@pytest.mark.slow
def test_text_comes_out_byte_for_byte_as_modelopt_makes_it(runs, tmp_path):
    from modelopt.torch.utils.plugins.megatron_preprocess_data import megatron_preprocess_data

    spec = spec_of(runs, "sft-code", join_newlines=False, max_document_tokens=30)
    ours = prepared(spec)["sft-code"]["prefix"]
    megatron_preprocess_data(
        jsonl_paths=[str(spec.upstream["world"] / "corpora/sft-code.jsonl")],
        output_dir=tmp_path / "modelopt",
        tokenizer_name_or_path=TEACHER,
        append_eod=True,
        max_sequence_length=30,
    )
    for ending in (".bin", ".idx"):
        theirs = tmp_path / "modelopt" / f"sft-code_text_document{ending}"
        assert Path(ours + ending).read_bytes() == theirs.read_bytes()


def test_the_card_says_what_a_source_is_made_of(runs):
    found = prepared(spec_of(runs, "stem", max_document_tokens=20))
    card = json.loads((Path(found["stem"]["prefix"]).parent / "card.json").read_text())
    assert card["documents"] == card["rows"] == card["cut"] == COUNT
    assert card["tokens"] == 20 * COUNT
    assert card["dropped"] == {}
    assert card["tokenizer"]["vocab_size"] == 1024
    (source,) = card["inputs"]
    assert source["file"] == "stem.jsonl"
    assert re.fullmatch("sha256:[0-9a-f]{64}", source["content"])


def test_the_sources_of_a_blend_stand_in_one_table(runs):
    spec = spec_of(runs, "stem", "sft-code")
    found = prepared(spec)
    rows = (spec.folder / prepare.TABLE_FILE).read_text().splitlines()[2:]
    assert [row.split(" | ")[0].removeprefix("| ") for row in rows] == ["stem", "sft-code"]
    assert all(f" | {found[name]['tokens']:,} | " in row for name, row in zip(found, rows, strict=True))


def test_blends_that_share_a_source_share_its_folder(runs):
    first = prepared(spec_of(runs, "stem", "science-mcq"))
    written = Path(first["stem"]["prefix"] + ".bin").stat().st_mtime_ns
    second = prepared(spec_of(runs, "science-rqa", "stem"))
    assert second["stem"] == first["stem"]
    assert Path(first["stem"]["prefix"] + ".bin").stat().st_mtime_ns == written
    assert len(list((runs / "sources" / "stem").iterdir())) == 1


def test_what_changes_a_sources_tokens_gives_it_another_folder(runs):
    one = prepared(spec_of(runs, "stem"))
    other = prepared(spec_of(runs, "stem", max_document_tokens=20))
    assert one["stem"]["prefix"] != other["stem"]["prefix"]


def test_a_packed_file_gives_the_same_tokens(runs, tmp_path):
    plain = prepared(spec_of(runs, "stem"))
    spec = spec_of(runs, "stem")
    packed = tmp_path / "stem.jsonl.gz"
    packed.write_bytes(gzip.compress((spec.upstream["world"] / "corpora/stem.jsonl").read_bytes()))
    other = prepared(spec_of(runs, "stem", files={"stem": str(packed)}))
    assert other["stem"]["prefix"] != plain["stem"]["prefix"]
    assert Path(other["stem"]["prefix"] + ".bin").read_bytes() == Path(plain["stem"]["prefix"] + ".bin").read_bytes()


def test_a_runs_folder_can_be_moved(runs, tmp_path):
    spec = spec_of(runs, "stem")
    before = prepared(spec)
    runs.rename(tmp_path / "elsewhere")
    after = read_sources(tmp_path / "elsewhere" / spec.folder.relative_to(runs))
    assert Path(after["stem"]["prefix"]).is_relative_to(tmp_path / "elsewhere")
    assert after["stem"]["tokens"] == before["stem"]["tokens"]


def test_a_source_cut_short_is_refused_by_name_and_then_made_anew(runs):
    spec = spec_of(runs, "stem")
    binary = Path(prepared(spec)["stem"]["prefix"] + ".bin")
    whole = binary.read_bytes()
    binary.write_bytes(whole[:-2])
    with pytest.raises(UserError, match=r"stem\.bin has"):
        read_sources(spec.folder)
    prepared(spec)
    assert binary.read_bytes() == whole
    shutil.rmtree(binary.parent)
    with pytest.raises(UserError, match=r"stem\.bin is gone"):
        read_sources(spec.folder)


def test_what_a_killed_attempt_left_is_not_trusted(runs):
    spec = spec_of(runs, "stem")
    binary = Path(prepared(spec)["stem"]["prefix"] + ".bin")
    whole = binary.read_bytes()
    (binary.parent / SUCCESS).unlink()
    (spec.folder / SOURCES_FILE).unlink()
    binary.write_bytes(b"half")
    (binary.parent / ".stem.idx.tmp").write_bytes(b"half")
    prepared(spec)
    assert binary.read_bytes() == whole
    assert not list(binary.parent.glob("*.tmp")) + list(binary.parent.glob(".*.tmp"))


@pytest.mark.slow
def test_a_process_killed_between_two_sources_is_finished_by_the_next_with_the_same_bytes(runs, tmp_path):
    names = ("stem", "science-mcq", "science-rqa")
    whole = prepared(spec_of(tmp_path / "uncut", *names, count=4_000))
    spec = spec_of(runs, *names, count=4_000)
    command = [sys.executable, "-m", "nemo_distill.step", str(spec.folder / "spec.json")]
    process = subprocess.Popen(command)
    while not list((runs / "sources" / "stem").rglob(SUCCESS)):
        assert process.poll() is None
        time.sleep(0.01)
    process.kill()
    process.wait()
    assert not spec.done
    assert len(list((runs / "sources").rglob(SUCCESS))) < len(names)
    subprocess.run(command, check=True)
    assert spec.done
    for name, source in read_sources(spec.folder).items():
        for ending in (".bin", ".idx"):
            assert Path(source["prefix"] + ending).read_bytes() == Path(whole[name]["prefix"] + ending).read_bytes()


def test_too_many_malformed_rows_fail_the_step_and_leave_nothing_that_looks_whole(runs, tmp_path):
    corpora.write(tmp_path, seed=0, counts={"stem": COUNT})
    path = tmp_path / "stem.jsonl"
    path.write_text(path.read_text() + '{"messages": [{"role": "us')
    spec = spec_of(runs, "stem", files={"stem": str(path)})
    with pytest.raises(UserError, match=r"1 of 41 rows of source 'stem' are malformed.*line 41: not JSON"):
        prepare.main(spec)
    assert not (spec.folder / SOURCES_FILE).exists()
    assert not list((runs / "sources").rglob("stem.*"))
    assert not list((runs / "sources").rglob(SUCCESS))
    assert prepared(spec_of(runs, "stem", files={"stem": str(path)}, max_malformed=0.05))["stem"]["documents"] == COUNT


def test_an_empty_document_is_dropped_and_counted(runs, tmp_path):
    path = tmp_path / "code.jsonl"
    path.write_text('{"text": ""}\n{"text": "x = 1"}\n')
    found = prepared(spec_of(runs, "sft-code", files={"sft-code": str(path)}, max_malformed=0.5))
    card = json.loads((Path(found["sft-code"]["prefix"]).parent / "card.json").read_text())
    assert (card["rows"], card["documents"], card["dropped"]) == (2, 1, {"empty": 1})


@pytest.mark.parametrize(
    ("file", "complaint"),
    [("/nowhere/stem.jsonl", "no file /nowhere/stem.jsonl"), ("wrld:stem.jsonl", "Did you mean 'world'")],
)
def test_a_file_that_is_not_there_is_named(runs, file, complaint):
    with pytest.raises(UserError, match=complaint):
        prepare.main(spec_of(runs, "stem", files={"stem": file}))


def test_a_source_without_files_is_refused(runs):
    spec = spec_of(runs, "stem")
    config = spec.config | {"sources": [{"name": "stem", "field": "messages", "files": []}]}
    with pytest.raises(UserError, match="'stem' names no files"):
        prepare.main(dataclasses.replace(spec, config=config))


def test_progress_ends_at_the_whole(runs):
    spec = spec_of(runs, "stem", "sft-code")
    prepare.main(spec)
    said = json.loads((spec.folder / "progress.json").read_text())
    assert said["done"] == said["total"] > 0
    assert said["unit"] == "MB"
