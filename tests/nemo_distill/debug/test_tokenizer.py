"""The shipped tokenizer: standard files, whole round trips, and a template that prepare and the server agree on."""

import pytest

from nemo_distill import make_teacher
from nemo_distill.data.documents import with_inline_reasoning
from nemo_distill.debug import corpora, questions, tokenizer

MESSAGES = [
    {"role": "user", "content": "What is 2 + 2?"},
    {"role": "assistant", "content": "4", "reasoning_content": "2+2=4"},
]


@pytest.fixture(scope="module")
def shipped():
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(make_teacher.SHIPPED)


def test_any_text_survives_a_round_trip(shipped):
    for text in ("def f(x):\n    return x * 3", "Größe 7 µm, naïve ☕\t\n", "  two  spaces", r"\boxed{62}"):
        assert shipped.decode(shipped.encode(text, add_special_tokens=False)) == text


def test_the_vocabulary_is_the_size_the_model_has(shipped):
    assert len(shipped) == tokenizer.VOCAB_SIZE == make_teacher.SHAPE.vocab_size


def test_reasoning_inline_and_reasoning_content_render_alike(shipped):
    rendered = shipped.apply_chat_template(MESSAGES, tokenize=False)
    assert rendered == shipped.apply_chat_template(with_inline_reasoning(MESSAGES), tokenize=False)
    assert rendered.endswith("<|im_start|>assistant\n<think>2+2=4</think>4<|im_end|>\n")


def test_a_generation_prompt_is_the_beginning_of_the_rendered_answer(shipped):
    whole = shipped.apply_chat_template(MESSAGES, tokenize=False)
    prompt = shipped.apply_chat_template(MESSAGES[:1], tokenize=False, add_generation_prompt=True)
    assert whole.startswith(prompt) and prompt.endswith("<think>")


def test_thinking_off_and_answers_without_reasoning_have_an_empty_pair(shipped):
    prompt = shipped.apply_chat_template(
        MESSAGES[:1], tokenize=False, add_generation_prompt=True, enable_thinking=False
    )
    bare = [MESSAGES[0], {"role": "assistant", "content": "4"}]
    assert prompt.endswith("<think></think>")
    assert shipped.apply_chat_template(bare, tokenize=False).startswith(prompt)


def test_tags_are_single_tokens_that_decoding_keeps(shipped):
    ids = shipped.encode("<think>a</think>b<|im_end|>", add_special_tokens=False)
    assert len(ids) == 5
    assert shipped.decode(ids, skip_special_tokens=True) == "<think>a</think>b"


def test_documents_are_at_most_a_hundred_tokens(shipped):
    for source in corpora.STAND_INS:
        for row in corpora.documents(source, seed=1, count=300):
            text = row["text"] if "text" in row else shipped.apply_chat_template(row["messages"], tokenize=False)
            assert len(shipped.encode(text, add_special_tokens=False)) <= 100, text


def test_worked_answers_leave_room_under_forty_eight_tokens(shipped):
    for task in questions.TASKS:
        for exercise in questions.exercises(task):
            answer = f"{exercise.thinking}</think>{exercise.response}<|im_end|>"
            assert len(shipped.encode(answer, add_special_tokens=False)) <= 48, answer


def test_training_the_tokenizer_twice_gives_the_same():
    texts = [row["messages"][0]["content"] for row in corpora.documents("stem", seed=0, count=2_000)] * 2
    once, twice = (tokenizer.train(texts, vocab_size=400).backend_tokenizer.to_str() for _ in range(2))
    assert once == twice


def test_too_few_texts_for_the_vocabulary_are_refused():
    with pytest.raises(ValueError, match="not 1024"):
        tokenizer.train(["a b a b"])
