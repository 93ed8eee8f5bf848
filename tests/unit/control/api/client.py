"""Calls an ASGI application from plain tests: httpx, with an event loop in another thread for as long as a call takes."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import httpx
from anyio.from_thread import start_blocking_portal
from starlette.types import ASGIApp

ORIGIN = "http://control.test"

T = TypeVar("T")


class Client:
    """Keeps cookies between calls, as a browser does, and no thread: one that nobody closed keeps no process from
    ending. ``address`` is where the calls seem to come from."""

    def __init__(self, app: ASGIApp, address: str = "192.0.2.7", origin: str = ORIGIN) -> None:
        transport = httpx.ASGITransport(app=app, client=(address, 50_000))
        self._client = httpx.AsyncClient(transport=transport, base_url=origin)

    def request(self, method: str, url: str, **given: Any) -> httpx.Response:
        async def send() -> httpx.Response:
            return await self._client.request(method, url, **given)

        return _run(send)

    def get(self, url: str, **given: Any) -> httpx.Response:
        return self.request("GET", url, **given)

    def post(self, url: str, **given: Any) -> httpx.Response:
        return self.request("POST", url, **given)

    def delete(self, url: str, **given: Any) -> httpx.Response:
        return self.request("DELETE", url, **given)

    @property
    def cookies(self) -> httpx.Cookies:
        return self._client.cookies

    def close(self) -> None:
        _run(self._client.aclose)


def _run(work: Callable[[], Awaitable[T]]) -> T:
    with start_blocking_portal() as portal:
        return portal.call(work)
