"""The study's harness packages themselves, against a served checkpoint, on small data sets in the hub's format."""

import asyncio
import dataclasses
import threading
from pathlib import Path

import pytest
from aiohttp import web

from evaluator.means import Means
from evaluator.run import run_suite
from evaluator.suite import HARNESS

from .conftest import TEACHER

HUB = Path(__file__).parent / "data" / "hub"


@pytest.fixture(scope="module")
def judge():
    """An endpoint that judges as simple-evals asks it to: Yes where both expressions are the same text."""
    asked = []

    async def chat(request: web.Request) -> web.Response:
        body = await request.json()
        asked.append(body)
        last = body["messages"][-1]["content"].rpartition("YOUR TASK")[2]
        one, other = (last.partition(f"Expression {n}: ")[2].partition("\n")[0].strip() for n in (1, 2))
        choice = {
            "index": 0,
            "message": {"role": "assistant", "content": "Yes" if one == other else "No"},
            "finish_reason": "stop",
        }
        return web.json_response(
            {"id": "judge", "object": "chat.completion", "created": 0, "model": body["model"], "choices": [choice]}
        )

    app = web.Application()
    app.router.add_post("/v1/chat/completions", chat)
    loop = asyncio.new_event_loop()
    runner = web.AppRunner(app)
    loop.run_until_complete(runner.setup())
    loop.run_until_complete(web.TCPSite(runner, "127.0.0.1", 0).start())
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{runner.addresses[0][1]}/v1", asked
    asyncio.run_coroutine_threadsafe(runner.cleanup(), loop).result()
    loop.call_soon_threadsafe(loop.stop)
    thread.join()


@pytest.fixture(scope="module")
def evaluated(judge, tmp_path_factory):
    """The suite's result for the debug world's teacher, and its folder."""
    folder = tmp_path_factory.mktemp("harness")
    suite = dataclasses.replace(HARNESS.with_repeats(4), max_new_tokens=48)
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("JUDGE_URL", judge[0])
        environment.setenv("JUDGE_MODEL_ID", "judge")
        environment.setenv("JUDGE_API_KEY", "none")
        result = run_suite(TEACHER, suite=suite, folder=folder, label="debug", seed=7, means=Means(datasets=HUB))
    return result, folder


@pytest.mark.slow
def test_the_harnesses_give_a_table_of_question_by_repeat(evaluated):
    result, folder = evaluated
    shapes = {task.task: task.table.shape for task in result.tasks}
    assert shapes == {
        "gpqa_diamond": (4, 4),
        "aime_2025_nemo": (5, 4),
        "AA_math_test_500": (4, 4),
        "lm-evaluation-harness.ifeval": (3, 1),
    }
