"""A control plane that answers what it was told to, and remembers what it was asked."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple


class Asked(NamedTuple):
    method: str
    path: str
    body: Any
    headers: dict[str, str]


class FakeControl(ThreadingHTTPServer):
    """``answers``: (method, path without query) -> (status, body); a list of bodies under GET …/events is a stream."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.answers: dict[tuple[str, str], tuple[int, Any]] = {}
        self.streams: dict[str, list[list[Any] | None]] = {}
        """Path -> what each connection gets before it ends; None: it is refused with 503."""
        self.asked: list[Asked] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class Handler(BaseHTTPRequestHandler):
    server: FakeControl

    def do_GET(self) -> None:
        self._take("GET", None)

    def do_POST(self) -> None:
        length = int(self.headers.get("content-length", 0))
        self._take("POST", json.loads(self.rfile.read(length) or b"null"))

    def _take(self, method: str, body: Any) -> None:
        path = self.path.partition("?")[0]
        headers = {name.lower(): value for name, value in self.headers.items()}
        self.server.asked.append(Asked(method, self.path, body, headers))
        streams = self.server.streams.get(path)
        stream = streams.pop(0) if streams else None
        if stream is not None:
            self.send_response(200)
            self.send_header("Content-Type", "text/event-stream")
            self.end_headers()
            for happening in stream:
                self.wfile.write(b"event: x\ndata: " + json.dumps(happening).encode() + b"\n\n: nothing new\n\n")
            return
        absent = (404, {"detail": f"nothing at {path}"}) if streams is None else (503, {"detail": "not now"})
        status, answer = self.server.answers.get((method, path), absent)
        content = json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        """Says nothing."""


@contextmanager
def fake_control() -> Iterator[FakeControl]:
    with FakeControl() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()
