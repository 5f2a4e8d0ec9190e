import csv
import dataclasses
import re
from decimal import ROUND_HALF_UP, Decimal
from html.parser import HTMLParser

import pytest
from rich.console import Console

from evaluator.report.card import Card, render
from evaluator.report.pages import cell_text, plain_table
from evaluator.report.run import terminal_table, write_report
from evaluator.results.held_out import HeldOutPoint
from evaluator.stats.scores import Estimate
from evaluator.suites.catalogue import STUDY
from evaluator.verdicts.judge import judge_alone


@pytest.fixture(scope="module")
def folder(report, tmp_path_factory):
    folder = tmp_path_factory.mktemp("report")
    write_report(report, folder)
    return folder


class Page(HTMLParser):
    """The elements and texts of a page."""

    def __init__(self, text: str):
        super().__init__()
        self.elements, self.text = [], ""
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))

    def handle_data(self, data):
        self.text += data


@pytest.fixture(scope="module")
def page(folder) -> Page:
    return Page((folder / "report.html").read_text())


def scores(folder) -> dict:
    with open(folder / "scores.csv", newline="") as file:
        return {(line["checkpoint"], line["benchmark"]): line for line in csv.DictReader(file)}


def test_the_three_tables_show_the_scores_of_the_csv(report, folder, page):
    markdown = (folder / "report.md").read_text()
    html = re.sub(r"\s+", " ", page.text)
    console = Console(width=80, no_color=True)
    with console.capture() as capture:
        console.print(terminal_table(folder))
    terminal = capture.get()
    lines = scores(folder)
    assert len(lines) == 5 * 6
    for line in lines.values():
        # By the rule of schools: from the middle up, where some of 160 answers lie and binary rounding goes down.
        mean, error = ((100 * Decimal(line[key])).quantize(Decimal("0.1"), ROUND_HALF_UP) for key in ("mean", "stderr"))
        assert f"{mean} ± {error}" in markdown
        assert f"{mean} ± {error}" in html
        assert f"{mean} ±{error}" in terminal  # nothing is cut at 80 columns
    assert any((1000 * Decimal(line["mean"])) % 2 == Decimal("0.5") for line in lines.values())


def test_the_studys_eight_columns_and_their_average_fit_a_terminal_with_their_errors():
    columns = [*(benchmark.title for benchmark in STUDY.benchmarks), "Average"]
    table = plain_table("Tokens", columns, errors=True)
    table.add_row("pre_sft_v1", *[cell_text(Estimate(1.0, 0.1234), columns)] * len(columns))
    console = Console(width=80)
    with console.capture() as capture:
        console.print(table)
    shown = capture.get()
    assert all(shown.count(word) for title in columns for word in title.split()) and "…" not in shown
    assert (shown.count("100.0"), shown.count("±12.3")) == (9, 9)


def test_the_table_has_the_studys_form_tokens_by_benchmarks(folder):
    table = (folder / "report.md").read_text().split("## Scores")[1].split("![")[0]
    lines = [line for line in table.splitlines() if line.startswith("|")]
    assert lines[0] == "| Tokens | Average | Knowledge | Science | Math | IFEval | Code |"
    assert [line.split("|")[1].strip() for line in lines[2:]] == ["Teacher", "Pruned student", "0.2M", "0.4M", "0.8M"]
    assert {line.count("|") for line in lines} == {8}


def test_the_gap_recovered_is_where_the_average_lies_between_pruned_and_teacher(folder, page):
    lines = scores(folder)
    low, mid, high = (float(lines[name, "Average"]["mean"]) for name in ("Pruned student", "0.8M", "Teacher"))
    share = f"{100 * (mid - low) / (high - low):.0f}"
    assert f"**{share}%** of the gap" in (folder / "report.md").read_text()
    assert re.search(rf"Gap recovered at 0.8M\s*{share}", page.text)
    assert terminal_table(folder).caption.endswith(f"0.8M tokens recovered {share}% of the gap")


def test_of_one_milestone_it_does_not_say_that_others_are_below(report):
    stop, _ = judge_alone("it", dataclasses.replace(report, rows=report.rows[:3]))
    assert stop.text == "It is the only milestone, so nothing says whether the run is rising still."


def test_it_says_where_to_stop_and_what_to_look_at_twice_as_a_comparison_does(report, page):
    stop, flags = judge_alone(report.title, report)
    assert f"Where to stop{stop.text}" in re.sub(r"\s+", " ", page.text)
    assert flags == tuple(flag for flag in flags if flag.title in page.text)
    low = dataclasses.replace(report.row("pruned").result, label="0.8M")
    rows = (*report.rows[:-1], dataclasses.replace(report.rows[-1], result=low))
    stop, flags = judge_alone("it", dataclasses.replace(report, rows=rows))
    assert stop.row.title == "0.4M" and "Knowledge degrades in it." in [flag.title for flag in flags]


def test_a_source_passed_over_more_than_once_shows_its_epochs(page):
    assert re.search(r"science-mcq\s*20 %\s*0.16M\s*0.1M\s*1.60", page.text)


def test_the_page_needs_no_network(page):
    assert not [tag for tag, _ in page.elements if tag in ("link", "img", "iframe")]
    assert not [attributes for tag, attributes in page.elements if tag == "script" and "src" in attributes]
    addresses = [value for _, attributes in page.elements for value in attributes.values() if value and "://" in value]
    assert {address for address in addresses if not address.startswith("http://www.w3.org/")} == set()


def test_the_page_can_be_read_without_seeing_it(page):
    tags = [tag for tag, _ in page.elements]
    assert page.elements[1][1] == {"lang": "en"} or ("html", {"lang": "en"}) in page.elements
    assert tags.count("h1") == 1
    assert all(
        attributes.get("scope") in ("row", "col", "rowgroup") for tag, attributes in page.elements if tag == "th"
    )
    drawings = [one for tag, one in page.elements if tag == "svg" and one.get("aria-hidden") != "true"]
    assert len(drawings) == 8  # five benchmarks, the average and its difference from the teacher, the loss
    assert all(drawing["role"] == "img" and drawing["aria-label"] for drawing in drawings)
    ids = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    labelled = [attributes["aria-labelledby"] for _, attributes in page.elements if "aria-labelledby" in attributes]
    assert set(labelled) <= set(ids)


@pytest.fixture(scope="module")
def held_out() -> list[HeldOutPoint]:
    """Two sources, measured at the start, between milestones and at these, ever closer to the teacher."""
    points = []
    for iteration in (0, 50, 100, 200, 300, 400):
        sources = {
            name: {
                "kl": near / (iteration + 100), "kl_stderr": error, "loss": 2 + near / (iteration + 100),
                "loss_stderr": error, "teacher_loss": 2.0, "documents": 80, "tokens": 4_096,
            }
            for name, near, error in (("science-mcq", 50.0, 0.03), ("code", 200.0, None))
        }  # fmt: skip
        points.append(HeldOutPoint.of({"iteration": iteration, "tokens": 2_000 * iteration, "sources": sources}))
    return points


def test_held_out_losses_stand_beside_the_scores_at_every_milestone(report, held_out, tmp_path):
    write_report(dataclasses.replace(report, held_out=tuple(held_out)), tmp_path)
    markdown = (tmp_path / "report.md").read_text()
    table = markdown.split("## Held-out loss")[1].split("\n## ")[0].splitlines()
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in table if line.startswith("|")]
    assert rows[0][:5] == ["Source", "KL, pruned student", "KL, 0.2M", "KL, 0.4M", "KL, 0.8M"]
    science, code, blend = rows[2:]
    assert science[1:5] == ["0.500 ± 0.030", "0.250 ± 0.030", "0.167 ± 0.030", "0.100 ± 0.030"]
    assert science[5:] == ["2.100 ± 0.030", "2.000", "80", "4,096"] and code[1] == "2.000"
    assert blend[:2] == ["Blend", f"{0.2 * 0.5 + 0.8 * 2.0:.3f}"]
    page = Page((tmp_path / "report.html").read_text())
    assert all(cell in re.sub(r"\s+", " ", page.text) for row in rows[2:] for cell in row)
    last = re.findall(
        r'<svg viewBox="0 0 \d+ \d+" role.*?</svg>', (tmp_path / "report.html").read_text(), flags=re.DOTALL
    )[-1]
    assert "Held-out KL divergence" in last and all(name in last for name in ("Blend", "science-mcq", "code"))


def test_a_card_says_how_far_its_checkpoint_is_from_the_teacher_on_held_out_documents(report, held_out):
    card = Card(name="m", report=report, row=report.rows[-1], findings=(), why="The last.", command="nemo-run r.py")
    assert "never trained on" not in render(card)
    card = dataclasses.replace(card, report=dataclasses.replace(report, held_out=tuple(held_out)))
    assert f"over the blend: {0.2 * 50 / 500 + 0.8 * 200 / 500:.3f} nats per token" in render(card)


def test_drawings_take_their_colours_from_the_page_so_that_they_follow_dark_mode(folder):
    text = (folder / "report.html").read_text()
    drawings = re.findall(r"<svg.*?</svg>", text, flags=re.DOTALL)
    assert drawings
    assert not [color for drawing in drawings for color in re.findall(r"#[0-9a-fA-F]{6}\b", drawing)]
    used = {name for drawing in drawings for name in re.findall(r"var\(--(\w+)\)", drawing)}
    defined = set(re.findall(r"--(\w+):", text))
    assert {"teacher", "pruned"} <= used <= defined and any(name.startswith("blend") for name in used)
    assert "prefers-color-scheme: dark" in text


def test_the_png_is_a_png_of_some_size(folder):
    content = (folder / "learning_curves.png").read_bytes()
    assert content.startswith(b"\x89PNG")
    assert int.from_bytes(content[16:20], "big") >= 1500


def test_the_same_run_gives_the_same_report_byte_for_byte(report, folder, tmp_path):
    write_report(report, tmp_path)
    for name in ("report.md", "report.html", "scores.csv", "questions.csv", "learning_curves.png"):
        assert (tmp_path / name).read_bytes() == (folder / name).read_bytes(), name


def test_checkpoints_that_were_asked_other_questions_are_not_put_in_one_table(report, tmp_path):
    row = report.rows[2]
    tasks = (dataclasses.replace(row.result.tasks[0], questions=("other",) * 40), *row.result.tasks[1:])
    changed = dataclasses.replace(row, result=dataclasses.replace(row.result, tasks=tasks))
    rows = (*report.rows[:2], changed, *report.rows[3:])
    with pytest.raises(ValueError, match=r"'0.2M' was asked other questions"):
        write_report(dataclasses.replace(report, rows=rows), tmp_path)


def test_single_shot_and_repeated_scores_are_not_put_in_one_table(report, tmp_path):
    row = report.rows[1]
    tasks = tuple(
        dataclasses.replace(task, scores=tuple(scores[:1] for scores in task.scores)) for task in row.result.tasks
    )
    changed = dataclasses.replace(row, result=dataclasses.replace(row.result, tasks=tasks))
    with pytest.raises(ValueError, match="or more often"):
        write_report(dataclasses.replace(report, rows=(report.rows[0], changed, *report.rows[2:])), tmp_path)


def test_milestones_over_two_decades_and_a_run_without_losses_are_drawn_too(report, tmp_path):
    rows = [dataclasses.replace(row, tokens=row.tokens and row.tokens**2) for row in report.rows]
    write_report(dataclasses.replace(report, rows=tuple(rows), losses=(), blend=(), steps=(), facts={}), tmp_path)
    assert Page((tmp_path / "report.html").read_text()).text.count("Distillation loss") == 0
