"""Serves a checkpoint to nemo-evaluator: a batched server of this machine, or vLLM on its GPUs."""
