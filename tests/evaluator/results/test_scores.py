from evaluator.results.scores import CheckpointResult


def test_results_read_back_as_they_were_saved(report, tmp_path):
    result = report.rows[0].result
    result.save(tmp_path)
    assert CheckpointResult.load(tmp_path) == result
