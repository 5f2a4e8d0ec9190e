import gzip
import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from nemo_distill.documents import Tally, batches, parse, rows, with_inline_reasoning, without_reasoning
from nemo_distill.errors import UserError

MESSAGES = [{"role": "user", "content": "2 + 2?"}, {"role": "assistant", "content": "4", "reasoning_content": "easy"}]


def read(path, field="text"):
    tally = Tally()
    return list(rows([path], field=field, tally=tally)), tally


def test_texts_and_messages_come_out_as_they_are(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text(json.dumps({"text": "grüße\n", "other": 1}) + "\n\n" + json.dumps({"text": ""}))
    assert read(path)[0] == ["grüße\n", ""]
    path.write_text(json.dumps({"messages": MESSAGES}))
    assert read(path, "messages")[0] == [MESSAGES]


def test_a_parquet_file_reads_like_lines_and_what_a_struct_lacks_is_not_there(tmp_path):
    path = tmp_path / "a.parquet"
    pq.write_table(pa.Table.from_pylist([{"messages": MESSAGES, "id": 1}] * 5), path, row_group_size=2)
    assert read(path, "messages")[0] == [MESSAGES] * 5
    found, tally = read(path, "text")
    assert found == []
    assert tally.dropped == {"no field 'text'": 5}
    assert tally.first == f"{path}, row 1: no field 'text'"


@pytest.mark.parametrize("ending", ["jsonl", "jsonl.gz", "parquet"])
@pytest.mark.parametrize("skip", [0, 1, 99, 100, 1_999, 2_500, 3_000])
def test_reading_goes_on_behind_any_row(tmp_path, ending, skip):
    rows_ = [{"text": f"row {number}"} for number in range(1, 3_001)]
    path = tmp_path / f"a.{ending}"
    lines = "".join(json.dumps(row) + "\n" for row in rows_).encode()
    if ending == "parquet":
        pq.write_table(pa.Table.from_pylist(rows_), path, row_group_size=1_300)
    else:
        path.write_bytes(gzip.compress(lines) if ending == "jsonl.gz" else lines)
    found = list(batches(path, field="text", skip=skip))
    assert [number for batch in found for number in batch.numbers] == list(range(skip + 1, 3_001))
    texts = [document.value for batch in found for document in parse(batch, field="text", tally=Tally())]
    assert texts == [f"row {number}" for number in range(skip + 1, 3_001)]
    assert not found or found[-1].read == 1.0


TOOLS = [{"type": "function", "function": {"name": "add"}}]


@pytest.mark.parametrize(
    ("given", "tools"), [(TOOLS, TOOLS), (json.dumps(TOOLS), TOOLS), ([], None), (None, None), ("", None)]
)
def test_the_tools_of_a_row_come_along(tmp_path, given, tools):
    path = tmp_path / "a.jsonl"
    path.write_text(json.dumps({"messages": MESSAGES, "tools": given}))
    (batch,) = batches(path, field="messages")
    (document,) = parse(batch, field="messages", tally=Tally())
    assert document.tools == tools


def test_a_call_of_a_tool_needs_no_content(tmp_path):
    path = tmp_path / "a.jsonl"
    call = {"role": "assistant", "content": None, "tool_calls": [{"function": {"name": "add"}}]}
    path.write_text(json.dumps({"messages": [call]}))
    assert read(path, "messages")[0] == [[call]]
    assert with_inline_reasoning([call | {"reasoning_content": "add"}])[0]["content"] == "<think>add</think>"


def test_reasoning_can_be_left_out():
    assert without_reasoning(MESSAGES) == [MESSAGES[0], {"role": "assistant", "content": "4"}]


def test_a_parquet_file_cut_short_is_named(tmp_path):
    path = tmp_path / "a.parquet"
    pq.write_table(pa.Table.from_pylist([{"text": "a"}] * 10), path)
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(UserError, match=r"a\.parquet is damaged"):
        read(path)


def test_a_packed_file_reads_like_a_plain_one(tmp_path):
    lines = "".join(json.dumps({"text": f"line {i}"}) + "\n" for i in range(100))
    (tmp_path / "a.jsonl").write_text(lines)
    (tmp_path / "a.jsonl.gz").write_bytes(gzip.compress(lines.encode()))
    assert read(tmp_path / "a.jsonl")[0] == read(tmp_path / "a.jsonl.gz")[0]


@pytest.mark.parametrize(
    ("line", "field", "reason"),
    [
        (b'{"text": "cut in ha', "text", "not JSON"),
        (b'{"text": "\xff\xfe"}', "text", "not UTF-8"),
        (b'["text"]', "text", "a list and no object"),
        (b'{"txt": "a"}', "text", "no field 'text'"),
        (b'{"text": 5}', "text", "'text' is no text"),
        (b'{"messages": []}', "messages", "'messages' is no list of messages"),
        (b'{"messages": "hi"}', "messages", "'messages' is no list of messages"),
        (b'{"messages": [{"content": "hi"}]}', "messages", "a message without a role"),
        (b'{"messages": [{"role": "user", "content": null}]}', "messages", "a message whose content is no text"),
        (b'{"messages": [{"role": "user", "content": "a"}], "tools": "add"}', "messages", "'tools' is no list"),
        (b"[" * 100_000, "text", "nested too deep"),
    ],
)
def test_a_malformed_row_is_dropped_counted_and_named(tmp_path, line, field, reason):
    path = tmp_path / "a.jsonl"
    good = json.dumps({"text": "fine", "messages": MESSAGES}).encode()
    path.write_bytes(good + b"\n" + line + b"\n" + good + b"\n")
    found, tally = read(path, field)
    assert len(found) == 2
    assert tally.dropped == {reason: 1}
    assert tally.first == f"{path}, line 2: {reason}"


def test_malformed_rows_fail_a_source_above_the_share_allowed(tmp_path):
    tally = Tally(rows=200, first="x.jsonl, line 3: not JSON")
    tally.dropped["not JSON"] = 2
    tally.check(allowed=0.01, where="stem")
    tally.dropped["not JSON"] = 3
    with pytest.raises(UserError, match=r"3 of 200 rows of stem are malformed, more than the 1.00% allowed; .*line 3"):
        tally.check(allowed=0.01, where="stem")


def test_a_source_without_documents_is_refused(tmp_path):
    (tmp_path / "a.jsonl").write_text("\n")
    _, tally = read(tmp_path / "a.jsonl")
    with pytest.raises(UserError, match="stem has no documents"):
        tally.check(allowed=0.01, where="stem")


def test_a_packed_file_cut_short_is_named(tmp_path):
    path = tmp_path / "a.jsonl.gz"
    path.write_bytes(gzip.compress(b'{"text": "abc"}\n' * 1000)[:-20])
    with pytest.raises(UserError, match=r"a\.jsonl\.gz is damaged"):
        read(path)


@pytest.mark.parametrize("name", ["a.csv", "a.json"])
def test_a_file_of_another_kind_is_refused(tmp_path, name):
    (tmp_path / name).write_text("{}")
    with pytest.raises(UserError, match=r"none of \.jsonl"):
        read(tmp_path / name)


def test_reasoning_goes_to_the_front_of_the_answer_and_the_rest_stays():
    assert with_inline_reasoning(MESSAGES) == [
        {"role": "user", "content": "2 + 2?"},
        {"role": "assistant", "content": "<think>easy</think>4"},
    ]
    assert MESSAGES[1]["reasoning_content"] == "easy"
