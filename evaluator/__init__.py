"""Evaluate checkpoints with nemo-evaluator and judge what differs between them.

    from evaluator.suites.suite import get_suite
    from evaluator.harness.run import run_suite

    result = run_suite(Path("hf"), suite=get_suite("offline"), folder=Path("out"), label="pruned", seed=0)
    result.tasks[0].summary.mean, result.tasks[0].summary.stderr      # of the first benchmark, from 0 to 1

`suite` says which benchmarks there are, `serve` answers requests for a checkpoint, `run` drives nemo-evaluator
against it, `results` and `stats` read what came out, `report` shows it.
"""
