"""Runs nemo-evaluator, here or on a cluster, and reads what its harnesses write."""
