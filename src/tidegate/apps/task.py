"""The process of one try of a job: ``python -m tidegate.apps.task LIFELINE``. It reads its order from standard input, then
waits there for word of a cancellation. It ends with its worker, however that ends."""

from __future__ import annotations

import contextlib
import logging
import os
import pickle
import signal
import sys
import threading
from pathlib import Path
from typing import IO

import msgspec

from tidegate import logs
from tidegate.apps.folders import jobs_folder
from tidegate.clock import SystemClock
from tidegate.config import Loaded
from tidegate.control.jobs.claims import Claim, Claims
from tidegate.control.jobs.perform import perform
from tidegate.control.jobs.task import Scorer, Task
from tidegate.control.registry.base import open_registry
from tidegate.storage.store import Store, open_store
from tidegate.types import ModelRef

CANCEL = b"c"
EASY_TO_KILL = "800"
"""When memory runs out the system takes this process, and not the server beside it."""


class Order(msgspec.Struct, frozen=True):
    loaded: Loaded
    claim: Claim
    holder: str
    target: str


def make_task(loaded: Loaded, claim: Claim, claims: Claims, store: Store) -> Task:
    def open_model(ref: ModelRef) -> Scorer:
        from tidegate.apps.scoring import open_scorer

        return open_scorer(ref, loaded)

    def configured(endpoint: str) -> ModelRef:
        from tidegate.apps import scoring

        return scoring.configured(endpoint, loaded)

    settings = loaded.settings
    return Task(
        claim,
        claims,
        settings,
        store,
        open_registry(settings.registry, settings.trust, base=loaded.base),
        SystemClock(),
        jobs_folder(loaded),
        base=loaded.base,
        open_model=open_model,
        configured=configured,
    )


def run(order: Order, commands: IO[bytes]) -> None:
    clock = SystemClock()
    settings = order.loaded.settings
    with contextlib.closing(open_store(settings.store.url, clock)) as store:
        claims = Claims(store, settings.jobs, clock, order.holder)
        task = make_task(order.loaded, order.claim, claims, store)
        threading.Thread(target=_listen, args=(commands, task), name="commands", daemon=True).start()
        perform(task, order.claim, claims, order.target)


def _listen(commands: IO[bytes], task: Task) -> None:
    if commands.read(1) == CANCEL:
        task.cancelled.set()


def limit_memory(megabytes: int) -> None:
    """Of this process from now on: what asks for more gets a MemoryError, and the server beside it keeps its own."""
    if megabytes and sys.platform == "linux":
        import resource

        resource.setrlimit(resource.RLIMIT_DATA, (megabytes << 20, megabytes << 20))


def main() -> None:
    from tidegate.serving.runtimes.child import end_with_parent

    end_with_parent(int(sys.argv[1]))
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text(EASY_TO_KILL)
    commands = sys.stdin.buffer
    order: Order = pickle.load(commands)  # noqa: S301 - from the worker that started this process
    logs.configure(order.loaded.settings.logs)
    limit_memory(order.loaded.settings.jobs.memory_mb)
    logging.getLogger("tidegate.jobs").debug("job %s begins in process %d", order.claim.job.id, os.getpid())
    run(order, commands)
    logging.shutdown()
    os._exit(0)  # threads of a library must not keep the process


if __name__ == "__main__":
    main()
