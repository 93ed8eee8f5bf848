"""A server with the native answers and none of the models: counts petals, refuses what it is told to refuse."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

COLUMNS = ["length", "width"]


class FakeServer(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.bodies: list[dict[str, Any]] = []
        self.headers_seen: list[dict[str, str]] = []
        self.refusals: list[tuple[int, str]] = []
        """Statuses, with their Retry-After, that the next requests get."""
        self.named_rows = True
        """Whether a 422 says which rows are bad."""
        self.columns = COLUMNS
        self.status_of_bad_rows = 422

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class Handler(BaseHTTPRequestHandler):
    server: FakeServer
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        if self.path == "/info":
            self._answer(200, {"default_endpoint": "iris"})
        elif self.path == "/models/iris":
            spec = {"name": "X", "datatype": "FP64", "shape": [-1, 2], "columns": self.server.columns}
            self._answer(200, {"signature": {"inputs": [spec]}})
        else:
            self._answer(404, {"detail": "no such endpoint"})

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        self.server.headers_seen.append({name.lower(): value for name, value in self.headers.items()})
        if self.server.refusals:
            status, wait = self.server.refusals.pop(0)
            self._answer(status, {"detail": "busy"}, {"Retry-After": wait})
            return
        self.server.bodies.append(body)
        form = next(form for form in ("records", "features", "texts", "instances") if form in body)
        rows = [list(row.values()) if isinstance(row, dict) else row for row in body[form]]
        bad = [index for index, row in enumerate(rows) if None in row or "bad" in row]
        if bad:
            named = [{"loc": [form, index, "width"], "msg": f"row {index} is bad"} for index in bad]
            self._answer(
                self.server.status_of_bad_rows,
                {"detail": "a row is bad", "errors": named if self.server.named_rows else []},
            )
            return
        answer = {
            "predictions": [sum(row) for row in rows],
            "scores": [[1.0, 0.0] for _ in rows],
            "model": {"version": "3", "variant": "baseline"},
            "request_id": "r",
        }
        self._answer(200, answer)

    def _answer(self, status: int, body: dict[str, Any], headers: dict[str, str] | None = None) -> None:
        content = json.dumps(body).encode()
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        """Says nothing."""


@contextmanager
def fake_server() -> Iterator[FakeServer]:
    with FakeServer() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()
