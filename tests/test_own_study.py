"""The guide to a study of one's own, command by command: from nothing to a verdict, with another shape of teacher.

What costs less here than there: the student that becomes the teacher is of version 0.1's run, distillations are short,
questions are asked once, and all commands fork their steps from one process that has imported NeMo.
"""

import contextlib
import csv
import json
import re
import shlex
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from evaluator.serve.checkpoint import verify_checkpoint
from nemo_distill.families.checkpoint import read_hf
from nemo_distill.make_teacher import SHAPE
from tests import old_runs
from tests.forks_for_tests import ENVIRONMENT, forks

pytestmark = pytest.mark.slow

GUIDE = Path(__file__).resolve().parent.parent / "docs" / "guides" / "own_study.md"
COMMAND = re.compile(r"^    ((?:nemo-run|cd|cp|sed) .*?)(?: +# .*)?$", re.MULTILINE)
FIRST = "--until export-"
"""In the command that makes the teacher."""
LESS = {
    '"debug": (25, 75)}': '"debug": (8,)}, held_out_time=0.1',
    "repeats=4": "repeats=1",
    "teacher=TEACHER": 'teacher=TEACHER, track="none", prune=Prune(candidates=2)',
    "Prepare, ": "Prepare, Prune, ",
}
"""What the recipes say, and what they say here."""
ITERATIONS = 8
RUNS = ("balanced-debug", "mostly_facts-debug")


def make_teacher(folder: Path, *, scratch: Path) -> None:
    """Write the student of version 0.1's run after 0.3M tokens as a Hugging Face folder, by the step that does."""
    runs = old_runs.unpack(scratch / "old")
    (spec,) = (path for path in runs.glob("export-0.3M/*/spec.json") if "72eae0ea2b88" in path.read_text())
    for path in (spec.parent / "_SUCCESS", *(spec.parent / "hf").iterdir()):
        path.unlink()
    words = [sys.executable, "-m", "nemo_distill.step", str(spec)]
    subprocess.run(words, env=ENVIRONMENT | forks(), check=True, capture_output=True)
    shutil.move(spec.parent / "hf", folder)


@pytest.fixture(scope="module")
def study(tmp_path_factory) -> Iterator[tuple[Path, dict[str, str]]]:
    """The folder after all commands of the guide, and what each said."""
    scratch = tmp_path_factory.mktemp("own")
    environment = ENVIRONMENT | forks()
    said: dict[str, str] = {}
    with contextlib.ExitStack() as stack:
        stack.enter_context(contextlib.chdir(scratch))
        for command in COMMAND.findall(GUIDE.read_text(encoding="utf-8")):
            words = shlex.split(command)
            if words[0] == "cd":
                stack.enter_context(contextlib.chdir(words[1]))
                shared = Path("recipes/_study.py")
                for usual, less in LESS.items():
                    assert usual in shared.read_text()
                    shared.write_text(shared.read_text().replace(usual, less))
            elif words[0] == "cp":
                make_teacher(Path(words[-1]), scratch=scratch)
            elif FIRST not in command:
                program = [sys.executable, "-m", "nemo_distill.cli"] if words[0] == "nemo-run" else words[:1]
                done = subprocess.run([*program, *words[1:]], env=environment, capture_output=True, text=True)
                assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
                said[command] = " ".join(done.stdout.split())
        yield scratch / "my_study", said


def rows(path: Path) -> list[dict[str, str]]:
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def only(folder: Path, pattern: str) -> Path:
    (found,) = folder.glob(pattern)
    return found


def test_every_command_of_the_guide_is_run(study):
    commands = [command.split()[:2] for command in study[1]]
    recipes, done = ("recipes/balanced.py", "recipes/mostly_facts.py"), [second for _, second in commands]
    assert set(recipes) < set(done) and {"new", "report"} < set(done)


def test_the_teacher_is_of_another_shape_and_all_follows_it(study):
    folder, said = study
    shape, _ = read_hf(folder / "teacher", files=verify_checkpoint(folder / "teacher"))
    assert shape.hidden_size != SHAPE.hidden_size and shape.ffn_hidden_size != SHAPE.ffn_hidden_size
    parameters = f"{shape.parameters() / 1e6:.3f}M"
    assert f"{parameters} parameters in 8 layers" in said["nemo-run recipes/balanced.py --dryrun"]
    layers = json.loads(only(folder, "runs/prune/*/layers.json").read_text())
    assert layers["parameters_before"] == shape.parameters()
    assert 0.7 < layers["parameters_after"] / layers["parameters_before"] <= 0.75


def test_every_source_is_read_whole_whatever_it_is_written_as(study):
    cards = {path.parts[-3]: json.loads(path.read_text()) for path in study[0].glob("runs/sources/*/*/card.json")}
    assert set(cards) == {"sums", "facts", "notes"}
    for name, card in cards.items():
        assert card["rows"] == 3_000 and sum(card["dropped"].values()) == 0, name
        held_out = card["held_out"]["documents"]
        assert card["documents"] + held_out == 3_000 and 30 < held_out < 90, name
    assert (
        cards["sums"]["noted"] == cards["facts"]["noted"] == {"reasoning_kept": 3_000} and not cards["notes"]["noted"]
    )


def test_both_blends_share_all_but_what_the_shares_decide(study):
    steps = Counter(path.parts[-2] for path in study[0].glob("runs/*/*/_SUCCESS") for path in [path.parent])
    own = {"index", "distill-32K", "export-32K", "evaluate-32K", "report"}
    assert {step for step, count in steps.items() if count == 2} == own and set(steps.values()) == {1, 2}
    assert "world" not in steps  # of the debug world's sources none is read
    servers = {
        json.loads(path.read_text())["provenance"].get("forked_from")
        for step in ("import-teacher", "prune", "index", "distill-32K")
        for path in study[0].glob(f"runs/{step}/*/spec.json")
    }
    assert len(servers) == 1 and None not in servers


def test_distillation_nears_the_teacher_on_what_no_blend_was_trained_on(study):
    for path in study[0].glob("runs/distill-32K/*/held_out.jsonl"):
        first, *_, last = (json.loads(line) for line in path.read_text().splitlines())
        assert (first["iteration"], last["iteration"]) == (0, ITERATIONS)
        for source in ("sums", "facts", "notes"):
            assert last["sources"][source]["kl"] < first["sources"][source]["kl"]


def test_the_questions_are_asked_and_the_verdict_is_of_their_answers(study):
    folder, said = study
    verdict = said["nemo-run report balanced-debug mostly_facts-debug"]
    compared = only(folder, "runs/comparisons/*")
    scores = {
        (row["run"], row["checkpoint"], row["benchmark"]): float(row["mean"]) for row in rows(compared / "scores.csv")
    }
    for blend in ("balanced", "mostly_facts"):
        assert scores[blend, "Teacher", "sums_quiz"] > 0.5 and scores[blend, "Teacher", "facts_quiz"] > 0.85
        pruned, last, teacher = (scores[blend, label, "Average"] for label in ("Pruned student", "32K", "Teacher"))
        assert pruned + 0.15 < last < teacher
    assert "mostly_facts" in verdict and "balanced" in verdict and "Significant from" in verdict
    assert "Another training seed is assumed" in (compared / "report.md").read_text()
    contrasts = rows(compared / "verdicts.csv")
    assert {row["benchmark"] for row in contrasts} == {"Average", "sums_quiz", "facts_quiz"}
    overlap = json.loads(only(folder, "runs/contamination/*/contamination.json").read_text())
    assert "sums_quiz" in json.dumps(overlap)
