"""What is done about every kind of reply, by our own tasks and by the adapter in front of the study's harnesses."""

import argparse
import asyncio
import dataclasses
import email.utils
import json
import tempfile
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from core_evals.nemo_distill.runner import ask_all, read_questions
from evaluator.harness.asking import NOT_ANSWERED, Asking, NotAnswered, Patience, seconds_of
from evaluator.harness.interceptor import called
from tests.evaluator.endpoints import Reply, replying, said

HURRIED = Patience(retries=3, seconds=600, second=0.001)
QUESTION = read_questions("offline_math", limit=1)[0]
ANSWER = QUESTION["answer"]
RIGHT = Reply(said(f"so</think>\\boxed{{{ANSWER}}}"))
OVER = Reply({"error": {"message": "This model's maximum context length is 4096 tokens. You requested 5000."}}, 400)


def by_runner(url: str, patience: Patience, *, timeout: float = 60) -> dict:
    """The record of one question, asked by our own tasks' runner."""
    settings = {"model": "m", "temperature": 0.6, "top_p": 0.95, "max_tokens": 48, "parallelism": 2}
    settings |= {"max_retries": 1, "num_repeats": 1, "seed": 7, "url": url, "timeout": timeout}
    try:
        asked = ask_all(argparse.Namespace(**settings), {"offline_math": [QUESTION]}, patience=patience)
        (record,) = asyncio.run(asked)
    except ExceptionGroup as group:
        raise group.exceptions[0] from None
    return record


def intercepted(url: str, patience: Patience, *, timeout: float = 60) -> tuple[dict, object]:
    """The reply that a harness gets from the adapter, and the interceptor that sent it."""
    from nemo_evaluator.adapters.types import (
        AdapterGlobalContext,
        AdapterRequest,
        AdapterRequestContext,
        FatalErrorException,
    )

    from evaluator.harness.interceptor import AskingInterceptor

    fields = {"retries": patience.retries, "seconds": patience.seconds, "second": patience.second}
    interceptor = AskingInterceptor(
        AskingInterceptor.Params(timeout=timeout, end_of_thinking="</think>", patience=fields)
    )
    body = {"model": "m", "messages": QUESTION["messages"], "max_tokens": 48}
    request = SimpleNamespace(json=body, headers=[("Host", "x"), ("Content-Length", "1")], cookies={})
    asked = AdapterRequest(r=request, rctx=AdapterRequestContext())
    with tempfile.TemporaryDirectory() as folder:
        context = AdapterGlobalContext(output_dir=folder, url=url)
        try:
            answered = interceptor.intercept_request(asked, context)
        except FatalErrorException as error:
            raise NotAnswered(Path(folder, NOT_ANSWERED).read_text()) from error
    return answered.r.json(), interceptor


def by_adapter(url: str, patience: Patience, *, timeout: float = 60) -> dict:
    """The same of the adapter: its text, finish reason, and score once the reasoning is stripped."""
    from nemo_evaluator.adapters.adapter_config import AdapterConfig
    from nemo_evaluator.adapters.interceptors.reasoning_interceptor import ResponseReasoningInterceptor

    assert AdapterConfig  # imported before the interceptor, as the adapter does
    params = {"include_if_not_finished": False, "enable_caching": False, "enable_reasoning_tracking": False}
    reasoning = ResponseReasoningInterceptor(ResponseReasoningInterceptor.Params(**params))
    reply, _ = intercepted(url, patience, timeout=timeout)
    (choice,) = reply["choices"]
    content = choice["message"]["content"]
    if choice["message"].get("role"):
        content = reasoning._process_reasoning_message(choice["message"], {})[0]["content"]
    score = float(f"\\boxed{{{ANSWER}}}" in content)
    return {"score": score, "empty": not content.strip(), "finish_reason": choice.get("finish_reason")}


WAYS = {"runner": by_runner, "adapter": by_adapter}


def ask(way: str, *replies: Reply | None, patience: Patience = HURRIED) -> tuple[dict, int]:
    """The record of a question that is sent these replies, the last one again and again, and how often it was asked."""
    asked = []

    def send(body: dict) -> Reply | None:
        asked.append(body)
        return replies[min(len(asked), len(replies)) - 1]

    with replying(send) as url:
        record = WAYS[way](f"{url}/chat/completions", patience)
    return record, len(asked)


def without(*path: str) -> Reply:
    reply = json.loads(json.dumps(RIGHT.content))
    part = reply["choices"][0] if path[0] == "choice" else reply
    for name in path[-1:]:
        del part[name]
    return Reply(reply)


@pytest.mark.parametrize("way", WAYS)
def test_what_passes_is_asked_again(way):
    passing = {
        "no connection": None,
        "a page in place of JSON": Reply(b"<html>a gateway's page</html>"),
        "half a JSON object": Reply(b'{"choices": ['),
        "a list": Reply([1]),
        "null": Reply(None),
        "no choices": Reply(said("x") | {"choices": []}),
        "choices that are none": Reply(said("x") | {"choices": "none"}),
        "no message": without("choice", "message"),
        "an error with status 200": Reply({"object": "error", "message": "overloaded", "code": 503}),
        "a content that is no text": Reply(said(62)),
        "null that means nothing": Reply(said(None)),
        "an answer broken off": Reply(said("so</think>\\boxed{1", "abort")),
    }
    passing |= {f"status {code}": Reply({"error": {"message": "later"}}, code) for code in (408, 409, 425, 429)}
    passing |= {f"status {code}": Reply(b"", code) for code in (500, 502, 503, 504, 529)}
    for name, reply in passing.items():
        record, times = ask(way, reply, reply, RIGHT)
        assert (record["score"], times) == (1.0, 3), name


@pytest.mark.parametrize("way", WAYS)
def test_what_does_not_pass_ends_in_one_sentence_with_the_question_and_the_reply(way):
    named = "question offline_math-000, repeat 0," if way == "runner" else f"the question {called(QUESTION)!r}"
    lasting = {
        "was asked 4 times, without an answer: 503 loading": Reply(b"loading", 503),
        "was asked 4 times, without an answer: 200 without choices: {": Reply(said("x") | {"choices": []}),
        "was asked 4 times, without an answer: 200 with no JSON object: <html>a page": Reply(b"<html>a\n  page"),
        "is refused: 404 no model": Reply(b"no model", 404),
        "is refused: 400 'seed' is unknown": Reply(b"'seed' is unknown", 400),
        "is refused: 401": Reply(b"", 401),
        "is refused: 302": Reply(b"", 302, {"Location": "/elsewhere"}),
        "was asked 4 times, without an answer: ": None,
    }
    for sentence, reply in lasting.items():
        with pytest.raises(NotAnswered) as raised:
            ask(way, reply)
        assert str(raised.value).startswith(f"{named} {sentence}"), raised.value
        assert len(str(raised.value)) < 500 and "\n" not in str(raised.value)


@pytest.mark.parametrize("way", WAYS)
def test_what_a_reply_may_lack_does_not_matter(way):
    for reply in (without("usage"), without("choice", "finish_reason"), without("id"), without("choice", "index")):
        record, times = ask(way, reply)
        assert (record["score"], record["empty"], times) == (1.0, False, 1)
    parts = [{"type": "text", "text": "so</think>"}, {"type": "text", "text": f"\\boxed{{{ANSWER}}}"}]
    assert ask(way, Reply(said(parts)))[0]["score"] == 1.0


@pytest.mark.parametrize("way", WAYS)
def test_cut_while_thinking_is_no_answer_and_a_plain_answer_that_ended_is_one(way):
    box = f"\\boxed{{{ANSWER}}}"
    no_reason = said(f"it is {box}")
    del no_reason["choices"][0]["finish_reason"]
    counts = {
        "ended by itself": (said(f"it is {box}", "stop"), 1.0),
        "ended by itself, says the number of tokens": (no_reason, 1.0),
        "cut behind the thinking": (said(f"so</think>{box} and", "length"), 1.0),
        "thinking kept apart": (said(box, "length", reasoning_content="so"), 1.0),
        "thinking kept apart, by its other name": (said(box, "length", reasoning="so"), 1.0),
        "cut": (said(f"it may be {box}. But wait", "length"), 0.0),
        "cut, by another name": (said(f"it may be {box}. But wait", "max_tokens"), 0.0),
        "cut, says the number of tokens": (no_reason | {"usage": {"completion_tokens": 48}}, 0.0),
        "nothing says that it ended": (no_reason | {"usage": None}, 0.0),
        "thinking that it began itself": (said(f"<think>it is {box}", "stop"), 0.0),
        "thinking kept apart, and cut": (said(None, "length", reasoning_content=f"it may be {box}"), 0.0),
        "null": (said(None, "length"), 0.0),
    }
    for name, (reply, score) in counts.items():
        record, times = ask(way, Reply(reply))
        assert (record["score"], record["empty"], times) == (score, score == 0.0, 1), name
        if name.startswith("cut, by"):
            assert record["finish_reason"] == "length"


def test_every_choice_of_a_reply_is_looked_at_by_itself():
    reply = said("cut", "length")
    reply["choices"] += said("ended")["choices"] + said("so</think>ended")["choices"]
    with replying(lambda body: Reply(reply)) as url:
        answered, _ = intercepted(f"{url}/chat/completions", HURRIED)
    texts = [choice["message"]["content"] for choice in answered["choices"]]
    assert texts == ["cut", "</think>ended", "so</think>ended"]


@pytest.mark.parametrize("way", WAYS)
def test_null_is_an_empty_answer_where_the_endpoint_keeps_to_it(way):
    record, times = ask(way, Reply(said(None)))
    assert (record["score"], record["empty"], times) == (0.0, True, 4)


@pytest.mark.parametrize("way", WAYS)
def test_half_a_surrogate_pair_is_replaced_and_the_answer_kept(way):
    reply = json.dumps(said(f"so</think>\\boxed{{{ANSWER}}} \ud83d")).encode()
    record, _ = ask(way, Reply(reply))
    assert record["score"] == 1.0
    if way == "runner":
        assert record["response"].endswith("} \N{REPLACEMENT CHARACTER}")
    else:
        with replying(lambda body: Reply(reply)) as url:
            text = intercepted(url + "/chat/completions", HURRIED)[0]["choices"][0]["message"]["content"]
        assert text.encode("utf-8").endswith("} \N{REPLACEMENT CHARACTER}".encode())


@pytest.mark.parametrize("way", WAYS)
def test_a_prompt_over_the_context_is_counted_and_no_failure(way):
    ours = "the prompt has 300 tokens and the answer may have 48, more than the model's context of 256."
    sglang = "The input (5000 tokens) is longer than the model's context length (4096 tokens)."
    vllm = "The decoder prompt (length 5000) is longer than the maximum model length of 4096."
    replies = [OVER, Reply(b"", 413), *(Reply({"error": {"message": text}}, 400) for text in (ours, sglang, vllm))]
    replies += [Reply({"error": {"code": "context_length_exceeded"}}, 400)]
    for reply in replies:
        record, times = ask(way, reply)
        assert (record["finish_reason"], record["score"], record["empty"], times) == ("unasked", 0.0, True, 1)


def test_the_adapter_leaves_its_counts_beside_the_others(tmp_path):
    from nemo_evaluator.adapters.types import AdapterGlobalContext

    replies = iter([Reply(b"", 503), OVER])
    with replying(lambda body: next(replies)) as url:
        _, interceptor = intercepted(f"{url}/chat/completions", HURRIED)
    context = AdapterGlobalContext(output_dir=str(tmp_path), url=url)
    context.metrics_path.write_text(json.dumps({"response_stats": {"count": 1}}))
    interceptor.post_eval_hook(context)
    metrics = json.loads(context.metrics_path.read_text())
    assert metrics["response_stats"] == {"count": 1}
    assert (metrics["asking"]["asked_again"], metrics["asking"]["unasked"]) == ({"503": 1}, 1)
    assert "maximum context length" in metrics["asking"]["why"][0]


def test_a_question_without_an_id_is_called_by_its_end():
    long = "Below is a math question. Put the answer into a box.\n\n" + "What is 665 + 238? " * 9
    name = called({"messages": [{"role": "user", "content": long}]})
    assert name.startswith("...") and name.endswith(" What is 665 + 238?") and len(name) == 63
    assert [called(body) for body in ({"prompt": " 2 +\n2 "}, {"messages": []}, None, {"messages": [1]})] == [
        "2 + 2",
        "",
        "",
        "",
    ]


def test_a_pause_is_what_retry_after_says_or_grows_to_its_limit_and_chance_spreads_it():
    asking = Asking("q", Patience(first_pause=2, longest_pause=10, jitter=0))
    assert [asking.judge(503, {}, b"") for _ in range(4)] == [2, 4, 8, 10]
    assert asking.judge(429, {"Retry-After": "31"}, b"") == 31
    assert asking.judge(429, {"Retry-After": "soon"}, b"") == 10
    date = email.utils.formatdate(time.time() + 90, usegmt=True)
    assert asking.judge(503, {"Retry-After": date}, b"") == pytest.approx(90, abs=2)
    assert seconds_of("Fri, 31 Dec 1999 23:59:59 GMT") == 0
    spread = {Asking("q", Patience(first_pause=8)).judge(503, {}, b"") for _ in range(50)}
    assert len(spread) > 40 and all(4 <= pause <= 8 for pause in spread)
    herd = {Asking("q").judge(429, {"Retry-After": "30"}, b"") for _ in range(50)}
    assert len(herd) > 40 and all(30 <= pause <= 31 for pause in herd)


def test_asking_ends_after_its_number_and_after_its_time():
    asking = Asking("q", Patience(retries=2))
    for _ in range(2):
        asking.failed(TimeoutError())
    with pytest.raises(NotAnswered, match="q was asked 3 times, without an answer: TimeoutError"):
        asking.failed(TimeoutError())
    with pytest.raises(NotAnswered, match="the next pause of 90 s is beyond the 60 s that it has: 429 busy"):
        Asking("q", Patience(seconds=60, jitter=0)).judge(429, {"Retry-After": "90"}, b"busy")
    late = Asking("q", Patience(seconds=60))
    late.began -= 61
    with pytest.raises(NotAnswered, match="q was asked 1 times in 61 s"):
        late.judge(503, {}, b"")


def test_a_reply_that_is_none_is_asked_for_again_a_few_times_only():
    asking = Asking("q", Patience(malformed=2))
    for _ in range(2):
        asking.judge(503, {}, b"")
        asking.judge(200, {}, b"a page")
    with pytest.raises(NotAnswered, match="q was asked 5 times, without an answer: 200 with no JSON object: a page"):
        asking.judge(200, {}, b"a page")


@pytest.mark.parametrize("way", WAYS)
def test_an_answer_that_takes_too_long_is_asked_for_again(way):
    calls: list[dict] = []

    def slow(body: dict) -> Reply:
        calls.append(body)
        return dataclasses.replace(RIGHT, after=2 if len(calls) == 1 else 0)

    with replying(slow) as url:
        many = Patience(retries=100, second=0.001)
        assert WAYS[way](f"{url}/chat/completions", many, timeout=0.3)["score"] == 1.0
    assert len(calls) >= 2


def test_the_adapter_asks_in_the_place_of_nemo_evaluators_own(tmp_path):
    from evaluator.harness.evaluation import run_config
    from evaluator.suites.catalogue import HARNESS

    config = run_config(HARNESS, HARNESS.benchmarks[1:2], url="u", model_id="m", folder=Path("f"), seed=0, judge=None)
    adapter = config["target"]["api_endpoint"]["adapter_config"]
    assert adapter["discovery"] == {"modules": ["evaluator.harness.interceptor"]}
    asking, _, reasoning = adapter["interceptors"]
    assert (asking["name"], asking["config"]["end_of_thinking"]) == ("asking", "</think>")
    assert (reasoning["name"], reasoning["config"]["include_if_not_finished"]) == ("reasoning", False)
    assert config["config"]["params"]["request_timeout"] > 2 * asking["config"]["timeout"]
