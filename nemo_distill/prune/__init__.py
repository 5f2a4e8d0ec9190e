"""Minitron pruning through ModelOpt: the search, its candidates, what scores them, and FP8-aligned shapes."""
