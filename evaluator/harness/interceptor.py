"""Asks the endpoint for nemo-evaluator's adapter, in the place of its own interceptor `endpoint`, which asks once.

    adapter_config:
      discovery: {modules: [evaluator.harness.interceptor]}
      interceptors:
        - {name: asking, config: {timeout: 3600, end_of_thinking: </think>}}
        - {name: response_stats}
        - {name: reasoning, config: {include_if_not_finished: false}}

So every harness's questions are asked by one set of rules (`evaluator.harness.asking`): a harness sees an answer, or
the evaluation ends with the sentence that says which question was not answered. Some would otherwise take a refusal for
an empty answer, and one asks without end. How often was asked again and what could not be asked stands in
eval_factory_metrics.json under `asking`.

nemo-evaluator's interceptor `reasoning` takes all text without the end of thinking for unfinished reasoning, and drops
it if it is told so. An answer that had no reasoning and ended by itself is therefore given an empty one here.
"""

import json
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

import requests
from nemo_evaluator.adapters.decorators import register_for_adapter
from nemo_evaluator.adapters.types import (
    AdapterGlobalContext,
    AdapterRequest,
    AdapterResponse,
    FatalErrorException,
    PostEvalHook,
    RequestToResponseInterceptor,
)
from nemo_evaluator.logging import BaseLoggingParams
from pydantic import Field

from evaluator.harness.asking import ASKING, NOT_ANSWERED, UNASKED, Asking, NotAnswered, Patience, is_final

START_OF_THINKING = "<think>"
NAMED = 60
"""Characters of a question that it is called by."""
HOP_BY_HOP = {"host", "content-length", "connection", "keep-alive", "transfer-encoding", "accept-encoding"}
"""Headers of a harness's request that are not those of ours."""


@register_for_adapter(
    name=ASKING, description="Asks the endpoint, again where that helps, and counts what it cannot ask"
)
class AskingInterceptor(RequestToResponseInterceptor, PostEvalHook):
    """The one that sends requests; see the module."""

    class Params(BaseLoggingParams):
        """What its configuration may hold."""

        timeout: float = 3_600
        """Longest time for one answer in seconds."""
        end_of_thinking: str = ""
        """What ends a model's reasoning; empty where no interceptor strips it."""
        patience: dict[str, float] = Field(default_factory=dict)
        """Fields of `Patience` that differ from its defaults."""

    def __init__(self, params: Params):
        """Made by nemo-evaluator."""
        self.timeout, self.end = params.timeout, params.end_of_thinking
        self.patience = Patience(**params.patience)  # type: ignore[arg-type]
        self._lock = threading.Lock()
        self.again: Counter[str] = Counter()
        """How often was asked again, by the first word of the reason."""
        self.unasked: list[str] = []
        """Why a question could not be asked, one of each."""

    def intercept_request(self, ar: AdapterRequest, context: AdapterGlobalContext) -> AdapterResponse:
        """Ask until there is an answer; `FatalErrorException`, which ends the evaluation, where there is none."""
        began, body = time.monotonic(), ar.r.json
        asking = Asking(f"the question {called(body)!r}", self.patience)
        try:
            reply = self._ask(ar, context.url, body, asking)
        except NotAnswered as error:
            with self._lock:  # of many at once the first, whole: nemo-evaluator's own note of it may be cut
                if not (note := Path(context.output_dir, NOT_ANSWERED)).exists():
                    note.write_text(str(error), encoding="utf-8")
            raise FatalErrorException(str(error)) from None
        with self._lock:
            self.again.update(reason.split()[0] for reason in asking.reasons)
            if UNASKED in reply:
                self.unasked.append(reply[UNASKED])
        self._close_reasoning(reply, body)
        response = requests.Response()
        response.status_code, response._content = 200, json.dumps(reply).encode()
        response.headers["Content-Type"] = "application/json"
        return AdapterResponse(r=response, rctx=ar.rctx, latency_ms=round(1_000 * (time.monotonic() - began), 2))

    def _ask(self, ar: AdapterRequest, url: str, body: Any, asking: Asking) -> dict:
        headers = {name: value for name, value in ar.r.headers if name.lower() not in HOP_BY_HOP}
        while True:
            try:
                reply = requests.post(
                    url, json=body, headers=headers, cookies=ar.r.cookies, allow_redirects=False, timeout=self.timeout
                )
                outcome = asking.judge(reply.status_code, reply.headers, reply.content)
            except requests.RequestException as error:
                outcome = asking.failed(error)
            if isinstance(outcome, dict):
                return outcome
            time.sleep(outcome)

    def _close_reasoning(self, reply: dict, body: Any) -> None:
        limits = [body.get(name) for name in ("max_completion_tokens", "max_tokens")] if isinstance(body, dict) else []
        limit = next((one for one in limits if isinstance(one, int)), None)
        for choice in reply["choices"] if self.end else ():
            message = choice.get("message") if isinstance(choice, dict) else None
            if not message or message.get("reasoning_content") is not None:  # which `reasoning` looks at by itself
                continue
            tagged = self.end in message["content"] or START_OF_THINKING in message["content"]
            if message["content"] and not tagged and is_final(reply | {"choices": [choice]}, max_tokens=limit):
                message["content"] = self.end + message["content"]

    def post_eval_hook(self, context: AdapterGlobalContext) -> None:
        """Write the counts into eval_factory_metrics.json, beside what others write there."""
        path = context.metrics_path
        metrics = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
        metrics[ASKING] = {"asked_again": dict(self.again), UNASKED: len(self.unasked), "why": self.unasked[:1]}
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(metrics, indent=2), encoding="utf-8")


def called(body: Any) -> str:
    """The end of a request's last message or prompt: what a question is called where it has no id here.

    Their beginnings are alike: they say how to answer.
    """
    messages = body.get("messages") if isinstance(body, dict) else None
    last = messages[-1] if isinstance(messages, list) and messages else None
    content = last.get("content") if isinstance(last, dict) else body.get("prompt") if isinstance(body, dict) else None
    line = " ".join(str(content or "").split())
    return line if len(line) <= NAMED else f"...{line[-NAMED:]}"
