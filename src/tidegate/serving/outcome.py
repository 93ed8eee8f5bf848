"""What became of a request, in the words of the metrics."""

from __future__ import annotations

import asyncio

from tidegate.errors import CallerGone, DeadlineExceeded, Refused, RequestError


def outcome_of(error: BaseException) -> tuple[str, str]:
    """Outcome of a request that failed, and the reason if it was rejected: labels of the metrics."""
    if isinstance(error, RequestError):
        return "invalid", ""
    if isinstance(error, Refused):
        return "refused", error.reason
    if isinstance(error, DeadlineExceeded):
        return "deadline", error.reason
    if isinstance(error, CallerGone | asyncio.CancelledError):
        return "gone", CallerGone.reason
    return "failed", ""
