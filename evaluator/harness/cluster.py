"""Holds what a site says of the cluster that nemo-evaluator-launcher submits to, and of the engine it deploys there.

    cluster = Cluster(hostname="login", account="nvr", partition="gpu", judge_model="judge")
    cluster.deciding                # of what decides a score, what differs from the launcher's and our own defaults
    cluster.overrides_of(...)       # the launcher's overrides for one checkpoint and benchmark

Where jobs run decides no score: account, partition, GPUs, time limits, parallelism. Images, options of the engine, the
judge and overrides do, so they belong to the protocol of an evaluation wherever they are written.
"""

import dataclasses
import difflib
import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from evaluator.harness.budget import TOKENS_PER_SECOND
from evaluator.suites.judge import VARIABLES
from evaluator.suites.suite import Benchmark, Suite

HARNESSES = ("lm-evaluation-harness", "nemo-skills", "simple-evals")
"""The launcher's names of the harnesses of the study's suite, each of which has a container image."""
DECIDING = ("image", "images", "engine_args", "judge_model", "overrides")
"""Fields that decide a score."""
REQUIRED = ("hostname", "account", "partition")
MOST = 65_535
"""Copies, GPUs or requests in flight, above which a number is mistyped."""
HEAD_BYTES = 2**20
"""Bytes at the start of an image file that are hashed, beside its size."""
_WALLTIME = re.compile(r"(\d+):([0-5]\d):([0-5]\d)")
_IMAGES = {"nemo_skills": "nemo-skills", "simple_evals": "simple-evals", "lm_eval": "lm-evaluation-harness"}
"""The launcher's name of a harness, of `HARNESSES`, by `Benchmark.harness`."""
_CONTAINERS_HOME = "/hf-home"


@dataclass(frozen=True, kw_only=True)
class Cluster:
    """What nemo-evaluator-launcher is told of a site."""

    hostname: str | None = None
    """Host that takes the jobs, reached by ssh without a password, from the node of the evaluate step too."""
    username: str | None = None
    """User there; None: $USER."""
    account: str | None = None
    """Who pays."""
    partition: str | None = None
    """Where the deployments run."""
    gres: str | None = "gpu:8"
    """What a deployment is given of a node, in Slurm's words; None where GPUs are counted otherwise."""
    gpus_per_node: int | None = None
    """GPUs of a deployment's node, where the site wants them said so."""
    exclusive: bool = True
    """Whether a deployment has its node to itself."""
    sbatch: dict[str, Any] = field(default_factory=dict)
    """More options of sbatch: `{qos: high, constraint: h100}`."""
    walltime: str = "04:00:00"
    """Longest job that the site allows, HH:MM:SS; a benchmark whose budget is longer goes on in another job."""
    data_parallel_size: int = 8
    """Copies of the model in a deployment, one per GPU."""
    parallelism: int = 64
    """Requests in flight, over all copies."""
    tokens_per_second: float = TOKENS_PER_SECOND
    """Output of a deployment, from which the budgets in tokens become hours."""
    hf_home: str | None = None
    """Folder that the harnesses' containers have as HF_HOME, so that data sets are fetched once; None: in every job."""
    mounts: dict[str, str] = field(default_factory=dict)
    """What else these containers see: folder here, folder there."""
    judge_url: str | None = None
    """Base of the judge's endpoint, reached from the deployments' nodes; None: JUDGE_URL."""
    judge_model: str | None = None
    """Model that judges; None: JUDGE_MODEL_ID."""
    image: str = "vllm/vllm-openai:v0.12.0"
    """Image of the engine: a name, best with @sha256:..., or a file."""
    images: dict[str, str] = field(default_factory=dict)
    """Images of harnesses, by the launcher's name (`HARNESSES`), in place of those that the launcher names."""
    engine_args: str = ""
    """More options of the engine, as vLLM has them on its command line."""
    overrides: tuple[str, ...] = ()
    """More overrides of the launcher, in its own form: `++deployment.port=8100`."""

    def __post_init__(self) -> None:
        """Raise ValueError, in one sentence that begins with the field, for what a field of its type cannot be."""
        if not _WALLTIME.fullmatch(self.walltime) or not self.seconds:
            raise ValueError(f"walltime={self.walltime!r} is no time limit; write HH:MM:SS, e.g. 04:00:00.")
        for key in ("data_parallel_size", "parallelism", "tokens_per_second", "gpus_per_node"):
            value = getattr(self, key)
            if value is not None and not 0 < value < float("inf"):
                raise ValueError(f"{key}={value} must be above 0.")
            if value is not None and key != "tokens_per_second" and value > MOST:
                raise ValueError(f"{key}={value} is more than any cluster has: at most {MOST}.")
        if self.tokens_per_second < 1:
            raise ValueError(f"tokens_per_second={self.tokens_per_second:g} would take years: it has to be at least 1.")
        words = ("hostname", "username", "account", "partition", "gres", "image", "judge_model")
        for key in words:
            value = getattr(self, key)
            if value and not re.fullmatch(r"[^\s\"'`$\\-][^\s\"'`$\\]*", value):
                raise ValueError(f"{key}={value} has to be one word, without spaces and quotes.")
        if self.judge_url and not re.fullmatch(r"https?://[^\s\"'`$\\/]+\S*", self.judge_url):
            raise ValueError(f"judge_url={self.judge_url} is no address; write it like http://HOST:8000/v1.")
        for key, value in self.sbatch.items():
            if isinstance(value, (dict, list)):
                raise ValueError(f"sbatch: {key}={value} has to be a word or a number.")
        for harness in self.images:
            if harness not in HARNESSES:
                near = difflib.get_close_matches(harness, HARNESSES, n=1) or HARNESSES
                raise ValueError(f"images has no harness '{harness}'; take {' or '.join(near)}.")
        for key, path in (("hf_home", self.hf_home), *(("mounts", path) for path in self.mounts)):
            if path is not None and not Path(path).is_absolute():
                raise ValueError(f"{key}: '{path}' is mounted into containers and has to be an absolute path.")
        for path in self.mounts.values():
            if not str(path).startswith("/"):
                raise ValueError(f"mounts: '{path}' is a folder of a container and has to be absolute.")
        for override in self.overrides:
            if not re.fullmatch(r"~[\w.]+|\+{0,2}[\w.@/-]+=.*", override):
                raise ValueError(f"overrides: '{override}' is no override of the launcher's, KEY=VALUE.")
        for key, image in (("image", self.image), *(("images", image) for image in self.images.values())):
            if image.startswith("/") and not Path(image).is_file():
                raise ValueError(f"{key}: the image '{image}' is no file here, where its content is read.")

    def with_judge(self, environment: Mapping[str, str]) -> Self:
        """The same with the judge that the environment names, where the site names none."""
        url, model = VARIABLES[:2]
        return dataclasses.replace(
            self,
            judge_url=self.judge_url or environment.get(url) or None,
            judge_model=self.judge_model or environment.get(model) or None,
        )

    @property
    def seconds(self) -> int:
        """Longest job in seconds."""
        found = _WALLTIME.fullmatch(self.walltime)
        assert found
        hours, minutes, seconds = map(int, found.groups())
        return hours * 3600 + minutes * 60 + seconds

    @property
    def missing(self) -> list[str]:
        """Settings that have to be said before anything is submitted and are not."""
        return [name for name in REQUIRED if getattr(self, name) in (None, "", "???")]

    @property
    def plain(self) -> dict[str, Any]:
        """What is not the default, as plain JSON data: its fields by name, tuples as lists."""
        default = Cluster()
        values = dataclasses.asdict(self) | {"overrides": list(self.overrides)}
        return {name: value for name, value in values.items() if getattr(self, name) != getattr(default, name)}

    @property
    def deciding(self) -> dict[str, Any]:
        """What decides a score and is not the default, as plain JSON data."""
        values = self.plain
        values["overrides"] = [override for override in self.overrides if not _is_about_jobs(override)]
        return {name: values[name] for name in DECIDING if values.get(name)}

    @property
    def identity(self) -> dict[str, Any]:
        """`deciding` but for the judge, with the content of image files in place of their names."""
        found = {name: value for name, value in self.deciding.items() if name != "judge_model"}
        if "image" in found:
            found["image"] = _content(found["image"])
        if "images" in found:
            found["images"] = {harness: _content(image) for harness, image in found["images"].items()}
        return found

    @property
    def unpinned(self) -> list[str]:
        """Images by a name that may move to another image."""
        return [i for i in (self.image, *self.images.values()) if "@sha256:" not in i and not i.startswith("/")]

    def image_of(self, benchmark: Benchmark) -> str | None:
        """Image of the benchmark's harness where the site names one."""
        return self.images.get(harness_of(benchmark))


def check_ready(suite: Suite, cluster: Cluster) -> None:
    """Raise ValueError where it is not said which cluster, or which judge."""
    if cluster.missing:
        raise ValueError(
            f"the suite '{suite.name}' is run on a cluster by nemo-evaluator-launcher: say "
            f"{' and '.join(f'executor.evaluation.{name}' for name in cluster.missing)}."
        )
    judged = [benchmark.title for benchmark in suite.benchmarks if benchmark.judged]
    if judged and not (cluster.judge_url and cluster.judge_model):
        raise ValueError(
            f"{judged[0]} is judged by a model: say executor.evaluation.judge_url and executor.evaluation.judge_model, "
            "or set JUDGE_URL and JUDGE_MODEL_ID."
        )


def harness_of(benchmark: Benchmark) -> str:
    """The launcher's name of the harness of a benchmark; empty for one whose image no site names."""
    if benchmark.own:
        return "simple-evals"
    if benchmark.declared:
        return _IMAGES.get(benchmark.harness, "")
    prefix, dot, _ = benchmark.task.partition(".")
    return prefix if dot else "nemo-skills" if benchmark.task.startswith("ns_") else "simple-evals"


def _is_about_jobs(override: str) -> bool:
    return override.lstrip("+~").startswith("execution.")


def _content(image: str) -> str:
    """What an image is told by: its name or, of a file, its size and a hash of its beginning.

    A squash file's first block names its tables and when they were made.
    """
    path = Path(image)
    if not image.startswith("/"):
        return image
    with path.open("rb") as file:
        return f"{path.stat().st_size} bytes, {hashlib.sha256(file.read(HEAD_BYTES)).hexdigest()}"
