"""A judge on this machine: one chat completion for the right model and key."""

import contextlib
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@contextlib.contextmanager
def judge_served(*, model: str, key: str) -> Iterator[str]:
    """Base of the endpoint, within the block; the one below it, `/empty`, answers without choices."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            assert asked["messages"] and asked["max_tokens"] == 1
            if self.headers.get("Authorization") != f"Bearer {key}":
                self.send_error(401)
            elif asked["model"] != model:
                self.send_error(404)
            elif self.path == "/v1/chat/completions":
                self.answer({"choices": [{"message": {"role": "assistant", "content": "Yes"}}]})
            else:
                self.answer({})

        def answer(self, said: dict) -> None:
            content = json.dumps(said).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *words) -> None:
            """Nothing: pytest shows what a test prints."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/v1"
        finally:
            server.shutdown()
