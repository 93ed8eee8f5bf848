"""Versions of the production set: DVC pulls and pushes it, in jobs of Tidegate's worker, never in a customer's request."""

from __future__ import annotations

import logging
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import httpx

from churn.preprocess import clean, write
from churn.production import ProductionRows

logger = logging.getLogger("churn.versions")

FILE = "data/production.csv"
PUSH_EVERY = 500
"""Outcomes."""
PUSH_SECONDS = 30.0
"""Least time between two pushes: each has all rows, so those that come faster would only keep the worker busy."""


class Versions:
    """``home`` is the repository, which is also the folder of tidegate.yaml. What Tidegate refuses is logged: the rows stay
    in the database, and the next push has them."""

    def __init__(
        self,
        home: Path,
        control: str,
        key: str,
        every: int = PUSH_EVERY,
        transport: httpx.BaseTransport | None = None,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._home = home
        self._every = every
        self._client = httpx.Client(
            base_url=control, headers={"X-API-Key": key}, timeout=10, trust_env=False, transport=transport
        )
        self._monotonic = monotonic
        self._learned = 0
        self._pushed = -PUSH_SECONDS
        self._lock = threading.Lock()
        self._writing = threading.Lock()

    def close(self) -> None:
        self._client.close()

    def due(self) -> bool:
        """Counts one outcome; true when ``every`` of them have come since the last push, and it was long enough ago."""
        with self._lock:
            self._learned += 1
            if self._learned < self._every or self._monotonic() < self._pushed + PUSH_SECONDS:
                return False
            self._learned, self._pushed = 0, self._monotonic()
            return True

    def pull(self) -> None:
        self._ask({"kind": "dvc-pull", "reason": "the survey starts"})

    def push(self, rows: ProductionRows) -> None:
        """Writes all labelled rows to the file, and has DVC keep it."""
        with self._writing:
            counts = export(rows, self._home / FILE)
            told = f"{counts['kept']} labelled customers"
            self._ask({"kind": "dvc-push", "targets": [FILE], "commit": told, "reason": told})

    def _ask(self, body: Mapping[str, Any]) -> None:
        try:
            answer = self._client.post("/api/v1/jobs", json=body, headers={"Idempotency-Key": uuid.uuid4().hex})
            answer.raise_for_status()
        except httpx.HTTPError as error:
            logger.warning("%s was not begun: %s", body["kind"], error)


def export(rows: ProductionRows, file: Path) -> Counter[str]:
    """The labelled rows as a table that can be trained on."""
    counts: Counter[str] = Counter()
    as_text = ({name: "" if value is None else str(value) for name, value in row.items()} for row in rows.labelled())
    write(clean(as_text, counts), file)
    return counts


def versions_from(environment: Mapping[str, str]) -> Versions | None:
    """None where CHURN_DATA says nothing."""
    home = environment.get("CHURN_DATA", "")
    if not home:
        return None
    return Versions(
        Path(home),
        environment.get("TIDEGATE_CONTROL", "http://127.0.0.1:8001"),
        environment.get("CHURN_CONTROL_KEY", ""),
        int(environment.get("PUSH_EVERY", PUSH_EVERY)),
    )
