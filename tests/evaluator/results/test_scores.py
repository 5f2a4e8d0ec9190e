import json

from evaluator.results.scores import RESULTS_FILE, CheckpointResult


def test_results_read_back_as_they_were_saved(report, tmp_path):
    result = report.rows[0].result
    result.save(tmp_path)
    assert CheckpointResult.load(tmp_path) == result


def test_results_that_were_saved_before_empty_answers_were_counted_still_load(report, tmp_path):
    result = report.rows[0].result
    result.save(tmp_path)
    path = tmp_path / RESULTS_FILE
    record = json.loads(path.read_text())
    for task in record["tasks"]:
        del task["empty_share"]
    path.write_text(json.dumps(record))
    assert CheckpointResult.load(tmp_path) == result
