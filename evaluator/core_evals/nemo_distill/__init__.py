"""Offline tasks for nemo-evaluator, small questions that a 1-million-parameter model can learn to answer."""
