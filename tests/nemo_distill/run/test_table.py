"""What one sees of a run while it goes on, at the widths and heights of terminals, and what is left of it."""

import contextlib
import dataclasses
import io
import json
import os
import re
import time

import pytest
from rich.console import Console
from rich.live import Live

from nemo_distill.run.display import Display
from nemo_distill.run.facts import RunFacts
from nemo_distill.run.job import Job
from nemo_distill.run.locks import held
from nemo_distill.run.manifest import Run
from nemo_distill.run.progress import Progress
from nemo_distill.run.remaining import Remaining, started
from nemo_distill.run.step import LOCK_FILE, LOG_FILE, Step, mark_done, place
from nemo_distill.run.table import Drawing, StatusTable

LABELS = ("2.5B", "5B", "20B", "40B", "60B", "80B", "100B")
ENDS = (0, 400, 800, 3_200, 6_400, 9_600, 12_800, 16_000)
SIZES = [(80, 24), (80, 16), (40, 24), (40, 12), (120, 50)]


class Study:
    """The steps of the study's run in folders of their own, which can be made to look done or at work."""

    def __init__(self, runs, module: str, stack: contextlib.ExitStack):
        self.stack, self.locked = stack, set[str]()
        steps = [Step("prepare", module, {}), Step("import-teacher", module, {})]
        steps += [Step("prune", module, {}, ("import-teacher",)), Step("contamination", module, {}, ("prepare",))]
        before = "prune"
        for number, label in enumerate(LABELS):
            config = {"first": ENDS[number], "until": ENDS[number + 1]}
            steps.append(Step(f"distill-{label}", module, config, ("prepare", before)))
            before = f"distill-{label}"
            steps.append(Step(f"export-{label}", module, {}, (before,)))
            steps.append(Step(f"evaluate-{label}", module, {}, (f"export-{label}",)))
        steps.append(Step("report", module, {}, tuple(f"evaluate-{label}" for label in LABELS)))
        launched = time.strftime("%Y-%m-%dT%H:%M:%S%z", time.localtime(time.time() - 3723))
        facts = RunFacts(scale="full", executor="slurm", time=launched)
        specs = {  # which are of a kind is told by their modules
            name: dataclasses.replace(spec, module=f"steps.{name.partition('-')[0]}")
            for name, spec in place(steps, runs=runs).items()
        }
        self.run = Run(name="distill_v1v3-full", runs=runs, specs=specs, facts=facts)

    def done(self, *names: str, seconds: float = 60.0) -> None:
        for name in names:
            self.run.specs[name].save()
            mark_done(self.run.specs[name].folder, seconds=seconds)

    def at_work(self, name: str, *, ago: float = 0.0, **progress) -> None:
        spec = self.run.specs[name]
        began = time.time() - ago
        os.utime(spec.save(), (began, began))
        (spec.folder / LOG_FILE).write_text("")
        if name not in self.locked:
            self.stack.enter_context(held(spec.folder / LOCK_FILE, waiting=lambda: None))
            self.locked.add(name)
        if progress:
            record = {"tokens_per_second": None, "note": "", "seconds_left": None, "time": time.time()}
            (spec.folder / "progress.json").write_text(json.dumps(record | progress))

    def shown(self, width: int, height: int, *, folded: bool = True, jobs=None, color: bool = False) -> list[str]:
        """Lines as a terminal of that size shows them."""
        file = io.StringIO()
        system = "truecolor" if color else None
        console = Console(file=file, width=width, height=height, force_terminal=color, color_system=system)
        if folded:
            console.print(Drawing(self.run, lambda: jobs or {}, parallel=None).table())
        else:
            console.print(StatusTable(self.run, jobs or {}))
        return file.getvalue().splitlines()


@pytest.fixture
def study(tmp_path, small_steps):
    with contextlib.ExitStack() as stack:
        yield Study(tmp_path, small_steps, stack)


@pytest.fixture
def busy(study):
    """An hour into it: a segment trains, a checkpoint is evaluated, another is being written."""
    study.done("prepare", "import-teacher", "prune", "distill-2.5B", "export-2.5B", "evaluate-2.5B", "distill-5B")
    study.at_work(
        "distill-20B", ago=754, done=345, total=2400, unit="iterations", tokens_per_second=4_531_200.0,
        note="loss 1.2345", seconds_left=4_110.0,
    )  # fmt: skip
    study.at_work("contamination", ago=31, done=4.49523, total=9.12865, unit="MB", seconds_left=7.0, note="stem")
    study.at_work("export-5B", ago=12)
    return study


@pytest.mark.parametrize(("width", "height"), SIZES, ids=str)
def test_the_live_table_is_whole_at_any_size_and_what_runs_stands_first(busy, width, height):
    lines = busy.shown(width, height)
    text = "\n".join(lines)
    assert len(lines) < height and max(map(len, lines)) <= width
    names = [line.split()[0] for line in lines if re.match(r"[a-z-]+[\dB.]* +(running|waiting)", line)]
    assert names[:3] == ["contamination", "export-5B", "distill-20B"]
    for said in ("0:31", "12:34", "0:12", "7 done: distill-5B 1:00", "7 of 26 steps done", "1:02:0"):
        assert said in text, said
    assert re.search(r"over \d+:\d\d:\d\d left", text)  # nothing like the report has run
    if height >= 24:
        for said in ("345 of 2,400 iterations", "4,531,200 tokens/s", "loss 1.2345", "1:08:30", "4.5 of 9.1 MB"):
            assert said in text, said


@pytest.mark.parametrize("width", [40, 80, 120])
def test_columns_stay_where_they_are_whatever_runs(busy, width):
    def column(lines: list[str], word: str) -> set[int]:
        return {line.index(word) for line in lines if word in line}

    before = busy.shown(width, 40)
    busy.at_work("distill-20B", ago=360_000, done=2_399, total=2_400, unit="iterations", seconds_left=360_000.0)
    after = busy.shown(width, 40)
    for word in ("running", "waiting"):
        assert len(column(before, word) | column(after, word)) == 1
    clocks = {line.index("12:34") + 5 for line in before if "12:34" in line}
    assert {line.index("100:00:00") + 9 for line in after if " 100:00:00" in line and "running" in line} & clocks


def test_a_step_that_says_nothing_has_a_clock_and_something_that_moves(study, monkeypatch):
    study.at_work("import-teacher", ago=31)
    frames, now = [], time.time()
    for second in range(4):
        moment = now + second
        monkeypatch.setattr(time, "time", lambda moment=moment: moment)
        frames.append(next(line for line in study.shown(80, 24, color=True) if "import-teacher" in line))
    assert [re.search(r"0:3\d", frame)[0] for frame in frames] == ["0:31", "0:32", "0:33", "0:34"]
    bars = [frame.partition("0:3")[0] for frame in frames]
    assert len(set(bars)) > 1


def test_nothing_is_drawn_beyond_ascii_where_the_terminal_has_no_more(busy):
    class Ascii(io.StringIO):
        encoding = "ascii"

    file = Ascii()
    Console(file=file, width=80, height=24).print(Drawing(busy.run, dict).table())
    assert file.getvalue().isascii() and "##" in file.getvalue()


def test_every_step_stands_in_its_order_where_the_table_is_not_folded(busy):
    lines = busy.shown(160, 24, folded=False)
    assert [line.split()[0] for line in lines[1:27]] == list(busy.run.specs)
    assert (
        "345 of 2,400 iterations, 4,531,200 tokens/s, loss 1.2345"
        in lines[1 + list(busy.run.specs).index("distill-20B")]
    )


def test_jobs_of_a_cluster_stand_beside_their_steps_and_a_queued_one_has_waited_for_so_long(study):
    job = Job(id="18", state="PENDING", reason="Resources")
    path = study.run.specs["prepare"].save().with_name("job.json")
    path.write_text(json.dumps({"job": "18", "logs": ""}))
    os.utime(path, (time.time() - 125,) * 2)
    for width in (40, 80, 140):
        text = "\n".join(study.shown(width, 24, jobs={"prepare": job}))
        assert re.search(r"prepare +queued +2:0[5-9]", text) and "job 18 PENDING, Resources" in text


@pytest.mark.parametrize("damaged", ["", "{", "[]", '{"done": 1}', '{"done": "x"}', "\\xff", "null", "[" * 100_000])
def test_a_damaged_file_in_a_steps_folder_takes_nothing_else_from_sight(busy, damaged):
    for name in ("progress.json", "job.json", "_FAILED"):
        (busy.run.specs["distill-20B"].folder / name).write_text(damaged)
    (busy.run.specs["prune"].folder / "_SUCCESS").write_text(damaged)
    folder = busy.run.specs["evaluate-5B"].save().parent
    (folder / "_FAILED").write_text(damaged)
    text = "\n".join(busy.shown(80, 24))
    assert re.search(r"^distill-20B +running .* 12:34$", text, flags=re.MULTILINE) and "7 done" in text
    assert re.search(r"^evaluate-5B +failed", text, flags=re.MULTILINE) and "4.5 of 9.1 MB" in text


def test_a_step_has_begun_when_it_has_written_its_log_and_not_when_it_was_queued(study):
    spec = study.run.specs["prepare"]
    spec.save()
    assert started(spec) is None
    study.at_work("prepare", ago=5)
    assert time.time() - started(spec) == pytest.approx(5, abs=1)


def left_of(study, *, parallel=None):
    table = StatusTable(study.run, {}, remaining=Remaining(study.run, parallel=parallel))
    return table.remaining.of(table.states, table.records, now=time.time())


def test_what_is_left_follows_from_the_pace_and_from_what_alike_steps_took(study):
    """Segments of 2,400, 3,200 (four times) iterations at 2 s, and behind the last one an export and an evaluation."""
    study.done("prepare", "import-teacher", "prune", "contamination", "distill-2.5B", "distill-5B", seconds=1)
    study.done("export-2.5B", "export-5B", seconds=100)
    study.done("evaluate-2.5B", "evaluate-5B", seconds=300)
    study.at_work("distill-20B", ago=800, done=400, total=2400, unit="iterations", seconds_left=4_000.0)
    left = left_of(study)
    assert left.seconds == pytest.approx(2 * (2_000 + 4 * 3_200) + 400, abs=2) and left.unknown == 1
    alone = left_of(study, parallel=1)
    assert alone.seconds == pytest.approx(2 * (2_000 + 4 * 3_200) + 5 * 400, abs=2)
    # Another run of this scale and layout has made a report, and one of another scale has, too.
    for name, scale, seconds in (("other", "full", 50), ("small", "debug", 7)):
        steps = [Step("report", "nemo_distill.steps.report", {"of": name})]
        other = Run(
            name=name, runs=study.run.runs, specs=place(steps, runs=study.run.runs),
            facts=dataclasses.replace(study.run.facts, scale=scale),
        )  # fmt: skip
        other.save()
        other.specs["report"].save()
        mark_done(other.specs["report"].folder, seconds=seconds)
    left = left_of(study)
    assert left.seconds == pytest.approx(2 * (2_000 + 4 * 3_200) + 450, abs=2) and left.unknown == 0


def test_in_a_pipe_an_event_is_a_line_with_its_time(study):
    said = io.StringIO()
    with Display(study.run, Console(file=said, width=80)):
        study.at_work("prepare", ago=0, done=1, total=3, unit="sources")
        time.sleep(0.7)
        study.stack.close()
        study.done("prepare", seconds=3)
        time.sleep(0.7)
    lines = said.getvalue().splitlines()
    assert [re.sub(r"^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d ", "", line) for line in lines] == [
        "prepare: started", "prepare: done in 0:03, 1 of 26 steps",
    ]  # fmt: skip
    assert all(re.match(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d prepare: ", line) for line in lines)


def test_a_terminal_is_left_with_the_table_as_it_was_at_the_end(busy):
    said = io.StringIO()
    console = Console(file=said, width=80, height=24, force_terminal=True)
    drawing = Drawing(busy.run, dict)
    with Live(console=console, get_renderable=drawing.table, auto_refresh=False) as live:
        live.refresh()
        Progress(busy.run.specs["export-5B"].folder).update(done=1, total=2, unit="phases", note="writing the export")
    assert "1 of 2 phases, writing the export" in said.getvalue()
