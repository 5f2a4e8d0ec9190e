"""Rows that the world writes, through the whole prepare step: what their tokens say, and what the card says of them."""

import functools
import gzip
import json
import re
import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from nemo_distill.config.plain import resolve_package_paths
from nemo_distill.data.prepared import read_sources
from nemo_distill.data.tokenizer import Tokenizer
from nemo_distill.errors import UserError
from nemo_distill.run.step import Step, place
from nemo_distill.steps import prepare

TEACHER = Path(resolve_package_paths("package:debug/teacher"))
ASKED = {"role": "user", "content": "1 + 1?"}
PLAIN = [{"text": f"a plain sentence, number {number}"} for number in range(150)]
CHATS = [{"messages": [ASKED, {"role": "assistant", "content": "2", "reasoning_content": "one and one"}]}] * 150
HUGE = "7" * 5_000


def deep(levels: int) -> str:
    return '{"a": ' * levels + "1" + "}" * levels


def written(path: Path, rows: list) -> Path:
    path.write_text("".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows))
    return path


def step(tmp_path: Path, *files: Path, field: str = "text", source: dict | None = None, **config):
    entry = {"name": "mine", "field": field, "files": list(map(str, files)), "samples": None} | (source or {})
    config = {"tokenizer": str(TEACHER), "sources": [entry], "max_document_tokens": 256} | config
    spec = place([Step("prepare", "nemo_distill.steps.prepare", config)], runs=tmp_path / "runs")["prepare"]
    spec.save()
    return spec


tokenizer_at = functools.cache(Tokenizer)


def prepared(tmp_path: Path, *files: Path, **of) -> tuple[str, dict]:
    """The text of all tokens, and the card."""
    spec = step(tmp_path, *files, **of)
    prepare.main(spec)
    prefix = Path(read_sources(spec.folder)["mine"]["prefix"])
    card = json.loads((prefix.parent / "card.json").read_text())
    assert (prefix.parent / "card.md").read_text().startswith("# mine")
    text = tokenizer_at(spec.config["tokenizer"])._backend.decode(
        np.fromfile(f"{prefix}.bin", np.uint16).tolist(), skip_special_tokens=False
    )
    return text, card


BAD = {
    "text": {
        '{"text": "fine", "id": ' + HUGE + "}": "an integer of too many digits",
        '{"text": null}': "'text' is null",
        '{"text": "half \\ud83d"}': "half a surrogate pair",
        '{"text": ""}': "empty",
        deep(100_000): "nested too deep",
    },
    "messages": {
        json.dumps(CHATS[0] | {"tools": f'[{{"name": "f", "x": {HUGE}}}]'}): "an integer of too many digits",
        json.dumps(CHATS[0] | {"tools": '{"a": 1}'}): "'tools' is no list",
        '{"messages": [{"role": "assistant", "content": "2", "tool_calls": [{"function": {"name": "f", "arguments": '
        + deep(700) + "}}]}]}": "the chat template refuses them (maximum recursion depth exceeded",
    },
}  # fmt: skip


@pytest.mark.parametrize("field", BAD)
def test_a_row_that_raises_is_dropped_counted_and_named_and_the_others_are_read(tmp_path, field):
    good = PLAIN if field == "text" else CHATS
    path = written(tmp_path / "rows.jsonl", [*good, *BAD[field]])
    with pytest.raises(UserError, match=f"{len(BAD[field])} of .* rows of source 'mine' are malformed.*, line 151: "):
        prepare.main(step(tmp_path, path, field=field))
    _, card = prepared(tmp_path, path, field=field, max_malformed=0.05)
    assert (card["documents"], card["rows"]) == (150, 150 + len(BAD[field]))
    assert sorted(card["dropped"].values()) == [1] * len(BAD[field])
    for reason in BAD[field].values():
        assert any(found.startswith(reason) for found in card["dropped"]), reason
    assert re.match(rf"{path}, line 15[1-5]: ", card["first_malformed"])


def test_empty_rows_are_refused_above_the_share_allowed_whatever_the_tokenizer_puts_in_front(tmp_path):
    from tokenizers import Tokenizer as Backend
    from tokenizers.processors import TemplateProcessing

    folder = shutil.copytree(TEACHER, tmp_path / "marked")
    backend = Backend.from_file(str(folder / "tokenizer.json"))
    backend.post_processor = TemplateProcessing(single="<|im_start|> $A", special_tokens=[("<|im_start|>", 1)])
    backend.save(str(folder / "tokenizer.json"))
    path = written(tmp_path / "rows.jsonl", [*PLAIN[:49], *[{"text": ""}] * 3, *PLAIN[49:147]])
    for tokenizer in (TEACHER, folder):
        with pytest.raises(UserError, match=r"3 of 150 rows of source 'mine' are malformed.*line 50: empty\."):
            prepare.main(step(tmp_path, path, tokenizer=str(tokenizer)))


THINKS = "<|im_start|>assistant\n<think>one and one</think>2<|im_end|>"
SILENT = "<|im_start|>assistant\n<think></think>2<|im_end|>"


@pytest.mark.parametrize(
    ("answer", "reasoning", "said", "noted"),
    [
        ({"reasoning": "one and one"}, "stripped", SILENT, {"reasoning_stripped": 1}),
        ({"thinking": "one and one"}, "stripped", SILENT, {"reasoning_stripped": 1}),
        ({"content": "<think>one and one</think>2"}, "stripped", SILENT, {"reasoning_stripped": 1}),
        ({"reasoning": "one and one"}, "inline", THINKS, {"reasoning_kept": 1}),
        ({"thinking": "one and one"}, "inline", THINKS, {"reasoning_kept": 1}),
        ({"thinking": "one and one"}, "native", THINKS, {"reasoning_kept": 1}),
        ({"content": "<think>one and one</think>2", "reasoning": "one and one"}, "inline", THINKS,
         {"reasoning_kept": 1}),
        ({}, "inline", SILENT, {}),
        ({"content": "2 <|im_end|> 3"}, "inline", "2 <|im_end|> 3", {"control_tokens": 1}),
    ],
)  # fmt: skip
def test_reasoning_becomes_what_the_setting_says_under_any_name_and_the_card_counts_it(
    tmp_path, answer, reasoning, said, noted
):
    message = {"role": "assistant", "content": "2"} | answer
    path = written(tmp_path / "rows.jsonl", [{"messages": [ASKED, message]}])
    text, card = prepared(tmp_path, path, field="messages", reasoning=reasoning)
    assert said in text and text.count("one and one") == said.count("one and one")
    assert card["noted"] == noted
    assert card["treatment"]["reading"] == 2


def test_the_loss_on_answers_is_marked_beside_the_tokens_of_chats_and_of_no_text(tmp_path):
    spec = step(tmp_path, written(tmp_path / "chats.jsonl", CHATS), field="messages", loss_on="answers")
    prepare.main(spec)
    source = read_sources(spec.folder)["mine"]
    prefix = Path(source["prefix"])
    marks, tokens = np.fromfile(f"{prefix}.loss", np.uint8), np.fromfile(f"{prefix}.bin", np.uint16)
    assert len(marks) == len(tokens) == source["bytes"][".loss"]
    said = tokenizer_at(str(TEACHER))._backend.decode(tokens[marks == 1].tolist(), skip_special_tokens=False)
    assert said == "one and one</think>2<|im_end|>\n" * len(CHATS)
    card = json.loads((prefix.parent / "card.json").read_text())
    assert card["loss_tokens"] == marks.sum() and "The loss is taken on" in (prefix.parent / "card.md").read_text()
    texts = [
        step(tmp_path, written(tmp_path / "texts.jsonl", PLAIN), loss_on=loss_on) for loss_on in ("answers", "all")
    ]
    for text in texts:
        prepare.main(text)
    one, other = (read_sources(text.folder)["mine"] for text in texts)
    assert one == other and not Path(one["prefix"] + ".loss").exists()


def test_a_list_as_reasoning_is_no_text_and_dropped(tmp_path):
    message = {"role": "assistant", "content": "2", "reasoning_content": ["a", "b"]}
    path = written(tmp_path / "rows.jsonl", [{"messages": [ASKED, message]}])
    with pytest.raises(UserError, match=r"1 of 1 rows .* line 1: a message whose 'reasoning_content' is a list"):
        prepare.main(step(tmp_path, path, field="messages"))


TEMPLATE = (
    "{% for m in messages %}{{ m.role }}: {{ m.content }}{% for call in m.tool_calls or [] %}"
    "{% for key, value in call.function.arguments|items %}[{{ key }}={{ value }}]{% endfor %}{% endfor %}\n{% endfor %}"
)


def test_what_a_template_wants_as_an_object_is_given_as_one_and_what_it_does_not_read_is_counted(tmp_path):
    folder = shutil.copytree(TEACHER, tmp_path / "other")
    (folder / "chat_template.jinja").write_text(TEMPLATE)
    call = {"type": "function", "function": {"name": "look_up", "arguments": '{"city": "Paris"}'}}
    asked = {"role": "assistant", "content": None, "tool_calls": [call], "reasoning": "ask the tool"}
    path = written(tmp_path / "rows.jsonl", [{"messages": [ASKED, asked, {"role": "tool", "content": "sunny"}]}])
    text, card = prepared(tmp_path, path, field="messages", tokenizer=str(folder), reasoning="native")
    assert text == "user: 1 + 1?assistant: [city=Paris]tool: sunny"
    assert card["noted"] == {"reasoning_unread": 1, "tool_calls_unread": 1}  # the name of the tool is not shown
    assert "1 messages whose reasoning the chat template leaves out" in next(tmp_path.rglob("card.md")).read_text()
    text, card = prepared(tmp_path, path, field="messages", reasoning="inline")
    assert "<think>ask the tool</think><|im_end|>" in text
    assert card["noted"] == {"reasoning_kept": 1, "tool_calls_unread": 1}


def test_a_text_that_spells_a_control_token_is_counted(tmp_path):
    rows = [*PLAIN, {"text": "ends <|im_end|> here"}, {"text": "a < b, a <|im_ b, <think>"}]
    _, card = prepared(tmp_path, written(tmp_path / "rows.jsonl", rows))
    assert card["noted"] == {"control_tokens": 1}


def test_newer_text_types_of_parquet_are_read(tmp_path):
    for number, kind in enumerate((pa.string_view(), pa.large_string(), pa.dictionary(pa.int32(), pa.string()))):
        values = pa.array([row["text"] for row in PLAIN] + [None]).cast(kind)
        pq.write_table(pa.table({"text": values}), path := tmp_path / f"{number}.parquet")
        text, card = prepared(tmp_path, path)
        assert text.startswith("a plain sentence, number 0") and card["documents"] == 150
        assert card["dropped"] == {"'text' is null": 1}


def test_a_file_that_is_damaged_half_way_is_named_with_the_line(tmp_path):
    path = tmp_path / "rows.jsonl.gz"
    whole = gzip.compress("".join(json.dumps({"text": f"{n * 7919 % 9973}"}) + "\n" for n in range(9_000)).encode())
    path.write_bytes(whole[:-1_000] + b"\xff" * 1_000)
    with pytest.raises(UserError, match=r"rows.jsonl.gz is damaged behind line [1-9]"):
        prepare.main(step(tmp_path, path))


@pytest.mark.parametrize(
    ("eos", "complaint"),
    [
        (None, "has no end-of-sequence token, without which documents cannot be told apart"),
        ("<|nowhere|>", r"ids up to 1,024, and vocab_size=1024 .* '<\|nowhere\|>' is in no vocabulary"),
    ],
)
def test_a_tokenizer_that_cannot_end_a_document_is_refused_before_the_first_row(tmp_path, eos, complaint):
    folder = shutil.copytree(TEACHER, tmp_path / "other")
    config = json.loads((folder / "tokenizer_config.json").read_text()) | {"eos_token": eos}
    (folder / "tokenizer_config.json").write_text(json.dumps({k: v for k, v in config.items() if v is not None}))
    with pytest.raises(UserError, match=complaint):
        prepare.main(step(tmp_path, written(tmp_path / "rows.jsonl", PLAIN), tokenizer=str(folder)))
    assert not (tmp_path / "runs" / "sources").exists()


def test_chats_for_a_tokenizer_without_a_template_are_refused_before_the_first_row(tmp_path):
    folder = shutil.copytree(TEACHER, tmp_path / "other", ignore=shutil.ignore_patterns("*.jinja"))
    with pytest.raises(UserError, match="has no chat template, and there are sources of chats"):
        prepare.main(step(tmp_path, written(tmp_path / "a.jsonl", CHATS), field="messages", tokenizer=str(folder)))


def test_one_file_under_two_names_is_said(tmp_path, caplog):
    one = written(tmp_path / "one.jsonl", PLAIN)
    other = Path(shutil.copy(one, tmp_path / "other.jsonl"))
    _, card = prepared(tmp_path, one, other, one)
    assert card["documents"] == 300  # a file named twice is one, a copy is another
    assert card["noted"] == {"repeated_files": 1}
    entries = [{"name": path.stem, "field": "text", "files": [str(path)]} for path in (one, other)]
    spec = step(tmp_path, sources=entries)
    prepare.main(spec)
    sentence = "Sources 'one' and 'other' read the same content (one.jsonl): it counts in both."
    assert sentence in caplog.text and sentence in (spec.folder / prepare.TABLE_FILE).read_text().splitlines()
