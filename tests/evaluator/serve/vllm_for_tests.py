"""Stands in for vLLM on a machine without a GPU: the same command line, API, processes and last words.

    program = installed(tmp_path / "venv")        # an environment with bin/vllm

`vllm bench serve` is played as well: it asks the server, or the real one, and writes what vLLM's client writes.

What it is to do wrong, the environment says: `STAND_IN` is one of `never` (is not ready), `slow`, `memory` and `taken`
(ends as vLLM does where memory is lacking), `renamed` (serves another name), `strays` (its engine has a session of its
own, heeds no SIGTERM and outlives it), `stops` (what it streams ends early); `STAND_IN_DIES=N` ends it after so many
answers, `STAND_IN_SHIFT` is added to its log-probabilities, `STAND_IN_SAYS` is the name in its replies. Its first words
are what it was started with.
"""

import argparse
import hashlib
import http.client
import json
import os
import signal
import stat
import statistics
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

VERSION = "0.23.0"
LOG = """INFO 11-28 08:00:00 [scheduler.py:253] Chunked prefill is enabled with max_num_batched_tokens=64.
(EngineCore pid=7) INFO 11-28 08:00:10 [gpu_model_runner.py:5256] Model loading took 13.06 GiB memory and 9.4 seconds
(EngineCore pid=7) INFO 11-28 08:00:40 [gpu_worker.py:509] Available KV cache memory: 54.7 GiB
(EngineCore pid=7) INFO 11-28 08:00:40 [kv_cache_utils.py:2146] GPU KV cache size: 2,101,248 tokens"""
"""Lines of vLLM 0.24 about itself."""
STRAY = "trap '' TERM; while :; do sleep 1000; done"
TAKEN = (
    "ValueError: Free memory on device cuda:0 (12.18/79.11 GiB) on startup is less than desired GPU memory utilization "
    "(0.9, 71.2 GiB). Decrease GPU memory utilization or reduce GPU memory used by other processes."
)


def installed(folder: Path, *, version: str = VERSION) -> Path:
    """An environment with the stand-in as its `vllm`."""
    program = folder / "bin" / "vllm"
    program.parent.mkdir(parents=True)
    text = Path(__file__).read_text(encoding="utf-8").replace(f'VERSION = "{VERSION}"', f'VERSION = "{version}"', 1)
    program.write_text(f"#!{sys.executable}\n{text}", encoding="utf-8")
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    return folder


def nvidia_smi(folder: Path, *, kind: str = "NVIDIA H100 80GB HBM3") -> Path:
    """A folder with an `nvidia-smi` that knows GPUs of that kind, all of whose memory is free but for one server's."""
    program = folder / "nvidia-smi"
    program.parent.mkdir(parents=True)
    cases = f"*=name*) echo '{kind}';; *memory.used*) echo 74112;; *memory.free*) echo 81000, 81559;; *) exit 1;;"
    program.write_text(f'#!/bin/sh\ncase "$*" in {cases} esac\n')
    program.chmod(0o755)
    return folder


def main() -> None:
    """`vllm --version`, `vllm serve MODEL ...` and `vllm bench serve ...`."""
    if sys.argv[1:] == ["--version"]:
        print(VERSION)
        return
    parser = argparse.ArgumentParser(prog="vllm", allow_abbrev=False)
    commands = parser.add_subparsers(dest="command", required=True)
    client = (
        commands.add_parser("bench").add_subparsers(dest="what", required=True).add_parser("serve", allow_abbrev=False)
    )
    for name in ("backend", "base-url", "endpoint", "model", "tokenizer", "dataset-name", "percentile-metrics"):
        client.add_argument(f"--{name}", required=True)
    for name in ("result-dir", "result-filename"):
        client.add_argument(f"--{name}", required=True)
    for name in ("random-input-len", "random-output-len", "num-prompts", "max-concurrency"):
        client.add_argument(f"--{name}", type=int, required=True)
    for name in ("seed", "temperature", "ready-check-timeout-sec", "metric-percentiles"):
        client.add_argument(f"--{name}", type=float, default=0)
    for name in ("ignore-eos", "disable-tqdm", "save-result", "save-detailed"):
        client.add_argument(f"--{name}", action="store_true")
    serve = commands.add_parser("serve", allow_abbrev=False)
    serve.add_argument("model")
    for name in ("served-model-name", "host", "dtype", "mamba-ssm-cache-dtype", "generation-config"):
        serve.add_argument(f"--{name}", required=True)
    for name in ("port", "data-parallel-size", "tensor-parallel-size", "max-num-seqs"):
        serve.add_argument(f"--{name}", type=int, required=True)
    serve.add_argument("--max-model-len", type=int, default=256)
    serve.add_argument("--gpu-memory-utilization", type=float, required=True)
    serve.add_argument("--enable-prefix-caching", action=argparse.BooleanOptionalAction, default=True)
    serve.add_argument("--disable-uvicorn-access-log", action="store_true")
    said = parser.parse_args()
    if said.command == "bench":
        ask(said)
        return
    wrong = os.environ.get("STAND_IN", "")
    engines = [
        subprocess.Popen(["sh", "-c", STRAY], start_new_session=True)
        if wrong == "strays"
        else subprocess.Popen(["sleep", "1000"])
        for _ in range(said.data_parallel_size)
    ]
    variables = {name: value for name, value in os.environ.items() if name.startswith(("VLLM", "PYTHON", "JUDGE"))}
    told = {"argv": sys.argv[1:], "environment": variables, "engines": [engine.pid for engine in engines]}
    print(json.dumps(told), LOG, sep="\n", flush=True)

    def end(*_) -> None:
        if wrong != "strays":
            for engine in engines:
                engine.terminate()
        os._exit(0)

    signal.signal(signal.SIGTERM, end)
    if wrong in ("memory", "taken"):
        print("torch.OutOfMemoryError: CUDA out of memory." if wrong == "memory" else TAKEN)
        print("RuntimeError: Engine core initialization failed. See root cause above.", flush=True)
        sys.exit(1)
    while wrong == "never":
        time.sleep(1)
    time.sleep(1.5 if wrong == "slow" else 0)
    listen(said, wrong)


def listen(said: argparse.Namespace, wrong: str) -> None:
    """Answer until this process is ended."""
    name = "another" if wrong == "renamed" else said.served_model_name
    dies, shift = int(os.environ.get("STAND_IN_DIES", "-1")), float(os.environ.get("STAND_IN_SHIFT", "0"))
    replied = os.environ.get("STAND_IN_SAYS", name)
    answered, lock = [0], threading.Lock()

    class Api(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_) -> None:
            pass

        def send(self, status: int, record: object) -> None:
            body = b"" if record is None else json.dumps(record).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def allowed(self) -> bool:
            if self.path.startswith("/v1"):
                return self.headers.get("Authorization") == f"Bearer {os.environ['VLLM_API_KEY']}"
            return True

        def do_GET(self) -> None:
            if not self.allowed():
                self.send(401, {"error": "Unauthorized"})
            elif self.path == "/health":
                self.send(200, None)
            elif self.path == "/v1/models":
                model = {"id": name, "object": "model", "root": said.model, "max_model_len": said.max_model_len}
                self.send(200, {"object": "list", "data": [model]})
            else:
                self.send(404, {"detail": "Not Found"})

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            if not self.allowed():
                self.send(401, {"error": "Unauthorized"})
            elif body["model"] != name:
                self.send(404, {"error": {"message": f"The model `{body['model']}` does not exist."}})
            elif self.path == "/v1/completions" and body.get("stream"):
                self.stream(body)
            elif self.path == "/v1/completions":
                self.send(200, self.completion(body))
            else:
                self.chat(body)

        def completion(self, body: dict) -> dict:
            prompt = body["prompt"]
            if isinstance(prompt, list):
                body["prompt"] = prompt[0] if isinstance(prompt[0], str) else " ".join(map(str, prompt))
            tokens = body["prompt"].split()
            given = [shift - len(token) / 4 for token in tokens]
            logprobs = {"tokens": [*tokens, "B"], "token_logprobs": [None, *given[1:], -0.5]}
            text = (body["prompt"] if body.get("echo") else "") + "B"
            choice = {"index": 0, "text": text, "logprobs": logprobs, "finish_reason": "length"}
            usage = {"prompt_tokens": len(tokens), "completion_tokens": 1, "total_tokens": len(tokens) + 1}
            return {"id": "cmpl-1", "object": "text_completion", "model": replied, "choices": [choice], "usage": usage}

        def count(self) -> None:
            with lock:
                answered[0] += 1
                if answered[0] == dies + 1:
                    print("EngineCore encountered an issue: CUDA error: an illegal memory access", flush=True)
                    os._exit(1)

        def stream(self, body: dict) -> None:
            self.count()
            tokens = body["max_tokens"] - (wrong == "stops")
            self.send_response(200)
            self.send_header("Content-Type", "text/event-stream")
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            usage = {"prompt_tokens": len(body["prompt"].split()), "completion_tokens": tokens}
            records = [{"choices": [{"index": 0, "text": " B"}]}] * tokens + [{"choices": [], "usage": usage}]
            for text in [*map(json.dumps, records), "[DONE]"]:
                time.sleep(0.001)
                event = f"data: {text}\n\n".encode()
                self.wfile.write(b"%x\r\n%s\r\n" % (len(event), event))
            self.wfile.write(b"0\r\n\r\n")

        def chat(self, body: dict) -> None:
            self.count()
            digest = hashlib.sha256(json.dumps(body, sort_keys=True).encode()).digest()
            message = {"role": "assistant", "content": f"By {os.getpid()}: \\boxed{{{digest[0]}}}", "reasoning": None}
            choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": "stop"}
            usage = {"prompt_tokens": 9, "completion_tokens": 5, "total_tokens": 14}
            record = {"id": "chatcmpl-1", "object": "chat.completion", "created": 0, "model": replied}
            self.send(200, record | {"choices": [choice], "usage": usage})

    class Server(ThreadingHTTPServer):
        allow_reuse_address = False
        request_queue_size = 1024

    try:
        server = Server((said.host, said.port), Api)
    except OSError:
        print(f"OSError: [Errno 98] error while attempting to bind on address: address already in use: {said.port}")
        sys.exit(1)
    server.serve_forever()


def ask(said: argparse.Namespace) -> None:
    """Ask the server, several at a time, and write what vLLM's client does with --save-result --save-detailed."""
    prompt = " ".join(["A"] * said.random_input_len)
    body = {"model": said.model, "prompt": prompt, "max_tokens": said.random_output_len, "stream": True}
    body |= {"ignore_eos": said.ignore_eos, "temperature": said.temperature, "stream_options": {"include_usage": True}}
    headers = {"Authorization": f"Bearer {os.environ['OPENAI_API_KEY']}"}

    def one(_: int) -> dict:
        start, times, usage = time.perf_counter(), [], {"prompt_tokens": 0, "completion_tokens": 0}
        error = ""
        try:
            connection = http.client.HTTPConnection(said.base_url.removeprefix("http://"))
            connection.request("POST", said.endpoint, json.dumps(body), headers)
            reply = connection.getresponse()
            while line := reply.readline():
                if line.startswith(b"data: {"):
                    record = json.loads(line.removeprefix(b"data: "))
                    times += [time.perf_counter()] * bool(record["choices"])
                    usage = record.get("usage") or usage
        except (OSError, http.client.HTTPException) as failure:
            error = repr(failure)
        gaps = [after - before for before, after in zip(times, times[1:])]  # noqa: RUF007
        return {
            "errors": error, "start_times": start, "ttfts": times[0] - start if times else 0.0, "itls": gaps,
            "input_lens": usage["prompt_tokens"], "output_lens": usage["completion_tokens"],
        }  # fmt: skip

    begin = time.perf_counter()
    with ThreadPoolExecutor(said.max_concurrency) as pool:
        answers = list(pool.map(one, range(said.num_prompts)))
    seconds = time.perf_counter() - begin
    record = {name: [answer[name] for answer in answers] for name in answers[0]}
    record |= {"duration": seconds, "completed": record["errors"].count("")}
    for name, of in (("total_input_tokens", "input_lens"), ("total_output_tokens", "output_lens")):
        record[name] = sum(record[of])
    record["output_throughput"] = record["total_output_tokens"] / seconds
    for name, values in (("ttft", record["ttfts"]), ("itl", [gap for gaps in record["itls"] for gap in gaps] or [0])):
        record[f"median_{name}_ms"], record[f"p99_{name}_ms"] = 1e3 * statistics.median(values), 1e3 * max(values)
    Path(said.result_dir, said.result_filename).write_text(json.dumps(record))


if __name__ == "__main__":
    main()
