"""Sends rows to a server in chunks, and finds out which rows are bad: the engine of ``tidegate predict``."""

from __future__ import annotations

import asyncio
import math
import random
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from typing import Any

import httpx
import msgspec

from tidegate.cli.rows import Row
from tidegate.errors import UserError

LONGEST_WAIT = 60.0
PER_REQUEST = frozenset({"model", "request_id", "cached", "timing_ms"})
SINGULAR = {"predictions": "prediction", "labels": "label"}
ROW_FAULTS = frozenset({400, 413, 422, 500})
TRANSIENT = frozenset({408, 429, 502, 503, 504})


class Answer(msgspec.Struct, frozen=True):
    """What came back for one row: ``values`` by name, or an error."""

    line: int
    values: dict[str, Any] = {}
    error: str = ""


class Caller:
    """``sleep`` and ``chance`` are the waits between attempts, and their jitter."""

    def __init__(
        self,
        client: httpx.AsyncClient,
        path: str,
        *,
        attempts: int = 8,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self.client = client
        self.path = path
        self.attempts = attempts
        self.sleep = sleep
        self.chance = chance

    async def answer(self, rows: Sequence[Row]) -> list[Answer]:
        """One answer per row, in order. Raises UserError when no row can be answered at all."""
        bad = [Answer(row.line, error=row.error) for row in rows if row.error]
        answers = bad + await self._send([row for row in rows if not row.error])
        return sorted(answers, key=lambda answer: answer.line)

    async def _send(self, rows: list[Row]) -> list[Answer]:
        if not rows:
            return []
        body = request_body(rows)
        response = await self._attempts(body)
        if response.status_code == 200:
            return _answers(rows, response)
        if response.status_code not in ROW_FAULTS:
            raise UserError(f"{self.path}: the server answered {response.status_code}: {_detail(response)}")
        if len(rows) == 1:
            return [Answer(rows[0].line, error=_detail(response))]
        named = _named_rows(response, len(rows))
        if named:
            good = [row for index, row in enumerate(rows) if index not in named]
            bad = [Answer(rows[index].line, error=text) for index, text in named.items()]
            return bad + await self._send(good)
        middle = len(rows) // 2
        return await self._send(rows[:middle]) + await self._send(rows[middle:])

    async def _attempts(self, body: bytes) -> httpx.Response:
        """Sends until there is a final answer; waits as long as the server asks for, up to a minute."""
        last = ""
        for attempt in range(self.attempts):
            pause = min(0.1 * 2**attempt, LONGEST_WAIT) * (0.5 + self.chance() / 2)
            try:
                response = await self.client.post(self.path, content=body)
                if response.status_code not in TRANSIENT:
                    return response
                last = f"{response.status_code}: {_detail(response)}"
                pause = max(pause, retry_after(response))
            except httpx.TimeoutException:
                last = "no answer in time"
            except httpx.TransportError as error:
                last = str(error) or type(error).__name__
            if attempt + 1 < self.attempts:
                await self.sleep(pause)
        raise UserError(f"{self.client.base_url}: gave up after {self.attempts} attempts: {last}")


async def answer_all(
    caller: Caller, rows: Iterator[Row], chunk_rows: int, concurrency: int
) -> AsyncIterator[list[Answer]]:
    """Answers in the order of the rows; at most ``concurrency`` chunks are in memory."""
    waiting: deque[asyncio.Task[list[Answer]]] = deque()
    try:
        for chunk in chunks(rows, chunk_rows):
            if len(waiting) >= concurrency:
                yield await waiting.popleft()
            waiting.append(asyncio.create_task(caller.answer(chunk)))
            await asyncio.sleep(0)
        while waiting:
            yield await waiting.popleft()
    finally:
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)


def chunks(rows: Iterator[Row], size: int) -> Iterator[list[Row]]:
    """Rows of one kind together: objects, lists or single values. Rows in error go with any."""
    chunk: list[Row] = []
    form = ""
    for row in rows:
        kind = form if row.error else _form(row.value)
        if chunk and (len(chunk) == size or (form and kind != form)):
            yield chunk
            chunk = []
        form = kind
        chunk.append(row)
    if chunk:
        yield chunk


def request_body(rows: Sequence[Row]) -> bytes:
    body: dict[str, Any] = {_form(rows[0].value): [row.value for row in rows]}
    if any(row.unit for row in rows):
        body["units"] = [row.unit for row in rows]
    return msgspec.json.encode(body)


def _form(value: Any) -> str:
    if isinstance(value, dict):
        return "records"
    if isinstance(value, list):
        return "features"
    return "texts" if isinstance(value, str) else "instances"


def retry_after(response: httpx.Response) -> float:
    try:
        seconds = float(response.headers.get("retry-after", "0"))
    except ValueError:
        return 0.0
    return min(max(seconds, 0.0), LONGEST_WAIT) if math.isfinite(seconds) else 0.0


def _answers(rows: list[Row], response: httpx.Response) -> list[Answer]:
    body = _object(response)
    several = body.get("predictions")
    columns = {
        SINGULAR.get(name, name): values
        for name, values in (body | several if isinstance(several, dict) else body).items()
        if name not in PER_REQUEST and isinstance(values, list) and len(values) == len(rows)
    }
    if not columns:
        raise UserError(f"the server's answer does not have one prediction for each of {len(rows)} rows")
    model = body.get("model", {})
    shared = {name: model[name] for name in ("version", "variant") if name in model}
    return [
        Answer(row.line, {name: values[index] for name, values in columns.items()} | shared)
        for index, row in enumerate(rows)
    ]


def _named_rows(response: httpx.Response, count: int) -> dict[int, str]:
    """Rows that the server's error names, from 0, with the reason."""
    named: dict[int, str] = {}
    for error in _object(response).get("errors", []):
        loc = error.get("loc", [])
        if len(loc) > 1 and type(loc[1]) is int and 0 <= loc[1] < count:
            column = f"column {msgspec.json.encode(loc[2]).decode()}: " if len(loc) > 2 else ""
            named.setdefault(loc[1], column + str(error.get("msg", "")))
    return named


def _detail(response: httpx.Response) -> str:
    body = _object(response)
    return str(body.get("detail") or body.get("message") or body.get("error") or response.reason_phrase)


def _object(response: httpx.Response) -> dict[str, Any]:
    try:
        body = msgspec.json.decode(response.content)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return {}
    return body if isinstance(body, dict) else {}
