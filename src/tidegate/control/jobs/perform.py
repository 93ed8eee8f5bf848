"""One try of a job, from its handler to what the store says about it afterwards."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable
from typing import Any

import msgspec

from tidegate.control.jobs.claims import Claim, Claims
from tidegate.control.jobs.handlers import handler_of
from tidegate.control.jobs.task import Cancelled, Ended, Task
from tidegate.errors import Conflict, LeaseLost, RequestError, StoreAway, TidegateError, UserError

logger = logging.getLogger("tidegate.jobs")

MOST_RESULT = 256 * 1024
_CREDENTIALS = re.compile(r"(?<=://)[^/\s]*@")
AWAY_SECONDS = 5.0
"""Before a job that found the store away is tried again; that try does not count."""


def perform(task: Task, claim: Claim, claims: Claims, target: str) -> None:
    """Runs the handler and writes down how it ended; while the store is away it waits. Once the job is another worker's,
    nothing is written."""
    job = claim.job
    ending = _ending(task, claim, claims, target)
    try:
        task.patiently(ending)
    except LeaseLost as error:
        logger.warning("job %s: what this try gave is not kept: %s", job.id, error)
    except StoreAway:
        logger.warning("job %s: told to end while the store is away; another worker takes it", job.id)


def _ending(task: Task, claim: Claim, claims: Claims, target: str) -> Callable[[], object]:
    job = claim.job
    try:
        result = plain(handler_of(target)(task))
        task.flush()
    except Cancelled:
        logger.info("job %s: cancelled", job.id)
        return lambda: claims.cancelled(claim)
    except StoreAway as error:
        logger.warning("job %s: %s; it is tried again", job.id, error)
        return lambda: claims.hand_back(claim, AWAY_SECONDS)
    except Exception as error:
        text, again = explained(error)
        foreseen = isinstance(error, TidegateError)
        logger.warning("job %s (%s): %s", job.id, job.kind, text, exc_info=None if foreseen else error)
        return lambda: claims.fail(claim, text, again=again)
    except (Ended, KeyboardInterrupt):
        raise
    except BaseException as error:  # noqa: BLE001 - a library's sys.exit is its failure, not the end of the worker
        text = f"the handler raised {type(error).__name__}({str(error)[:200]})"
        return lambda: claims.fail(claim, text, again=True)
    return lambda: claims.finish(claim, result)


def explained(error: Exception) -> tuple[str, bool]:
    """For people, and whether another try may go better."""
    if isinstance(error, MemoryError):
        return "out of memory", True
    if isinstance(error, TidegateError):
        final = isinstance(error, UserError | RequestError) and not isinstance(error, Conflict)
        return _shown(str(error)) or type(error).__name__, not final
    lines = _shown(str(error)).strip().splitlines()
    return f"{type(error).__name__}: {lines[0][:300] if lines else 'no more was said'}", True


def _shown(text: str) -> str:
    """A library that cannot reach an address quotes it, and with it the name and the password in it."""
    return _CREDENTIALS.sub("…@", text)


def plain(result: Any) -> dict[str, Any]:
    """As JSON holds it. Raises UserError for what a job cannot keep."""
    try:
        encoded = msgspec.json.encode(dict(result))
    except (TypeError, ValueError) as error:
        raise UserError(f"the handler gave no result that can be kept: {error}") from None
    if len(encoded) > MOST_RESULT:
        raise UserError(f"the handler's result is too large: {len(encoded)} bytes of {MOST_RESULT}; keep it in a file")
    found: dict[str, Any] = msgspec.json.decode(encoded)
    return found
