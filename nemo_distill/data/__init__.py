"""From a source to tokens: where its files come from, what becomes of a row, and what came of it.

`find` and `hub` find the `files` of a source, `documents` reads their rows, `tokenizer`, `tokenise`, `draw` and
`indexed` make Megatron's .bin and .idx of them, `source_folder` keeps these in a folder of the source's own, and
`source_cards` says what they are made of. The step that does it is `steps.prepare`; `prepared` reads what it lists.
"""
