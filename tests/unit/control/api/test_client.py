"""What the tests themselves call with."""

from __future__ import annotations

import threading

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from tests.process import until
from tests.unit.control.api.client import Client


def answer(request: Request) -> PlainTextResponse:
    """Not async, so that it runs in a worker thread."""
    return PlainTextResponse("here")


def test_a_client_that_nobody_closes_leaves_no_thread() -> None:
    """Closing an event loop that is left to the end of Python waits for ever."""
    before = set(threading.enumerate())
    client = Client(Starlette(routes=[Route("/", answer)]))
    assert client.get("/").text == "here"
    until(lambda: set(threading.enumerate()) <= before, "its threads end by themselves")
