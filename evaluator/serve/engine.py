"""Generates in batches on CPU, with answers that do not depend on what else is in the batch.

    engine = Engine.load(Path("hf"), threads=1)
    prompt = engine.encode([{"role": "user", "content": "What is 2 + 2?"}])
    request = Request(prompt=prompt, seed=0, temperature=0.6, top_p=0.95, max_tokens=48)
    for index, answer in engine.generate([request]):
        print(answer.text, answer.finish_reason)

An answer is a function of the checkpoint and its own request only. Three things make it so:

- Every matrix product has a shape that timing cannot change: prompts are padded on the left to a multiple of
  `Shapes.multiple`, only prompts of one padded length share a batch, and a batch that is not full is filled with
  copies of its first row. The rows of such a product are computed alike wherever they stand.
- Every request draws from a generator of its own, seeded by its seed.
- Padding is without effect in Nemotron-H: transformers zeroes padded positions before and after the convolution
  of a Mamba layer, its attention masks them, and there are no position embeddings.

A checkpoint in FP8 is computed with as a GPU would (`evaluator.serve.fp8`).

Questions are asked several times, so a prompt is read once per batch and its state is copied to every row that
continues it.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from transformers import AutoTokenizer, DynamicCache, NemotronHForCausalLM
from transformers.cache_utils import DynamicLayer

from evaluator.serve.checkpoint import verify_checkpoint
from evaluator.serve.fp8 import apply_scales, read_scales


@dataclass(frozen=True)
class Shapes:
    """The fixed shapes of a batch."""

    rows: int = 64
    """Answers written at a time."""
    prompts: int = 16
    """Distinct prompts read at a time, and so the most a batch can hold."""
    multiple: int = 32
    """Tokens to whose multiple a prompt is padded; also the chunk of the Mamba scan, which decides its speed only."""


@dataclass(frozen=True)
class Request:
    """One answer to write."""

    prompt: tuple[int, ...]
    """Token ids, the chat template applied."""
    seed: int
    """Seed of the draws; the same request with the same seed has the same answer."""
    temperature: float
    """0 takes the most likely token."""
    top_p: float
    """Draws are from the fewest tokens that hold at least this probability."""
    max_tokens: int
    """The most tokens the answer may have."""


@dataclass(frozen=True)
class Completion:
    """What was written."""

    text: str
    """Decoded without special tokens, as vLLM does; the tags of reasoning are no special tokens and stay."""
    tokens: int
    """Tokens written, the end-of-text token included."""
    finish_reason: str
    """`stop` at the end-of-text token, `length` at `max_tokens`."""


class Engine:
    """A checkpoint in memory that answers batches of requests; not for use by two threads at a time."""

    def __init__(self, model: NemotronHForCausalLM, tokenizer, *, shapes: Shapes):
        self.model = model
        self.tokenizer = tokenizer
        self.shapes = shapes
        self.context = model.config.max_position_embeddings
        ends = [model.config.eos_token_id, model.generation_config.eos_token_id, tokenizer.eos_token_id]
        self.ends = {end for ids in ends if ids is not None for end in (ids if isinstance(ids, list) else [ids])}

    @classmethod
    def load(cls, folder: Path, *, threads: int, shapes: Shapes | None = None) -> "Engine":
        """Load the checkpoint in `folder` in float32. Raises ValueError when it is not whole or not a Nemotron-H."""
        scales = read_scales(verify_checkpoint(folder, quantised=True))
        shapes = shapes or Shapes()
        torch.set_num_threads(threads)
        transformers.logging.disable_progress_bar()
        loaded: Any = NemotronHForCausalLM.from_pretrained(
            folder, dtype=torch.float32, local_files_only=True, output_loading_info=True
        )
        model, found = loaded
        found["unexpected_keys"] = apply_scales(model, scales, found["unexpected_keys"])
        for problem in ("missing_keys", "unexpected_keys", "mismatched_keys"):
            if found[problem]:
                raise ValueError(
                    f"the weights in '{folder}' do not fit its config: {problem} {sorted(found[problem])}."
                )
        for layer in model.model.layers:
            if layer.block_type == "linear_attention":
                layer.mixer.chunk_size = shapes.multiple
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
        return cls(model.eval(), tokenizer, shapes=shapes)

    def encode(self, messages: list[dict], **template_arguments) -> tuple[int, ...]:
        """Token ids of a conversation that the assistant is to continue."""
        text = self.tokenizer.apply_chat_template(
            messages, tokenize=False, add_generation_prompt=True, **template_arguments
        )
        return tuple(self.tokenizer(text, add_special_tokens=False)["input_ids"])

    def padded_length(self, prompt: Sequence[int]) -> int:
        """Tokens of `prompt` after padding; requests that share a batch share it.

        There is always some: for a batch without padding transformers takes another path, which need not round alike.
        """
        return (len(prompt) // self.shapes.multiple + 1) * self.shapes.multiple

    def generate(self, requests: Sequence[Request]) -> Iterator[tuple[int, Completion]]:
        """Yield (position in `requests`, answer) as answers end.

        At most `shapes.rows` requests with at most `shapes.prompts` distinct prompts, all of one padded length.
        """
        prompts = list(dict.fromkeys(request.prompt for request in requests))
        assert 0 < len(requests) <= self.shapes.rows and len(prompts) <= self.shapes.prompts
        assert len({self.padded_length(prompt) for prompt in prompts}) == 1
        fill = self.shapes.rows - len(requests)
        rows = [*requests, *[requests[0]] * fill]
        row_prompt = torch.LongTensor([prompts.index(request.prompt) for request in rows])
        sampler = Sampler(rows)
        written: list[list[int]] = [[] for _ in requests]
        open_rows = set(range(len(requests)))

        with torch.inference_mode():
            longest = max(request.max_tokens for request in rows)
            logits, cache, mask = self._read(prompts)
            cache.reorder_cache(row_prompt)
            for index, layer in enumerate(cache.layers):
                if isinstance(layer, DynamicLayer) and layer.is_initialized:
                    cache.layers[index] = RoomyLayer(layer, room=longest)
            logits, mask = logits[row_prompt], mask[row_prompt]
            # What attention adds to its scores: minus infinity where the prompt was padded, and 0 for what follows.
            bias = torch.zeros(self.shapes.rows, 1, 1, mask.shape[1] + longest)
            bias[:, 0, 0, : mask.shape[1]].masked_fill_(mask == 0, float("-inf"))
            for step in range(longest):
                tokens = sampler(logits, step)
                for row, token in enumerate(tokens.tolist()):
                    if row not in open_rows:
                        continue
                    written[row].append(token)
                    if token in self.ends or len(written[row]) == rows[row].max_tokens:
                        open_rows.discard(row)
                        yield row, self._answer(written[row])
                if not open_rows:
                    return
                masks = {"full_attention": bias[..., : mask.shape[1] + step + 1], "linear_attention": None}
                output = self.model(tokens[:, None], attention_mask=masks, past_key_values=cache, use_cache=True)
                logits = output.logits[:, -1]

    def _read(self, prompts: list[tuple[int, ...]]) -> tuple[torch.Tensor, DynamicCache, torch.Tensor]:
        """Logits after each prompt (shapes.prompts, vocabulary), the state to go on from, and the padding mask."""
        prompts = [*prompts, *[prompts[0]] * (self.shapes.prompts - len(prompts))]
        length = self.padded_length(prompts[0])
        ids = torch.zeros(len(prompts), length, dtype=torch.long)
        mask = torch.zeros_like(ids)
        for row, prompt in enumerate(prompts):
            ids[row, length - len(prompt) :] = torch.tensor(prompt)
            mask[row, length - len(prompt) :] = 1
        cache = DynamicCache(config=self.model.config)
        output = self.model(ids, attention_mask=mask, past_key_values=cache, use_cache=True, logits_to_keep=1)
        return output.logits[:, -1], cache, mask

    def _answer(self, tokens: list[int]) -> Completion:
        stopped = tokens[-1] in self.ends
        text = self.tokenizer.decode(tokens[:-1] if stopped else tokens, skip_special_tokens=True)
        return Completion(text=text, tokens=len(tokens), finish_reason="stop" if stopped else "length")


class RoomyLayer(DynamicLayer):
    """Keys and values of one attention layer with room for what follows: growing them anew takes a tenth of a step."""

    def __init__(self, layer: DynamicLayer, *, room: int):
        super().__init__()
        self.dtype, self.device, self.is_initialized = layer.dtype, layer.device, True
        self.length = layer.get_seq_length()
        assert layer.keys is not None and layer.values is not None, "a layer is given room once it holds the prompt"
        self.room = [torch.nn.functional.pad(old, (0, 0, 0, room)) for old in (layer.keys, layer.values)]
        self.keys, self.values = self.room

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *_, **__
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Add the states of the next tokens (rows, heads, tokens, head_dim); returns all keys and all values so far."""
        start, self.length = self.length, self.length + key_states.shape[2]
        keys, values = self.room
        keys[:, :, start : self.length] = key_states
        values[:, :, start : self.length] = value_states
        return keys[:, :, : self.length], values[:, :, : self.length]

    def get_seq_length(self) -> int:
        """Tokens held so far."""
        return self.length


class Sampler:
    """Draws the next token of every row, each row from its own generator."""

    def __init__(self, requests: Sequence[Request]):
        self.temperature = np.array([[request.temperature] for request in requests])
        self.top_p = np.array([[request.top_p] for request in requests])
        self.greedy = self.temperature[:, 0] == 0
        longest = max(request.max_tokens for request in requests)
        self.draws = np.stack([np.random.Generator(np.random.Philox(r.seed)).random(longest) for r in requests])

    def __call__(self, logits: torch.Tensor, step: int) -> torch.Tensor:
        """Token ids (rows,) for `logits` (rows, vocabulary), the `step`-th token of every row."""
        scaled = logits.numpy().astype(np.float64) / np.where(self.greedy[:, None], 1.0, self.temperature)
        weights = np.exp(scaled - scaled.max(-1, keepdims=True))
        ordered = np.sort(weights, axis=-1)[:, ::-1]
        above = ordered.cumsum(-1) - ordered
        # A token is kept when those more likely than it hold less than top_p; the first of a row always is.
        last_kept = np.maximum((above < self.top_p * ordered.sum(-1, keepdims=True)).sum(-1, keepdims=True), 1) - 1
        kept = np.where(weights >= np.take_along_axis(ordered, last_kept, axis=-1), weights, 0.0).cumsum(-1)
        drawn = (kept <= self.draws[:, step : step + 1] * kept[:, -1:]).sum(-1)
        return torch.from_numpy(np.where(self.greedy, weights.argmax(-1), drawn))
