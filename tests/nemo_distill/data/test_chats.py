"""Chats in every way that they are written: what they mean, and what is said of one of which it is not known."""

import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from nemo_distill.data.chats import (
    SCHEMAS,
    MalformedError,
    chat_of,
    thoughts,
    with_arguments,
    without_inline_reasoning,
)
from nemo_distill.data.documents import rows
from nemo_distill.data.tally import Tally

ASKED, ANSWERED = {"role": "user", "content": "1 + 1?"}, {"role": "assistant", "content": "2"}
THOUGHT = ANSWERED | {"reasoning_content": "one and one"}
CALL = {"type": "function", "function": {"name": "look_up", "arguments": '{"city": "Paris"}'}}
CALLED = {"role": "assistant", "content": None, "tool_calls": [CALL]}


def answer(**of) -> dict:
    return {"messages": [ASKED, ANSWERED | of]}


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        ({"messages": [ASKED, ANSWERED]}, [ASKED, ANSWERED]),
        ({"messages": json.dumps([ASKED, ANSWERED])}, [ASKED, ANSWERED]),
        ({"messages": [CALLED]}, [CALLED]),
        (
            {"conversations": [{"from": "human", "value": "1 + 1?"}, {"from": "gpt", "value": "2"}]},
            [ASKED, ANSWERED],
        ),
        (
            {"system": "Be brief.", "conversations": [{"from": "user", "value": "1 + 1?", "weight": 0}]},
            [{"role": "system", "content": "Be brief."}, ASKED | {"weight": 0}],
        ),
        ({"conversation": [ASKED, ANSWERED], "messages": None}, [ASKED, ANSWERED]),
        (
            {
                "conversations": [
                    {"from": "function_call", "value": '{"name": "look_up", "arguments": {"city": "Paris"}}'},
                    {"from": "observation", "value": "sunny"},
                ]
            },
            [
                CALLED
                | {
                    "tool_calls": [
                        {"type": "function", "function": {"name": "look_up", "arguments": {"city": "Paris"}}}
                    ]
                },
                {"role": "tool", "content": "sunny"},
            ],
        ),
        ({"prompt": "1 + 1?", "completion": "2"}, [ASKED, ANSWERED]),
        ({"prompt": [ASKED], "completion": [ANSWERED]}, [ASKED, ANSWERED]),
        ({"prompt": [ASKED, ANSWERED, ASKED], "response": "2"}, [ASKED, ANSWERED, ASKED, ANSWERED]),
        ({"prompt": "1 + 1?", "completion": "2", "reasoning": "one and one"}, [ASKED, THOUGHT]),
        ({"prompt": "1 + 1?", "completion": "2", "reasoning": "off"}, [ASKED, ANSWERED]),
        (answer(reasoning="one and one"), [ASKED, THOUGHT]),
        (answer(thinking="one and one"), [ASKED, THOUGHT]),
        (answer(reasoning_content="one and one", reasoning="one and one"), [ASKED, THOUGHT]),
        (answer(reasoning_content=None, thinking=""), [ASKED, ANSWERED]),
        (answer(thinking=[{"type": "text", "text": "one "}, {"type": "text", "text": "and one"}]), [ASKED, THOUGHT]),
        (
            answer(content=[{"type": "thinking", "thinking": "one and one"}, {"type": "text", "text": "2"}]),
            [ASKED, THOUGHT],
        ),
        (
            answer(content="<think>one and one</think>2", reasoning_content="one and one"),
            [ASKED, ANSWERED | {"content": "<think>one and one</think>2"}],
        ),
        ({"messages": [ASKED | {"content": [{"type": "text", "text": "1 +"}, {"text": " 1?"}]}]}, [ASKED]),
        ({"messages": [ASKED | {"content": ["1 + ", "1?"]}]}, [ASKED]),
        ({"messages": [{"role": "human", "content": "1 + 1?"}]}, [ASKED]),
        ({"messages": [CALLED | {"tool_calls": json.dumps([CALL])}]}, [CALLED]),
        ({"messages": [CALLED | {"tool_calls": [CALL["function"]]}]}, [CALLED]),
        (
            {"messages": [{"role": "assistant", "content": None, "function_call": CALL["function"]}]},
            [CALLED],
        ),
    ],
)  # fmt: skip
def test_a_chat_is_read_as_what_it_means_and_left_alone_where_it_says_it_already(row, expected):
    before = json.dumps(row)
    assert chat_of(row) == expected
    assert json.dumps(row) == before


@pytest.mark.parametrize(
    ("row", "complaint"),
    [
        ({"id": 1, "dialog": ["hi"]}, "no chat in a schema that is known; it has dialog, id"),
        ({}, "no chat in a schema that is known; it has no field"),
        ({"prompt": "1 + 1?"}, "no chat in a schema that is known; it has prompt"),
        ({"prompt": 5, "completion": "2"}, "'prompt' is neither a text nor a list of messages"),
        ({"messages": "user: hi"}, "'messages' is no list of messages"),
        ({"messages": [{"speaker": "A", "text": "hi"}]}, "a message without a role; it has speaker, text"),
        ({"messages": ["hi"]}, "a message without a role"),
        ({"conversations": [{"from": "narrator", "value": "hi"}]}, "a message from 'narrator'"),
        (answer(content=[{"type": "image_url", "image_url": {}}]), "a message with a part of the type 'image_url'"),
        (answer(content=[]), "a message whose content is no text"),
        (answer(content=5), "a message whose content is no text"),
        (answer(reasoning_content=["a", "b"]), "a message whose 'reasoning_content' is a list"),
        (answer(thinking=True), "a message whose 'thinking' is a bool"),
        (answer(reasoning="one", thinking="two"), "a message with two reasonings that differ"),
        (answer(content="<think>one</think>2", reasoning="two"), "reasoning in its content and other reasoning"),
        ({"messages": [CALLED | {"tool_calls": {"name": "f"}}]}, "tool calls that are no list"),
        ({"messages": [CALLED | {"tool_calls": [{"arguments": "{}"}]}]}, "a tool call without a name"),
        ({"conversations": [{"from": "function_call", "value": "look it up"}]}, "a tool call without a name"),
    ],
)
def test_a_chat_of_which_it_is_not_known_what_it_means_is_named(row, complaint):
    with pytest.raises(MalformedError) as refused:
        chat_of(row)
    assert complaint in str(refused.value)


def test_a_column_of_another_name_is_read_where_it_is_named():
    assert chat_of({"dialog": [ASKED], "messages": [ANSWERED]}, column="dialog") == [ASKED]
    with pytest.raises(MalformedError, match="no field 'dialog'"):
        chat_of({"messages": [ASKED]}, column="dialog")


def test_reasoning_is_found_wherever_it_stands_and_inline_is_left_out_at_the_front_only():
    inline = ANSWERED | {"content": "\n<think>one and one</think>\n\n2 and no <think>more</think>"}
    assert list(thoughts([ASKED, THOUGHT, inline, ANSWERED | {"thinking": " x "}])) == ["one and one"] * 2 + ["x"]
    assert without_inline_reasoning([ASKED, inline, CALLED]) == [
        ASKED, ANSWERED | {"content": "2 and no <think>more</think>"}, CALLED,
    ]  # fmt: skip
    with pytest.raises(MalformedError, match="reasoning without an end"):
        without_inline_reasoning([ANSWERED | {"content": "<think>one and"}])


def test_arguments_are_text_or_object_as_a_template_wants_them():
    (called,) = with_arguments([CALLED], "object")
    assert called["tool_calls"][0]["function"]["arguments"] == {"city": "Paris"}
    assert with_arguments([called], "text") == [CALLED]
    assert with_arguments([CALLED], "either") == [CALLED]
    wrong = CALLED | {"tool_calls": [{"function": {"name": "f", "arguments": "city: Paris"}}]}
    assert with_arguments([wrong], "text") == [wrong]
    with pytest.raises(MalformedError, match="arguments are no JSON object"):
        with_arguments([wrong], "object")


@pytest.mark.parametrize("schema", SCHEMAS, ids=lambda schema: "+".join(schema.columns))
def test_every_schema_comes_out_of_parquet_as_out_of_lines(schema, tmp_path):
    told = {"messages": [ASKED, THOUGHT], "prompt": "1 + 1?", "completion": "2", "response": "2"}
    shared = [{"from": "human", "value": "1 + 1?"}, {"from": "gpt", "value": "2", "reasoning_content": "one and one"}]
    row = {name: told.get(name, shared) for name in schema.columns} | {"system": None, "id": 7}
    row |= {} if len(schema.columns) == 1 else {"reasoning_content": "one and one"}
    (tmp_path / "a.jsonl").write_text(json.dumps(row))
    pq.write_table(pa.Table.from_pylist([row]), tmp_path / "a.parquet")
    for file in sorted(tmp_path.iterdir()):
        tally = Tally()
        assert list(rows([file], field="messages", tally=tally)) == [[ASKED, THOUGHT]], tally
