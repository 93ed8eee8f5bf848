"""A model in a process of its own: what crashes, hangs or eats memory there stays there.

Parent and child talk over a socket pair in plain data (``wire``), so that a broken child cannot hand code back. The
child inherits nothing else: no listening sockets, no terminal signals. It ends with its parent, however that ends.
"""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import weakref
from collections.abc import Mapping
from typing import Any

import msgspec

from tidegate import errors
from tidegate.clock import Clock, SystemClock
from tidegate.errors import ContractError, ModelError, ModelFailed
from tidegate.serving.runtimes import wire
from tidegate.serving.runtimes.base import LoadedModel
from tidegate.settings import Trust
from tidegate.types import ModelFacts, ModelRef, Signature, Tensors

log = logging.getLogger("tidegate.runtimes")

LOAD_SECONDS = 120.0
"""Time to import libraries, read, compile and warm up a model."""
_FIRST_PAUSE, _LONGEST_PAUSE = 0.1, 30.0
_CLOSE_SECONDS = 1.0


def load_isolated(
    ref: ModelRef,
    trust: Trust,
    *,
    threads: int = 1,
    timeout: float = 30.0,
    load_timeout: float = LOAD_SECONDS,
    clock: Clock | None = None,
) -> LoadedModel:
    """``load_model`` in a child process. ``timeout`` seconds bound each prediction.

    ``ref.options`` may hold ``memory_mb``, a limit on the child's memory. Raises what ``load_model`` raises, and
    ModelError when the child dies or does not finish loading within ``load_timeout``.
    """
    started = time.perf_counter()
    runtime = IsolatedRuntime(ref, trust, threads, timeout, load_timeout, clock or SystemClock())
    facts = msgspec.structs.replace(
        runtime.facts, inline=False, load_seconds=time.perf_counter() - started - runtime.facts.warmup_seconds
    )
    return LoadedModel(runtime=runtime, facts=facts, apart=True)


class IsolatedRuntime:
    """``predict`` blocks the calling thread for at most ``timeout`` seconds, then kills the child.

    A dead child is started again by the next call, after a pause that doubles with each failure in a row (0.1 to 30
    seconds); calls within the pause fail at once.
    """

    inline_safe = False

    def __init__(
        self, ref: ModelRef, trust: Trust, threads: int, timeout: float, load_timeout: float, clock: Clock
    ) -> None:
        self._ref, self._trust, self._threads = ref, trust, threads
        self._timeout, self._load_timeout, self._clock = timeout, load_timeout, clock
        self._turn = threading.Lock()
        self._closed = False
        self._failures = 0
        self._not_before = 0.0
        self._child: _Child | None = self._start()
        self.facts: ModelFacts = self._child.facts
        self.signature: Signature = self._child.signature
        self.platform = self.facts.platform

    @property
    def pid(self) -> int | None:
        """Process id of the living child."""
        child = self._child
        return child.process.pid if child is not None else None

    def _start(self) -> _Child:
        return _Child(self._ref, self._trust, self._threads, self._load_timeout)

    def predict(self, inputs: Tensors) -> Tensors:
        """Raises ModelFailed when the child raises, dies, or is too slow; ContractError as the model's runtime does."""
        deadline = time.monotonic() + self._timeout
        if not self._turn.acquire(timeout=self._timeout):
            raise ModelFailed(f"no answer within {self._timeout:g} s: the model is busy with another call")
        try:
            child = self._living_child()
            answer = self._ask(child, inputs, deadline)
        finally:
            self._turn.release()
        if "outputs" in answer:
            self._failures = 0
            return wire.unpack(answer["outputs"])
        if answer.get("kind") == "ContractError":
            raise ContractError(answer["error"])
        raise ModelFailed(f"{answer.get('kind', 'error')}: {answer.get('error', '')}")

    def _ask(self, child: _Child, inputs: Tensors, deadline: float) -> Mapping[str, Any]:
        try:
            return child.ask({"predict": wire.pack(inputs)}, max(deadline - time.monotonic(), 0.001))
        except TimeoutError:
            child.kill()
            self._lost()
            raise ModelFailed(f"no answer within {self._timeout:g} s; its process was stopped") from None
        except (OSError, EOFError, ValueError, TypeError) as error:
            cause = child.kill()
            self._lost()
            raise ModelFailed(f"the model's process ended: {cause}") from error

    def _living_child(self) -> _Child:
        if self._closed:
            raise ModelError("the model was closed")
        if self._child is not None:
            return self._child
        wait = self._not_before - self._clock.monotonic()
        if wait > 0:
            raise ModelFailed(f"the model's process is down and will be started again in {wait:.1f} s")
        try:
            self._child = self._start()
        except errors.TidegateError as error:
            self._lost()
            raise ModelFailed(f"the model's process cannot be started again: {error}") from error
        log.warning("model process started again", extra={"model": self._ref.uri, "pid": self._child.process.pid})
        return self._child

    def _lost(self) -> None:
        self._child = None
        pause = min(_FIRST_PAUSE * 2**self._failures, _LONGEST_PAUSE)
        self._failures = min(self._failures + 1, 20)
        self._not_before = self._clock.monotonic() + pause

    def close(self) -> None:
        """Lets the child close its model for a second, then kills it; also while a prediction hangs."""
        if self._closed:
            return
        self._closed = True
        polite = self._turn.acquire(timeout=_CLOSE_SECONDS)
        try:
            child, self._child = self._child, None
            if child is not None:
                if polite:
                    with contextlib.suppress(OSError, EOFError, ValueError):
                        child.ask({"close": True}, _CLOSE_SECONDS)
                child.kill()
        finally:
            if polite:
                self._turn.release()


class _Child:
    """One living process: started, loaded, asked, killed."""

    def __init__(self, ref: ModelRef, trust: Trust, threads: int, load_timeout: float) -> None:
        if sys.platform == "win32":
            raise ModelError("models cannot be isolated on Windows; set isolate: no")
        ours, theirs = socket.socketpair()
        # Never written to: its end tells the child, through the kernel, that the parent is gone.
        lifeline, held = os.pipe()
        folder = _put_aside()
        command = [sys.executable, "-m", "tidegate.serving.runtimes.child", str(theirs.fileno()), str(lifeline)]
        try:
            self.process = subprocess.Popen(  # noqa: S603 - our own interpreter and module
                command,
                stdin=subprocess.DEVNULL,
                stdout=sys.stderr.fileno() if _has_descriptor(sys.stderr) else subprocess.DEVNULL,
                pass_fds=(theirs.fileno(), lifeline),
                start_new_session=True,
                env={
                    **os.environ,
                    **({"TMPDIR": folder} if folder else {}),
                    "OMP_NUM_THREADS": str(threads),
                    "OPENBLAS_NUM_THREADS": str(threads),
                },
            )
        except OSError as error:
            ours.close()
            os.close(held)
            shutil.rmtree(folder, ignore_errors=True)
            raise ModelError(f"{ref.uri}: cannot start a process for the model: {error}") from error
        finally:
            theirs.close()
            os.close(lifeline)
        self._channel = ours
        self._reaped = weakref.finalize(self, _end, self.process, ours, held, folder)
        message = {
            "ref": msgspec.to_builtins(ref),
            "trust": msgspec.to_builtins(trust),
            "threads": threads,
            "memory_mb": ref.options.get("memory_mb"),
        }
        try:
            answer = self.ask(message, load_timeout)
        except TimeoutError:
            self.kill()
            raise ModelError(f"{ref.uri}: not loaded within {load_timeout:g} s; its process was stopped") from None
        except (OSError, EOFError, ValueError) as error:
            raise ModelError(f"{ref.uri}: the model's process ended while loading: {self.kill()}") from error
        except BaseException:
            self.kill()
            raise
        if "error" in answer:
            self.kill()
            raise _as_raised(str(answer.get("kind")), str(answer["error"]))
        self.facts = msgspec.convert(answer["facts"], ModelFacts)
        self.signature = msgspec.convert(answer["signature"], Signature)

    def ask(self, message: Mapping[str, Any], timeout: float) -> Mapping[str, Any]:
        """Raises TimeoutError, EOFError or OSError."""
        self._channel.settimeout(timeout)
        wire.send(self._channel, message)
        answer = wire.receive(self._channel)
        if not isinstance(answer, dict):
            raise ValueError("not an answer")  # noqa: TRY004 - handled with the other malformed messages
        return answer

    def kill(self) -> str:
        """Ends the process, if it has not ended, and says how it ended."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            # A process that closed its socket may still be on its way out: its own status tells more.
            self.process.wait(0.2 if self.process.poll() is None and self._at_end() else 0)
        self._reaped()
        code = self.process.returncode
        if code is not None and code < 0:
            with contextlib.suppress(ValueError):
                return f"signal {signal.Signals(-code).name}"
        return f"exit code {code}"

    def _at_end(self) -> bool:
        try:
            self._channel.settimeout(0)
            return self._channel.recv(1, socket.MSG_PEEK) == b""
        except OSError:
            return False


def _put_aside() -> str:
    """A folder for what a child fetches or makes for the moment: it is killed sooner or later, and does not clean up."""
    with contextlib.suppress(OSError):  # nothing may be written here; not every model needs to
        return tempfile.mkdtemp(prefix="tidegate-model-")
    return ""


def _end(process: subprocess.Popen[bytes], channel: socket.socket, held: int, folder: str) -> None:
    process.kill()
    process.wait()
    channel.close()
    os.close(held)
    shutil.rmtree(folder, ignore_errors=True)


def _has_descriptor(stream: Any) -> bool:
    try:
        return stream is not None and stream.fileno() >= 0
    except (OSError, ValueError, AttributeError):
        return False


def _as_raised(kind: str, text: str) -> errors.TidegateError:
    """The child's error under its own class where that takes one text, else a ModelError."""
    known = {c.__name__: c for c in (ModelError, ContractError, errors.DigestMismatch, errors.UntrustedModel)}
    if kind == "MissingExtra":
        missing = errors.MissingExtra.__new__(errors.MissingExtra)
        Exception.__init__(missing, text)
        return missing
    return known.get(kind, ModelError)(text)
