"""Marks of what the assistant says: against transformers' own where a template marks it, and through a whole source."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from nemo_distill.config.plain import resolve_package_paths
from nemo_distill.data import documents, tokenise
from nemo_distill.data.answers import loss_on
from nemo_distill.data.documents import Document
from nemo_distill.data.files import LocalFile
from nemo_distill.data.indexed import lengths_of
from nemo_distill.data.tokenise import Job, Treatment, Workers
from nemo_distill.data.tokenizer import Tokenizer

TEACHER = Path(resolve_package_paths("package:debug/teacher"))
CHAT = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "2 + 2?"},
    {"role": "assistant", "content": "4", "reasoning_content": "two and two"},
    {"role": "user", "content": "and one?"},
    {"role": "assistant", "content": "5"},
]
MARKED = (
    "{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' }}{% if m.role == 'assistant' %}"
    "{% generation %}{{ m.content + '<|im_end|>' }}{% endgeneration %}"
    "{% else %}{{ m.content + '<|im_end|>' }}{% endif %}"
    "{{ '\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
FORGETFUL = (  # of all turns but the last the reasoning is left out
    "{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' }}{{ m.content if loop.last else "
    "m.content.split('</think>')[-1] }}{{ '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n<think>' }}{% endif %}"
)


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return Tokenizer(TEACHER)


def of(template: str, folder: Path) -> Tokenizer:
    shutil.copytree(TEACHER, folder / "other")
    (folder / "other" / "chat_template.jinja").write_text(template)
    return Tokenizer(folder / "other")


def said(tokenizer: Tokenizer, messages: list[dict], **of) -> tuple[list[str], int]:
    """What the assistant says, turn by turn, and how many turns have no place."""
    text, given = tokenizer.chat(Document(0, messages, reading=2), reasoning=of.get("reasoning", "inline"))
    spans, lost = tokenizer.answers(given, None, text)
    return [text[first:behind] for first, behind in spans], lost


def test_a_turn_is_what_follows_the_prompt_to_go_on(tokenizer):
    first, last = "two and two</think>4<|im_end|>\n", "</think>5<|im_end|>\n"  # the prompt ends in <think>
    assert said(tokenizer, CHAT) == ([first, last], 0)
    assert said(tokenizer, CHAT, reasoning="stripped") == (["</think>4<|im_end|>\n", last], 0)
    assert said(tokenizer, CHAT[:2]) == ([], 0)
    assert said(tokenizer, CHAT[2:]) == ([last], 1)  # what comes before anything was asked follows no prompt


def test_turns_that_are_written_otherwise_later_on_have_no_place(tmp_path):
    tokenizer = of(FORGETFUL, tmp_path)
    assert said(tokenizer, CHAT) == (["5<|im_end|>\n"], 1)  # which has no reasoning that the prompt begins
    assert said(tokenizer, CHAT[:3]) == (["two and two</think>4<|im_end|>\n"], 0)


def test_marks_of_a_template_that_has_its_own_are_those_of_transformers(tmp_path):
    tokenizer = of(MARKED, tmp_path)
    theirs = tokenizer._tokenizer.apply_chat_template(
        CHAT, return_dict=True, return_assistant_tokens_mask=True, tokenize=True
    )
    text, given = tokenizer.chat(Document(0, CHAT, reading=2), reasoning="native")
    spans, lost = tokenizer.answers(given, None, text)
    (ids,), (offsets,) = tokenizer.encode_with_offsets([text])
    assert lost == 0 and ids == theirs["input_ids"] == tokenizer.encode([text], special=False)[0]
    assert loss_on(spans, offsets).tolist() == theirs["assistant_masks"]
    assert sum(theirs["assistant_masks"]) == 4


def test_tokens_of_many_bytes_are_where_their_characters_are(tokenizer):
    chat = [{"role": "user", "content": "größe 🙂 ?"}, {"role": "assistant", "content": "ñandú 🙂🙂 漢字"}]
    text, given = tokenizer.chat(Document(0, chat, reading=2), reasoning="inline")
    spans, _ = tokenizer.answers(given, None, text)
    (ids,), (offsets,) = tokenizer.encode_with_offsets([text])
    marked = [token for token, mark in zip(ids, loss_on(spans, offsets), strict=True) if mark]
    decoded = tokenizer._backend.decode(marked, skip_special_tokens=False)
    assert decoded == "</think>ñandú 🙂🙂 漢字<|im_end|>\n"


ROWS = 600


def prepared(file: Path, prefix: Path, tokenizer: Tokenizer, *, budget=None, cut_after=None, loss="answers"):
    """(tokens, marks) of each document."""
    treatment = Treatment(field="messages", max_document_tokens=40, reading=2, loss_on=loss)
    job = Job(
        source="x", files=[LocalFile(file, file.name)], treatment=treatment, max_malformed=0.1, budget=budget, seed=3
    )
    said = 0

    def say(share: float, rate: float) -> None:
        nonlocal said
        said += 1
        if said == cut_after:
            raise InterruptedError

    with Workers(tokenizer, count=2) as workers:
        tokenise.tokenise(job, workers, prefix, say=say)
    ends = np.cumsum(np.concatenate(list(lengths_of(prefix))))[:-1]
    arrays = np.fromfile(f"{prefix}.bin", np.uint16), np.fromfile(f"{prefix}.loss", np.uint8)
    return list(zip(*(np.split(array, ends) for array in arrays), strict=True))


@pytest.mark.parametrize("budget", [None, 6_000])
def test_marks_stay_with_their_tokens_through_cuts_of_documents_draws_and_resumed_attempts(
    tmp_path, tokenizer, monkeypatch, budget
):
    monkeypatch.setattr(documents, "BATCH_BYTES", 4_000)
    monkeypatch.setattr(tokenise, "_CHECKPOINT_TOKENS", 1_000)
    file = tmp_path / "a.jsonl"
    with open(file, "w") as out:
        for row in range(ROWS):
            asked = {"role": "user", "content": f"{row}?" + " more" * (row % 9)}
            chat = [asked, {"role": "assistant", "content": f"answer {row}" + " so" * (row % 30)}]
            out.write("{\n" if row % 50 == 7 else json.dumps({"messages": chat * (1 + row % 2)}) + "\n")
    found = prepared(file, tmp_path / "whole", tokenizer, budget=budget)
    assert (len(found) == ROWS - ROWS // 50) if budget is None else (100 < len(found) < ROWS // 2)
    for tokens, marks in found:
        assert len(tokens) == len(marks) <= 40
        text = tokenizer._backend.decode(tokens.tolist(), skip_special_tokens=False)
        row = int(text.partition("\n")[2].partition("?")[0])
        answer = f"</think>answer {row}" + " so" * (row % 30) + "<|im_end|>\n"
        shown = tokenizer._backend.decode(tokens[marks == 1].tolist(), skip_special_tokens=False)
        assert (answer * (1 + row % 2)).startswith(shown) and shown.startswith("</think>answer")
        assert len(tokens) == 40 or shown == answer * (1 + row % 2)
    with pytest.raises(InterruptedError):
        prepared(file, tmp_path / "cut", tokenizer, budget=budget, cut_after=7)
    assert not list(tmp_path.glob("cut.*"))
    prepared(file, tmp_path / "cut", tokenizer, budget=budget)
    for ending in (".bin", ".idx", ".loss"):
        assert Path(f"{tmp_path}/cut{ending}").read_bytes() == Path(f"{tmp_path}/whole{ending}").read_bytes()
    assert not list(tmp_path.glob(".*"))
