"""A hub on the loopback: it answers what huggingface_hub's client asks about the models in a folder."""

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from urllib.parse import urlsplit

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@contextmanager
def serve(models: Path) -> Iterator[str]:
    """Serve `models`/OWNER/NAME/... as a hub while the block runs; gives the address."""

    class Handler(_Hub):
        root = models

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


class _Hub(BaseHTTPRequestHandler):
    """Answers /api/models/ID/revision/main, /api/models/ID/tree/COMMIT and /ID/resolve/COMMIT/FILE."""

    root: Path

    def do_GET(self) -> None:
        self._answer()

    def do_HEAD(self) -> None:
        self._answer()

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""

    def _answer(self) -> None:
        match urlsplit(self.path).path.strip("/").split("/"):
            case ["api", "models", owner, name, "revision", _] if (self.root / owner / name).is_dir():
                self._json({"id": f"{owner}/{name}", "sha": COMMIT, "siblings": []})
            case ["api", "models", owner, name, "tree", _] if (self.root / owner / name).is_dir():
                self._json([_entry(file) for file in sorted((self.root / owner / name).iterdir())])
            case [owner, name, "resolve", _, file] if (self.root / owner / name / file).is_file():
                self._file(self.root / owner / name / file)
            case _:
                self._send(404, b"", {"X-Error-Code": "RepoNotFound"})

    def _file(self, path: Path) -> None:
        self._send(200, path.read_bytes(), {"ETag": f'"{_digest(path)}"', "X-Repo-Commit": COMMIT})

    def _json(self, content: object) -> None:
        self._send(200, json.dumps(content).encode(), {"Content-Type": "application/json"})

    def _send(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)


def _entry(file: Path) -> dict[str, object]:
    return {"type": "file", "path": file.name, "size": file.stat().st_size, "oid": _digest(file)}


def _digest(file: Path) -> str:
    return hashlib.sha1(file.read_bytes(), usedforsecurity=False).hexdigest()
