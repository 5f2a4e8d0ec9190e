"""Checks of a machine before a run: what each looks at, what it finds, and whether that is GO or NO-GO.

results      a check's outcome, the record of all, the verdict
machines     what a node has, and image, mounts, versions and GPUs by that
access       sources, the teacher and the judge
rates        the all-reduce and the writing of a checkpoint
iterations   a few iterations of the distillation at the asked shape, of random weights on random tokens

`nemo_distill.steps.preflight` makes them all in one job; `nemo_distill.launch.preflight` starts it.
"""
