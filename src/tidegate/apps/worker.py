"""``tidegate worker``: runs jobs, each in a process of its own, until it is told to end. Imports nothing heavy: what a job
needs is imported where it runs."""

from __future__ import annotations

import contextlib
import logging
import os
import pickle
import secrets
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping, Sequence

from tidegate import logs
from tidegate.apps.task import CANCEL, Order, make_task
from tidegate.clock import SystemClock
from tidegate.config import Loaded
from tidegate.control.jobs.claims import Claim, Claims
from tidegate.control.jobs.handlers import HANDLERS, LIGHT
from tidegate.control.jobs.perform import perform
from tidegate.control.jobs.worker import Running, Worker
from tidegate.errors import ConfigError
from tidegate.storage.store import Store, open_store

logger = logging.getLogger("tidegate.jobs")

DIE_SECONDS = 10.0


class ProcessTry:
    """A fresh interpreter in a session of its own: what it starts can be ended with it, and Ctrl-C does not reach it."""

    def __init__(self, order: Order) -> None:
        lifeline, self._lifeline = os.pipe()
        try:
            self._process = subprocess.Popen(  # noqa: S603 - ourselves
                [sys.executable, "-m", "tidegate.apps.task", str(lifeline)],
                stdin=subprocess.PIPE,
                pass_fds=(lifeline,),
                start_new_session=True,
            )
        except BaseException:
            os.close(self._lifeline)
            raise
        finally:
            os.close(lifeline)
        self._closed = False
        self._killed = False
        # On a thread: a child that hangs before it reads must not hang its worker.
        threading.Thread(target=self._tell, args=(pickle.dumps(order),), name="order", daemon=True).start()

    @property
    def pid(self) -> int:
        return self._process.pid

    def ended(self) -> str | None:
        code = self._process.poll()
        if code is None:
            return None
        self._close()
        return "" if self._killed else told_by(code)

    def cancel(self) -> None:
        self._tell(CANCEL)

    def kill(self) -> bool:
        self._killed = True
        with contextlib.suppress(OSError):
            os.killpg(self._process.pid, signal.SIGKILL)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(DIE_SECONDS)
        return self._process.poll() is not None

    def _tell(self, data: bytes) -> None:
        with contextlib.suppress(OSError, ValueError):
            assert self._process.stdin is not None
            self._process.stdin.write(data)
            self._process.stdin.flush()

    def _close(self) -> None:
        if self._closed:
            return
        self._closed = True
        with contextlib.suppress(OSError):  # what it has started and left behind
            os.killpg(self._process.pid, signal.SIGKILL)
        os.close(self._lifeline)
        with contextlib.suppress(OSError):
            assert self._process.stdin is not None
            self._process.stdin.close()


def told_by(code: int) -> str:
    """What an exit code says about a job that could not say it itself."""
    if code == -signal.SIGKILL:
        return "its process was killed (SIGKILL): out of memory, most likely"
    if code < 0:
        with contextlib.suppress(ValueError):
            return f"its process crashed ({signal.Signals(-code).name})"
        return f"its process crashed (signal {-code})"
    return f"its process ended without a result (exit code {code})"


class ThreadTry:
    """For kinds that are quick and of little memory. A thread cannot be killed."""

    def __init__(self, loaded: Loaded, claim: Claim, claims: Claims, store: Store, target: str) -> None:
        self._task = make_task(loaded, claim, claims, store)
        act = lambda: perform(self._task, claim, claims, target)  # noqa: E731
        self._thread = threading.Thread(target=act, name=f"job-{claim.job.id}", daemon=True)
        self._thread.start()

    def ended(self) -> str | None:
        return None if self._thread.is_alive() else "its thread ended without a result"

    def cancel(self) -> None:
        self._task.cancelled.set()

    def kill(self) -> bool:
        self._task.cancelled.set()
        self._task.stop()
        return not self._thread.is_alive()


def starter(loaded: Loaded, claims: Claims, store: Store, handlers: Mapping[str, str]) -> Callable[[Claim], Running]:
    def start(claim: Claim) -> Running:
        target = handlers[claim.job.kind]
        if claim.job.kind in LIGHT:
            return ThreadTry(loaded, claim, claims, store, target)
        return ProcessTry(Order(loaded, claim, claims.holder, target))

    return start


def worker(loaded: Loaded, *, kinds: Sequence[str] = (), slots: int = 0, handlers: Mapping[str, str] = HANDLERS) -> int:
    """Runs until SIGTERM or SIGINT: then takes nothing more, and hands back what does not end soon. A second one does not
    wait for it. Returns the exit code. Raises ConfigError when it cannot start."""
    settings = loaded.settings
    if not settings.store.url:
        raise ConfigError("a worker needs a store: set store.url, or run everything with 'tidegate up'")
    unknown = sorted(set(kinds) - set(handlers))
    if unknown:
        raise ConfigError(f"no jobs of kind {unknown[0]!r}; known are {', '.join(sorted(handlers))}")
    logs.configure(settings.logs)
    clock = SystemClock()
    stopping, hurrying = threading.Event(), threading.Event()

    def stop(*_: object) -> None:
        (hurrying if stopping.is_set() else stopping).set()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, stop)
    holder = f"{socket.gethostname()}:{os.getpid()}:{secrets.token_hex(4)}"
    with contextlib.closing(open_store(settings.store.url, clock)) as store:
        claims = Claims(store, settings.jobs, clock, holder)
        runs = Worker(
            claims,
            starter(loaded, claims, store, handlers),
            settings.jobs,
            clock,
            kinds or tuple(handlers),
            slots=slots or max(settings.jobs.workers, 1),
        )
        logger.info("worker %s takes jobs: %s", holder, ", ".join(kinds or handlers))
        runs.run(stopping)
        logger.info("ending")
        runs.end(hurrying)
    return 0
