"""Stands in for vLLM on a machine without a GPU: the same command line, API, processes and last words.

    program = installed(tmp_path / "venv")        # an environment with bin/vllm

What it is to do wrong, the environment says: `STAND_IN` is one of `never` (is not ready), `slow`, `memory` and `taken`
(ends as vLLM does where memory is lacking), `renamed` (serves another name), `strays` (its engine has a session of its
own, heeds no SIGTERM and outlives it); `STAND_IN_DIES=N` ends it after so many answers, `STAND_IN_SHIFT` is added to
its log-probabilities, `STAND_IN_SAYS` is the name in its replies. Its first words are what it was started with.
"""

import argparse
import hashlib
import json
import os
import signal
import stat
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

VERSION = "0.23.0"
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


def main() -> None:
    """`vllm --version` and `vllm serve MODEL ...`."""
    if sys.argv[1:] == ["--version"]:
        print(VERSION)
        return
    parser = argparse.ArgumentParser(prog="vllm", allow_abbrev=False)
    commands = parser.add_subparsers(dest="command", required=True)
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
    wrong = os.environ.get("STAND_IN", "")
    engines = [
        subprocess.Popen(["sh", "-c", STRAY], start_new_session=True)
        if wrong == "strays"
        else subprocess.Popen(["sleep", "1000"])
        for _ in range(said.data_parallel_size)
    ]
    variables = {name: value for name, value in os.environ.items() if name.startswith(("VLLM", "PYTHON", "JUDGE"))}
    told = {"argv": sys.argv[1:], "environment": variables, "engines": [engine.pid for engine in engines]}
    print(json.dumps(told), flush=True)

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
            elif self.path == "/v1/completions":
                self.send(200, self.completion(body))
            else:
                self.chat(body)

        def completion(self, body: dict) -> dict:
            prompts = body["prompt"]
            body["prompt"] = prompts[0] if isinstance(prompts, list) else prompts
            tokens = body["prompt"].split()
            given = [shift - len(token) / 4 for token in tokens]
            logprobs = {"tokens": [*tokens, "B"], "token_logprobs": [None, *given[1:], -0.5]}
            text = (body["prompt"] if body.get("echo") else "") + "B"
            choice = {"index": 0, "text": text, "logprobs": logprobs, "finish_reason": "length"}
            usage = {"prompt_tokens": len(tokens), "completion_tokens": 1, "total_tokens": len(tokens) + 1}
            return {"id": "cmpl-1", "object": "text_completion", "model": replied, "choices": [choice], "usage": usage}

        def chat(self, body: dict) -> None:
            with lock:
                answered[0] += 1
                if answered[0] == dies + 1:
                    print("EngineCore encountered an issue: CUDA error: an illegal memory access", flush=True)
                    os._exit(1)
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


if __name__ == "__main__":
    main()
