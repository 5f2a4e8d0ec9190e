"""What checkpoints reach when vLLM serves them, in turn on one GPU in one run: tokens per second, latency, memory.

    python benchmarks/serving.py --vllm /opt/vllm student=runs/export-80B/.../hf student-fp8=runs/quantize-80B/.../hf
    python benchmarks/serving.py --vllm /opt/vllm --settings 512/4096x128 --decode 1024,8192,15360 --decode-of student \
        student=hf student-fp8=fp8 teacher=nano

Each is served once as its evaluations serve it (`evaluator.serve.vllm`) and asked by `vllm bench serve`: random
prompts, lengths forced. A setting is INPUT/OUTPUTxIN_FLIGHT, and :REQUESTS where there are more of them. The first
checkpoint is measured again at the end: what it has lost or gained is the error of every ratio. `--decode` takes rates
while all requests are generating at such contexts, and integrates the GPU-hours of AIME's 960 answers of 15,000 tokens.

What is measured is in OUT/measured.jsonl at once; the same command goes on behind it. OUT/results.json has all, in the
form of `evaluator.serve.throughput`; the servers' and the client's logs lie beside. Exit code 2: it was asked for what
cannot be; 1: vLLM failed.
"""

import argparse
import re
import sys
import time
from pathlib import Path

from evaluator.serve.bench import Plan, bench, take_one_gpu
from evaluator.serve.processes import ProgramFailed
from evaluator.serve.throughput import AIME_ANSWERS, AIME_TOKENS, STUDY_SETTING, Setting, lines
from evaluator.serve.vllm import SEQUENCES, find_vllm

SETTINGS = f"{STUDY_SETTING},512/4096x128"
"""As the study measured, and as answers that reason are: little to read, much to write."""


def main(arguments: list[str] | None = None) -> int:
    """Serve, ask, print; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("checkpoints", nargs="+", metavar="LABEL=FOLDER", help="the others' ratios are to the first")
    parser.add_argument("--vllm", help="executable of vLLM, or its environment's folder; else beside this Python")
    parser.add_argument("--settings", default=SETTINGS, help=f"with commas between; {SETTINGS}; empty for none")
    parser.add_argument("--decode", default="", metavar="TOKENS", help="contexts, with commas between: 1024,8192,15360")
    parser.add_argument("--decode-of", metavar="LABELS", help="of which checkpoints, with commas between; else of all")
    parser.add_argument("--in-flight", type=int, default=SEQUENCES, help=f"requests at a time of --decode; {SEQUENCES}")
    parser.add_argument("--again", metavar="SETTINGS", help="at which the first is measured at the end; else all")
    parser.add_argument("--out", type=Path, default=Path("serving"), help="folder that keeps it: serving")
    options = parser.parse_args(arguments)
    start = time.monotonic()
    try:
        checkpoints = labelled(options.checkpoints)
        plan = Plan(
            settings=tuple(map(Setting.parse, _words(options.settings))),
            contexts=tuple(_number(word) for word in _words(options.decode)),
            in_flight=options.in_flight,
            decoded=None if options.decode_of is None else tuple(_words(options.decode_of)),
            again=None if options.again is None else tuple(map(Setting.parse, _words(options.again))),
        )
        if unknown := set(plan.decoded or ()) - set(checkpoints):
            raise ValueError(f"--decode-of names no {unknown.pop()!r}: there are {', '.join(checkpoints)}.")
        vllm, gpu = find_vllm(options.vllm), take_one_gpu()
        print(f"{gpu}, vLLM {vllm.version}", flush=True)

        def say(line: str) -> None:
            print(f"{time.monotonic() - start:6.0f} s  {line}", flush=True)

        found = bench(checkpoints, vllm, plan, gpu=gpu, folder=options.out, say=say)
    except ValueError as error:
        print(str(error).replace("evaluate.vllm=", "--vllm="), file=sys.stderr)
        return 2
    except ProgramFailed as error:
        print(error, file=sys.stderr)
        return 1
    found.save(options.out)
    print("\n".join(["", *lines(found)]))
    if plan.contexts:
        print(f"\nAIME: {AIME_ANSWERS} answers of {AIME_TOKENS:,} tokens, all {plan.in_flight} places always taken.")
    return 0


def labelled(words: list[str]) -> dict[str, Path]:
    """The checkpoints by label. Raises ValueError for a word that names none."""
    found: dict[str, Path] = {}
    for word in words:
        label, sign, folder = word.partition("=")
        if not (sign and folder and re.fullmatch(r"[\w.-]+", label)):
            raise ValueError(f"'{word}' names no checkpoint: LABEL=FOLDER, of letters, digits, dots and dashes.")
        if label in found:
            raise ValueError(f"two checkpoints are called {label}: give another label to '{folder}'.")
        found[label] = Path(folder)
    return found


def _words(text: str) -> list[str]:
    return [word.strip() for word in text.split(",") if word.strip()]


def _number(word: str) -> int:
    if not word.isdigit():
        raise ValueError(f"'{word}' is no context to decode at: a number of tokens, e.g. 8192.")
    return int(word)


if __name__ == "__main__":
    sys.exit(main())
