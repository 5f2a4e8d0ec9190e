"""The door to the training framework: NeMo has every function of the interface, and reads what version 0.1 left."""

import inspect
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from nemo_distill import backends
from nemo_distill.errors import UserError
from nemo_distill.kd.options import Options
from nemo_distill.run.ranks import Ranks
from nemo_distill.train.course import Course
from tests import old_runs

ROOT = Path(__file__).resolve().parents[3]
OLD = "distill-0.3M/72eae0ea2b88/checkpoint"


@pytest.fixture(scope="module")
def old_checkpoint(tmp_path_factory) -> Path:
    """A checkpoint of version 0.1, in which nothing says whose it is."""
    folder = tmp_path_factory.mktemp("old")
    shutil.move(old_runs.unpack(folder / "runs") / OLD, folder / "checkpoint")
    return folder / "checkpoint"


def test_nemo_has_every_function_of_the_interface_with_its_arguments():
    nemo = backends.get()
    names = [name for name, member in vars(backends.Backend).items() if inspect.isfunction(member) and name[0] != "_"]
    assert len(names) == 14
    for name in names:
        wanted = list(inspect.signature(getattr(backends.Backend, name)).parameters.values())[1:]
        given = list(inspect.signature(getattr(nemo, name)).parameters.values())
        assert [(one.name, one.kind) for one in given] == [(one.name, one.kind) for one in wanted], name


def test_the_door_itself_imports_no_framework():
    program = (
        "import sys; from nemo_distill import backends; backends.get().supports(); backends.get().versions(); "
        "sys.exit(str({'nemo', 'lightning', 'megatron', 'modelopt', 'transformers'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", program], cwd=ROOT, capture_output=True, text=True)
    assert done.stderr.strip().endswith("set()")


def test_a_checkpoint_says_whose_it_is_and_an_old_one_is_nemo_s(old_checkpoint, tmp_path):
    assert backends.of(old_checkpoint) is backends.get("nemo")
    (tmp_path / backends.BACKEND_FILE).write_text("nemo\n")
    assert backends.of(tmp_path) is backends.get("nemo")


def test_what_a_backend_cannot_do_is_refused_in_a_sentence(tmp_path):
    course = Course.of_indices(max_iterations=1, global_batch_size=1, seq_length=1, seed=0)

    def check(**asked) -> None:
        training = backends.Training(
            student=tmp_path, course=course, until=1, blend=[], index_folder=tmp_path, folder=tmp_path, **asked
        )
        backends.get().supports().check(training, "nemo")

    check(kd=Options(fp8="both"), recompute="mlp", ranks=Ranks(size=2, tensor_parallel=2))
    with pytest.raises(UserError, match=r"distill.fp8=all: backend nemo takes both, none, teacher\."):
        check(kd=Options(fp8="all"))
    with pytest.raises(UserError, match=r"distill.recompute=all: backend nemo takes mlp, none\."):
        check(recompute="all")


@pytest.mark.slow
def test_the_context_of_an_old_checkpoint_loads_by_the_names_it_was_written_with(backend, old_checkpoint):
    from nemo import lightning as nl

    text = (old_checkpoint / "context" / "model.yaml").read_text()
    for name in ("model.NemotronHConfig", "specs.local", "activation.squared_relu"):
        assert f"nemo_distill.nemotron_h.{name}" in text
    from nemo_distill.backends.nemo.model import NemotronHConfig
    from nemo_distill.nemotron_h import activation, specs

    config = nl.io.load_context(old_checkpoint / "context", subpath="model").config
    assert type(config) is NemotronHConfig
    assert config.mamba_stack_spec is specs.local and config.activation_func is activation.squared_relu


@pytest.mark.slow
def test_the_name_on_disk_of_a_new_checkpoint_is_the_old_one(backend):
    import pickle

    from nemo_distill.backends.nemo.model import NemotronHConfig

    assert b"nemo_distill.nemotron_h.model" in pickle.dumps(NemotronHConfig)
    assert pickle.loads(pickle.dumps(NemotronHConfig)) is NemotronHConfig
