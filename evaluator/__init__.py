"""Evaluates checkpoints with nemo-evaluator and judges what differs between them.

    from evaluator.harness.run import run_suite
    from evaluator.suites.catalogue import get_suite

    result = run_suite(Path("hf"), suite=get_suite("offline"), folder=Path("out"), label="pruned", seed=0)
    result.tasks[0].summary.mean, result.tasks[0].summary.stderr      # of the first benchmark, from 0 to 1

It knows nothing of nemo_distill, and can be used without it. Its rooms, each importing from those before it only:
`text` writes numbers as words, `stats` is pure statistics, `suites` lists the benchmarks, `serve` answers requests for
a checkpoint, `results` holds scores and answers, `harness` runs nemo-evaluator and reads what it leaves, `verdicts`
judges, `report` shows, and `recount` recomputes what a report says. `core_evals` holds the tasks of our own.
"""
