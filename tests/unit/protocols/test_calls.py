from __future__ import annotations

from typing import Any

import pytest

from tests.unit.serving.plane import Plane, column, serving, times
from tidegate.errors import InvalidInput
from tidegate.protocols.base import Request
from tidegate.protocols.calls import LONGEST_UNIT, make_call
from tidegate.serving.call import Call
from tidegate.settings import Routing

RECEIVED = 1000.0


def made(plane: Plane, headers: dict[str, bytes], **options: Any) -> Call:
    encoded = {name.lower().encode(): value for name, value in headers.items()}
    request = Request("POST", "/predict", b"", encoded, b"", {}, "id-1", RECEIVED, lambda: False)
    return make_call(request, plane.live.endpoint("e"), column(1, 2), 2, "native", **options)


async def test_without_headers_everything_has_its_default() -> None:
    async with serving({"baseline": times(1)}) as plane:
        call = made(plane, {})
        assert (call.unit, call.units, call.forced, call.version, call.traceparent) == ("", (), "", "", "")
        assert (call.priority, call.rows, call.protocol, call.request_id) == (1, 2, "native", "id-1")
        assert call.deadline == RECEIVED + 30
        assert call.gone is not None


async def test_headers_become_the_call() -> None:
    async with serving({"baseline": times(1)}) as plane:
        call = made(
            plane,
            {"X-User-Id": b"alice", "X-Canary": b"candidate", "X-Timeout-Ms": b"250", "X-Priority": b"Critical", "traceparent": b"00-x"},
            version="3",
            units=("a", "b"),
        )  # fmt: skip
        assert (call.unit, call.forced, call.priority, call.traceparent) == ("alice", "candidate", 0, "00-x")
        assert call.deadline == RECEIVED + 0.25
        assert (call.version, call.units) == ("3", ("a", "b"))


async def test_the_names_of_the_headers_are_configurable() -> None:
    routing = Routing(unit_header="X-Customer", force_header="X-Variant")
    async with serving({"baseline": times(1)}, routing=routing) as plane:
        call = made(plane, {"x-customer": b"7", "x-variant": b"c", "x-user-id": b"no", "x-canary": b"no"})
        assert (call.unit, call.forced) == ("7", "c")


async def test_a_caller_may_shorten_its_time_and_not_lengthen_it() -> None:
    async with serving({"baseline": times(1)}, timeout_ms=100) as plane:
        assert made(plane, {"x-timeout-ms": b"50.5"}).deadline == RECEIVED + 0.0505
        assert made(plane, {"x-timeout-ms": b"5000"}).deadline == RECEIVED + 0.1


@pytest.mark.parametrize("value", [b"", b"0", b"-1", b"nan", b"inf", b"1e400", b"soon", b"1e12", b"\xff", "٣".encode()])
async def test_a_timeout_that_cannot_be_meant_is_refused(value: bytes) -> None:
    async with serving({"baseline": times(1)}) as plane:
        with pytest.raises(InvalidInput, match="X-Timeout-Ms") as refused:
            made(plane, {"x-timeout-ms": value})
        assert refused.value.loc == ("header", "X-Timeout-Ms")


@pytest.mark.parametrize("value", [b"", b"urgent", b"0", b"\xff"])
async def test_a_priority_that_cannot_be_meant_is_refused(value: bytes) -> None:
    async with serving({"baseline": times(1)}) as plane:
        with pytest.raises(InvalidInput, match="critical, normal or bulk"):
            made(plane, {"x-priority": value})


@pytest.mark.parametrize(("value", "priority"), [(b"critical", 0), (b"NORMAL", 1), (b"bulk", 2)])
async def test_priorities(value: bytes, priority: int) -> None:
    async with serving({"baseline": times(1)}) as plane:
        assert made(plane, {"x-priority": value}).priority == priority


@pytest.mark.parametrize("header", ["X-User-Id", "X-Canary"])
async def test_a_unit_has_a_bound(header: str) -> None:
    async with serving({"baseline": times(1)}) as plane:
        made(plane, {header: b"u" * LONGEST_UNIT})
        with pytest.raises(InvalidInput, match=f"header {header}: at most {LONGEST_UNIT} bytes, got 257"):
            made(plane, {header: b"u" * (LONGEST_UNIT + 1)})


async def test_a_name_is_the_same_unit_in_a_header_and_in_a_body() -> None:
    async with serving({"baseline": times(1)}) as plane:
        assert made(plane, {"x-user-id": "Zoë".encode()}).unit == "Zoë"
        assert made(plane, {"x-user-id": b"Zo\xeb"}).unit == "Zoë"
