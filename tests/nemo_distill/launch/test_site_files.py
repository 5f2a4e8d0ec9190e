"""Site files and `executor.KEY=VALUE`: what cannot be is refused before anything, what is text stays text."""

from pathlib import Path

import pytest

from nemo_distill.config.values import Misfit, word_of
from nemo_distill.launch.context import Context
from nemo_distill.launch.slurm.commands import Tunnel

GOOD = """\
account: a
partition: p
time: "04:00:00"
gpus_per_node: 8
steps: {}
tunnel:
  host: null
evaluation:
  walltime: "04:00:00"
"""
RECIPE = "recipes/distill_v1v3.py"
SLURM = (RECIPE, "--executor", "slurm", "--dryrun")

FILES = {
    # syntax, with line and column
    "6:11: expected ',' or ']', but got ':', while parsing a flow sequence that begins at 5:8": GOOD.replace(
        "steps: {}", "steps: [1"
    ).replace("tunnel:\n  host: null\n", ""),
    "2:13: mapping values are not allowed here": GOOD.replace("partition: p", "partition: p: q"),
    "2:1: found character '\\t' that cannot start any token": GOOD.replace("partition", "\tpartition"),
    "1:12: found unexpected end of stream, while scanning a quoted scalar that begins at 1:10": "account: 'a",
    "1:10: found undefined alias 'x'": GOOD.replace("account: a", "account: *x"),
    "1:10: the tag !secret means nothing here": GOOD.replace("account: a", "account: !secret a"),
    "1:12: the character U+0007 cannot stand here": GOOD.replace("account: a", "account: a \a"),
    "10:1: but found another document": GOOD + "---\naccount: b\n",
    "5:8: this is a part of itself": GOOD.replace("steps: {}", "steps: &s {prepare: *s}"),
    "1:1: settings look like `key: value`": "- account\n",
    # encoding
    "1:11: the byte 0xe9 is not UTF-8": GOOD.replace("account: a", "account: ré").encode("latin-1"),
    # keys
    "10:1: 'account' is said twice, on line 1 too": GOOD + "account: b\n",
    "7:18: 'host' is said twice, on line 7 too": GOOD.replace("  host: null", "  {host: login,  host: x}"),
    "2: there is no setting 'partitoin'. Did you mean 'partition'?": GOOD.replace("partition", "partitoin"),
    "7: there is no setting 'tunnel.hst'. Did you mean 'tunnel.host'?": GOOD.replace("host", "hst"),
    "9: there is no setting 'evaluation.wall_time'. Did you mean": GOOD.replace("walltime", "wall_time"),
    "5: there is no setting 'steps.prepare.partitoin'": GOOD.replace("{}", "{prepare: {partitoin: cpu}}"),
    "1:1: a key has to be text": GOOD.replace("account: a", "[account]: a"),
    # values
    "1: Environment variable 'NO_SUCH_ACCOUNT' not found": GOOD.replace(
        "account: a", "account: ${oc.env:NO_SUCH_ACCOUNT}"
    ),
    "4: gpus_per_node=eight cannot be: it has to be a whole number": GOOD.replace("8", "eight"),
    "4: gpus_per_node=-1 cannot be: it has to be from 1 to 65535": GOOD.replace("8", "-1"),
    "4: gpus_per_node=1.5 cannot be: it has to be a whole number": GOOD.replace("8", "1.5"),
    "4: gpus_per_node=true cannot be": GOOD.replace("8", "true"),
    "10: requeues=many cannot be: it has to be a whole number": GOOD + "requeues: many",
    "10: requeues=-1 cannot be: it has to be at least 0": GOOD + "requeues: -1",
    "10: warn_seconds=-1 cannot be": GOOD + "warn_seconds: -1",
    "10: poll_seconds=0 cannot be: it has to be from 0.1 to 3600": GOOD + "poll_seconds: 0",
    "10: poll_seconds=.inf cannot be": GOOD + "poll_seconds: .inf",
    "10: exclusive cannot be 'sometimes'. Known: 'false', 'mcs', 'topo', 'true', 'user'": GOOD + "exclusive: sometimes",
    "10: modules=cuda/12.8 cannot be: it has to be a list": GOOD + "modules: cuda/12.8",
    "10: modules[1]= cannot be: it has to be one word, without spaces": GOOD + "modules: [cuda, '']",
    "12: modules[1]={'gcc': 12} cannot be: it has to be text": GOOD + "modules:\n  - cuda\n  - gcc: 12\n",
    "10: container_mounts=/a:/b cannot be: it has to be a list": GOOD + "container_mounts: /a:/b",
    "10: container_mounts[0]=/a cannot be: it has to be /host/path:/container/path": GOOD + "container_mounts: [/a]",
    "10: env_vars=*** cannot be: it has to be KEY: VALUE pairs": GOOD + "env_vars: [A=1]",
    "10: env_vars has the key 'A-B', which has to be the name of a variable": GOOD + "env_vars: {A-B: 1}",
    "10: env_vars.A=null cannot be: it has to be text": GOOD + "env_vars: {A: }",
    "10: mem=lots cannot be: it has to be memory as Slurm writes it": GOOD + "mem: lots",
    "10: open_mode cannot be 'apend'. Did you mean 'append'?": GOOD + "open_mode: apend",
    "10: uncommitted cannot be 'refuze'. Did you mean 'refuse'?": GOOD + "uncommitted: refuze",
    "10: nodes cannot be set: say layout.nodes": GOOD + "nodes: 96",
    "10: launcher cannot be set: a step's ranks are started by torchrun already": GOOD + "launcher: torchrun",
    "3: time=soon cannot be: it has to be a time limit of Slurm's": GOOD.replace('"04:00:00"\ng', "soon\ng"),
    "3: time=99999999:00:00 cannot be": GOOD.replace('"04:00:00"\ng', "99999999:00:00\ng"),
    "executor.time='1' leaves no time before the warning": GOOD.replace('"04:00:00"\ng', "1\ng"),
    "5: steps=text cannot be: it has to be KEY: VALUE pairs": GOOD.replace("{}", "text"),
    "5: steps.prepare=null cannot be": GOOD.replace("{}", "{prepare: }"),
    "5: steps.prepare.time=soon cannot be": GOOD.replace("{}", "{prepare: {time: soon}}"),
    "executor.steps has no step 'prepar'. Did you mean 'prepare'?": GOOD.replace("{}", "{prepar: {qos: low}}"),
    "executor.steps has no step 'evaluate-techer'. Did you mean": GOOD.replace("{}", "{evaluate-techer: {qos: low}}"),
    "6: tunnel=login cannot be: it has to be {KEY: VALUE} of host": GOOD.replace(
        "tunnel:\n  host: null", "tunnel: login\n"
    ),
    "6: tunnel has user but no host": GOOD.replace("host: null", "user: me"),
    "7: tunnel.port=99999 cannot be: it has to be from 1 to 65535": GOOD.replace("null", "login, port: 99999").replace(
        "host: login, port: 99999", "{host: login, port: 99999}"
    ),
    "7: tunnel.identity=/none cannot be: it has to be a file that is there": GOOD.replace(
        "host: null", "{host: login, identity: /none}"
    ),
    "9: evaluation.walltime='4h' is no time limit": GOOD.replace('  walltime: "04:00:00"', "  walltime: 4h"),
    "10: evaluation.exclusive=sometimes cannot be: it has to be true or false": GOOD + "  exclusive: sometimes",
    "10: evaluation.parallelism=0 must be above 0": GOOD + "  parallelism: 0",
    "10: evaluation.overrides=a=b cannot be: it has to be a list": GOOD + "  overrides: a=b",
    "10: evaluation.images has no harness 'nemo_skills'; take nemo-skills": GOOD + "  images: {nemo_skills: x}",
    # what is not there
    "executor.container_image=/none.sqsh is no file on this machine": GOOD + "container_image: /none.sqsh",
    "executor.container_mounts has /none:/data, and there is no /none here": GOOD + "container_mounts: ['/none:/data']",
    "executor.steps.prune.container_image=/none.sqsh is no file": GOOD.replace(
        "{}", "{prune: {container_image: /none.sqsh}}"
    ),
}


@pytest.fixture(scope="module")
def recipe() -> str:
    return (Path(__file__).resolve().parents[3] / RECIPE).read_text()


@pytest.fixture
def nemo_run(workplace, nemo_run, recipe):
    (workplace / RECIPE).write_text(recipe)
    return nemo_run


def test_a_damaged_site_file_is_one_sentence_with_its_line_exit_2_and_nothing_written(nemo_run, workplace, listing):
    site = workplace / "recipes/executors/slurm.yaml"
    failed = []
    for sentence, text in FILES.items():
        site.write_bytes(text if isinstance(text, bytes) else text.encode())
        before = listing(workplace)
        code, out, err = nemo_run(*SLURM)
        named = "executor." in sentence.partition("=")[0] or err.startswith("nemo-run: recipes/executors/slurm.yaml:")
        if (code, out, err.count("\n")) != (2, "", 1) or sentence not in err or not named:
            failed.append((sentence, code, err))
        assert listing(workplace) == before
    assert not failed


def test_a_site_file_of_the_local_executor_is_checked_alike(nemo_run, workplace):
    for text, sentence in {
        "parallel_steps: 0\n": "local.yaml:1: parallel_steps=0 cannot be: it has to be from 1 to 64",
        "parallel_step: 1\n": "local.yaml:1: there is no setting 'parallel_step'. Did you mean 'parallel_steps'?",
        "env_vars: text\n": "local.yaml:1: env_vars=*** cannot be: it has to be KEY: VALUE pairs",
    }.items():
        (workplace / "recipes/executors/local.yaml").write_text(text)
        code, out, err = nemo_run(RECIPE, "--dryrun")
        assert (code, out) == (2, "") and sentence in err


def chosen(*words: str):
    context = Context(name="test")
    context.choose_executor(["executor=slurm", *words])
    return context.executor


@pytest.fixture
def written(tmp_path, monkeypatch):
    """Have the site's file say it, and give the executor."""
    (tmp_path / "recipes/executors").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)

    def say(text: str, *words: str):
        (tmp_path / "recipes/executors/slurm.yaml").write_text(text)
        return chosen(*words)

    return say


def test_text_stays_text_and_what_is_left_open_is_a_default(written, monkeypatch):
    monkeypatch.setenv("MINE", "0123")
    executor = written(
        "account: 0123\npartition: no\ntime: 4:00:00\nevaluation:\n"
        "  sbatch: {qos: 0123, requeue: true, nice: 5}\n"
        "  gres: null\n"
        "qos: 1e3\nconstraint: 12\nexclusive: yes\nsetup_lines: |\n  a\n  b\n"
        "env_vars: {A: 1, B: 0x10, C: yes, D: 4:00, E: 1.10, F: '${oc.env:MINE}', G: true, H: '\\${x}', I: 1_000}\n"
        "modules: [cuda/12.80, 1.10]\nmem: 64\n"
        "requeues: '${oc.env:MINE}'\n"
        "additional_parameters: {reservation: 007, requeue: true}\n"
    )  # fmt: skip
    assert (executor.time, executor.account, executor.partition, executor.qos) == ("4:00:00", "0123", "no", "1e3")
    assert (executor.constraint, executor.exclusive, executor.mem, executor.setup_lines) == ("12", True, "64", "a\nb\n")
    assert executor.env_vars == {
        "A": "1", "B": "0x10", "C": "yes", "D": "4:00", "E": "1.10", "F": "0123", "G": "true", "H": "${x}",
        "I": "1_000",
    }  # fmt: skip
    assert executor.modules == ["cuda/12.80", "1.10"] and executor.requeues == 123
    assert executor.additional_parameters == {"reservation": "007", "requeue": True}
    assert executor.evaluation.sbatch == {"qos": "0123", "requeue": True, "nice": 5}
    assert executor.evaluation.gres is None and executor.evaluation.walltime == "04:00:00"
    assert executor.tunnel is None


def test_anchors_and_merges_are_read_as_yaml_has_them(written):
    executor = written(
        "account: a\npartition: p\nsteps:\n  prepare: &cpu {partition: cpu}\n  index: {<<: *cpu, qos: low}\n"
    )
    assert executor.steps == {"prepare": {"partition": "cpu"}, "index": {"partition": "cpu", "qos": "low"}}


@pytest.mark.parametrize(
    ("word", "field", "value"),
    [
        ("modules=cuda/12.8", "modules", ["cuda/12.8"]),
        ("modules=cuda/12.8,gcc", "modules", ["cuda/12.8", "gcc"]),
        ("modules=[cuda/12.8, 1.10]", "modules", ["cuda/12.8", "1.10"]),
        ("modules=", "modules", []),
        ("env_vars={A: 0123, B: 'x y'}", "env_vars", {"A": "0123", "B": "x y"}),
        ("env_vars.A=a=b", "env_vars", {"A": "a=b"}),
        ("env_vars.A=${oc.env:MINE}", "env_vars", {"A": "it's mine"}),
        ("env_vars={A: '${oc.env:MINE}', B: '${x}'}", "env_vars", {"A": "it's mine", "B": "${x}"}),
        ("steps={prune: {env_vars: {A: '${oc.env:MINE}'}}}", "steps", {"prune": {"env_vars": {"A": "it's mine"}}}),
        ("steps={prepare: {qos: low, mem: null}}", "steps", {"prepare": {"qos": "low", "mem": None}}),
        ("steps.prepare.partition=cpu", "steps", {"prepare": {"partition": "cpu"}}),
        ("steps.distill-2.5B.time=1-12", "steps", {"distill-2.5B": {"time": "1-12"}}),
        ("tunnel.host=login", "tunnel", Tunnel(host="login")),
        ("tunnel={host: login, port: 22}", "tunnel", Tunnel(host="login", port=22)),
        ("exclusive=true", "exclusive", True),
        ("exclusive=user", "exclusive", "user"),
        ("gpus_per_node=null", "gpus_per_node", None),
        ("qos=no", "qos", "no"),
    ],
)  # fmt: skip
def test_the_command_line_takes_lists_and_dicts_of_the_executor(written, monkeypatch, word, field, value):
    monkeypatch.setenv("MINE", "it's mine")
    executor = written(GOOD, f"executor.{word}")
    assert getattr(executor, field) == value
    assert type(getattr(executor, field)) is type(value)


def test_a_command_changes_a_part_of_what_the_file_says_of_evaluations(written):
    file = GOOD + "  judge_model: ours\n  images: {nemo-skills: a}\n"
    words = ["evaluation.images.simple-evals=b", "evaluation={parallelism: 8}", "evaluation.overrides=++a.b=1,c.d=2"]
    cluster = written(file, *(f"executor.{word}" for word in words)).evaluation
    assert cluster.images == {"nemo-skills": "a", "simple-evals": "b"}
    assert (cluster.judge_model, cluster.parallelism, cluster.overrides) == ("ours", 8, ("++a.b=1", "c.d=2"))


@pytest.mark.parametrize(
    ("word", "sentence"),
    [
        ("modules={a: 1}", "executor.modules={'a': 1} cannot be: it has to be a list"),
        ("modules=[a", "executor.modules=[a cannot be: it has to be a list"),
        ("container_mounts=/a", "executor.container_mounts[0]=/a cannot be: it has to be /host/path:/container/path"),
        ("env_vars.A=${oc.env:NOT_THERE}", "env_vars.A: Environment variable 'NOT_THERE' not found"),
        ("env_vars=A", "executor.env_vars=*** cannot be: it has to be KEY: VALUE pairs"),
        ("env_vars.A-B=1", "executor.env_vars has the key 'A-B', which has to be the name of a variable"),
        ("steps.prepare.tme=1", "there is no setting 'executor.steps.prepare.tme'. Did you mean"),
        ("tunnel.hst=login", "there is no setting 'executor.tunnel.hst'. Did you mean 'executor.tunnel.host'?"),
        ("tunnel.user=me", "executor.tunnel has user but no host"),
        ("tunnel=login", "executor.tunnel=login cannot be: it has to be {KEY: VALUE} of host, user, port"),
        ("account=", "executor.account= cannot be: it has to be one word, without spaces"),
        ("gpus_per_node=-1", "executor.gpus_per_node=-1 cannot be: it has to be from 1 to 65535"),
        ("mem=lots", "executor.mem=lots cannot be"),
        ("requeues=-1", "executor.requeues=-1 cannot be: it has to be at least 0"),
        ("poll_seconds=0", "executor.poll_seconds=0 cannot be"),
        ("poll_seconds=nan", "executor.poll_seconds=nan cannot be: it has to be a finite number"),
        ("exclusive=maybe", "executor.exclusive cannot be 'maybe'"),
        ("heterogeneous=true", "executor.heterogeneous cannot be set: a step is one job"),
        ("retries=3", "executor.retries cannot be set: say executor.requeues"),
        ("evaluation.walltime=4h", "executor.evaluation.walltime='4h' is no time limit"),
        ("evaluation=none", "there is no setting 'executor.evaluation': it has parts"),
        ("qos=a\0b", "cannot be: it has to be text"),
    ],
)  # fmt: skip
def test_what_the_command_line_cannot_say_of_the_executor_is_refused_in_a_sentence(written, word, sentence):
    with pytest.raises(ValueError) as refused:
        written(GOOD, f"executor.{word}")
    assert sentence in str(refused.value) and "\n" not in str(refused.value)


def test_words_that_are_no_text_of_ours_are_refused():
    with pytest.raises(Misfit, match="has to be text"):
        word_of(("runs",), b"\xff".decode(errors="surrogateescape"), str)
