"""One HTTP request as data: sent once over a plain socket, or repeated by the load generators."""

from __future__ import annotations

import http.client
import json
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Request:
    path: str
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=lambda: {"Content-Type": "application/json"})
    method: str = "POST"

    @classmethod
    def json(cls, path: str, document: Any) -> Request:
        return cls(path, json.dumps(document, separators=(",", ":")).encode())

    def encoded(self) -> bytes:
        """The whole request for a connection that is kept alive."""
        lines = [f"{self.method} {self.path} HTTP/1.1", "Host: 127.0.0.1"]
        lines += [f"{name}: {value}" for name, value in self.headers.items()]
        if self.method != "GET":
            lines.append(f"Content-Length: {len(self.body)}")
        return "\r\n".join(lines).encode() + b"\r\n\r\n" + self.body

    def send(self, port: int, timeout: float = 10.0) -> tuple[int, bytes]:
        """Status and body of one answer; raises OSError when nothing answers."""
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=timeout)
        try:
            connection.request(self.method, self.path, self.body or None, {**self.headers, "Connection": "close"})
            answer = connection.getresponse()
            return answer.status, answer.read()
        except http.client.HTTPException as error:
            raise ConnectionError(f"no HTTP answer: {error!r}") from error
        finally:
            connection.close()
