"""One request, decoded: what the data plane is asked."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from tidegate.types import Tensors

if TYPE_CHECKING:
    from tidegate.serving.live import Endpoint


class Call:
    """One request, decoded. Times are ``time.perf_counter()`` seconds."""

    __slots__ = (
        "deadline", "endpoint", "fallback", "forced", "gone", "inputs", "priority", "protocol",
        "received", "request_id", "rows", "trace", "traceparent", "unit", "units", "version",
    )  # fmt: skip

    def __init__(
        self,
        endpoint: Endpoint,
        inputs: Tensors,
        rows: int,
        protocol: str,
        request_id: str,
        received: float,
        deadline: float,
        priority: int = 1,
        unit: str = "",
        units: tuple[str, ...] = (),
        forced: str = "",
        version: str = "",
        traceparent: str = "",
        gone: Callable[[], bool] | None = None,
    ) -> None:
        self.endpoint = endpoint
        self.inputs = inputs
        self.rows = rows
        self.protocol = protocol
        self.request_id = request_id
        self.received = received
        self.deadline = deadline
        self.priority = priority
        """0 critical, 1 normal, 2 bulk."""
        self.unit = unit
        self.units = units
        """One unit per row, instead of one for the request."""
        self.forced = forced
        """Name of the variant that the caller insists on."""
        self.version = version
        """Model version that the caller insists on; goes past the router."""
        self.traceparent = traceparent
        self.trace: Any = None
        """What the tracer drew for this call; None when it is not traced."""
        self.gone = gone
        """Tells whether the client has left."""
        self.fallback = ""
        """Why the variant that was chosen does not answer: failed, timeout, breaker_open, refused; empty while it does."""


def for_all(call: Call) -> Call:
    """The call without its own caller: others may be waiting for the same answer."""
    return Call(
        call.endpoint, call.inputs, call.rows, call.protocol, call.request_id, call.received, call.deadline,
        call.priority, version=call.version,
    )  # fmt: skip


def part_of(call: Call, rows: list[int]) -> Call:
    """The rows that go to one variant."""
    inputs: Tensors = {name: array[rows] for name, array in call.inputs.items()}
    return Call(
        call.endpoint, inputs, len(rows), call.protocol, call.request_id, call.received, call.deadline, call.priority,
        call.units[rows[0]], (), call.forced, call.version, call.traceparent, call.gone,
    )  # fmt: skip
