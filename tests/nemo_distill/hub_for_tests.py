"""A hub on this machine: enough of the Hugging Face hub's HTTP API for the real `huggingface_hub` client.

    with Hub() as hub:
        hub.add("org/name", {"README.md": b"...", "data/a.jsonl": b"..."}, gated=True, readers={"hf_good"})
        os.environ["HF_ENDPOINT"] = hub.url

It answers on 127.0.0.1 as huggingface.co does, headers of its errors included, and keeps what it was asked for in
`requests`. `die_after` makes it close every connection, and take no new one, once it has sent that many bytes of files;
`drop_after` makes it close one.
"""

import hashlib
import json
import re
import socket
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit


@dataclass
class Repository:
    files: dict[str, bytes]
    gated: bool = False
    readers: set[str] = field(default_factory=set)
    """Tokens with access."""

    @property
    def commit(self) -> str:
        return hashlib.sha1(repr(sorted(self.files.items())).encode()).hexdigest()

    def entry(self, path: str) -> dict:
        data = self.files[path]
        entry = {"type": "file", "path": path, "size": len(data), "oid": git_id(data)}
        if path.endswith((".jsonl", ".parquet", ".gz")):  # large file storage, by .gitattributes
            entry["lfs"] = {"oid": hashlib.sha256(data).hexdigest(), "size": len(data), "pointerSize": 130}
        return entry


class Hub(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.repositories: dict[str, Repository] = {}
        self.requests: list[str] = []
        """Method and path of each, in order."""
        self.sent = 0
        """Bytes of files."""
        self.die_after: int | None = None
        self.drop_after: int | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def add(self, name: str, files: dict[str, bytes], **settings) -> Repository:
        self.repositories[name] = Repository(files, **settings)
        return self.repositories[name]

    def fetched(self) -> list[str]:
        """Data files whose content was asked for."""
        return [request.split("/", 6)[-1] for request in self.requests if request.startswith("GET /datasets/")]

    def handle_error(self, request, client_address) -> None:
        """A client that goes away is no error here."""

    def __enter__(self) -> "Hub":
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        return self

    def __exit__(self, *_) -> None:
        self.shutdown()
        self.server_close()


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Hub

    def do_GET(self) -> None:
        path = unquote(urlsplit(self.path).path)
        self.server.requests.append(f"{self.command} {path}")
        dead = self.server.die_after is not None and self.server.sent >= self.server.die_after
        if dead:
            self.close_connection = True
            return
        length = int(self.headers.get("Content-Length") or 0)
        body = self.rfile.read(length)
        if found := re.fullmatch(
            r"/api/(?:datasets|models)/([^/]+/[^/]+)(?:/(revision|tree|paths-info)/([^/]+)(/.*)?)?", path
        ):
            self._api(*found.groups(), body)
        elif found := re.fullmatch(r"/(?:datasets/)?([^/]+/[^/]+)/resolve/([^/]+)/(.+)", path):
            self._resolve(*found.groups())
        else:
            self._refuse(404, "", "Not found")

    do_HEAD = do_POST = do_GET

    def _api(self, name: str, what: str | None, revision: str | None, folder: str | None, body: bytes) -> None:
        repository = self._repository(name, revision)
        if repository is None:
            return
        if what == "tree":
            self._tree(repository, (folder or "/")[1:], "recursive=true" in self.path.lower())
        elif what == "paths-info":
            wanted = re.findall(r"paths=([^&]+)", unquote(body.decode())) or json.loads(body)["paths"]
            self._json([repository.entry(path) for path in wanted if path in repository.files])
        else:
            siblings = [{"rfilename": path} for path in sorted(repository.files)]
            gated = "auto" if repository.gated else False
            self._json({"id": name, "sha": repository.commit, "siblings": siblings, "gated": gated, "private": False})

    def _tree(self, repository: Repository, folder: str, recursive: bool) -> None:
        below = [path for path in sorted(repository.files) if not folder or path.startswith(f"{folder}/")]
        depth = folder.count("/") + 2 if folder else 1
        files = [path for path in below if recursive or path.count("/") < depth]
        folders = {"/".join(path.split("/")[:depth]) for path in below} - set(files)
        entries = [{"type": "directory", "path": path, "size": 0, "oid": git_id(path.encode())} for path in folders]
        self._json([*entries, *map(repository.entry, files)])

    def _resolve(self, name: str, revision: str, path: str) -> None:
        repository = self._repository(name, revision)
        if repository is None:
            return
        token = (self.headers.get("Authorization") or "").removeprefix("Bearer ")
        if repository.gated and token not in repository.readers:
            self._refuse(403 if token else 401, "GatedRepo", f"Access to dataset {name} is restricted.")
            return
        if path not in repository.files:
            self._refuse(404, "EntryNotFound", "Entry not found")
            return
        data, entry = repository.files[path], repository.entry(path)
        first, last = 0, len(data) - 1
        if asked := re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range") or ""):
            first, last = int(asked[1]), min(int(asked[2] or last), last)
        self.send_response(206 if asked else 200)
        if asked:
            self.send_header("Content-Range", f"bytes {first}-{last}/{len(data)}")
        self.send_header("Content-Length", str(last + 1 - first))
        self.send_header("ETag", f'"{entry["lfs"]["oid"] if "lfs" in entry else entry["oid"]}"')
        self.send_header("X-Repo-Commit", repository.commit)
        self.send_header("Accept-Ranges", "bytes")
        self.end_headers()
        if self.command == "GET":
            self._send(data[first : last + 1])

    def _send(self, data: bytes) -> None:
        for start in range(0, len(data), 1 << 16):
            part = data[start : start + (1 << 16)]
            if self.server.die_after is not None and self.server.sent + len(part) > self.server.die_after:
                self.server.sent = self.server.die_after
                self.close_connection = True
                self.connection.shutdown(socket.SHUT_RDWR)
                return
            self.wfile.write(part)
            self.server.sent += len(part)
            if self.server.drop_after is not None and self.server.sent >= self.server.drop_after:
                self.server.drop_after = None
                self.close_connection = True
                return

    def _repository(self, name: str, revision: str | None) -> Repository | None:
        repository = self.server.repositories.get(name)
        if repository is None:
            # What an anonymous client is told, so that private names do not leak.
            self._refuse(401, "", "Invalid username or password.")
        elif revision not in (None, "main", repository.commit):
            self._refuse(404, "RevisionNotFound", f"Invalid rev id: {revision}")
        else:
            return repository
        return None

    def _json(self, value) -> None:
        body = json.dumps(value).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def _refuse(self, status: int, code: str, message: str) -> None:
        body = json.dumps({"error": message}).encode()
        self.send_response(status)
        if code:
            self.send_header("X-Error-Code", code)
        self.send_header("X-Error-Message", message)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, *_) -> None:
        """Nothing: `Hub.requests` has it."""


def git_id(data: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()
