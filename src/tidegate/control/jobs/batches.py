"""What people do with batch predictions: upload an input, submit, take the results."""

from __future__ import annotations

import logging
import os
import re
import secrets
import shutil
from collections.abc import AsyncIterator
from pathlib import Path
from typing import IO

import msgspec

from tidegate.clock import Clock
from tidegate.control.jobs.batch import ERRORS, BatchPlan, results_name
from tidegate.control.jobs.job import Job
from tidegate.control.jobs.queue import Queue
from tidegate.control.jobs.sources import allowed_source
from tidegate.control.jobs.task import INPUTS, UPLOAD, folder_of_job, uploaded
from tidegate.errors import Conflict, InvalidInput, NotFound, QueueFull, Refused, TooLarge
from tidegate.settings import Jobs
from tidegate.storage.store import Store

logger = logging.getLogger("tidegate.jobs")

KIND = "batch"
MOST_UPLOADS = 256
OLD_SECONDS = 86_400.0
"""An upload that no job has used for so long goes."""
_ID = re.compile(r"[a-z]-[0-9a-f]{8,64}")


class Upload(msgspec.Struct, frozen=True):
    """``source`` names it in a batch job."""

    source: str
    bytes: int


class Batches:
    """``home`` is the jobs' folder, which workers share."""

    def __init__(self, store: Store, queue: Queue, settings: Jobs, clock: Clock, home: Path) -> None:
        self._store = store
        self._queue = queue
        self._settings = settings
        self._clock = clock
        self.home = home

    def submit(self, plan: BatchPlan, *, who: str, reason: str = "") -> Job:
        """Raises NotAllowed for a source that may not be read, InvalidInput, QueueFull."""
        if plan.source.startswith(UPLOAD):
            if not uploaded(self.home, plan.source).is_file():
                raise InvalidInput("there is no such upload any more; send it again", ("source",))
        else:
            source = allowed_source(plan.source, self._settings.sources)
            plan = msgspec.structs.replace(plan, source=source)
        return self._queue.submit(KIND, msgspec.to_builtins(plan), who=who, endpoint=plan.endpoint, reason=reason)

    async def upload(self, chunks: AsyncIterator[bytes]) -> Upload:
        """Keeps a body as it comes. Raises TooLarge, QueueFull."""
        from anyio.to_thread import run_sync

        folder = self.home / INPUTS
        name = f"u-{secrets.token_hex(16)}"
        fresh = folder / f"{name}.new"
        file = await run_sync(self._open, folder, fresh)
        size, most = 0, self._settings.max_upload_mb << 20
        try:
            with file:
                async for data in chunks:
                    size += len(data)
                    if size > most:
                        raise TooLarge(
                            f"the upload is larger than {self._settings.max_upload_mb} MiB (jobs.max_upload_mb)"
                        )
                    await run_sync(file.write, data)
                await run_sync(_to_disk, file)
            if not size:
                raise InvalidInput("the upload is empty", ("body",))
            await run_sync(fresh.replace, folder / name)
        except OSError as error:
            raise Refused(f"the upload cannot be kept: {error.strerror}", 30.0) from error
        finally:
            await run_sync(lambda: fresh.unlink(missing_ok=True))
        return Upload(UPLOAD + name, size)

    def _open(self, folder: Path, fresh: Path) -> IO[bytes]:
        try:
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            if sum(1 for _ in folder.iterdir()) >= MOST_UPLOADS:
                raise QueueFull(f"{MOST_UPLOADS} uploads wait for their jobs already", 60.0)
            return fresh.open("wb")
        except OSError as error:
            raise Refused(f"the upload cannot be kept: {error.strerror}", 30.0) from error

    def file(self, job: Job, *, errors: bool = False) -> Path:
        """Results, or the rows without one. Raises Conflict while there are none, NotFound once they were thrown away."""
        if job.state != "done":
            why = f": {job.error}" if job.error else ""
            raise Conflict(f"job {job.id} is {job.state}{why}; there are results once it is done")
        plan = msgspec.convert(job.payload, BatchPlan)
        path = folder_of_job(self.home, job.id) / (ERRORS if errors else results_name(plan))
        if not path.is_file():
            raise NotFound("the results are not here any more, or the worker does not share the jobs' folder")
        return path

    def sweep(self) -> None:
        """Removes what belongs to jobs that the store has thrown away, and uploads that no job took."""
        old = self._clock.wall() - OLD_SECONDS
        for path in self.home.iterdir() if self.home.is_dir() else ():
            if _ID.fullmatch(path.name) and path.is_dir() and path.stat().st_mtime < old and not self._known(path.name):
                shutil.rmtree(path, ignore_errors=True)
        with self._store.read() as unit:
            wanted = {row.body for row in unit.jobs.list(kind=KIND, open=True, limit=10_000)}
        inputs = self.home / INPUTS
        for path in inputs.iterdir() if inputs.is_dir() else ():
            if path.stat().st_mtime < old and not any(path.name in body for body in wanted):
                path.unlink(missing_ok=True)

    def _known(self, id: str) -> bool:  # noqa: A002
        with self._store.read() as unit:
            return unit.jobs.get(id) is not None


def _to_disk(file: IO[bytes]) -> None:
    file.flush()
    os.fsync(file.fileno())
