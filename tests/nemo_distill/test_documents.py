import gzip
import json

import pytest

from nemo_distill.documents import Tally, rows, with_inline_reasoning
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
