"""The text over which activations are ranked: of one source end to end, of several a sequence each in turn."""

import json

import pytest

from nemo_distill.config.plain import resolve_package_paths
from nemo_distill.data.tokenizer import Tokenizer
from nemo_distill.errors import UserError
from nemo_distill.prune.calibration import calibration_tokens


@pytest.fixture
def sources(tmp_path) -> list[dict]:
    """A text of many words, and chats of few."""
    texts = [{"text": f"The {number} apples of tree {number}. " * 4} for number in range(60)]
    chats = [
        {"messages": [{"role": "user", "content": f"{n}?"}, {"role": "assistant", "content": "No."}]} for n in range(4)
    ]
    entries = []
    for name, field, rows in (("texts", "text", texts), ("chats", "messages", chats)):
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        entries.append({"name": name, "field": field, "files": [str(tmp_path / f"{name}.jsonl")]})
    return entries


def test_sources_take_turns_until_one_has_no_more(sources):
    tokenizer = Tokenizer(resolve_package_paths("package:debug/teacher"))

    def tokens(*which: int, sequences: int) -> list[list[int]]:
        chosen = [sources[one] for one in which]
        return calibration_tokens(chosen, tokenizer, {}, sequences=sequences, seq_length=16).tolist()

    alone = tokens(0, sequences=12)
    plain = [id for n in range(60) for id in [*tokenizer.encode([f"The {n} apples of tree {n}. " * 4], special=True)[0],
                                              tokenizer.end_of_document]]  # fmt: skip
    assert [id for sequence in alone for id in sequence] == plain[: 12 * 16]
    mixed = tokens(0, 1, sequences=12)
    chats = [sequence for sequence in mixed if sequence not in alone]
    assert 1 <= len(chats) < 6, "the chats hold less than their half"
    assert mixed[: 2 * len(chats)] == [one for pair in zip(alone, chats) for one in pair]
    assert mixed[2 * len(chats) :] == alone[len(chats) : 12 - len(chats)]
    with pytest.raises(
        UserError, match=r"1,000 sequences of 16 tokens, and there are \d+ in 'texts' and 'chats'. Lower"
    ):
        tokens(0, 1, sequences=1000)
