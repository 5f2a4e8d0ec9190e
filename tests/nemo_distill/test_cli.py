"""The command line: help, refusals, and a dry run of the real recipe."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
RECIPE = "recipes/distill_v1v3.py"
COPY = "cp recipes/executors/slurm.example.yaml recipes/executors/slurm.yaml"


@pytest.fixture
def nemo_run(workplace, nemo_run):
    """The command where the real recipe is, too."""
    (workplace / RECIPE).write_text((ROOT / RECIPE).read_text())
    return nemo_run


def loaded(*arguments: str, cwd: Path) -> tuple[set[str], subprocess.CompletedProcess]:
    """The command in a process of its own, and the top-level modules that it has loaded when it ends."""
    code = (
        "import atexit, sys\n"
        "from nemo_distill.cli import main\n"
        "def tell(): open('../loaded.txt', 'w').write(' '.join(name.partition('.')[0] for name in sys.modules))\n"
        "atexit.register(tell)\n"
        "sys.exit(main(sys.argv[1:]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        cwd=cwd, capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=300,
    )  # fmt: skip
    listed = cwd.parent / "loaded.txt"
    modules = set(listed.read_text().split())
    listed.unlink()
    return modules, done


def test_help_lists_the_recipes_with_what_they_say_of_themselves(nemo_run):
    code, out, _ = nemo_run("--help")
    assert code == 0
    assert "recipes/small.py" in out and "Small steps in the shape of a real run" in out
    assert "recipes/distill_v1v3.py" in out
    assert nemo_run()[1] == out


def test_the_version_is_a_line_with_what_it_rests_on(nemo_run):
    code, out, _ = nemo_run("--version")
    assert code == 0 and re.match(r"nemo-distill \d+\.\d+\.\d+\S* ", out) and out.count("\n") == 1
    for name in ("Python 3.1", "nemo_toolkit 2.", "torch 2."):
        assert name in out
    assert "--version" in nemo_run("--help")[1]


@pytest.mark.parametrize(
    "arguments", [["--help"], [RECIPE, "--help"], ["--version"], ["statsu"], ["status"], ["list"]], ids=" ".join
)
def test_help_refusals_and_status_wait_for_neither_nemo_run_nor_torch(nemo_run, workplace, arguments):
    modules, done = loaded(*arguments, cwd=workplace)
    slow = {"nemo_run", "torch", *(["numpy"] if RECIPE not in arguments else [])}  # a recipe's own imports have it
    assert "typer" in modules and not slow & modules, done.stderr
    assert arguments[-1].startswith("--") == (done.returncode == 0)


def test_a_recipe_is_listed_even_when_it_cannot_be_imported(nemo_run, workplace):
    (workplace / "recipes" / "broken.py").write_text('"""Does not import."""\nraise RuntimeError\n')
    assert "Does not import." in nemo_run("--help")[1]


@pytest.mark.parametrize("executor", ["local", "slurm"])
def test_a_dry_run_shows_the_plan_asks_nothing_writes_nothing_and_waits_for_no_nemo(
    nemo_run, workplace, listing, executor
):
    before = listing(workplace.parent)
    modules, done = loaded(RECIPE, "--executor", executor, "--dryrun", "scale=debug", cwd=workplace)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    slow = {"nemo_run", "torch", "nemo", "megatron", "modelopt", "transformers", "datasets", "pyarrow", "matplotlib"}
    assert "rich" in modules and not slow & modules
    for shown in ("math-v2-part00", "learning rate", "import-teacher", "wait", "debug scale"):
        assert shown in done.stdout
    assert listing(workplace.parent) == before


def test_a_dry_run_begins_with_what_keeps_it_from_starting_and_what_it_takes(nemo_run):
    code, out, _ = nemo_run(RECIPE, "--executor", "slurm", "--dryrun")
    head = out.splitlines()[:5]
    assert code == 0 and head[0].startswith("distill_v1v3-full: full scale") and out.count(COPY) == 1
    assert head[1].startswith("Before it can run: ") and COPY in head[1] and "executor.evaluation.hostname" in head[2]
    assert re.fullmatch(
        r"(\d+) steps: \1 to run; 7,\d+ GPU-hours to spend; \d\.\d h of training on 768 H100 ○\.", head[3]
    )
    code, out, err = nemo_run(RECIPE, "-e", "slurm", "--dryrun", "executor.account=a", "executor.partition=p",
                              "layout.tensor_parallel=1", "distill.micro_batch_size=1")  # fmt: skip
    assert code == 2 and "needs 92 GiB per GPU" in out.splitlines()[1] and "needs 92 GiB per GPU" in err
    assert nemo_run(RECIPE, "--dryrun", "--until", "prune")[1].splitlines()[1] == "3 steps: 3 to run."


def test_the_slurm_executor_stands_for_the_full_scale_and_says_what_to_fill_in(nemo_run):
    code, out, _ = nemo_run(RECIPE, "--executor", "slurm", "--dryrun")
    assert code == 0 and "full scale, executor slurm" in out
    assert COPY in out
    _, out, _ = nemo_run(RECIPE, "-e", "slurm", "--dryrun", "executor.account=a", "executor.partition=p", "scale=debug")
    assert "debug scale, executor slurm" in out and "fill in" not in out


@pytest.mark.parametrize("arguments", [["-e", "slurm", "executor.account=a", "executor.partition=p"], []], ids=str)
def test_the_preview_of_seven_milestones_fits_a_terminal_of_80_columns(nemo_run, workplace, monkeypatch, arguments):
    monkeypatch.setenv("COLUMNS", "80")
    (workplace / "recipes/widest.py").write_text((ROOT / "recipes/distill_v1v2.py").read_text())
    code, out, _ = nemo_run("recipes/widest.py", "--dryrun", *arguments)
    assert code == 0 and "…" not in out
    assert all(len(line) <= 80 for line in out.splitlines() if not line.startswith("in "))  # where runs lie, whole


def test_a_debug_run_costs_no_gpu_hours(nemo_run):
    assert "GPU" not in nemo_run(RECIPE, "--dryrun")[1]


def test_several_recipes_are_previewed_by_one_command(nemo_run, workplace):
    recipes = ["recipes/distill_v1v3.py", "recipes/distill_v3.py"]
    (workplace / recipes[1]).write_text((ROOT / recipes[1]).read_text())
    code, out, _ = nemo_run(*recipes, "--executor", "slurm", "--dryrun", "seed=7")
    assert code == 0
    for name in ("distill_v1v3-full-seed7", "distill_v3-full-seed7"):
        assert f"{name}: full scale, executor slurm, seed 7" in out
    code, out, err = nemo_run(*recipes, "--executor", "slurm", "--dryrun", "layout.tensor_parallel=1",
                              "distill.micro_batch_size=1")  # fmt: skip
    assert code == 2 and err.count("the nearest that fits is layout.tensor_parallel=2") == 2
    assert "distill_v1v3-full" in out and "distill_v3-full" in out


def test_a_layout_that_cannot_fit_is_previewed_and_then_refused(nemo_run, workplace):
    for dryrun in (["--dryrun"], []):
        code, out, err = nemo_run(RECIPE, "--executor", "slurm", "layout.gpu=H200", "layout.tensor_parallel=1", *dryrun,
                                  "distill.global_batch_size=3072")  # fmt: skip
        assert code == 2 and "needs 181 GiB per GPU and an H200 has 140; the nearest that fits is" in err
        assert err.count("\n") == 1
        assert "Memory per GPU: 181 of 140 GiB" in out
    assert not (workplace / "runs").exists()


def test_a_run_on_slurm_without_an_account_is_refused(nemo_run, workplace):
    code, _, err = nemo_run(RECIPE, "--executor", "slurm")
    assert code == 2 and COPY in err and "fill in account there" in err and err.count("\n") == 1
    (workplace / "recipes/executors/slurm.yaml").write_text("account: ???\n")
    assert "slurm.yaml:1: fill in account" in nemo_run(RECIPE, "--executor", "slurm")[2]
    assert not (workplace / "runs").exists()


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (
            ["recipes/distill_v1v2.py"],
            "no recipe or command 'recipes/distill_v1v2.py'. Did you mean 'recipes/distill_v1v3",
        ),
        (["statsu"], "no recipe or command 'statsu'. Did you mean 'status'?"),
        (["my recipe.py"], "no recipe or command 'my recipe.py'"),
        (["distill_v1v3"], "Did you mean 'recipes/distill_v1v3.py'?"),
        (["recipes/nope.py"], "Known: 'recipes/distill_v1v3.py', 'recipes/small.py'."),
        (["nope"], "Known: 'board', 'cancel', 'card', "),
        (["gc"], "'nemo-run clean' shows what need not be kept"),
        (["lists"], "'nemo-run list' shows all runs"),
        (["compare"], "'nemo-run report RUN RUN' compares runs"),
        (["export"], "'nemo-run push RUN --to ORG/NAME' puts one on the hub"),
        (["train"], "A run is started by its recipe"),
        ([RECIPE, "blend.shares.my_data=10"], "one of your own is Source(name='my_data', path=...) in the recipe"),
        (
            [RECIPE, "distill=5"],
            "there is no setting 'distill': it has parts, distill.NAME=value. Known: 'distill.cross",
        ),
        ([RECIPE, "distill.milestones="], "a run needs at least one milestone"),
        ([RECIPE, "--dryrn"], "No such option: --dryrn"),
        ([RECIPE, "--executor"], "--executor"),
        ([RECIPE, "--executor", "locla"], "no executor 'locla'. Did you mean 'local'?"),
        ([RECIPE, "executor=slrm"], "no executor 'slrm'. Did you mean 'slurm'?"),
        ([RECIPE, "executor.parallel_stps=1"], "Did you mean 'executor.parallel_steps'?"),
        ([RECIPE, "executor.parallel_steps=two"], "executor.parallel_steps=two cannot be: it has to be a whole number"),
        ([RECIPE, "distill.learning_rte=1"], "Did you mean 'distill.learning_rate'?"),
        ([RECIPE, "distill.learning_rate=fast"], "distill.learning_rate=fast cannot be: it has to be a number"),
        ([RECIPE, "distill.learning_rate=-1"], "learning_rate"),
        ([RECIPE, "distill.milestones=1,99999"], "milestone 99,999 lies past the schedule"),
        ([RECIPE, "distill.schedule=cosin"], "there is no distill.schedule 'cosin'. Did you mean 'cosine'?"),
        ([RECIPE, "distill.milestones=20,10"], "milestone 10 does not come after 20"),
        (
            [RECIPE, "distill.milestones=0.4M,0.6M"],
            "0.4M tokens are no whole number of iterations of 4,096 tokens; the",
        ),
        (
            [RECIPE, "distill.milestones=80B"],
            "80B tokens lie past the schedule's 150 iterations; the nearest is 614,400",
        ),
        ([RECIPE, "evaluate.suite=ofline"], "offline"),
        ([RECIPE, "prepare.tokens=lots"], "'lots' is no number of tokens"),
        ([RECIPE, "prepare.reasoning=inlin"], "Did you mean 'inline'?"),
        ([RECIPE, "prepare.max_malformed=2"], "prepare.max_malformed=2.0 is no share"),
        ([RECIPE, "prepare.questions=nowhere"], "there is no folder nowhere of benchmark questions"),
        ([RECIPE, "evaluate.repeats=0"], "evaluate.repeats=0 has to be above 0"),
        ([RECIPE, "evaluate.max_unasked=2"], "evaluate.max_unasked=2.0 is no share"),
        ([RECIPE, "scale=dbug"], "no scale 'dbug'. Did you mean 'debug'?"),
        ([RECIPE, "teacher=teachers"], "teacher=teachers: there is no such folder, and a model of the hub is ORG/NAME"),
        ([RECIPE, "teacher=recipes/small.py"], "teacher=recipes/small.py is a file; a teacher is a folder with config"),
        ([RECIPE, "prune.export_config={'hidden_size':100}"], "hidden_size=100: ModelOpt takes multiples of 16 up to"),
        ([RECIPE, "evaluate.max_new_tokens=1000"], "evaluate.max_new_tokens=1000 leaves no room for a question in a"),
        ([RECIPE, "seed=-1"], "seed=-1 is none that numpy takes: 0 to 4294967295; the nearest is seed=0"),
        ([RECIPE, "seed=x"], "seed=x cannot be: it has to be a whole number"),
        ([RECIPE, "blend.shares.stem=-3"], "-3"),
        ([RECIPE, "blend.shares.stem=15"], "105 percent"),
        ([RECIPE, "blend.shares.stm=1"], "Did you mean 'stem'?"),
        ([RECIPE, "-e", "slurm", "runs=a b"], "a b' has a space in it, which NeMo-Run's job scripts break on"),
        (
            [RECIPE, "-e", "slurm", "layout.gpu=H1000"],
            "H1000: nothing is known of such a GPU. Known: H100, H200, A100, ",
        ),
        ([RECIPE, "-e", "slurm", "layout.tensor_parallel=3"], "divide the 8 GPUs of a machine (layout.gpus_per_node)"),
        ([RECIPE, "-e", "slurm", "distill.micro_batch_size=3"], "distill.micro_batch_size=4 would do"),
        ([RECIPE, "recipes/small.py"], "2 recipes are previewed together, with --dryrun, but run one at a time"),
        ([RECIPE, "recipes/smal.py", "--dryrun"], "no recipe 'recipes/smal.py'. Did you mean 'recipes/small.py'?"),
        ([RECIPE, "recipes/small.py", "--dryrun", "--name", "x"], "--name x cannot be the name of 2 runs"),
        ([RECIPE, "stray"], "'stray' is no setting"),
        (["status", "nothing"], "no run 'nothing' in runs"),
        (["report", "nothing"], "no run 'nothing' in runs"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_mistake_is_one_sentence_exit_2_and_nothing_written(nemo_run, workplace, listing, arguments, sentence):
    nemo_run("--help")
    before = listing(workplace)
    code, out, err = nemo_run(*arguments)
    assert code == 2
    assert sentence in err and err.startswith("nemo-run: ") and err.count("\n") == 1
    assert out == ""
    assert listing(workplace) == before


def test_a_misspelt_environment_variable_in_the_site_settings_is_named(nemo_run, workplace):
    (workplace / "recipes/executors/slurm.yaml").write_text("account: ${oc.env:NO_SUCH_ACCOUNT}\n")
    code, _, err = nemo_run(RECIPE, "-e", "slurm", "--dryrun")
    assert code == 2 and "slurm.yaml" in err and "NO_SUCH_ACCOUNT" in err


def test_an_unknown_key_in_the_site_settings_is_named_with_its_line(nemo_run, workplace):
    (workplace / "recipes/executors/slurm.yaml").write_text("account: a\npartitoin: p\n")
    code, _, err = nemo_run(RECIPE, "-e", "slurm", "--dryrun")
    assert code == 2 and "slurm.yaml:2: there is no setting 'partitoin'. Did you mean 'partition'?" in err


def test_a_recipe_that_python_cannot_read_is_named_with_its_line(nemo_run, workplace):
    (workplace / "recipes/half.py").write_text("x = (\n")
    code, _, err = nemo_run("recipes/half.py")
    assert code == 2 and "recipes/half.py:1:" in err


def test_a_recipe_works_from_any_folder(nemo_run, workplace, tmp_path, monkeypatch):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    code, out, _ = nemo_run(str(workplace / RECIPE), "--dryrun")
    assert code == 0 and f"in {elsewhere}/runs" in out


def test_the_console_script_is_this_command():
    script = Path(sys.executable).parent / "nemo-run"
    done = subprocess.run(
        [script, "--help"], capture_output=True, text=True, cwd=ROOT, env={**os.environ, "COLUMNS": "100"}
    )
    assert done.returncode == 0 and "recipes/distill_v1v3.py" in done.stdout
