"""Customers, over HTTP: some answer the survey, about others the call centre's program asks Tidegate itself.

Of most it becomes known whether they left: the survey says so at once or a moment later, the call centre in batches.
"""

from __future__ import annotations

import http.client
import json
import random
import threading
import time
import uuid
from collections import deque
from collections.abc import Callable
from contextlib import closing
from typing import Any, NamedTuple

from churn.generator import FEATURES, LABEL, LEFT, NONE, STAYED, Drift, make, records
from churn.survey import LABEL_METRIC, STAYED_METRIC

CHUNK = 500
KNOWN = 0.9
"""Share of the customers of whom it becomes known whether they left."""
AT_ONCE = 0.5
"""Of those, in the survey."""
LATER_SECONDS = 0.5
HOST = "127.0.0.1"


class Seen(NamedTuple):
    """One answer. ``right``: whether what was predicted is what happened."""

    time: float
    customer: str
    variant: str
    version: str
    right: bool
    drifted: bool


class Customers:
    """Set ``drift`` at any time: from then on other customers come. ``survey`` and ``centre`` are how many a second come by
    each way, times ``pace``; ``seen`` is what they were told, ``failed`` counts who was not answered."""

    def __init__(
        self, data_port: int, survey_port: int, *, survey: float, centre: float, key: str = "", seed: int = 1000
    ) -> None:
        self.drift: Drift = NONE
        self.pace = 1.0
        self.seen: list[Seen] = []
        self.failed = 0
        self.labels = 0
        self._key = key
        self._seed = seed
        self._rows: deque[dict[str, Any]] = deque()
        self._rows_drift: Drift = NONE
        self._lock = threading.Lock()
        self._ended = threading.Event()
        ways = ((self._survey, survey_port, survey), (self._centre, data_port, centre))
        self._threads = [
            threading.Thread(target=self._come, args=(act, port, rate), daemon=True)
            for act, port, rate in ways
            if rate > 0
        ]

    def start(self, key: str = "") -> None:
        """``key`` is what the call centre sends."""
        self._key = key or self._key
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

    def _come(self, act: Callable[[http.client.HTTPConnection, float], None], port: int, rate: float) -> None:
        with closing(http.client.HTTPConnection(HOST, port, timeout=30)) as connection:
            act(connection, rate)

    def _survey(self, connection: http.client.HTTPConnection, rate: float) -> None:
        outcomes: deque[tuple[float, str, bool]] = deque()
        chance = random.Random(1)
        for row, drift in self._in_time(rate):
            left = row[LABEL] == LEFT
            body: dict[str, Any] = {"customer_id": row["customer_id"], "answers": _answers(row)}
            known, at_once = chance.random() < KNOWN, chance.random() < AT_ONCE
            if known and at_once:
                body["churned"] = left
            told = self._call(connection, "/survey/submit", body)
            if told is None:
                continue
            self._note(row, drift, told["prediction"], told["variant"], told["version"])
            if known and at_once:
                self.labels += 1
            elif known:
                outcomes.append((time.monotonic() + LATER_SECONDS, told["request_id"], left))
            while outcomes and outcomes[0][0] <= time.monotonic():
                due, request_id, left = outcomes.popleft()
                if self._call(connection, "/survey/outcome", {"request_id": request_id, "churned": left}) is None:
                    outcomes.append((due + 1.0, request_id, left))  # told again later
                    break
                self.labels += 1

    def _centre(self, connection: http.client.HTTPConnection, rate: float) -> None:
        outcomes: list[dict[str, Any]] = []
        told_at = time.monotonic()
        chance = random.Random(2)
        for row, drift in self._in_time(rate):
            request_id = uuid.uuid4().hex
            headers = {"X-User-Id": row["customer_id"], "X-Request-Id": request_id}
            told = self._call(connection, "/predict/churn", {"records": [_answers(row)]}, headers)
            if told is not None:
                model = told["model"]
                self._note(row, drift, told["predictions"][0], model["variant"], model["version"])
                if chance.random() < KNOWN:
                    left = row[LABEL] == LEFT
                    about = {"request_id": request_id, "endpoint": "churn"}
                    outcomes.append({**about, "metric": LABEL_METRIC, "label": LEFT if left else STAYED})
                    outcomes.append({**about, "metric": STAYED_METRIC, "value": not left})
            if time.monotonic() - told_at > LATER_SECONDS and outcomes:
                told_at = time.monotonic()
                if self._call(connection, "/feedback", outcomes) is not None:
                    self.labels += len(outcomes) // 2
                    outcomes = []

    def _in_time(self, rate: float) -> Any:
        """Customers, so many a second, until the end; who cannot keep up leaves some out."""
        due = time.monotonic()
        while not self._ended.wait(max(due - time.monotonic(), 0.0)):
            due = max(due + 1.0 / (rate * self.pace), time.monotonic() - 1.0)
            with self._lock:
                if not self._rows or self._rows_drift != self.drift:
                    self._seed += 1
                    self._rows_drift = self.drift
                    self._rows = deque(records(make(CHUNK, seed=self._seed, drift=self.drift)))
                row, drift = self._rows.popleft(), self._rows_drift
            yield row, drift

    def _note(self, row: dict[str, Any], drift: Drift, prediction: str, variant: str, version: str) -> None:
        right = prediction == row[LABEL]
        self.seen.append(Seen(time.time(), row["customer_id"], variant, version, right, drift != NONE))

    def _call(
        self, connection: http.client.HTTPConnection, path: str, body: Any, headers: dict[str, str] | None = None
    ) -> dict[str, Any] | None:
        """None, and one more who failed, where there is no good answer."""
        sent = {"Content-Type": "application/json", "X-API-Key": self._key, **(headers or {})}
        try:
            connection.request("POST", path, json.dumps(body), sent)
            answer = connection.getresponse()
            content = answer.read()
        except (OSError, http.client.HTTPException):
            connection.close()
            self.failed += 1
            return None
        if answer.status not in (200, 201):
            self.failed += 1
            return None
        found: dict[str, Any] = json.loads(content)
        return found


def _answers(row: dict[str, Any]) -> dict[str, Any]:
    return {name: row[name] for name in FEATURES}
