"""Every change that this project makes to third-party code, each declared as one object and none made at import.

`changes` says what a change is, `registry` lists them all, and docs/reference/compat.md shows them as a table. The
entry points of steps call `backends.get().prepare()`, which makes those that the machine needs; what is for our own
kernels, for distillation or for the launcher is made by the code that needs it.
"""
