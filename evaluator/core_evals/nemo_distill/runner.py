"""Asks a chat endpoint every question of one or more tasks N times and scores the answers.

nemo-evaluator starts it with the command in framework.yml:

    python -m core_evals.nemo_distill.runner --task offline_math --model pruned --url http://127.0.0.1:3825 \
        --out results --num-repeats 4 --seed 0 --temperature 0.6 --top-p 0.95 --max-tokens 48

`--task a,b` asks the questions of both, a user's own of `--data FOLDER`. All requests are in flight at once, up to
`--parallelism`, so that a server that batches can. What comes out is samples.jsonl, one line per question and repeat,
in order. What passes is asked again (`evaluator.harness.asking`), a prompt longer than the context is counted as
unasked, and what else fails, fails it all, in one sentence.
"""

import argparse
import asyncio
import hashlib
import json
import os
import sys
from collections import Counter
from pathlib import Path

import aiohttp

from core_evals.nemo_distill.score import score, visible
from evaluator.harness.apart import NotShutIn
from evaluator.harness.asking import (
    NOT_ANSWERED,
    UNASKED,
    Asking,
    NotAnswered,
    Patience,
    completion_tokens,
    finish_reason,
    is_final,
)

DATA = Path(__file__).parent / "data"
SAMPLES = "samples.jsonl"


def read_questions(task: str, *, folder: Path | None = None, limit: int | None = None) -> list[dict]:
    """The questions of `task`, the first `limit` of them, of its file in `folder` (None: ours); ids are distinct."""
    lines = ((folder or DATA) / f"{task}.jsonl").read_text(encoding="utf-8").splitlines()
    questions = [json.loads(line) for line in lines if line.strip()][:limit]
    assert len({question["id"] for question in questions}) == len(questions), f"{task} has a question id twice"
    return questions


def request_seed(seed: int, question: str, repeat: int) -> int:
    """A seed for one answer, below 2**63: from the run's seed, the question's id and the repeat, and nothing else."""
    digest = hashlib.sha256(f"{seed}/{question}/{repeat}".encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


async def ask_all(
    arguments: argparse.Namespace, questions: dict[str, list[dict]], *, patience: Patience | None = None
) -> list[dict]:
    """One record per task, question and repeat, in this order; `questions` by task.

    Raises an ExceptionGroup of `NotAnswered` when a question is refused, or asked too often.
    """
    patience = patience or Patience(retries=arguments.max_retries)
    slots = asyncio.Semaphore(arguments.parallelism)
    headers = {"Authorization": f"Bearer {os.environ.get('API_KEY', 'none')}"}
    timeout = aiohttp.ClientTimeout(total=arguments.timeout)
    connector = aiohttp.TCPConnector(limit=arguments.parallelism)
    asked_again: Counter[str] = Counter()
    judging = asyncio.Semaphore(os.cpu_count() or 1)
    async with aiohttp.ClientSession(headers=headers, timeout=timeout, connector=connector) as session:

        async def ask(task: str, question: dict, repeat: int) -> dict:
            body = {
                "model": arguments.model,
                "messages": question["messages"],
                "temperature": arguments.temperature,
                "top_p": arguments.top_p,
                "max_tokens": arguments.max_tokens,
                "seed": request_seed(arguments.seed, question["id"], repeat),
            }
            asking = Asking(f"question {question['id']}, repeat {repeat},", patience)
            async with slots:
                reply = await post(session, arguments.url, body, asking)
            asked_again.update(reason.split()[0] for reason in asking.reasons)
            response, reason = (
                reply["choices"][0]["message"]["content"],
                finish_reason(reply, max_tokens=body["max_tokens"]),
            )
            ended = is_final(reply, max_tokens=body["max_tokens"])
            async with judging:  # a pattern and a program take their time, in which others are asked
                judged = await asyncio.to_thread(score, question, response, ended=ended)
            return {
                "task": task,
                "id": question["id"],
                "repeat": repeat,
                "score": judged,
                "prompt": "\n".join(message["content"] for message in question["messages"]),
                "reference": question["answer"] or json.dumps(question["checks"]),
                "response": response,
                "empty": not visible(response, ended=ended),
                "tokens": completion_tokens(reply),
                "finish_reason": reason,
                "not_taken": sum(again.startswith("200") for again in asking.reasons),
            } | ({UNASKED: reply[UNASKED]} if reason == UNASKED else {})

        async with asyncio.TaskGroup() as group:
            asked = [
                group.create_task(ask(task, question, repeat))
                for task in questions
                for question in questions[task]
                for repeat in range(arguments.num_repeats)
            ]
    if asked_again:
        print("asked again:", ", ".join(f"{what} {times} x" for what, times in asked_again.most_common()), flush=True)
    return [answer.result() for answer in asked]


async def post(session: aiohttp.ClientSession, url: str, body: dict, asking: Asking) -> dict:
    """The reply to `body`, asked for as often as `asking` says. Raises `NotAnswered` when there is none."""
    while True:
        try:
            async with session.post(url, json=body, allow_redirects=False) as reply:
                outcome = asking.judge(reply.status, reply.headers, await reply.read())
        except (aiohttp.ClientError, TimeoutError, ConnectionError) as error:
            outcome = asking.failed(error)
        if isinstance(outcome, dict):
            return outcome
        await asyncio.sleep(outcome)


def main() -> None:
    """The command line that framework.yml calls."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name in ("task", "model", "url", "out"):
        parser.add_argument(f"--{name}", required=True)
    for name in ("temperature", "top-p", "timeout"):
        parser.add_argument(f"--{name}", type=float, required=True)
    for name in ("max-tokens", "parallelism", "max-retries", "num-repeats", "seed"):
        parser.add_argument(f"--{name}", type=int, required=True)
    parser.add_argument("--limit", type=int)
    parser.add_argument("--data", type=Path)
    arguments = parser.parse_args()
    tasks = arguments.task.split(",")
    questions = {task: read_questions(task, folder=arguments.data, limit=arguments.limit) for task in tasks}
    try:
        records = asyncio.run(ask_all(arguments, questions))
    except BaseExceptionGroup as group:
        known, others = group.split((NotAnswered, NotShutIn))
        if known is None or others is not None:
            raise
        sentence = str(known.exceptions[0])
        (Path(arguments.out) / NOT_ANSWERED).write_text(sentence, encoding="utf-8")
        sys.exit(sentence)
    lines = "".join(json.dumps(record) + "\n" for record in records)
    (Path(arguments.out) / SAMPLES).write_text(lines, encoding="utf-8")


if __name__ == "__main__":
    main()
