"""Health, readiness and metrics: the calls of orchestrators and of Prometheus."""

from __future__ import annotations

import asyncio

import msgspec

from tidegate.metrics import Metrics, render
from tidegate.protocols.base import Request, Response, Route
from tidegate.protocols.errors import native_error
from tidegate.serving.live import Live

_JSON = ((b"content-type", b"application/json"), (b"cache-control", b"no-store"))
_TEXT = ((b"content-type", b"text/plain; version=1.0.0; charset=utf-8"),)


class Health:
    def __init__(self, live: Live, metrics: Metrics) -> None:
        self._live = live
        self._metrics = metrics

    def routes(self) -> list[Route]:
        alive = _document("The process lives", {"status": "alive"})
        ready = _document("Every endpoint is loaded and warm, and the process is not draining", {"status": "ready"})
        ready["responses"]["503"] = {"description": "Not ready; the reasons are in the body"}
        metrics = {
            "summary": "Prometheus metrics, summed over all serving processes",
            "tags": ["operations"],
            "responses": {"200": {"description": "Prometheus text format", "content": {"text/plain": {}}}},
        }
        return [
            *(Route("GET", path, self.live, "none", alive, native_error) for path in ("/healthz", "/health")),
            *(Route("GET", path, self.ready, "none", ready, native_error) for path in ("/readyz", "/ready")),
            Route("GET", "/metrics", self.metrics, "metrics", metrics, native_error),
        ]

    async def live(self, request: Request) -> Response:
        return Response(b'{"status":"alive"}', 200, _JSON)

    async def ready(self, request: Request) -> Response:
        reasons = await self._live.probe()
        if not reasons:
            return Response(b'{"status":"ready"}', 200, _JSON)
        body = msgspec.json.encode({"status": "not ready", "reasons": reasons})
        return Response(body, 503, (*_JSON, (b"retry-after", b"1")))

    async def metrics(self, request: Request) -> Response:
        text = await asyncio.to_thread(lambda: render(self._metrics.read()))
        return Response(text, 200, _TEXT)


def _document(summary: str, example: dict[str, str]) -> dict[str, dict[str, object]]:
    return {
        "summary": summary,  # type: ignore[dict-item]
        "tags": ["operations"],  # type: ignore[dict-item]
        "responses": {"200": {"description": summary, "content": {"application/json": {"example": example}}}},
    }
