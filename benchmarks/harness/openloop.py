"""Open-loop load: requests leave when they are due, whether or not earlier ones were answered.

Latency counts from the moment a request was due, so that a stalled server cannot hide its stall. Runs as a process of
its own on the load core: ``offer`` starts it, ``python -m benchmarks.harness.openloop`` is its other end.
"""

from __future__ import annotations

import asyncio
import base64
import json
import random
import re
import subprocess
import sys
import time
from dataclasses import dataclass
from typing import Any

from benchmarks.harness.machine import LOAD_CORE, ROOT
from benchmarks.harness.request import Request

MOST_CONNECTIONS = 4000
OPEN_AT_START = 800
PATIENCE = 10.0
"""Seconds after the last request; what is not answered by then has status 0."""


@dataclass(frozen=True)
class Answer:
    due: float
    """Seconds after the start."""
    latency_ms: float
    status: int
    """0: the connection broke, or nothing came."""
    captured: str


@dataclass(frozen=True)
class Offered:
    answers: list[Answer]
    seconds: float

    def count(self, *statuses: int) -> int:
        return sum(answer.status in statuses for answer in self.answers)

    def latencies(self, *statuses: int) -> list[float]:
        return sorted(answer.latency_ms for answer in self.answers if answer.status in statuses)

    def goodput(self, within_ms: float) -> float:
        good = sum(answer.status == 200 and answer.latency_ms <= within_ms for answer in self.answers)
        return good / self.seconds


def percentile(ordered: list[float], share: float) -> float:
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else 0.0


class Offering:
    """A running generator; ``result`` waits for its end."""

    def __init__(self, port: int, request: Request, *, rate: float, seconds: float, capture: str = "") -> None:
        self.seconds = seconds
        self._process = subprocess.Popen(
            ["taskset", "-c", str(LOAD_CORE), sys.executable, "-m", "benchmarks.harness.openloop"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT,
        )  # fmt: skip
        raw = base64.b64encode(request.encoded()).decode()
        order = {"port": port, "request": raw, "rate": rate, "seconds": seconds, "capture": capture}
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(order))
        self._process.stdin.close()
        assert self._process.stdout is not None
        self._process.stdout.readline()
        self.began = time.perf_counter()

    def result(self) -> Offered:
        assert self._process.stdout is not None
        answers = [Answer(*entry) for entry in json.loads(self._process.stdout.read())]
        self._process.wait()
        return Offered(answers, self.seconds)


def offer(port: int, request: Request, *, rate: float, seconds: float, capture: str = "") -> Offered:
    return Offering(port, request, rate=rate, seconds=seconds, capture=capture).result()


class _Connection(asyncio.Protocol):
    def __init__(self, generator: _Generator) -> None:
        self.generator = generator
        self.transport: Any = None
        self.due: float | None = None
        self.buffer = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    def ask(self, due: float) -> None:
        self.due = due
        self.transport.write(self.generator.request)

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        end = self.buffer.find(b"\r\n\r\n")
        if end < 0:
            return
        length = re.search(rb"(?i)\r\ncontent-length: *(\d+)", self.buffer[: end + 2])
        total = end + 4 + (int(length[1]) if length else 0)
        if len(self.buffer) < total:
            return
        answer, self.buffer = self.buffer[:total], b""
        due, self.due = self.due, None
        if due is not None:
            self.generator.answered(due, int(answer[9:12]), answer)
        if re.search(rb"(?i)\r\nconnection: *close", answer[: end + 2]):
            self.transport.close()
        else:
            self.generator.idle.append(self)

    def connection_lost(self, error: Exception | None) -> None:
        self.transport = None
        self.generator.open -= 1
        if self.due is not None:
            due, self.due = self.due, None
            self.generator.answered(due, 0, b"")


class _Generator:
    def __init__(self, order: dict[str, Any]) -> None:
        self.port = order["port"]
        self.request = base64.b64decode(order["request"])
        self.rate = order["rate"]
        self.seconds = order["seconds"]
        self.capture = re.compile(order["capture"].encode()) if order["capture"] else None
        self.idle: list[_Connection] = []
        self.open = 0
        self.answers: list[tuple[float, float, int, str]] = []
        self.began = 0.0

    def answered(self, due: float, status: int, answer: bytes) -> None:
        found = self.capture.search(answer) if self.capture is not None else None
        captured = found[1].decode() if found else ""
        self.answers.append((due, 1000 * (time.perf_counter() - self.began - due), status, captured))

    async def connect(self) -> _Connection:
        self.open += 1
        loop = asyncio.get_running_loop()
        try:
            _, connection = await loop.create_connection(lambda: _Connection(self), "127.0.0.1", self.port)
        except OSError:
            self.open -= 1
            raise
        return connection

    async def ask_on_new(self, due: float) -> None:
        try:
            connection = await self.connect()
        except OSError:
            self.answered(due, 0, b"")
            return
        connection.ask(due)

    async def run(self) -> list[tuple[float, float, int, str]]:
        chance = random.Random(7)
        moments = []
        moment = chance.expovariate(self.rate)
        while moment < self.seconds:
            moments.append(moment)
            moment += chance.expovariate(self.rate)
        self.idle = [await self.connect() for _ in range(min(OPEN_AT_START, max(8, int(self.rate / 2))))]
        print("started", flush=True)
        self.began = time.perf_counter()
        tasks = set()
        for due in moments:
            while (ahead := due - (time.perf_counter() - self.began)) > 0:  # noqa: ASYNC110 - waits for a moment
                await asyncio.sleep(ahead if ahead > 0.001 else 0)
            while self.idle and self.idle[-1].transport is None:
                self.idle.pop()
            if self.idle:
                self.idle.pop().ask(due)
            elif self.open < MOST_CONNECTIONS:
                task = asyncio.ensure_future(self.ask_on_new(due))
                tasks.add(task)
                task.add_done_callback(tasks.discard)
            else:
                self.answered(due, 0, b"")
            # Sending alone would starve the reading side when requests are late.
            await asyncio.sleep(0)
        end = time.perf_counter() + PATIENCE
        while len(self.answers) < len(moments) and time.perf_counter() < end:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        return self.answers + [(0.0, 1000 * PATIENCE, 0, "")] * (len(moments) - len(self.answers))


if __name__ == "__main__":
    import uvloop

    print(json.dumps(uvloop.run(_Generator(json.load(sys.stdin)).run())))
