"""Visitors who ask what their flower is, and say a moment later what it was."""

from __future__ import annotations

import random
import threading
import uuid
from collections.abc import Sequence

import httpx

EVERY_SECONDS = 0.02
BATCH = 20
"""Answers whose labels are sent together."""


class Visitors:
    """One thread that asks ``POST /predict/`` for one flower after the other until it is told to stop."""

    def __init__(self, address: str, flowers: Sequence[tuple[list[float], str]], seed: int = 0) -> None:
        self._address = address
        self._flowers = flowers
        self._chance = random.Random(seed)
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="visitors", daemon=True)
        self.asked = 0
        self.failed = 0

    def __enter__(self) -> Visitors:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join(10.0)

    def _run(self) -> None:
        labels: list[dict[str, str]] = []
        with httpx.Client(base_url=self._address, timeout=10.0) as client:
            while not self._ended.wait(EVERY_SECONDS):
                features, species = self._chance.choice(self._flowers)
                request_id = uuid.uuid4().hex
                headers = {"X-Request-Id": request_id, "X-User-Id": f"visitor-{self._chance.randrange(2000)}"}
                self.asked += 1
                try:
                    answer = client.post("/predict/", json={"features": [features]}, headers=headers)
                    self.failed += answer.status_code != 200
                    labels.append({"request_id": request_id, "metric": "accuracy", "label": species})
                    if len(labels) >= BATCH and client.post("/feedback", json=labels).is_success:
                        labels.clear()
                except httpx.HTTPError:
                    self.failed += 1
