"""Jobs: what is asked for, how far it is, what came of it. Frozen records; ``moves.py`` makes new ones."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import msgspec

State = Literal["queued", "running", "done", "failed", "cancelled"]
OPEN: tuple[State, ...] = ("queued", "running")


class Progress(msgspec.Struct, frozen=True):
    """``total`` is 0 while it is not known; ``text`` says in a few words what is being done."""

    done: int = 0
    total: int = 0
    text: str = ""


class Attempt(msgspec.Struct, frozen=True):
    """One try: by whom, when, and why it ended without a result."""

    worker: str
    started: float
    ended: float = 0.0
    error: str = ""


class Job(msgspec.Struct, frozen=True, kw_only=True):
    """``kind`` names the handler, ``payload`` is what it works on. ``steps`` keeps what finished steps gave, so that
    another try goes on after them."""

    id: str
    kind: str
    key: str = ""
    endpoint: str = ""
    state: State = "queued"
    payload: Mapping[str, Any] = {}
    author: str = ""
    reason: str = ""
    parent: str = ""
    """Id of what asked for it: a retraining, an alert, another job."""
    progress: Progress = Progress()
    steps: Mapping[str, Any] = {}
    attempts: tuple[Attempt, ...] = ()
    """The newest ones."""
    tries: int = 0
    """Those that count against ``max_attempts``; begins anew when a person asks for another."""
    max_attempts: int = 3
    timeout_seconds: float = 86_400.0
    """Of one try."""
    created: float
    run_at: float
    """Not before."""
    started: float = 0.0
    ended: float = 0.0
    error: str = ""
    """Why it failed, for people."""
    result: Mapping[str, Any] = {}
    cancelling: bool = False
    revision: int = 0

    @property
    def open(self) -> bool:
        return self.state in OPEN
