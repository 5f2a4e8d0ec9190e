"""Shapes of jobs, their time limits, and what Slurm says of them."""

import dataclasses
import io
import sys
from pathlib import Path

import nemo_run
import pytest

from nemo_distill.config.resolved import Parallelism
from nemo_distill.launch.slurm import jobscript, limits
from nemo_distill.launch.slurm.commands import job_of
from nemo_distill.launch.slurm.executor import SlurmExecutor
from nemo_distill.launch.slurm.facts import Image
from nemo_distill.launch.slurm.options import JobOptions
from nemo_distill.outcome.suites import Cluster
from nemo_distill.run.facts import Beside
from nemo_distill.run.job import Job
from nemo_distill.run.ranks import Processes
from nemo_distill.run.step import Spec

LAYOUT = Parallelism(nodes=96, gpus_per_node=8, tensor_parallel=8)


@pytest.fixture
def spec(tmp_path):
    """A segment of the distillation."""
    return spec_of("distill", tmp_path)


def spec_of(step: str, folder: Path) -> Spec:
    return Spec(
        name="distill-2.5B",
        module=f"nemo_distill.steps.{step}",
        config={},
        folder=folder,
        upstream={},
        fingerprint="0" * 12,
    )


def prepared(spec, tmp_path, layout=LAYOUT, **settings) -> nemo_run.SlurmExecutor:
    executor = SlurmExecutor(account="a", partition="p", **settings)
    processes = Processes.of(spec, layout)
    return jobscript.prepared(executor, spec, processes, run_name="r", runs=tmp_path / "runs", code=tmp_path / "code")


def task_of(spec, processes) -> nemo_run.Script:
    return jobscript.task_of(spec, processes, code=Path("/runs/.code/abc"), digest="abcdef")


def script_of(job: nemo_run.SlurmExecutor, spec: Spec, folder: Path) -> str:
    """The batch script that NeMo-Run makes of it."""
    with nemo_run.Experiment("test", executor=job, base_dir=folder, clean_mode=True) as experiment:
        experiment.add(task_of(spec, Processes()), name=spec.name)
        experiment.dryrun(log=False)
        return str(experiment.jobs[0]._dryrun_info.request)


def test_the_options_of_a_job_are_nemo_runs_but_for_what_each_launch_makes():
    upstream = nemo_run.SlurmExecutor(account=JobOptions.account)
    names = {field.name for field in dataclasses.fields(upstream) if field.init}
    made = {"packager", "tunnel", "job_details", "job_dir", "experiment_id", "dependencies"}
    assert JobOptions().of_nemo_run() == {
        name: getattr(upstream, name) for name in names - made - {"poll_estimated_start_time"}
    }


def test_nemo_run_writes_the_job_script_of_a_step(spec, tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.StringIO())  # NeMo-Run's shell reads it
    site = {"qos": "high", "modules": ["cuda/12.8"], "additional_parameters": {"reservation": "r"}}
    job = prepared(spec, tmp_path, gpus_per_node=8, time="01:00:00", **site)
    script = script_of(job, spec, tmp_path)
    flags = ("account=a", "partition=p", "qos=high", "gpus-per-node=8", "nodes=96", "time=01:00:00", "reservation=r")
    for flag in (*flags, "kill-on-invalid-dep=yes", "signal=B:USR1@120", f"comment={spec.folder}"):
        assert f"#SBATCH --{flag}\n" in script
    start = 'env -u SLURM_NTASKS python -I -c "$NEMO_DISTILL_OWN_COPY" abcdef /runs/.code/abc -m nemo_distill.step'
    assert f"{start} {spec.folder}/spec.json" in script and "PYTHONPATH=" not in script
    assert f'export PATH={Path(sys.executable).parent}:"$PATH"' in script
    assert "module load cuda/12.8" in script


def test_a_step_in_a_container_is_a_step_of_pyxis(spec, tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.StringIO())
    job = prepared(spec, tmp_path, container_image="/images/nemo.sqsh", container_mounts=["/data:/data"])
    (srun,) = [line for line in script_of(job, spec, tmp_path).splitlines() if line.startswith("srun ")]
    assert "--container-image /images/nemo.sqsh" in srun
    assert f"--container-mounts /data:/data,{tmp_path}/runs:{tmp_path}/runs," in srun
    assert "--container-env NEMO_DISTILL_ENDS,NEMO_DISTILL_IMAGE,NEMO_DISTILL_OWN_COPY," in srun


def test_a_job_in_a_folder_that_a_group_shares_leaves_the_group_its_rights(spec, tmp_path):
    assert "umask" not in prepared(spec, tmp_path).setup_lines
    tmp_path.chmod(0o2770)
    assert "\numask g=rwx; export SLURM_UMASK=$(umask)\n" in prepared(spec, tmp_path).setup_lines


def test_only_a_step_whose_module_says_so_is_spread_over_nodes_whatever_its_name(spec, tmp_path):
    assert str(Processes.of(spec, LAYOUT)) == "96 nodes x 8" and Processes.of(spec, LAYOUT).world == 768
    for step in ("prune", "evaluate", "export"):
        assert Processes.of(spec_of(step, tmp_path), LAYOUT).world == 1
    assert Processes.of(spec, Parallelism()).world == 1


def test_several_processes_meet_at_a_port_of_their_job(spec):
    words = " ".join(task_of(spec, Processes.of(spec, LAYOUT)).args)
    assert words.startswith(
        "--nodes 96 --ranks-per-node 8 --endpoint ${head_node_ip%% *}:$((10000 + SLURM_JOB_ID % 20000))"
    )
    assert words.endswith(f"-m nemo_distill.step {spec.folder}/spec.json")


def test_a_job_asks_for_as_many_gpus_as_it_has_processes(spec, tmp_path):
    assert prepared(spec, tmp_path, gpus_per_node=4).gpus_per_node == 8
    assert prepared(spec, tmp_path, gres="gpu:h100:8").gpus_per_node is None  # counted otherwise
    job = prepared(spec, tmp_path)
    assert (job.nodes, job.ntasks_per_node) == (96, 1)


def test_a_container_has_the_runs_folder_and_its_own_python(spec, tmp_path):
    job = prepared(spec, tmp_path, container_image="/images/nemo.sqsh", env_vars={"A": "1"}, container_mounts=["/d:/d"])
    assert job.container_mounts == ["/d:/d", f"{tmp_path}/runs:{tmp_path}/runs"]
    spec.save(Beside(teacher="/teachers/mine"))
    again = prepared(spec, tmp_path, container_image="/images/nemo.sqsh")
    assert again.container_mounts == [f"{tmp_path}/runs:{tmp_path}/runs", "/teachers/mine:/teachers/mine"]
    assert {"A", "PYTHONPATH"} <= set(job.container_env)
    assert "export PATH" not in job.setup_lines
    assert "export PATH" in prepared(spec, tmp_path).setup_lines


def test_the_longest_name_of_a_step_has_the_last_word(spec, tmp_path):
    steps = {"distill-2.5B": {"time": "1-12"}, "distill": {"time": "08:00:00", "qos": "long"}, "di": {"qos": "no"}}
    job = prepared(spec, tmp_path, steps=steps)
    assert (job.time, job.qos) == ("1-12", "long")


def test_an_image_is_known_by_its_digest_or_by_its_file(tmp_path):
    assert Image.named("docker://nvcr.io/nemo@sha256:abc").digest == "sha256:abc"
    assert Image.named("docker://nvcr.io/nemo:25.09").digest is None
    image = tmp_path / "nemo.sqsh"
    image.write_bytes(b"hsqs" * 1000)
    before = Image.named(str(image))
    image.write_bytes(b"hsqz" * 1000)
    assert before.bytes == 4000 and Image.named(str(image)).head_sha256 != before.head_sha256


@pytest.mark.parametrize(
    ("time", "seconds"),
    [
        ("90", 5400),
        ("10:30", 630),
        ("04:00:00", 14_400),
        ("1-12", 129_600),
        ("1-12:30", 131_400),
        ("2-00:00:01", 172_801),
        ("soon", None),
        ("4h", None),
    ],
)
def test_time_limits_as_slurm_reads_them(time, seconds):
    assert limits.seconds_of(time) == seconds


def test_a_line_of_squeue_is_a_job():
    job = job_of("17|RUNNING|None|node[1-2]|2|ann|/runs/distill-1/a|")
    assert job == Job(id="17", state="RUNNING", nodes="node[1-2]", restarts=2, user="ann", comment="/runs/distill-1/a")
    assert str(job) == "17 on node[1-2], requeued 2x" and job.live and job.running
    job = job_of("18|PENDING|DependencyNeverSatisfied|(null)|0|ann|(null)|")
    assert not job.live and job.comment == ""


def test_a_job_that_only_waits_takes_a_core_and_no_node_of_its_own(tmp_path):
    waiting = dataclasses.replace(spec_of("evaluate", tmp_path), name="evaluate-80B", config={"launcher": {}})
    whole = {"gpus_per_node": 8, "gres": "gpu:8", "exclusive": True, "requeues": 3}
    job = prepared(waiting, tmp_path, **whole)
    assert (job.gpus_per_node, job.gres, job.exclusive, job.cpus_per_task, job.mem) == (None, None, None, 1, "4G")
    assert "-gt 1000 ]" in job.setup_lines  # its time limit ends none of those it waits for
    assert prepared(waiting, tmp_path, **whole, steps={"evaluate": {"mem": "8G", "partition": "cpu"}}).mem == "8G"
    here = dataclasses.replace(waiting, config={})
    assert prepared(here, tmp_path, **whole).exclusive is True
    executor = SlurmExecutor(account="a", partition="p", evaluation=Cluster(partition="gpu", gres=None))
    assert executor.evaluations() == {
        "account": "a", "partition": "gpu", "hostname": None, "username": None, "gres": None,
    }  # fmt: skip


def test_a_job_that_shares_its_nodes_says_nothing_of_them(spec, tmp_path):
    assert prepared(spec, tmp_path, exclusive=False).exclusive is None  # NeMo-Run would write --exclusive=False
    assert prepared(spec, tmp_path, exclusive="user").exclusive == "user"
