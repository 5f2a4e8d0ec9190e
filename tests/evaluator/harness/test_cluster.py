"""What a site says of the cluster that nemo-evaluator-launcher submits to."""

import pytest

from evaluator.harness.budget import budget_of, cheap
from evaluator.harness.cluster import Cluster, check_ready, harness_of
from evaluator.harness.launcher_config import identity, render
from evaluator.suites.catalogue import STUDY, get_suite
from nemo_distill.errors import UserError
from nemo_distill.outcome.suites import cluster_of

WHERE = {"hostname": "login", "account": "a", "partition": "p"}

WRONG = {
    "walltime='4h' is no time limit": {"walltime": "4h"},
    "walltime='00:00:00' is no time limit": {"walltime": "00:00:00"},
    "parallelism=0 must be above 0": {"parallelism": 0},
    "tokens_per_second=-1 must be above 0": {"tokens_per_second": -1},
    "images has no harness 'nemo_skills'; take nemo-skills": {"images": {"nemo_skills": "x"}},
    "'hf' is mounted into containers and has to be an absolute path": {"hf_home": "hf"},
    "'data' is mounted into containers": {"mounts": {"data": "/data"}},
    "'data' is a folder of a container": {"mounts": {"/data": "data"}},
    "'temperature' is no override": {"overrides": ["temperature"]},
    "the image '/none.sqsh' is no file here": {"image": "/none.sqsh"},
}


@pytest.mark.parametrize("sentence", WRONG)
def test_what_a_site_cannot_say_is_refused_in_a_sentence(sentence):
    with pytest.raises(ValueError) as refused:
        Cluster(**WHERE | WRONG[sentence])
    assert sentence in str(refused.value)
    assert str(refused.value).startswith(tuple(WRONG[sentence]))  # by which a site's file is shown at that line


def test_what_a_site_says_is_a_cluster_and_what_is_plain_of_it_is_read_again():
    said = WHERE | {
        "gres": None,
        "username": None,
        "walltime": None,
        "sbatch": {"qos": "high"},
        "overrides": ["++a.b=1"],
    }
    cluster = cluster_of(said)
    assert (cluster.gres, cluster.walltime, cluster.username) == (None, "04:00:00", None)
    assert cluster_of(cluster.plain) == cluster
    with pytest.raises(UserError, match="executor.evaluation.parallelism=many cannot be: it has to be a whole number"):
        cluster_of({"parallelism": "many"})


def test_where_jobs_run_decides_no_score(tmp_path):
    one = identity(STUDY, Cluster(**WHERE))
    other = Cluster(
        **{
            "hostname": "elsewhere",
            "account": "b",
            "partition": "q",
            "gres": None,
            "gpus_per_node": 4,
            "exclusive": False,
            "sbatch": {"qos": "high"},
            "walltime": "12:00:00",
            "data_parallel_size": 4,
            "parallelism": 512,
            "tokens_per_second": 3e3,
            "hf_home": str(tmp_path),
            "mounts": {"/data": "/data"},
            "judge_url": "http://other/v1",
            "overrides": ("execution.max_walltime=10:00:00", "++execution.cpu_partition=cpu"),
        }
    )
    assert identity(STUDY, other) == one


def test_images_options_of_the_engine_and_overrides_decide_scores(tmp_path):
    image = tmp_path / "vllm.sqsh"
    image.write_bytes(b"one")
    changes = [
        {"image": "vllm/vllm-openai@sha256:0123"},
        {"image": str(image)},
        {"images": {"nemo-skills": "nvcr.io/skills@sha256:4567"}},
        {"engine_args": "--kv-cache-dtype fp8"},
        {"overrides": ["evaluation.nemo_evaluator_config.config.params.temperature=0"]},
    ]
    found = [identity(STUDY, Cluster(**WHERE | change)) for change in [{}, *changes]]
    assert all(one != other for n, one in enumerate(found) for other in found[:n])
    image.write_bytes(b"two")  # another image under one name
    assert identity(STUDY, Cluster(**WHERE | changes[1])) not in found
    published = get_suite("study_published")
    assert identity(published, Cluster(**WHERE)) != found[0]
    assert "--kv-cache-dtype fp8" in render(published) and "process_reasoning_traces: true" not in render(published)


def test_images_by_digest_are_those_of_the_harness_of_each_benchmark(tmp_path):
    simple = tmp_path / "simple.sqsh"
    simple.touch()
    images = {"nemo-skills": "skills@sha256:1", "simple-evals": str(simple), "lm-evaluation-harness": "lm@sha256:2"}
    cluster = Cluster(**WHERE, images=images)
    assert {one.title: harness_of(one) for one in STUDY.benchmarks if harness_of(one) != "nemo-skills"} == {
        "MMLU": "lm-evaluation-harness",
        "MATH-500": "simple-evals",
    }
    text = render(STUDY, cluster)
    assert text.count("container: skills@sha256:1") == 6 and f"container: {simple}" in text
    assert "container: lm@sha256:2\n      endpoint_type: completions" in text
    assert cluster.unpinned == ["vllm/vllm-openai:v0.12.0"]


def test_the_judge_is_the_sites_or_the_environments():
    with pytest.raises(ValueError, match="MATH-500 is judged by a model: say executor.evaluation.judge_url and"):
        check_ready(STUDY, Cluster(**WHERE))
    told = Cluster(**WHERE).with_judge({"JUDGE_URL": "http://x/v1", "JUDGE_MODEL_ID": "j"})
    check_ready(STUDY, told)
    assert told.deciding == {"judge_model": "j"} and "model_id: j" in render(STUDY, told)
    site = Cluster(**WHERE, judge_url="http://y/v1", judge_model="ours")
    assert site.with_judge({"JUDGE_URL": "http://x/v1", "JUDGE_MODEL_ID": "j"}) == site
    with pytest.raises(ValueError, match="say executor.evaluation.account and executor.evaluation.partition"):
        check_ready(STUDY, Cluster(hostname="login", partition="???"))


def test_a_benchmark_has_a_budget_of_tokens_and_time():
    budgets = {one.title: budget_of(one, STUDY) for one in STUDY.benchmarks}
    assert budgets["AIME 2025"].tokens == 30 * 32 * 32_768  # every answer as long as it may be
    assert budgets["MMLU Pro"].tokens == 12_032 * 10_000
    assert budgets["MMLU Pro"].hours == 6 and budget_of(STUDY.benchmarks[1], STUDY, tokens_per_second=3_200).hours == 11
    assert budget_of(STUDY.benchmarks[4], STUDY.with_max_new_tokens(1_000)).tokens == 960_000


def test_the_pruned_student_is_asked_what_is_cheap_though_no_answer_ends():
    assert [one.title for one in cheap(STUDY).benchmarks] == ["MMLU", "IFEval"]
    assert sum(budget_of(one, STUDY).hours for one in cheap(STUDY).benchmarks) <= 3
    for name in ("offline", "harness"):
        assert cheap(get_suite(name)) == get_suite(name)
