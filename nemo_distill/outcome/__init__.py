"""A finished run, handed to the evaluator: scores gathered, reports, comparisons and model cards written."""
