import dataclasses
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

import core_evals.nemo_distill
import evaluator
from evaluator.harness.budget import cheap
from evaluator.harness.cluster import Cluster
from evaluator.harness.launcher import launcher_command
from evaluator.harness.launcher_config import render
from evaluator.suites.catalogue import HARNESS_CODE, OFFLINE, STUDY, get_suite
from evaluator.suites.suite import identity_of

YAML = Path(evaluator.__file__).parents[1] / "nemo_evaluator.yaml"

# The study's own table of benchmarks, repeats and metric names.
PUBLISHED = {
    "MMLU": (1, "mmlu"),
    "MMLU Pro": (1, "mmlu-pro_pass_at_1_symbolic_correct"),
    "GPQA Diamond": (8, "gpqa_pass_at_1_avg-of-8_symbolic_correct"),
    "LCB v6": (4, "livecodebench_pass_at_1_avg-of-4_accuracy"),
    "AIME 2025": (32, "aime25_pass_at_1_avg-of-32_symbolic_correct"),
    "MATH-500": (5, "AA_math_test_500_score_micro_avg_of_5"),
    "IFEval": (1, "ifeval_pass_at_1_average_score"),
    "SciCode": (8, "scicode_pass_at_1_avg-of-8_subtask_accuracy"),
}


def test_the_studys_suite_has_its_repeats_and_metric_names():
    assert {b.title: (b.repeats, b.key) for b in STUDY.benchmarks} == PUBLISHED


def test_the_suite_of_a_box_has_the_studys_titles_repeats_and_limits():
    here = get_suite("study_here")
    assert {one.title: one.repeats for one in here.benchmarks} == {name: row[0] for name, row in PUBLISHED.items()}
    assert {one.title: one.params.get("max_new_tokens", 0) for one in here.benchmarks} == {
        one.title: one.params.get("max_new_tokens", 0) for one in STUDY.benchmarks
    }
    for name in ("temperature", "top_p", "max_new_tokens"):
        assert getattr(here, name) == getattr(STUDY, name)
    assert here.runner == "direct" and {one.task for one in here.benchmarks if one.dataset} == set(here.datasets)
    assert [one.title for one in cheap(here).benchmarks] == [one.title for one in cheap(STUDY).benchmarks]


def test_every_benchmark_says_which_questions_it_asks_and_on_what_scale_its_harness_reports():
    for suite in (OFFLINE, HARNESS_CODE, STUDY, get_suite("study_here")):
        for benchmark in suite.benchmarks:
            assert benchmark.split, benchmark.title
            # NeMo-Skills returns "all float metrics as percentages" (nemo_skills/evaluation/metrics/base.py).
            assert benchmark.scale == ("percent" if benchmark.task.startswith("ns_") else "unit")
    handed = {b.title: b.params["dataset_split"] for b in STUDY.benchmarks if "dataset_split" in b.params}
    assert handed == {"LCB v6": "test_v6_2408_2505", "SciCode": "test_aai"}
    scicode = STUDY.benchmarks[-1]
    assert (scicode.questions, scicode.problems) == (338, 80)  # as NeMo-Skills' own results of this model print


def test_how_results_are_read_is_no_part_of_what_was_asked():
    assert not {"scale", "split", "most"} & set(identity_of(STUDY.benchmarks[-2]))


def test_the_offline_suite_is_what_the_plugin_declares():
    framework = Path(core_evals.nemo_distill.__file__).with_name("framework.yml")
    declared = yaml.safe_load(framework.read_text())
    tasks = [benchmark.task for benchmark in OFFLINE.benchmarks]
    assert [evaluation["name"] for evaluation in declared["evaluations"]] == ["offline", *tasks, "own"]
    assert declared["evaluations"][0]["defaults"]["config"]["params"]["task"] == ",".join(tasks)
    assert OFFLINE.evaluation == f"{declared['framework']['name']}.offline"
    params = declared["defaults"]["config"]["params"]
    assert (params["temperature"], params["top_p"]) == (OFFLINE.temperature, OFFLINE.top_p)
    assert (params["max_new_tokens"], params["parallelism"]) == (OFFLINE.max_new_tokens, OFFLINE.parallelism)


def test_repeats_change_what_is_asked_and_what_the_score_is_called():
    suite = OFFLINE.with_repeats(8)
    assert suite.answers == 2 * OFFLINE.answers
    assert {benchmark.key.split("_pass_at_1_")[1] for benchmark in suite.benchmarks} == {"avg-of-8_symbolic_correct"}


def test_an_unknown_suite_is_refused_with_the_nearest_name():
    with pytest.raises(ValueError, match="no suite called 'ofline'; did you mean 'offline'"):
        get_suite("ofline")


@pytest.mark.skipif(not YAML.exists(), reason="not a checkout")
def test_nemo_evaluator_yaml_is_rendered_from_the_suite():
    assert YAML.read_text() == render(STUDY)


SITE = Cluster(
    hostname="login.cluster",
    account="an_account",
    partition="gpu",
    gres="gpu:h100:8",
    sbatch={"qos": "high"},
    walltime="02:00:00",
    hf_home="/shared/hf",
    judge_url="http://judge/v1",
    judge_model="judge",
    engine_args="--seed 1",
    overrides=("++execution.sbatch_comment=ours",),
)


@pytest.fixture
def launcher_environment(tmp_path) -> dict:
    home = {"HOME": str(tmp_path), "USER": "somebody", "NEMO_EVALUATOR_TELEMETRY_LEVEL": "0"}
    return os.environ | home


def dry_run(config: Path, environment: dict) -> subprocess.CompletedProcess:
    """The launcher's dry run of the command that starts it for one checkpoint."""
    command = launcher_command(Path("/lustre/hf"), STUDY.benchmarks[1], STUDY, config.parent, "80B-0123", SITE)
    del command[command.index("-t") : command.index("-t") + 2]  # all benchmarks at once
    return subprocess.run([*command, "--dry-run"], env=environment, capture_output=True, text=True)


@pytest.mark.slow
def test_the_launchers_dry_run_takes_the_yaml_offline_and_uses_all_of_it(tmp_path, launcher_environment):
    config = tmp_path / "nemo_evaluator.yaml"
    config.write_text(render(STUDY, SITE))
    offline = launcher_environment | {"HTTPS_PROXY": "http://127.0.0.1:9", "HTTP_PROXY": "http://127.0.0.1:9"}
    done = dry_run(config, offline)
    output = done.stdout + done.stderr
    assert done.returncode == 0, output[-2000:]
    assert "not used" not in output
    assert "skipping param validation" not in output
    for benchmark in STUDY.benchmarks:
        assert benchmark.task in output
    told = (
        "80B-0123", "/lustre/hf:/checkpoint:ro", f"{tmp_path}/nemo_evaluator",
        "SBATCH --partition gpu", "SBATCH --account an_account", "SBATCH --gres gpu:h100:8", "SBATCH --qos high",
        "SBATCH --exclusive", "SBATCH --comment='ours'",
        "SBATCH --time 02:00:00", '_max_walltime="06:00:00"',  # the site's longest job, MMLU Pro's budget
        "/shared/hf:/hf-home", "HF_HOME", "ADAPTER_PORT",
        "--data-parallel-size=8", "--no-enable-prefix-caching", "--mamba-ssm-cache-dtype float32",
        "--seed 1",
        "mcq-10choices-boxed", "mcq-4choices", "url: http://judge/v1",
    )  # fmt: skip
    assert [word for word in told if word not in output] == []

    # The check above can fail: a misspelt parameter is told.
    repeated = next(benchmark for benchmark in STUDY.benchmarks if benchmark.repeats == 32)
    one = dataclasses.replace(STUDY, benchmarks=(repeated,))
    config.write_text(render(one, SITE).replace("num_repeats: 32", "num_repeat: 32"))
    done = dry_run(config, offline)
    assert "not used" in done.stdout + done.stderr


def test_nemo_evaluator_lists_the_offline_tasks():
    command = [str(Path(sys.executable).with_name("nemo-evaluator")), "ls"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    for benchmark in OFFLINE.benchmarks:
        assert f"* {benchmark.task}\n" in done.stdout
