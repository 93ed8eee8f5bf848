"""Every error that Tidegate raises on purpose. Knows no HTTP and no SQL; each protocol has one table of statuses.

TidegateError
├── UserError                what the operator typed or configured: one line, exit code 2
│   ├── ConfigError          a setting: file, line, allowed values
│   ├── ModelError           a model that cannot be loaded
│   │   ├── ContractError    a model that does not keep the runtime's contract
│   │   ├── DigestMismatch   the bytes are not the pinned ones
│   │   └── UntrustedModel   a format that can run code, from a source not listed as trusted
│   ├── MissingExtra         an optional package is needed
│   └── Conflict             what is there stands in the way, or somebody else changed it first
│       ├── LostRace         somebody else wrote the same thing at the same time; look again and repeat
│       └── LeaseLost        another control plane acts now
├── RequestError             what a client sent
│   ├── MalformedBody        cannot be decoded at all
│   ├── InvalidInput         decoded, but wrong shape, type, range or name
│   ├── TooLarge             bytes, rows, nesting or pixels over the limit
│   ├── UnsupportedMedia     media type
│   ├── BodyTooSlow          the body did not arrive in time
│   ├── NotFound             endpoint, model or version
│   ├── MethodNotAllowed     a path that answers to other methods
│   ├── NotAuthenticated     key missing or wrong
│   ├── NotAllowed           key lacks the role
│   └── Unsupported          part of a protocol that is not offered
├── Refused                  well-formed, but not now; ``retry_after`` seconds
│   ├── QueueFull            rows waiting are at the bound
│   ├── RateLimited          too many calls from this caller
│   ├── Overloaded           more in flight than the limit
│   ├── NotReady             loading, draining, or without the part that answers this
│   └── StoreAway            the database cannot be reached or written
├── DeadlineExceeded         the answer would come, or came, too late
├── CallerGone               the client closed the connection; nobody reads the answer
└── ModelFailed              the model raised, crashed or broke its contract; the cause goes to the log only
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


class TidegateError(Exception):
    """Base of all; ``str(error)`` is safe to show to a client unless the class says otherwise."""

    variant = ""
    """Variant that could not answer, where it is not the one that was chosen."""


class UserError(TidegateError):
    pass


class ConfigError(UserError):
    pass


class ModelError(UserError):
    pass


class ContractError(ModelError):
    pass


class DigestMismatch(ModelError):
    pass


class UntrustedModel(ModelError):
    pass


class MissingExtra(UserError):
    def __init__(self, extra: str, purpose: str) -> None:
        super().__init__(f'tidegate[{extra}] is needed for {purpose}: pip install "tidegate[{extra}]"')


class Conflict(UserError):
    pass


class LostRace(Conflict):
    pass


class LeaseLost(Conflict):
    pass


class RequestError(TidegateError):
    """``loc`` is the place in the body, as a path of names and indices; ``errors`` lists several places."""

    def __init__(self, detail: str, loc: Sequence[str | int] = (), errors: Sequence[dict[str, Any]] = ()) -> None:
        super().__init__(detail)
        self.loc = tuple(loc)
        self.errors = tuple(errors)


class MalformedBody(RequestError):
    pass


class InvalidInput(RequestError):
    pass


class TooLarge(RequestError):
    pass


class UnsupportedMedia(RequestError):
    pass


class BodyTooSlow(RequestError):
    pass


class NotFound(RequestError):
    pass


class MethodNotAllowed(RequestError):
    pass


class NotAuthenticated(RequestError):
    pass


class NotAllowed(RequestError):
    pass


class Unsupported(RequestError):
    pass


class Refused(TidegateError):
    """``reason`` is the bounded label under which the refusal is counted."""

    reason = "refused"

    def __init__(self, detail: str, retry_after: float = 1.0) -> None:
        super().__init__(detail)
        self.retry_after = retry_after


class QueueFull(Refused):
    reason = "queue_full"


class RateLimited(Refused):
    reason = "rate_limited"


class Overloaded(Refused):
    reason = "overloaded"


class NotReady(Refused):
    reason = "not_ready"


class StoreAway(Refused):
    reason = "store_away"


class DeadlineExceeded(TidegateError):
    reason = "deadline"


class CallerGone(TidegateError):
    reason = "caller_gone"


class ModelFailed(TidegateError):
    """Not safe to show: ``str(error)`` may quote the model's own exception. Clients get the request id only."""
