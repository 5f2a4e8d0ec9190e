"""The tokenizer's short way, piece by piece, against Hugging Face's library itself."""

import json
import random
import unicodedata

import pytest
from tokenizers import AddedToken, Regex, decoders, models, normalizers, pre_tokenizers, trainers
from tokenizers import Tokenizer as Backend
from transformers import PreTrainedTokenizerFast

from nemo_distill.config.plain import resolve_package_paths
from nemo_distill.data.documents import Document
from nemo_distill.data.tokenizer import Pieces, Tokenizer, check_reasoning, settled_characters, vocabulary_of
from nemo_distill.errors import UserError

TEACHER = resolve_package_paths("package:debug/teacher")
ENDS = r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
LLAMA3 = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}" + ENDS
UPPER, LOWER = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
TEKKEN = rf"[^\r\n\p{{L}}\p{{N}}]?{UPPER}*{LOWER}+|[^\r\n\p{{L}}\p{{N}}]?{UPPER}+{LOWER}*|\p{{N}}" + ENDS


def byte_level(pattern: str | None) -> Backend:
    """A small byte-level tokenizer that cuts by `pattern`; None: as GPT-2 does."""
    backend = Backend(models.BPE())
    backend.pre_tokenizer = (
        pre_tokenizers.Sequence(
            [
                pre_tokenizers.Split(Regex(pattern), behavior="isolated"),
                pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
            ]
        )
        if pattern
        else pre_tokenizers.ByteLevel(add_prefix_space=False)
    )
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=600,
        special_tokens=["<s>", "</s>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    backend.train_from_iterator(["def f(x): return x + 1\n\n" * 20, "The cat's here; it isn't 12,345.\n"] * 50, trainer)
    backend.add_special_tokens([AddedToken("<|im_start|>", normalized=False), AddedToken("<think>", normalized=False)])
    return backend


BACKENDS = {"gpt2": None, "llama3": LLAMA3, "tekken": TEKKEN}


@pytest.fixture(params=[*BACKENDS, "teacher"], scope="module")
def backend(request) -> Backend:
    if request.param == "teacher":
        return Tokenizer(TEACHER)._backend
    return byte_level(BACKENDS[request.param])


def whole(backend: Backend, texts: list[str]) -> list[list[int]]:
    return [encoding.ids for encoding in backend.encode_batch_fast(texts, add_special_tokens=False)]


def test_each_settled_character_between_others_is_cut_as_the_library_cuts(backend):
    pieces = Pieces.of(backend)
    forms = ("a{0}b {0} 1{0}2", "{0}{0}\n{0}", " {0}' {0} s{0}'s", "\u0301{0}A{0}a")
    settled = sorted(settled_characters())
    assert len(settled) > 50_000
    for first in range(0, len(settled), 500):
        text = "\n".join(form.format(character) for character in settled[first : first + 500] for form in forms)
        cut = backend.pre_tokenizer.pre_tokenize_str(text)
        assert pieces._checked(text) == [text[start:end] for _, (start, end) in cut]


def test_texts_of_anything_at_all_give_the_librarys_tokens(backend):
    rng = random.Random(0)
    settled = sorted(settled_characters())
    words = [
        "<|im_start|>",
        "<think>",
        "don't",
        "I'LL",
        "\r\n",
        "\n\n",
        "  ",
        "\t",
        "a" * 300,
        "x=1;",
        "\x00",
        "\x1c",
        "\u017f",
    ]
    anything = [*range(0xD800), *range(0xE000, 0x110000)]
    texts = []
    for _ in range(3_000):
        parts = rng.choices(words, k=rng.randint(0, 8)) + rng.choices(settled, k=rng.randint(0, 30))
        parts += [chr(rng.choice(anything)) for _ in range(rng.randint(0, 2))]
        rng.shuffle(parts)
        texts.append("".join(parts))
    pieces = Pieces.of(backend)
    for _ in range(2):  # the second time from what is remembered
        assert pieces.encode(texts) == whole(backend, texts)


def test_texts_of_every_script_and_of_what_unicode_3_2_did_not_know_give_the_librarys_tokens(backend):
    """Block by block over all of Unicode: most blocks hold characters that are settled beside some that are not."""
    rng = random.Random(1)
    joints = [" ", "  ", "\n", "'s", "'S", "1", "a", "A", "\u0301", "\u200d", "\ufe0f", "<think>", "."]
    texts = []
    for first in range(0, 0x110000, 128):
        block = [chr(code) for code in range(first, first + 128) if not 0xD800 <= code < 0xE000]
        if all(unicodedata.category(character) in ("Cn", "Co") for character in block) and first % 0x8000:
            continue  # of the planes of which nothing is assigned, a block each
        for length in (1, 3, 40):
            texts.append("".join(rng.choice(block if rng.random() < 0.7 else joints) for _ in range(length)))
    assert len(texts) > 3_000 or not block
    assert Pieces.of(backend).encode(texts) == whole(backend, texts)


def test_what_was_forgotten_is_asked_for_again(backend, monkeypatch):
    monkeypatch.setattr("nemo_distill.data.tokenizer._REMEMBERED_CHARACTERS", 50)
    pieces = Pieces.of(backend)
    texts = [f"def f{number}(x): return {number}" for number in range(200)]
    assert [pieces.encode([text])[0] for text in texts] == whole(backend, texts)


def test_settled_characters_are_those_that_unicode_has_long_agreed_on():
    settled = settled_characters()
    assert set("aZ09 \n\té中й´“”–×π") <= settled
    assert not settled & set("\U0001f600\u180e\u017f\u212a\x1c\u0295")
    assert all(unicodedata.category(character) != "Cn" for character in settled)


def lowercasing() -> Backend:
    backend = byte_level(LLAMA3)
    backend.normalizer = normalizers.Lowercase()
    return backend


def stripping() -> Backend:
    backend = byte_level(LLAMA3)
    backend.add_special_tokens([AddedToken("<mask>", lstrip=True)])
    return backend


def words() -> Backend:
    backend = Backend(models.WordLevel({"a": 0, "[UNK]": 1}, unk_token="[UNK]"))
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    return backend


def looking_back() -> Backend:
    """Cuts by an expression whose meaning `regex` does not share: its classes differ from the library's engine."""
    backend = byte_level(LLAMA3)
    backend.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(r"[a-w&&[^aeiou]]+|[^a-w]|[aeiou]"), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    return backend


@pytest.mark.parametrize("make", [lowercasing, stripping, words, looking_back])
def test_a_tokenizer_whose_pieces_do_not_stand_alone_goes_through_the_library(make, tmp_path):
    backend = make()
    assert Pieces.of(backend) is None
    PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="a").save_pretrained(tmp_path)
    texts = ["Grabbing <mask> A brick", "a"]
    tokenizer = Tokenizer(tmp_path)
    assert tokenizer.encode(texts, special=False) == whole(tokenizer._backend, texts)


def test_tokens_that_the_tokenizer_puts_around_a_text_are_put_there_when_asked_for(tmp_path):
    from tokenizers.processors import TemplateProcessing

    backend = byte_level(None)
    backend.post_processor = TemplateProcessing(single="<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 1)])
    backend.enable_truncation(3)  # a tokenizer's file may hold a cap of its own
    PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="</s>").save_pretrained(tmp_path)
    tokenizer = Tokenizer(tmp_path)
    backend.no_truncation()
    text = "def f(x): return x"
    bare = backend.encode(text, add_special_tokens=False).ids
    assert tokenizer.encode([text, ""], special=True) == [[0, *bare, 1], [0, 1]]
    assert tokenizer.encode([text], special=False) == [bare]


MESSAGES = [
    {"role": "user", "content": "2 + 2?"},
    {"role": "assistant", "content": "4", "reasoning_content": "two and two"},
]


@pytest.mark.parametrize(
    ("reasoning", "answer"),
    [
        ("inline", "<think>two and two</think>4"),
        ("native", "<think>two and two</think>4"),  # where the teacher's template puts it
        ("stripped", "<think></think>4"),
    ],
)
def test_reasoning_is_inline_native_or_stripped(reasoning, answer):
    text = Tokenizer(TEACHER).text(Document(0, MESSAGES), reasoning=reasoning)
    assert text == f"<|im_start|>user\n2 + 2?<|im_end|>\n<|im_start|>assistant\n{answer}<|im_end|>\n"


def test_native_reasoning_is_the_templates_own_affair(tmp_path):
    template = "{% for m in messages %}{{ m.role }}:{{ m.content }}[{{ m.reasoning_content }}]{{ tools }}{% endfor %}"
    PreTrainedTokenizerFast(
        tokenizer_object=byte_level(None), eos_token="</s>", chat_template=template
    ).save_pretrained(tmp_path)
    tokenizer = Tokenizer(tmp_path)
    assert "4[two and two]" in tokenizer.text(Document(0, MESSAGES), reasoning="native")
    assert "<think>two and two</think>4[]" in tokenizer.text(Document(0, MESSAGES), reasoning="inline")
    tools = [{"type": "function", "function": {"name": "add"}}]
    assert "add" in tokenizer.text(Document(0, MESSAGES, tools))


def test_a_way_to_treat_reasoning_that_there_is_not_is_refused():
    with pytest.raises(UserError, match="reasoning cannot be 'striped'. Did you mean 'stripped'?"):
        check_reasoning("striped")


def test_a_vocabulary_is_known_by_its_ids_and_nothing_else(tmp_path):
    tokenizer = Tokenizer(TEACHER)
    assert vocabulary_of(TEACHER) == tokenizer.vocabulary
    tokenizer._tokenizer.chat_template = "another"
    tokenizer._tokenizer.save_pretrained(tmp_path)
    assert vocabulary_of(tmp_path) == tokenizer.vocabulary
    assert Tokenizer(tmp_path).fingerprint != tokenizer.fingerprint
    parts = json.loads((tmp_path / "tokenizer.json").read_text())
    one, other = sorted(parts["model"]["vocab"], key=parts["model"]["vocab"].get)[-2:]
    vocab = parts["model"]["vocab"]
    vocab[one], vocab[other] = vocab[other], vocab[one]
    (tmp_path / "tokenizer.json").write_text(json.dumps(parts))
    assert vocabulary_of(tmp_path) != tokenizer.vocabulary
