"""The demo's callers: they ask over real HTTP, note what they get, and say later what the flower was."""

from __future__ import annotations

import collections
import http.client
import json
import random
import threading
import time
import uuid

from tidegate.cli.demo_models import Made, a_flower

HOST = "127.0.0.1"
LABEL_SHARE = 0.5
"""Of the answers, those whose label becomes known."""
LABEL_AFTER = 1.0
LABELS_EVERY = 0.5
UNITS = 5000


class Traffic:
    """``per_second`` calls over one connection, and a second thread that sends labels in batches."""

    def __init__(self, port: int, made: Made, per_second: float) -> None:
        self._port = port
        self._made = made
        self._per_second = per_second
        self._ended = threading.Event()
        self._labels: collections.deque[tuple[float, str, str]] = collections.deque(maxlen=100_000)
        self.sent = 0
        self.failed = 0
        """Calls that got no answer, or another status than 200: what users would have noticed."""
        self.threads = [
            threading.Thread(target=self._call, name="demo-calls", daemon=True),
            threading.Thread(target=self._tell, name="demo-labels", daemon=True),
        ]

    def start(self) -> None:
        for thread in self.threads:
            thread.start()

    def stop(self) -> None:
        """Also before it was started: whoever ends early, for a server that does not come up, still has to clean up."""
        self._ended.set()
        for thread in self.threads:
            if thread.is_alive():
                thread.join(5.0)

    def _call(self) -> None:
        chance = random.Random(0)  # noqa: S311
        connection = http.client.HTTPConnection(HOST, self._port, timeout=10)
        due = time.monotonic()
        while not self._ended.wait(max(due - time.monotonic(), 0.0)):
            due = max(due + 1.0 / self._per_second, time.monotonic() - 1.0)
            row, label = a_flower(self._made, chance)
            request_id = uuid.uuid4().hex
            headers = {
                "Content-Type": "application/json",
                "X-Request-Id": request_id,
                "X-User-Id": f"user-{chance.randrange(UNITS)}",
            }
            self.sent += 1
            try:
                connection.request("POST", "/predict/iris", json.dumps({"features": [row]}), headers)
                answer = connection.getresponse()
                answer.read()
            except (OSError, http.client.HTTPException):
                connection.close()
                self.failed += 1
                continue
            self.failed += answer.status != 200
            if chance.random() < LABEL_SHARE:
                self._labels.append((time.monotonic() + LABEL_AFTER, request_id, label))

    def _tell(self) -> None:
        connection = http.client.HTTPConnection(HOST, self._port, timeout=10)
        while not self._ended.wait(LABELS_EVERY):
            now = time.monotonic()
            ripe: list[tuple[float, str, str]] = []
            while self._labels and self._labels[0][0] <= now and len(ripe) < 500:
                ripe.append(self._labels.popleft())
            if not ripe:
                continue
            body = [{"request_id": request_id, "metric": "accuracy", "label": label} for _, request_id, label in ripe]
            try:
                connection.request("POST", "/feedback", json.dumps(body), {"Content-Type": "application/json"})
                answer = connection.getresponse()
                answer.read()
                told = answer.status < 300
            except (OSError, http.client.HTTPException):
                connection.close()
                told = False
            if not told:
                self._labels.extendleft(reversed(ripe))  # told again: the same label twice is the same as once
