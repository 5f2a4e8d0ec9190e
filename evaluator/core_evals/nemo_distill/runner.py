"""Asks a chat endpoint every question of one or more tasks N times and scores the answers.

nemo-evaluator starts it with the command in framework.yml:

    python -m core_evals.nemo_distill.runner --task offline_math --model pruned --url http://127.0.0.1:3825 \
        --out results --num-repeats 4 --seed 0 --temperature 0.6 --top-p 0.95 --max-tokens 48

`--task a,b` asks the questions of both. All requests are in flight at once, up to `--parallelism`, so that a server
that batches can. What comes out is samples.jsonl, one line per question and repeat, in order; a request that fails
fails it all.
"""

import argparse
import asyncio
import hashlib
import json
import os
from pathlib import Path

import aiohttp

from core_evals.nemo_distill.score import score

DATA = Path(__file__).parent / "data"
SAMPLES = "samples.jsonl"


def read_questions(task: str, *, limit: int | None = None) -> list[dict]:
    """The questions of `task`, the first `limit` of them; ids are distinct."""
    lines = (DATA / f"{task}.jsonl").read_text(encoding="utf-8").splitlines()
    questions = [json.loads(line) for line in lines if line.strip()][:limit]
    assert len({question["id"] for question in questions}) == len(questions), f"{task} has a question id twice"
    return questions


def request_seed(seed: int, question: str, repeat: int) -> int:
    """A seed for one answer, below 2**63: from the run's seed, the question's id and the repeat, and nothing else."""
    digest = hashlib.sha256(f"{seed}/{question}/{repeat}".encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


async def ask_all(arguments: argparse.Namespace, questions: dict[str, list[dict]]) -> list[dict]:
    """One record per task, question and repeat, in this order; `questions` by task."""
    slots = asyncio.Semaphore(arguments.parallelism)
    headers = {"Authorization": f"Bearer {os.environ.get('API_KEY', 'none')}"}
    timeout = aiohttp.ClientTimeout(total=arguments.timeout)
    connector = aiohttp.TCPConnector(limit=arguments.parallelism)
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
            async with slots:
                reply = await post(session, arguments.url, body, retries=arguments.max_retries)
            choice = reply["choices"][0]
            response = choice["message"]["content"]
            return {
                "task": task,
                "id": question["id"],
                "repeat": repeat,
                "score": float(score(question, response)),
                "prompt": "\n".join(message["content"] for message in question["messages"]),
                "reference": question["answer"] or json.dumps(question["checks"]),
                "response": response,
                "tokens": reply["usage"]["completion_tokens"],
                "finish_reason": choice["finish_reason"],
            }

        async with asyncio.TaskGroup() as group:
            asked = [
                group.create_task(ask(task, question, repeat))
                for task in questions
                for question in questions[task]
                for repeat in range(arguments.num_repeats)
            ]
        return [answer.result() for answer in asked]


async def post(session: aiohttp.ClientSession, url: str, body: dict, *, retries: int) -> dict:
    """The reply to `body`, asked for again up to `retries` times; RuntimeError with the last reason when all fail."""
    reason = ""
    for attempt in range(retries + 1):
        if attempt:
            await asyncio.sleep(2**attempt)
        try:
            async with session.post(url, json=body) as reply:
                if reply.status == 200:
                    return await reply.json()
                reason = f"{reply.status} {await reply.text()}"
                if 400 <= reply.status < 500:
                    break  # asking again gets the same refusal
        except (aiohttp.ClientError, TimeoutError) as error:
            reason = repr(error)
    raise RuntimeError(f"the request with seed {body['seed']} failed: {reason}")


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
    arguments = parser.parse_args()
    questions = {task: read_questions(task, limit=arguments.limit) for task in arguments.task.split(",")}
    records = asyncio.run(ask_all(arguments, questions))
    lines = "".join(json.dumps(record) + "\n" for record in records)
    (Path(arguments.out) / SAMPLES).write_text(lines, encoding="utf-8")


if __name__ == "__main__":
    main()
