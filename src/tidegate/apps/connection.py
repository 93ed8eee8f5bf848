"""uvicorn's connection, with bounds on a request's head: uvicorn leaves its size and its time open."""

from __future__ import annotations

import asyncio
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

MOST_HEAD_BYTES = 64 * 1024
"""Of a head that comes in several reads; what one read brings has a bound of its own."""

SILENT_SECONDS = 75.0
"""How long a connection may stay without a complete head: as long as it is kept between requests."""

_TOO_LARGE = b"HTTP/1.1 431 Request Header Fields Too Large\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"


class Connection(HttpToolsProtocol):
    """``scope`` belongs to the head that is being read, ``cycle`` to the last one that was complete."""

    _head: Any = None
    _head_bytes = 0
    _since = 0.0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._since = self.loop.time()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self.reads_head:
            self._bound(len(data))

    @property
    def reads_head(self) -> bool:
        """Whether a head is incomplete, or the first one has not begun."""
        return self.cycle is None or self.cycle.scope is not self.scope

    def _bound(self, size: int) -> None:
        if self._head is not self.scope:  # it began in this read, perhaps after the end of another request
            self._head, self._head_bytes, self._since = self.scope, 0, self.loop.time()
            return
        self._head_bytes += size
        if self._head_bytes > MOST_HEAD_BYTES and not self.transport.is_closing():
            self.transport.write(_TOO_LARGE)
            self.transport.close()

    def close_if_silent(self, now: float, patience: float = SILENT_SECONDS) -> None:
        """``now`` is the loop's time; ``patience`` in seconds."""
        if self.reads_head and now - self._since > patience:
            self.transport.close()
