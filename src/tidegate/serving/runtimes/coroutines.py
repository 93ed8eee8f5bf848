"""A thread with an event loop for a model whose methods are ``async``.

One loop for the model's whole life, so that a client opened in ``load`` still works in ``predict``; not the server's
own loop, which foreign code must not hold up.
"""

from __future__ import annotations

import asyncio
import threading
import weakref
from collections.abc import Awaitable, Callable
from typing import Any


class Coroutines:
    """Starts its thread at the first ``run``; ends it at ``close``, or when nobody holds this any more."""

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None
        self._starting = threading.Lock()
        self._stop: Callable[[], object] = _nothing

    def run(self, awaitable: Awaitable[Any]) -> Any:
        """Blocks the calling thread until the answer is there; raises what the model raises."""
        return asyncio.run_coroutine_threadsafe(_contained(awaitable), self._running()).result()

    def close(self) -> None:
        with self._starting:
            self._loop = None
        self._stop()

    def _running(self) -> asyncio.AbstractEventLoop:
        with self._starting:
            if self._loop is None:
                loop = self._loop = asyncio.new_event_loop()
                threading.Thread(target=_serve, args=(loop,), name="tidegate-coroutines", daemon=True).start()
                self._stop = weakref.finalize(self, loop.call_soon_threadsafe, loop.stop)
            return self._loop


def _nothing() -> None:
    pass


async def _contained(awaitable: Awaitable[Any]) -> Any:
    """SystemExit would end the loop, and a CancelledError of the model's own would look like one of ours."""
    try:
        return await awaitable
    except Exception:
        raise
    except BaseException as error:
        raise RuntimeError(f"the model raised {type(error).__name__}: {error}") from error


def _serve(loop: asyncio.AbstractEventLoop) -> None:
    """Runs until stopped; what the model left behind is cancelled."""
    try:
        loop.run_forever()
        left = asyncio.all_tasks(loop)
        for task in left:
            task.cancel()
        if left:
            loop.run_until_complete(asyncio.wait(left))
        loop.run_until_complete(loop.shutdown_asyncgens())
    finally:
        loop.close()
