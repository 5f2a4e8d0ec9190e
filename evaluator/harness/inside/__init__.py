"""What Python finds first on its path inside the sandbox (`evaluator.harness.evaluation`)."""
