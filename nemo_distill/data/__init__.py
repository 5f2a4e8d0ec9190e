"""From a source to tokens: where its files come from, what becomes of a row, and what is searched for in it.

`hub` finds files, `documents` reads their rows, `tokenizer`, `tokenise`, `draw` and `indexed` make Megatron's .bin and
.idx of them, `cards` says what came of it. `questions`, `ngrams`, `contamination` and `overlap` look for benchmark
questions. The steps that do it are `steps.prepare` and `steps.contamination`.
"""
