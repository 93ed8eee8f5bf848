"""HTTP over plain sockets, so that a test knows which byte was sent when, and a load of checked requests."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from types import TracebackType
from typing import Any, NamedTuple, Self

_MOST_KEPT = 20


class Answer(NamedTuple):
    status: int
    headers: Mapping[str, str]
    body: bytes
    seconds: float = 0.0

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class ClosedIdle(ConnectionError):
    """The connection ended before the first byte of an answer."""


class Caller:
    """One client with one keep-alive connection.

    A request is sent again on a fresh connection only when a connection that had answered before was closed before any
    byte of this answer. A server may close a connection that it sees idle at any moment (RFC 9112, 9.3.1), so the request
    crossed that closing on its way and nobody has begun to answer it; and a prediction changes nothing, so that even a
    request that did arrive does no harm the second time. Every HTTP client with a pool does this.
    """

    def __init__(self, port: int, timeout: float = 30.0, host: str = "127.0.0.1") -> None:
        self.port = port
        self.retried = 0
        self._address = (host, port)
        self._timeout = timeout
        self._socket: socket.socket | None = None
        self._buffer = b""
        self._answered = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        if self._socket is not None:
            self._socket.close()
        self._socket, self._buffer, self._answered = None, b"", 0

    def call(self, method: str, path: str, body: Any = None, headers: Mapping[str, str] | None = None) -> Answer:
        """``body`` is bytes, or anything for JSON. Raises OSError when there is no complete answer."""
        message = request_bytes(method, path, body, headers)
        started = time.perf_counter()
        reused = self._answered > 0
        try:
            answer = self._exchange(message)
        except ClosedIdle:
            self.close()
            if not reused:
                raise
            self.retried += 1
            answer = self._exchange(message)
        return answer._replace(seconds=time.perf_counter() - started)

    def send(self, message: bytes) -> None:
        """Bytes as they are; the answers are read with ``receive``."""
        if self._socket is None:
            self._socket = socket.create_connection(self._address, self._timeout)
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            self._socket.sendall(message)
        except (BrokenPipeError, ConnectionResetError) as error:
            raise ClosedIdle(str(error)) from error

    def _exchange(self, message: bytes) -> Answer:
        self.send(message)
        return self.receive()

    def receive(self) -> Answer:
        try:
            head = self._head()
            lines = head.decode("latin-1").split("\r\n")
            headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines[1:])}
            length = int(headers.get("content-length", "0"))
            while len(self._buffer) < length:
                self._more()
            body, self._buffer = self._buffer[:length], self._buffer[length:]
        except OSError:
            self.close()
            raise
        self._answered += 1
        if headers.get("connection", "").lower() == "close":
            self.close()
        return Answer(int(lines[0].split()[1]), headers, body)

    def _head(self) -> bytes:
        while b"\r\n\r\n" not in self._buffer:
            self._more()
        head, _, self._buffer = self._buffer.partition(b"\r\n\r\n")
        return head

    def _more(self) -> None:
        assert self._socket is not None
        try:
            received = self._socket.recv(1 << 16)
        except ConnectionResetError as error:
            raise (ConnectionError if self._buffer else ClosedIdle)(str(error)) from error
        if not received:
            raise ConnectionError("closed within an answer") if self._buffer else ClosedIdle("closed")
        self._buffer += received


def request_bytes(method: str, path: str, body: Any = None, headers: Mapping[str, str] | None = None) -> bytes:
    content = body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
    lines = {"host": "test", "content-type": "application/json", **(headers or {}), "content-length": str(len(content))}
    head = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
    return f"{method} {path} HTTP/1.1\r\n{head}\r\n".encode() + content


class Tally:
    """What the clients of a load saw; ``failures`` keeps the first few in words, ``failed`` counts all."""

    def __init__(self) -> None:
        self.answered = 0
        self.failed = 0
        self.retried = 0
        self.failures: list[str] = []
        self._lock = threading.Lock()

    def ok(self) -> None:
        with self._lock:
            self.answered += 1

    def again(self, times: int) -> None:
        with self._lock:
            self.retried += times

    def bad(self, text: str) -> None:
        with self._lock:
            self.failed += 1
            if len(self.failures) < _MOST_KEPT:
                self.failures.append(text)

    def assert_clean(self, at_least: int = 1) -> None:
        assert not self.failed, f"{self.failed} failed, {self.answered} answered: {self.failures}"
        assert self.answered >= at_least, f"only {self.answered} requests were answered, {at_least} expected"


Ask = Callable[[Caller, int], str]
"""Makes request number n with the caller and checks the answer; returns what is wrong, or ''."""


class Load:
    """Clients in threads that ask until told to stop, or until ``most`` requests in all were made."""

    def __init__(
        self, port: int, ask: Ask, clients: int = 4, most: int = 1_000_000, timeout: float = 30.0, pause: float = 0.0
    ) -> None:
        self.tally = Tally()
        self._port, self._ask, self._most, self._timeout, self._pause = port, ask, most, timeout, pause
        self._next = iter(range(most))
        self._lock = threading.Lock()
        self._stopped = threading.Event()
        self._threads = [threading.Thread(target=self._run, daemon=True) for _ in range(clients)]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stopped.set()
        self.join(self._timeout + 10)

    def join(self, seconds: float) -> Tally:
        deadline = time.monotonic() + seconds
        for thread in self._threads:
            thread.join(max(deadline - time.monotonic(), 0))
            assert not thread.is_alive(), "a client waits for its answer still"
        return self.tally

    def _run(self) -> None:
        with Caller(self._port, self._timeout) as caller:
            while not self._stopped.wait(self._pause):
                with self._lock:
                    number = next(self._next, None)
                if number is None:
                    break
                self._one(caller, number)
            self.tally.again(caller.retried)

    def _one(self, caller: Caller, number: int) -> None:
        try:
            wrong = self._ask(caller, number)
        except Exception as error:
            caller.close()
            wrong = f"{type(error).__name__}: {error}"
        if wrong:
            self.tally.bad(f"request {number}: {wrong}")
        else:
            self.tally.ok()


def sum_of_row(*biases: float, path: str = "/predict", headers: Mapping[str, str] | None = None) -> Ask:
    """Asks the fake model for a row's sum, which may have any of these biases added; no other answer is right."""
    allowed = biases or (0.0,)

    def ask(caller: Caller, number: int) -> str:
        row = [float(number), 1.0, 2.0, 3.0]
        answer = caller.call("POST", path, {"features": [row]}, headers)
        if answer.status != 200:
            return f"{answer.status} {answer.body[:300]!r}"
        got = answer.json["predictions"]
        return "" if got in [[sum(row) + bias] for bias in allowed] else f"{got} for {row}"

    return ask


def anew(ask: Ask, every: int = 1, pause: float = 0.0) -> Ask:
    """The same requests, each ``every``-th of them on a connection of its own, which says nothing for ``pause`` seconds."""

    def asked(caller: Caller, number: int) -> str:
        if number % every == 0:
            caller.close()
            caller.send(b"")
            threading.Event().wait(pause)
        return ask(caller, number)

    return asked


def pipelined(caller: Caller, messages: Iterable[bytes]) -> list[Answer]:
    """All requests in one write, then all answers in order."""
    batch = list(messages)
    caller.send(b"".join(batch))
    return [caller.receive() for _ in batch]
