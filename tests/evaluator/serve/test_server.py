import asyncio
import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request

import aiohttp
import pytest

from evaluator.serve.batcher import Batcher
from evaluator.serve.server import BAD_CHECKPOINT, Server, serving

QUESTION = {
    "model": "tiny",
    "messages": [{"role": "user", "content": "What is 2 + 2?"}],
    "max_tokens": 12,
    "temperature": 0.9,
    "seed": 5,
}


@pytest.fixture(scope="module")
def server(checkpoint, tmp_path_factory):
    with serving(checkpoint, model_id="tiny", log=tmp_path_factory.mktemp("serve") / "server.log") as server:
        yield server


def get(server: Server, path: str, **headers: str) -> dict:
    request = urllib.request.Request(server.root + path, headers=server.headers | headers)
    with urllib.request.urlopen(request, timeout=300) as reply:
        return json.load(reply)


def post(server: Server, body, **headers: str) -> tuple[int, dict]:
    sent = body if isinstance(body, bytes) else json.dumps(body).encode()
    request = urllib.request.Request(server.url, sent, {"Content-Type": "application/json"} | server.headers | headers)
    try:
        with urllib.request.urlopen(request, timeout=300) as reply:
            return reply.status, json.load(reply)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


def test_it_answers_as_the_chat_completions_api_does(server):
    status, reply = post(server, QUESTION)
    assert status == 200
    assert (reply["object"], reply["model"]) == ("chat.completion", "tiny")
    (choice,) = reply["choices"]
    assert choice["message"]["role"] == "assistant"
    assert choice["finish_reason"] in ("stop", "length")
    usage = reply["usage"]
    assert usage["total_tokens"] == usage["prompt_tokens"] + usage["completion_tokens"]
    assert 1 <= usage["completion_tokens"] <= 12
    assert choice["finish_reason"] == "stop" or usage["completion_tokens"] == 12


def test_it_names_its_model_and_counts_its_answers(server):
    assert [model["id"] for model in get(server, "/v1/models")["data"]] == ["tiny"]
    before = get(server, "/health")["answered"]
    post(server, QUESTION)
    assert get(server, "/health") == {"status": "ok", "answered": before + 1}


def test_a_crowd_of_requests_gets_the_answers_each_would_get_alone(server):
    texts = [f"Say {'more ' * (seed % 7)} about {seed}." for seed in range(150)]
    bodies = [
        QUESTION | {"seed": seed, "messages": [{"role": "user", "content": text}]} for seed, text in enumerate(texts)
    ]

    async def crowd() -> list[str]:
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:

            async def ask(body: dict) -> str:
                async with session.post(server.url, json=body, headers=server.headers) as reply:
                    return (await reply.json())["choices"][0]["message"]["content"]

            return await asyncio.gather(*map(ask, bodies))

    together = asyncio.run(crowd())
    for seed in (0, 3, 77, 149):
        assert post(server, bodies[seed])[1]["choices"][0]["message"]["content"] == together[seed]


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"model": "other"}, "the model served here is 'tiny', not 'other'"),
        ({"messages": []}, "'messages' must be a list"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, "'messages' must be a list"),
        ({"max_tokens": 0}, "'max_tokens' is 0"),
        ({"max_tokens": 250}, "more than the model's context of 256"),
        ({"temperature": -1}, "'temperature' is -1"),
        ({"top_p": "high"}, "'top_p' is 'high'"),
        ({"seed": 1.5}, "'seed' is 1.5"),
        ({"n": 4}, "'n' is not supported"),
        ({"stream": True}, "'stream' is not supported"),
        ({"stop": ["a", 5]}, "'stop' is ['a', 5]; it must be a text or a list of texts"),
        ({"min_p": 0.1}, "'min_p' is not supported"),
        ({"chat_template": "x"}, "'chat_template' is not supported"),
        # A template of its own would be rendered by the server, which answers nobody meanwhile; or be the prompt.
        (
            {"chat_template_kwargs": {"chat_template": "{% for a in range(99999) %}{% for b in range(99999) %}"}},
            "'chat_template_kwargs' holds 'chat_template'; only 'enable_thinking' and 'thinking' are taken",
        ),
        ({"chat_template_kwargs": {"tokenize": True}}, "holds 'tokenize'"),
        ({"chat_template_kwargs": {"documents": [{"text": "x"}] * 9}}, "holds 'documents'"),
        ({"chat_template_kwargs": [1]}, "'chat_template_kwargs' is [1]; it must be an object"),
        (
            {"chat_template_kwargs": {"enable_thinking": "{{ x }}"}},
            "'enable_thinking' is '{{ x }}'; it must be true or",
        ),
    ],
)
def test_a_request_it_cannot_honour_is_refused_with_one_sentence(server, change, sentence):
    status, reply = post(server, QUESTION | change)
    assert status == 400
    assert sentence in reply["error"]["message"]


def test_who_does_not_bring_its_token_is_told_nothing(server):
    for header in ("", "Bearer ", "Bearer none", f"Basic {server.token}", server.token, "Bearer \u00e9"):
        assert post(server, QUESTION, Authorization=header)[0] == 401
        for path in ("/health", "/v1/models", "/"):
            with pytest.raises(urllib.error.HTTPError, match="401"):
                get(server, path, Authorization=header)
    assert server.token not in repr(server)


def test_a_request_may_say_whether_to_think_and_one_that_is_nested_deeply_is_refused(server):
    assert post(server, QUESTION | {"chat_template_kwargs": {"enable_thinking": False}})[0] == 200
    assert post(server, QUESTION | {"chat_template_kwargs": None})[0] == 200
    assert post(server, b"[" * 100_000)[0] == 400


def test_an_answer_ends_before_the_first_of_its_stops(server):
    _, whole = post(server, QUESTION)
    text = whole["choices"][0]["message"]["content"]
    first, later = text[len(text) // 3], text[-1]
    _, cut = post(server, QUESTION | {"stop": [later, first]})
    (choice,) = cut["choices"]
    assert choice["message"]["content"] == text[: min(text.index(first), text.index(later))]
    assert choice["finish_reason"] == "stop"
    _, uncut = post(server, QUESTION | {"stop": "no model writes this"})
    assert uncut["choices"] == whole["choices"]


def test_a_body_that_is_not_json_is_refused(server):
    assert post(server, b"{half")[0] == 400


def test_it_ends_within_seconds_on_sigterm_and_frees_its_port(checkpoint, tmp_path):
    with (
        pytest.raises(RuntimeError, match="ended with 0"),
        serving(checkpoint, model_id="tiny", log=tmp_path / "server.log") as server,
    ):
        post(server, QUESTION)
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(timeout=300) == 0
        with pytest.raises(urllib.error.URLError):
            get(server, "/health")


PARENT = """
import sys, time
from pathlib import Path
from evaluator.serve.server import serving

if __name__ == "__main__":
    with serving(Path(sys.argv[1]), model_id="tiny", log=Path(sys.argv[2])) as server:
        print(server.process.pid, flush=True)
        time.sleep(600)
"""


def test_it_ends_when_its_parent_is_killed(checkpoint, tmp_path):
    command = [sys.executable, "-c", PARENT, str(checkpoint), str(tmp_path / "server.log")]
    parent = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    server = int(parent.stdout.readline())
    parent.kill()
    parent.wait()
    deadline = time.monotonic() + 300  # it may still be loading the model
    while time.monotonic() < deadline and os.path.exists(f"/proc/{server}") and not is_zombie(server):
        time.sleep(0.2)
    assert not os.path.exists(f"/proc/{server}") or is_zombie(server)


def is_zombie(pid: int) -> bool:
    with open(f"/proc/{pid}/stat") as file:
        return file.read().rpartition(")")[2].split()[0] == "Z"


def test_a_checkpoint_cut_short_is_refused_by_name_before_anything_is_served(copied, tmp_path):
    weights = copied / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    with (
        pytest.raises(ValueError, match="model.safetensors' is cut short"),
        serving(copied, model_id="tiny", log=tmp_path / "server.log"),
    ):
        pytest.fail("it served")
    command = [sys.executable, "-m", "evaluator.serve", str(copied), "--model-id", "tiny"]
    done = subprocess.run([*command, "--port-file", str(tmp_path / "port.json")], capture_output=True, text=True)
    assert done.returncode == BAD_CHECKPOINT
    assert done.stderr.strip().endswith("bytes do not hold its header.")
    assert not (tmp_path / "port.json").exists()


class CountingEngine:
    """Stands in for the engine: one answer per request, batches remembered."""

    def __init__(self):
        from evaluator.serve.engine import Shapes

        self.shapes, self.batches = Shapes(rows=8, prompts=2), []

    def padded_length(self, prompt) -> int:
        return len(prompt)

    def generate(self, requests):
        self.batches.append(list(requests))
        yield from enumerate(requests)


def test_batches_hold_one_length_and_no_more_prompts_or_rows_than_fit():
    from evaluator.serve.engine import Request

    engine, answers = CountingEngine(), []
    batcher = Batcher(engine, linger=0.2)
    requests = [
        Request(prompt=(length,) * length, seed=seed, temperature=1, top_p=1, max_tokens=1)
        for seed in range(5)
        for length in (3, 4)
    ]
    requests += [Request(prompt=(9, 9, number), seed=0, temperature=1, top_p=1, max_tokens=1) for number in range(3)]
    for request in requests:
        batcher.submit(request, answers.append)
    deadline = time.monotonic() + 300
    while len(answers) < len(requests) and time.monotonic() < deadline:
        time.sleep(0.01)
    batcher.stop()
    assert sorted(answers, key=repr) == sorted(requests, key=repr)
    for batch in engine.batches:
        assert len(batch) <= 8
        assert len({request.prompt for request in batch}) <= 2
        assert len({len(request.prompt) for request in batch}) == 1
    assert len(engine.batches[0]) > 1
