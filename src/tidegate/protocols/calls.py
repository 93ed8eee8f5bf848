"""From a request's headers to a ``Call``: unit, forced variant, deadline, priority, trace."""

from __future__ import annotations

from tidegate.errors import InvalidInput
from tidegate.protocols.base import Request
from tidegate.serving.call import Call
from tidegate.serving.live import Endpoint
from tidegate.types import Tensors

PRIORITIES = {b"critical": 0, b"normal": 1, b"bulk": 2}
LONGEST_UNIT = 256


def make_call(
    request: Request,
    endpoint: Endpoint,
    inputs: Tensors,
    rows: int,
    protocol: str,
    *,
    version: str = "",
    units: tuple[str, ...] = (),
) -> Call:
    """Raises InvalidInput for a header that cannot be meant, NotAllowed or TooLarge for what the caller's key forbids."""
    if request.caller is not None:
        request.caller.check(endpoint.name, rows)
    headers = request.headers
    call = Call(
        endpoint,
        inputs,
        rows,
        protocol,
        request.request_id,
        request.received,
        request.received + endpoint.timeout,
        units=units,
        version=version,
        gone=request.gone,
    )
    unit = headers.get(endpoint.unit_header)
    if unit is not None:
        call.unit = _text(unit, endpoint.settings.routing.unit_header)
    forced = headers.get(endpoint.force_header)
    if forced is not None:
        call.forced = _text(forced, endpoint.settings.routing.force_header)
    timeout = headers.get(b"x-timeout-ms")
    if timeout is not None:
        call.deadline = request.received + min(_milliseconds(timeout) / 1000, endpoint.timeout)
    priority = headers.get(b"x-priority")
    if priority is not None:
        call.priority = _priority(priority)
    traceparent = headers.get(b"traceparent")
    if traceparent is not None:
        call.traceparent = traceparent.decode("latin-1")
    return call


def _text(value: bytes, header: str) -> str:
    if len(value) > LONGEST_UNIT:
        raise InvalidInput(f"header {header}: at most {LONGEST_UNIT} bytes, got {len(value)}", loc=("header", header))
    try:
        return value.decode()  # so that a name is the same unit here and in a JSON body
    except UnicodeDecodeError:
        return value.decode("latin-1")


def _milliseconds(value: bytes) -> float:
    try:
        number = float(value)
    except ValueError:
        number = 0.0
    if not 0 < number < 1e9:
        raise InvalidInput(
            "header X-Timeout-Ms: expected a number of milliseconds above 0", loc=("header", "X-Timeout-Ms")
        )
    return number


def _priority(value: bytes) -> int:
    try:
        return PRIORITIES[value.lower()]
    except KeyError:
        raise InvalidInput(
            "header X-Priority: expected critical, normal or bulk", loc=("header", "X-Priority")
        ) from None
