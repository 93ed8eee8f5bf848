"""Calls an ASGI application from plain tests: httpx on an event loop of its own, in another thread."""

from __future__ import annotations

from typing import Any

import httpx
from anyio.from_thread import start_blocking_portal
from starlette.types import ASGIApp

ORIGIN = "http://control.test"


class Client:
    """Keeps cookies between calls, as a browser does. ``address`` is where the calls seem to come from."""

    def __init__(self, app: ASGIApp, address: str = "192.0.2.7", origin: str = ORIGIN) -> None:
        self._portals = start_blocking_portal()
        self._portal = self._portals.__enter__()
        transport = httpx.ASGITransport(app=app, client=(address, 50_000))
        self._client = httpx.AsyncClient(transport=transport, base_url=origin)

    def request(self, method: str, url: str, **given: Any) -> httpx.Response:
        async def send() -> httpx.Response:
            return await self._client.request(method, url, **given)

        return self._portal.call(send)

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
        self._portal.call(self._client.aclose)
        self._portals.__exit__(None, None, None)
