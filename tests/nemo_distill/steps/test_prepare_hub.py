"""`prepare` on sources from the hub and from parquet: the same rows give the same bytes wherever they come from."""

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from nemo_distill.config.plain import resolve_package_paths
from nemo_distill.data import hub
from nemo_distill.data.prepared import read_sources
from nemo_distill.data.tokenizer import Tokenizer
from nemo_distill.debug import corpora
from nemo_distill.errors import UserError
from nemo_distill.prune.calibration import calibration_tokens
from nemo_distill.run.step import Step, place
from nemo_distill.steps import prepare

TEACHER = resolve_package_paths("package:debug/teacher")
COUNT = 200
README = """---
configs:
- config_name: {name}
  data_files:
  - split: train
    path: data/*.{ending}
---
"""


@pytest.fixture
def runs(tmp_path) -> Path:
    return tmp_path / "runs"


def rows_of(name: str) -> list[dict]:
    return list(corpora.documents(name, seed=0, count=COUNT))


def lines(rows: list[dict]) -> bytes:
    return b"".join(json.dumps(row).encode() + b"\n" for row in rows)


def parquet(rows: list[dict]) -> bytes:
    sink = pa.BufferOutputStream()
    pq.write_table(pa.Table.from_pylist(rows), sink, row_group_size=33)
    return sink.getvalue().to_pybytes()


def data_set(name: str, ending: str) -> dict[str, bytes]:
    """The stand-in called `name` as it may lie on the hub: a README and two shards."""
    rows, pack = rows_of(name), {"jsonl": lines, "parquet": parquet}[ending]
    return {
        "README.md": README.format(name=name, ending=ending).encode(),
        f"data/a.{ending}": pack(rows[: COUNT // 3]),
        f"data/b.{ending}": pack(rows[COUNT // 3 :]),
    }


def on_hub(name: str, **of) -> dict:
    return {
        "name": name,
        "field": corpora.STAND_INS[name].field,
        "dataset": f"org/{name}",
        "subset": name,
        "split": "train",
        "files": [],
        "samples": None,
    } | of


def prepared(runs: Path, *sources: dict, **config) -> dict[str, dict]:
    config = {"tokenizer": TEACHER, "sources": list(sources)} | config
    spec = place([Step("prepare", "nemo_distill.steps.prepare", config)], runs=runs)["prepare"]
    spec.save()
    prepare.main(spec)
    return read_sources(spec.folder)


def bytes_of(source: dict) -> list[bytes]:
    return [Path(source["prefix"] + ending).read_bytes() for ending in (".bin", ".idx")]


def card_of(source: dict) -> dict:
    return json.loads((Path(source["prefix"]).parent / "card.json").read_text())


@pytest.mark.parametrize("name", ["sft-code", "math-v2-part00"])
@pytest.mark.parametrize("ending", ["jsonl", "parquet"])
@pytest.mark.parametrize("way", ["cached", "streaming", "mirror"])
def test_the_hub_a_mirror_and_files_at_hand_give_the_same_bytes(
    runs, tmp_path, local_hub, monkeypatch, name, ending, way
):
    files = data_set(name, ending)
    local_hub.add(f"org/{name}", files)
    if way == "streaming":
        monkeypatch.setenv(hub.STREAMING, "1")
    if way == "mirror":
        for path, data in files.items():
            (tmp_path / "mirror/org" / name / path).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / "mirror/org" / name / path).write_bytes(data)
        monkeypatch.setenv(hub.MIRROR, str(tmp_path / "mirror"))
    found = prepared(runs, on_hub(name))[name]
    (tmp_path / "plain.jsonl").write_bytes(lines(rows_of(name)))
    plain = {"name": name, "field": corpora.STAND_INS[name].field, "files": [str(tmp_path / "plain.jsonl")]}
    assert bytes_of(found) == bytes_of(prepared(runs, plain)[name])
    assert (way == "mirror") == (not local_hub.requests)


@pytest.mark.slow
@pytest.mark.parametrize("ending", ["jsonl", "parquet"])
def test_text_from_the_hub_comes_out_byte_for_byte_as_modelopt_makes_it(runs, tmp_path, local_hub, ending):
    from modelopt.torch.utils.plugins.megatron_preprocess_data import megatron_preprocess_data

    local_hub.add("org/sft-code", data_set("sft-code", ending))
    ours = prepared(runs, on_hub("sft-code"), join_newlines=False, max_document_tokens=30)["sft-code"]
    (tmp_path / "plain.jsonl").write_bytes(lines(rows_of("sft-code")))
    megatron_preprocess_data(
        jsonl_paths=[str(tmp_path / "plain.jsonl")],
        output_dir=tmp_path / "modelopt",
        tokenizer_name_or_path=TEACHER,
        append_eod=True,
        max_sequence_length=30,
    )
    theirs = tmp_path / "modelopt" / "plain_text_document"
    assert bytes_of(ours) == bytes_of({"prefix": str(theirs)})


def test_a_source_that_is_there_is_found_without_a_download_at_any_revision_that_holds_the_same(runs, local_hub):
    files = data_set("stem", "parquet")
    first_commit = local_hub.add("org/stem", files).commit
    first = prepared(runs, on_hub("stem"))["stem"]
    assert card_of(first)["origin"]["revision"] == first_commit
    assert sorted(local_hub.fetched()) == ["README.md", "data/a.parquet", "data/b.parquet"]
    local_hub.add("org/stem", files | {"NEWS.md": b"a commit later"})
    local_hub.requests.clear()
    hub.forget()
    again = prepared(runs, on_hub("stem"))["stem"]
    assert again == first
    assert local_hub.fetched() == []
    local_hub.add("org/stem", files | {"data/b.parquet": parquet(rows_of("stem")[:5])})
    hub.forget()
    assert prepared(runs, on_hub("stem"))["stem"]["prefix"] != first["prefix"]


def test_the_card_of_a_hub_source_says_where_its_bytes_come_from(runs, local_hub):
    commit = local_hub.add("org/stem", data_set("stem", "jsonl")).commit
    card = card_of(prepared(runs, on_hub("stem", revision=commit))["stem"])
    assert card["origin"] == {"dataset": "org/stem", "subset": "stem", "split": "train", "revision": commit}
    entries = [local_hub.repositories["org/stem"].entry(path) for path in ("data/a.jsonl", "data/b.jsonl")]
    assert card["inputs"] == [
        {"file": entry["path"], "bytes": entry["size"], "content": f"sha256:{entry['lfs']['oid']}"} for entry in entries
    ]
    assert sum(card["lengths"].values()) == card["documents"] == COUNT
    assert card["drawn"] == {"share": 1.0, "budget": None, "samples": None, "seed": None}


def test_a_sample_fetches_the_files_it_needs_and_no_others(runs, local_hub):
    local_hub.add("org/stem", data_set("stem", "jsonl"))
    found = prepared(runs, on_hub("stem", samples=20))["stem"]
    assert found["documents"] == 20
    assert "data/b.jsonl" not in local_hub.fetched()


def test_a_budget_draws_on_all_rows_and_the_card_says_what_share(runs, local_hub):
    local_hub.add("org/stem", data_set("stem", "jsonl"))
    everything = prepared(runs, on_hub("stem"))["stem"]
    budget = everything["tokens"] // 3
    drawn = prepared(runs, on_hub("stem", tokens=budget, samples=20), seed=7)["stem"]
    card = card_of(drawn)
    assert 0.9 * budget < drawn["tokens"] <= budget
    assert card["rows"] == COUNT
    assert card["drawn"] | {"share": None} == {"share": None, "budget": budget, "samples": None, "seed": 7}
    assert card["drawn"]["share"] == pytest.approx(1 / 3, abs=0.1)
    page = (Path(drawn["prefix"]).parent / "card.md").read_text()
    assert f"Drawn to a budget of {budget:,} tokens with seed 7" in page


def test_a_budget_of_nothing_is_refused(runs, local_hub):
    local_hub.add("org/stem", data_set("stem", "jsonl"))
    with pytest.raises(UserError, match="'stem' has a budget of 0 tokens"):
        prepared(runs, on_hub("stem", tokens=0))


def test_reasoning_changes_the_tokens_of_chats_and_nothing_of_texts(runs, local_hub):
    names = ("math-v2-part00", "sft-code")
    for name in names:
        local_hub.add(f"org/{name}", data_set(name, "jsonl"))
    sources = [on_hub(name) for name in names]
    inline, stripped = prepared(runs, *sources), prepared(runs, *sources, reasoning="stripped")
    assert stripped["math-v2-part00"]["tokens"] < inline["math-v2-part00"]["tokens"]
    assert stripped["sft-code"] == inline["sft-code"]
    with pytest.raises(UserError, match="reasoning cannot be 'inlined'. Did you mean 'inline'"):
        prepared(runs, *sources, reasoning="inlined")


def test_a_hub_that_dies_within_a_source_leaves_a_sentence_and_the_next_run_fetches_the_rest(
    runs, local_hub, monkeypatch
):
    monkeypatch.setattr("time.sleep", lambda seconds: None)  # the client's own pauses
    files = data_set("stem", "jsonl")
    local_hub.add("org/stem", files)
    local_hub.die_after = len(files["README.md"]) + len(files["data/a.jsonl"]) + 100
    with pytest.raises(UserError, match=r"could not be reached for the data set org/stem .*run again to go on"):
        prepared(runs, on_hub("stem"))
    assert not list((runs / "sources").rglob("stem.*"))
    local_hub.die_after, local_hub.sent = None, 0
    found = prepared(runs, on_hub("stem"))["stem"]
    assert found["documents"] == COUNT
    assert local_hub.sent == len(files["data/b.jsonl"])


def test_calibration_reads_only_as_much_as_it_needs(runs, local_hub):
    local_hub.add("org/sft-general", data_set("sft-general", "parquet"))
    source, tokenizer = on_hub("sft-general"), Tokenizer(TEACHER)
    tokens = calibration_tokens([source], tokenizer, {}, sequences=4, seq_length=32)
    assert tokens.shape == (4, 32)
    assert "data/b.parquet" not in local_hub.fetched()
    with pytest.raises(UserError, match="calibration wants 100,000 sequences of 32 tokens, and there are"):
        calibration_tokens([source], tokenizer, {}, sequences=100_000, seq_length=32)


def test_a_model_with_another_tokenizer_is_refused_and_both_are_named(runs, tmp_path, local_hub):
    from tokenizers import Tokenizer as Backend

    local_hub.add("org/stem", data_set("stem", "jsonl"))
    prepared(runs, on_hub("stem"))
    (folder,) = (runs / "prepare").iterdir()
    assert read_sources(folder, tokenizer=Path(TEACHER)) == read_sources(folder)
    other = Backend.from_file(f"{TEACHER}/tokenizer.json")
    other.add_tokens(["<more>"])
    (tmp_path / "other").mkdir()
    other.save(str(tmp_path / "other" / "tokenizer.json"))
    with pytest.raises(UserError) as refused:
        read_sources(folder, tokenizer=tmp_path / "other")
    assert f"source 'stem' was tokenised with {TEACHER} (vocabulary " in str(refused.value)
    assert f"the model has the tokenizer {tmp_path / 'other'} (vocabulary " in str(refused.value)


def test_a_data_set_that_a_recipe_declares_is_looked_at_before_any_source_is_tokenised(runs, local_hub):
    from nemo_distill.config.sources import Source
    from nemo_distill.data.declared import entry_of

    chat = [{"conversations": [{"from": "human", "value": f"{n}?"}, {"from": "gpt", "value": "yes"}]} for n in range(9)]
    local_hub.add("org/first", {"data/train.jsonl": lines([{"text": "a text"}] * 9)})
    local_hub.add("org/chats", {"data/train.parquet": parquet(chat)})
    first = entry_of(Source(name="first", dataset="org/first"))
    assert first == {"name": "first", "field": "text", "dataset": "org/first", "reading": 2}
    wrong = Source(name="chats", dataset="org/chats", field="text:conversation", files="data/*.parquet")
    with pytest.raises(UserError, match=r"source 'chats': none of the first 9 rows of org/chats/.*no field 'conversat"):
        prepared(runs, first, entry_of(wrong))
    assert not (runs / "sources").exists()
    right = entry_of(Source(name="chats", dataset="org/chats", field="messages"))
    found = prepared(runs, first, right)
    assert (found["first"]["documents"], found["chats"]["documents"]) == (9, 9)
    assert len(card_of(found["chats"])["origin"]["revision"]) == 40
    local_hub.requests.clear()
    assert prepared(runs, right)["chats"]["prefix"] == found["chats"]["prefix"]  # found again, and not looked at
    with pytest.raises(UserError, match="has no revision 'v9'"):
        prepared(runs, entry_of(Source(name="chats", dataset="org/chats", field="messages", revision="v9")))
