"""A job as its handler sees it."""

from __future__ import annotations

import logging
import re
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeVar

import msgspec

from tidegate.clock import Clock
from tidegate.control.jobs.claims import Claim, Claims
from tidegate.control.jobs.job import Job, Progress
from tidegate.errors import InvalidInput, StoreAway, UserError

if TYPE_CHECKING:
    from tidegate.control.registry.base import Registry
    from tidegate.settings import Settings
    from tidegate.storage.store import Store
    from tidegate.types import ModelRef, Tensors

logger = logging.getLogger("tidegate.jobs")

PROGRESS_SECONDS = 0.5
RETRY_SECONDS = 1.0
"""Between attempts to write to a store that is away."""

T = TypeVar("T")
Kind = Literal["number", "whole", "boolean", "text"]


class Ended(BaseException):
    """Not an Exception: a handler that goes on after errors does not go on after this."""


class Cancelled(Ended):
    """Somebody asked for it."""


class Scorer(Protocol):
    """A loaded model that scores the rows of a file."""

    version: str
    digest: str
    kinds: Mapping[str, Kind]
    """What a column of text holds, by name; empty where the model knows no names."""
    optional: Sequence[str]
    """Those of them that a row may lack."""
    fault: str
    """How the model failed last; empty when it did not."""
    matrix: bool
    """Whether it takes one matrix, whose columns may have no names."""
    told: Callable[[int], None]
    """Called with the number of rows after each call of the model; what it raises ends ``predict``."""

    def missing(self, header: Sequence[str]) -> tuple[str, ...]:
        """Names of columns that it needs and ``header`` lacks."""

    def inputs(self, header: Sequence[str], columns: Sequence[Any]) -> Tensors:
        """Of columns of as many rows, arrays or lists. Raises InvalidInput when a row does not fit."""

    def predict(self, inputs: Tensors) -> dict[str, Any]:
        """Columns of answers. Raises ModelFailed or ContractError when the model fails."""

    def close(self) -> None: ...


class Task:
    """``open_model`` loads what a reference names, ``configured`` finds an endpoint's own; ``base`` is what the configuration's paths start
    from. ``stopping`` is set to end a wait for a store that is away."""

    def __init__(
        self,
        claim: Claim,
        claims: Claims,
        settings: Settings,
        store: Store,
        registry: Registry,
        clock: Clock,
        folder: Path,
        *,
        base: Path | None = None,
        open_model: Callable[[ModelRef], Scorer] | None = None,
        configured: Callable[[str], ModelRef] | None = None,
        stopping: threading.Event | None = None,
    ) -> None:
        self.job: Job = claim.job
        self.settings = settings
        self.store = store
        self.registry = registry
        self.clock = clock
        self.base = base or Path.cwd()
        self.cancelled = threading.Event()
        """May be set from outside: the next ``progress`` raises."""
        self._home = folder
        self._claim = claim
        self._claims = claims
        self._open_model = open_model
        self._configured = configured
        self._stopping = stopping or threading.Event()
        self._written = -PROGRESS_SECONDS
        self._last: Progress | None = None

    @property
    def payload(self) -> Mapping[str, Any]:
        return self.job.payload

    @property
    def folder(self) -> Path:
        """Of this job alone, kept between tries; made by the first look."""
        path = folder_of_job(self._home, self.job.id)
        path.mkdir(parents=True, exist_ok=True, mode=0o700)
        return path

    def model(self, ref: ModelRef) -> Scorer:
        """Raises ModelError."""
        if self._open_model is None:
            raise UserError("no model can be loaded here")
        return self._open_model(ref)

    def configured(self, endpoint: str) -> ModelRef:
        """The baseline that the configuration names, pinned; for a store where nothing is published yet. Raises UserError."""
        if self._configured is None:
            raise UserError(f"the endpoint {endpoint[:80]!r} is not published yet")
        return self._configured(endpoint)

    def progress(self, done: int = 0, total: int = 0, text: str = "") -> None:
        """How far it is; cheap, so call it often. Raises Cancelled, and LeaseLost when another worker has the job now."""
        self._last = Progress(done, total, text[:200])
        now = self.clock.monotonic()
        if not self.cancelled.is_set() and now - self._written < PROGRESS_SECONDS:
            return
        self._written = now
        try:
            self.job = self._claims.progress(self._claim, self._last)
        except StoreAway:
            logger.debug("job %s: its progress waits for the store", self.job.id)
        if self.job.cancelling or self.cancelled.is_set():
            raise Cancelled

    def must_go_on(self) -> None:
        """Right before what cannot be taken back. Raises Cancelled and LeaseLost as the store knows it now; while that is
        away it waits."""
        self.job = self.patiently(lambda: self._claims.progress(self._claim, self._last or self.job.progress))
        if self.job.cancelling or self.cancelled.is_set():
            raise Cancelled

    def step(self, name: str, act: Callable[[], T]) -> T:
        """What ``act`` gives, as JSON holds it; over all tries it is not run again once its result is kept. ``act`` itself
        may be cut off anywhere and run again. Raises LeaseLost."""
        if name in self.job.steps:
            kept: T = self.job.steps[name]
            return kept
        value = msgspec.json.decode(msgspec.json.encode(act()))
        self.job = self.patiently(lambda: self._claims.step(self._claim, name, value))
        found: T = self.job.steps[name]
        if self.job.cancelling:
            raise Cancelled
        return found

    def patiently(self, act: Callable[[], T]) -> T:
        """``act``, again and again while the store is away."""
        said = False
        while True:
            try:
                return act()
            except StoreAway as error:
                if not said:
                    logger.warning("job %s waits for the store: %s", self.job.id, error)
                said = True
                if self._stopping.wait(RETRY_SECONDS):
                    raise

    def stop(self) -> None:
        """Ends a wait for a store that is away."""
        self._stopping.set()

    def flush(self) -> None:
        """Writes the last progress, whenever the one before was written."""
        if self._last is not None and self._last != self.job.progress:
            last = self._last
            self.job = self.patiently(lambda: self._claims.progress(self._claim, last))


INPUTS, UPLOAD = "inputs", "upload:"


def uploaded(home: Path, source: str) -> Path:
    """The file behind what an upload gave. Raises InvalidInput for anything else."""
    name = source.removeprefix(UPLOAD)
    if not re.fullmatch(r"u-[0-9a-f]{32}", name):
        raise InvalidInput("this is not what an upload gave", ("source",))
    return home / INPUTS / name


def folder_of_job(home: Path, id: str) -> Path:  # noqa: A002
    return home / id
