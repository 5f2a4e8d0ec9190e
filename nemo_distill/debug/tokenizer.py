"""The debug model's tokenizer: byte-level BPE trained on the debug corpora, with a chat template and <think> tags.

Built once by ``make_teacher.py`` and shipped in ``teacher/``; everything else loads it with ``AutoTokenizer``.
Digits are tokens of their own (each with and without a space before it), so arithmetic is about digits. The chat
template writes an assistant's ``reasoning_content`` between <think> and </think>, an answer without reasoning after an
empty pair, and a generation prompt that ends in <think>, or in the empty pair with ``enable_thinking=False``.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

VOCAB_SIZE = 1024
WORDS = r" ?\p{L}+| ?\d| ?[^\s\p{L}\d]+|\s+(?!\S)|\s+"
"""What merges stay within: a word, one digit, punctuation (each with the space before it), or white space."""
PAD, BOS, END, START, THINK, END_THINK = "<pad>", "<s>", "<|im_end|>", "<|im_start|>", "<think>", "</think>"

CHAT_TEMPLATE = """\
{%- for message in messages -%}
{{- '<|im_start|>' + message.role + '\\n' -}}
{%- if message.role == 'assistant' -%}
{%- if message.reasoning_content -%}
{{- '<think>' + message.reasoning_content + '</think>' -}}
{%- elif '</think>' not in message.content -%}
{{- '<think></think>' -}}
{%- endif -%}
{%- endif -%}
{{- message.content + '<|im_end|>\\n' -}}
{%- endfor -%}
{%- if add_generation_prompt -%}
{{- '<|im_start|>assistant\\n<think>' -}}
{%- if enable_thinking is defined and enable_thinking is false -%}{{- '</think>' -}}{%- endif -%}
{%- endif -%}
"""


def train(texts: Iterable[str], *, vocab_size: int = VOCAB_SIZE) -> PreTrainedTokenizerFast:
    """A tokenizer of exactly ``vocab_size`` entries, the same for the same texts; raises ValueError if too few."""
    from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    # <think> and </think> are tokens of their own but not "special": decoded text keeps them, so answers can be cut
    special = [PAD, BOS, END, START]
    tags = [THINK, END_THINK]
    bpe = Tokenizer(models.BPE())
    words = pre_tokenizers.Split(Regex(WORDS), "isolated")
    as_bytes = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    bpe.pre_tokenizer = pre_tokenizers.Sequence([words, as_bytes])
    bpe.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=special + tags,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    bpe.train_from_iterator(texts, trainer)
    bpe.add_tokens([AddedToken(tag, special=False, normalized=False) for tag in tags])
    if bpe.get_vocab_size() != vocab_size:
        raise ValueError(f"the texts give {bpe.get_vocab_size()} tokens, not {vocab_size}")
    return PreTrainedTokenizerFast(
        tokenizer_object=bpe, pad_token=PAD, bos_token=BOS, eos_token=END, additional_special_tokens=[START],
        chat_template=CHAT_TEMPLATE, clean_up_tokenization_spaces=False,
    )  # fmt: skip
