"""What measuring served checkpoints takes, and what a preview says of it.

    hours_of(spec.config, served)       # GPU-hours; `served` says what model it is by its label

Rates are those of `nemo_distill.plan.serving`, of a server that is kept full.
"""

from collections.abc import Callable, Mapping
from typing import Any

from nemo_distill.outcome.serving import loads_of
from nemo_distill.plan.serving import CHUNK, Served

START_SECONDS = 120.0
"""What a server takes to be ready, about: weights are read, kernels compiled, graphs captured."""
CLIENT_SECONDS = 15.0
"""What vLLM's client takes to be imported and to make its prompts, about."""


def hours_of(config: Mapping[str, Any], served: Callable[[str], Served]) -> float:
    """GPU-hours of a step of that config, whose checkpoints are `served` by their labels."""
    seconds = 0.0
    for label, settings in loads_of(config, CHUNK):
        model, seconds = served(label), seconds + START_SECONDS
        for one in settings:
            rate = model.tokens_per_second(prompt=one.input_tokens, answer=one.output_tokens, in_flight=one.in_flight)
            seconds += CLIENT_SECONDS + one.requests * one.output_tokens / rate
    return seconds / 3600


def serving_in_words(config: Mapping[str, Any], hours: float | None) -> str:
    """What a preview says of a step of that config, which takes so many GPU-hours; None: nothing is known of them."""
    labels = ", ".join(label for label, _ in config["checkpoints"])
    at = [f"at {', '.join(config['settings'])}"] if config["settings"] else []
    if config.get("contexts"):
        at.append(f"decoding at {', '.join(f'{tokens:,}' for tokens in config['contexts'])} tokens")
    takes = "" if hours is None else f", about {60 * hours:.0f} min"
    return (
        f"Serving is measured: {labels}, one after another on one GPU by vLLM {config['engine']['version']}, "
        f"{' and '.join(at)}{takes}."
    )
