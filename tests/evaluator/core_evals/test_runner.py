import argparse
import asyncio
import hashlib
import itertools
import json

import pytest
from aiohttp import web

from core_evals.nemo_distill import runner, version
from core_evals.nemo_distill.runner import ask_all, read_questions, request_seed
from evaluator.suites.catalogue import OFFLINE

ARGUMENTS = argparse.Namespace(
    model="tiny",
    temperature=0.6,
    top_p=0.95,
    max_tokens=48,
    parallelism=64,
    timeout=10.0,
    max_retries=1,
    num_repeats=3,
    seed=7,
)


def ask_with(reply, questions: list[dict]) -> tuple[list[dict], list[dict]]:
    """Records of `ask_all` against a server that answers with `reply(body)`, and the bodies that it was sent."""
    bodies = []

    async def chat(request: web.Request) -> web.Response:
        bodies.append(await request.json())
        status, content = reply(bodies[-1])
        choice = {"message": {"role": "assistant", "content": content}, "finish_reason": "stop"}
        return web.json_response({"choices": [choice], "usage": {"completion_tokens": 5}}, status=status)

    async def run() -> list[dict]:
        app = web.Application()
        app.router.add_post("/chat", chat)
        served = web.AppRunner(app)
        await served.setup()
        site = web.TCPSite(served, "127.0.0.1", 0)
        await site.start()
        port = served.addresses[0][1]
        try:
            return await ask_all(
                argparse.Namespace(**vars(ARGUMENTS), url=f"http://127.0.0.1:{port}/chat"), {"offline_math": questions}
            )
        finally:
            await served.cleanup()

    return asyncio.run(run()), bodies


@pytest.fixture
def questions() -> list[dict]:
    return read_questions("offline_math", limit=5)


def test_every_question_is_asked_in_every_repeat_with_a_seed_of_its_own(questions):
    records, bodies = ask_with(lambda body: (200, "no idea"), questions)
    expected = [(question["id"], repeat) for question in questions for repeat in range(3)]
    assert [(record["id"], record["repeat"]) for record in records] == expected
    assert {record["task"] for record in records} == {"offline_math"}
    assert len({body["seed"] for body in bodies}) == 15


def test_answers_are_scored_and_kept(questions):
    right = {question["messages"][0]["content"]: question["answer"] for question in questions[:2]}

    def reply(body):
        return 200, f"hm</think>\\boxed{{{right.get(body['messages'][0]['content'], 'wrong')}}}"

    records, _ = ask_with(reply, questions)
    assert [record["score"] for record in records] == [1.0] * 6 + [0.0] * 9
    assert records[0]["response"].startswith("hm</think>")
    assert (records[0]["tokens"], records[0]["finish_reason"]) == (5, "stop")


def test_a_refused_request_fails_the_task_and_is_not_asked_again(questions):
    with pytest.raises(ExceptionGroup) as raised:
        ask_with(lambda body: (400, "refused"), questions[:1])
    assert "400" in str(raised.value.exceptions[0])


def test_a_server_error_is_asked_again(questions):
    replies = iter([(500, ""), *[(200, "fine")] * 3])
    records, bodies = ask_with(lambda body: next(replies), questions[:1])
    assert len(records) == 3
    assert len(bodies) == 4


def test_seeds_differ_by_run_question_and_repeat_and_by_nothing_else():
    asked = itertools.product(range(3), (f"q-{number}" for number in range(50)), range(32))
    seeds = {request_seed(seed, question, repeat) for seed, question, repeat in asked}
    assert len(seeds) == 3 * 50 * 32
    assert max(seeds) < 2**63
    assert request_seed(0, "offline_math-000", 0) == request_seed(0, "offline_math-000", 0)


def test_the_shipped_questions_are_as_many_as_the_suite_says():
    for benchmark in OFFLINE.benchmarks:
        assert len(read_questions(benchmark.task)) == benchmark.questions


def test_another_question_is_another_version():
    content = b"".join(path.read_bytes() for path in sorted(runner.DATA.glob("*.jsonl")))
    digest = hashlib.sha256(content).hexdigest()[:12]
    assert {version.VERSION: digest} == {2: "95aa13daca67"}, "raise the version where a question changes"


def test_a_question_id_that_comes_twice_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(runner, "DATA", tmp_path)
    (tmp_path / "twice.jsonl").write_text(json.dumps({"id": "a"}) + "\n" + json.dumps({"id": "a"}) + "\n")
    with pytest.raises(AssertionError, match="twice"):
        read_questions("twice")
