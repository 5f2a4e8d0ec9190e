"""The shipped teacher: whole, small, made as its card says, and able."""

import hashlib
import json

import pytest

from nemo_distill import make_teacher
from nemo_distill.debug import corpora
from nemo_distill.nemotron_h.shape import Shape

FOLDER = make_teacher.SHIPPED


def test_every_file_is_the_one_that_was_made():
    sums = dict(reversed(line.split()) for line in (FOLDER / "SHA256SUMS").read_text().splitlines())
    assert {path.name for path in FOLDER.iterdir()} - {"README.md", "SHA256SUMS"} == set(sums)
    for name, digest in sums.items():
        assert hashlib.sha256((FOLDER / name).read_bytes()).hexdigest() == digest, name


def test_the_folder_is_at_most_eight_megabytes():
    assert sum(path.stat().st_size for path in FOLDER.iterdir()) <= 8_000_000


def test_the_checkpoint_has_the_shape_and_the_settings_of_the_script():
    shape = Shape.from_hf_config(json.loads((FOLDER / "config.json").read_text()))
    made = json.loads((FOLDER / "made.json").read_text())
    assert shape == make_teacher.SHAPE
    assert 1e6 <= shape.parameters() == made["parameters"] <= 4e6
    assert set(shape.pattern) == {"M", "*", "-"}
    assert (made["seed"], made["shares"]) == (make_teacher.SEED, make_teacher.SHARES)
    assert sum(make_teacher.SHARES.values()) == 100
    assert make_teacher.SHARES.keys() <= corpora.STAND_INS.keys()


def test_the_log_ends_where_the_card_says():
    made = json.loads((FOLDER / "made.json").read_text())
    last = json.loads((FOLDER / "log.jsonl").read_text().splitlines()[-1])
    assert (last["iteration"], last["loss"]) == (made["iterations"], made["final_loss"])


@pytest.mark.slow
def test_making_the_tokenizer_again_gives_the_shipped_files(tmp_path):
    make_teacher.make_tokenizer(tmp_path)
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        assert (tmp_path / name).read_text() == (FOLDER / name).read_text(), name


@pytest.mark.slow
def test_the_teacher_solves_its_tasks():
    from core_evals.nemo_distill.runner import read_questions
    from core_evals.nemo_distill.score import score
    from evaluator.serve.engine import Engine, Request
    from nemo_distill.debug.questions import TASKS

    engine = Engine.load(FOLDER, threads=1)
    by_length = {}
    for task in TASKS:
        for question in read_questions(task):
            prompt = engine.encode(question["messages"])
            by_length.setdefault(engine.padded_length(prompt), []).append((question, prompt))
    scores = []
    for asked in by_length.values():
        for start in range(0, len(asked), engine.shapes.prompts):
            batch = asked[start : start + engine.shapes.prompts]
            requests = [
                Request(prompt=prompt, seed=seed, temperature=0.6, top_p=0.95, max_tokens=48)
                for _, prompt in batch
                for seed in range(4)
            ]
            scores += [score(batch[i // 4][0], answer.text) for i, answer in engine.generate(requests)]
    assert len(scores) == 200 * 4
    assert 100 * sum(scores) / len(scores) >= 80
