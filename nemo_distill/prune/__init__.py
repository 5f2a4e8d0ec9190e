"""Minitron pruning through ModelOpt: the search, its candidates, and shapes that run whole in FP8."""
