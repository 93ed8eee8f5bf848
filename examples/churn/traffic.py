"""Customers who answer the survey, over HTTP; of most it becomes known whether they left, at once or a moment later."""

from __future__ import annotations

import http.client
import json
import random
import threading
import time
from collections import deque
from typing import Any, NamedTuple

from churn.generator import FEATURES, LABEL, LEFT, NONE, Drift, make, records

CHUNK = 500
AT_ONCE = 0.4
LATER = 0.5
"""Shares of the outcomes; of the rest nobody ever hears."""
LATER_SECONDS = 0.5
CALLERS = 3


class Seen(NamedTuple):
    """One answer that a customer got. ``right``: whether what was predicted is what happened."""

    time: float
    customer: str
    variant: str
    version: str
    right: bool
    drifted: bool


class Customers:
    """Set ``drift`` at any time: from then on other customers come. What they saw is in ``seen``, their trouble in ``failed``."""

    def __init__(self, port: int, per_second: float, *, host: str = "127.0.0.1", seed: int = 1000) -> None:
        self.drift: Drift = NONE
        self.seen: list[Seen] = []
        self.failed = 0
        self.labels = 0
        self._address = (host, port)
        self._pause = CALLERS / per_second
        self._seed = seed
        self._rows: deque[dict[str, Any]] = deque()
        self._rows_drift: Drift = NONE
        self._outcomes: deque[tuple[float, str, bool]] = deque()
        self._lock = threading.Lock()
        self._ended = threading.Event()
        self._threads = [threading.Thread(target=self._call, args=(number,), daemon=True) for number in range(CALLERS)]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        self._ended.set()
        for thread in self._threads:
            if thread.is_alive():
                thread.join(10.0)

    def accuracy(self, since: float, until: float = float("inf"), variant: str = "") -> tuple[float, int]:
        """Share of right predictions of that time, and how many there were."""
        found = [one.right for one in list(self.seen) if since <= one.time < until and variant in ("", one.variant)]
        return (sum(found) / len(found) if found else 0.0), len(found)

    def _next(self) -> tuple[dict[str, Any], Drift]:
        with self._lock:
            if not self._rows or self._rows_drift != self.drift:
                self._seed += 1
                self._rows_drift = self.drift
                self._rows = deque(records(make(CHUNK, seed=self._seed, drift=self.drift)))
            return self._rows.popleft(), self._rows_drift

    def _call(self, number: int) -> None:
        chance = random.Random(number)
        connection = http.client.HTTPConnection(*self._address, timeout=30)
        due = time.monotonic() + number * self._pause / CALLERS
        while not self._ended.wait(max(due - time.monotonic(), 0.0)):
            due = max(due + self._pause, time.monotonic() - 1.0)
            row, drift = self._next()
            left = row[LABEL] == LEFT
            body: dict[str, Any] = {
                "customer_id": row["customer_id"],
                "answers": {name: row[name] for name in FEATURES},
            }
            lot = chance.random()
            if lot < AT_ONCE:
                body["churned"] = left
            told = self._post(connection, "/survey/submit", body)
            if told is None:
                self.failed += 1
                continue
            right = (told["prediction"] == LEFT) == left
            self.seen.append(
                Seen(time.time(), body["customer_id"], told["variant"], told["version"], right, drift != NONE)
            )
            if lot < AT_ONCE:
                self.labels += 1
            elif lot < AT_ONCE + LATER:
                self._outcomes.append((time.monotonic() + LATER_SECONDS, told["request_id"], left))
            self._tell(connection)
        connection.close()

    def _tell(self, connection: http.client.HTTPConnection) -> None:
        """Outcomes that have become known; one that is refused is told again later."""
        while self._outcomes and self._outcomes[0][0] <= time.monotonic():
            try:
                due, request_id, left = self._outcomes.popleft()
            except IndexError:  # another caller took it
                return
            if self._post(connection, "/survey/outcome", {"request_id": request_id, "churned": left}) is None:
                self._outcomes.append((due + 1.0, request_id, left))
                return
            self.labels += 1

    def _post(self, connection: http.client.HTTPConnection, path: str, body: Any) -> dict[str, Any] | None:
        try:
            connection.request("POST", path, json.dumps(body), {"Content-Type": "application/json"})
            answer = connection.getresponse()
            content = answer.read()
        except (OSError, http.client.HTTPException):
            connection.close()
            return None
        if answer.status not in (200, 201):
            return None
        found: dict[str, Any] = json.loads(content)
        return found
