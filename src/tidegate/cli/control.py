"""The control plane as the command line sees it: one small client, and the options that every such command has."""

from __future__ import annotations

import functools
import os
import uuid
from collections.abc import Callable, Generator, Iterator, Mapping
from ipaddress import ip_address
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import quote

import click
import msgspec

from tidegate.config import discover, load_settings
from tidegate.errors import UserError

if TYPE_CHECKING:
    import httpx

PREFIX = "/api/v1"
DEFAULT_ADDRESS = "http://127.0.0.1:8001"
KEY_FILE = Path("run") / "admin.key"
ANSWER_SECONDS = 30.0
SILENT_SECONDS = 60.0
"""A stream says something at least this often, or it is taken for dead."""
PAGE = 100
NOT_NOW = 503
HERE = ("all://127.0.0.1", "all://localhost", "all://[::1]")
"""No proxy of the environment reaches this machine, nor is the key its business."""

_Command = TypeVar("_Command", bound=Callable[..., Any])


class ControlClient:
    """Calls under ``/api/v1``. Every answer that is no success becomes a UserError with the server's own words.

    ``path`` never contains what a user typed unless ``part`` quoted it.
    """

    def __init__(self, address: str, key: str = "", transport: httpx.BaseTransport | None = None) -> None:
        import httpx

        self.address = address.rstrip("/")
        headers = {"X-API-Key": key} if key else {}
        try:
            self._client = httpx.Client(
                base_url=self.address + PREFIX,
                headers=headers,
                timeout=ANSWER_SECONDS,
                transport=transport,
                mounts=dict.fromkeys(HERE),
            )
        except (httpx.InvalidURL, ValueError, TypeError) as error:
            raise UserError(f"--control {address}: not an address: {error}") from error

    def get(self, path: str, **query: Any) -> Any:
        return self._call("GET", path, params=_given(query))

    def post(self, path: str, body: Any = None) -> Any:
        """With an ``Idempotency-Key`` of its own, so that a repeated call cannot act twice."""
        return self._call(
            "POST", path, json={} if body is None else body, headers={"Idempotency-Key": uuid.uuid4().hex}
        )

    def read(self, path: str) -> bytes:
        """What is no JSON, or is kept as it came."""
        return self._answer("GET", path).content

    def delete(self, path: str, body: Any = None) -> Any:
        """As ``post``."""
        return self._call(
            "DELETE", path, json={} if body is None else body, headers={"Idempotency-Key": uuid.uuid4().hex}
        )

    def pages(self, path: str, limit: int, **query: Any) -> Iterator[Any]:
        """At most ``limit`` items of a list ``{"items": […], "next": cursor or null}``."""
        cursor: str | None = None
        while limit > 0:
            page = self.get(path, limit=min(limit, PAGE), cursor=cursor, **query)
            yield from page["items"][:limit]
            limit -= len(page["items"])
            cursor = page["next"]
            if cursor is None:
                return

    def events(self, path: str) -> Iterator[bytes]:
        """The ``data:`` of each server-sent event, until the server ends the stream. Raises StreamLost when it breaks, or
        is refused for now: by a control plane that has just begun, or whose store is away."""
        import httpx

        try:
            with self._client.stream("GET", path, timeout=httpx.Timeout(ANSWER_SECONDS, read=SILENT_SECONDS)) as answer:
                if answer.status_code >= 400:
                    answer.read()
                    if answer.status_code == NOT_NOW:
                        raise StreamLost(_detail(answer))
                    self._check(answer)
                data: list[str] = []
                for line in answer.iter_lines():
                    if line.startswith("data:"):
                        data.append(line[5:].removeprefix(" "))
                    elif not line and data:
                        yield "\n".join(data).encode()
                        data = []
        except httpx.TransportError as error:
            raise StreamLost(f"{self.address}: the stream broke: {error or type(error).__name__}") from error

    def send(self, path: str, data: Iterator[bytes]) -> Any:
        """A file, as it is read."""
        headers = {"Content-Type": "application/octet-stream"}
        return self._call("POST", path, content=data, headers=headers, timeout=SILENT_SECONDS)

    def fetch(self, path: str) -> Generator[bytes, None, None]:
        """A file, as it comes. Raises UserError also when it breaks off."""
        import httpx

        try:
            with self._client.stream("GET", path, timeout=httpx.Timeout(ANSWER_SECONDS, read=SILENT_SECONDS)) as answer:
                if answer.status_code >= 300:
                    answer.read()
                    self._check(answer)
                yield from answer.iter_bytes(1 << 20)
        except httpx.TransportError as error:
            raise UserError(f"{self.address}: the answer broke off: {error or type(error).__name__}") from error

    def close(self) -> None:
        self._client.close()

    def __enter__(self) -> ControlClient:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _call(self, method: str, path: str, **given: Any) -> Any:
        answer = self._answer(method, path, **given)
        if answer.status_code == 204 or not answer.content:
            return None
        try:
            return shown(msgspec.json.decode(answer.content))
        except msgspec.DecodeError as error:
            raise UserError(f"{self.address}: not an answer of a control plane") from error

    def _answer(self, method: str, path: str, **given: Any) -> httpx.Response:
        import httpx

        try:
            answer = self._client.request(method, path, **given)
        except httpx.TimeoutException as error:
            raise UserError(f"{self.address}: no answer within {ANSWER_SECONDS:g} s") from error
        except (httpx.TransportError, httpx.UnsupportedProtocol) as error:
            raise UserError(
                f"no control plane answers at {self.address} ({error}); is 'tidegate up' running? "
                "Another address: --control or TIDEGATE_CONTROL"
            ) from error
        self._check(answer)
        return answer

    def _check(self, answer: httpx.Response) -> None:
        if answer.status_code < 300:
            return
        detail = _detail(answer)
        if answer.status_code == 401:
            detail += f"; a key is taken from --key, TIDEGATE_KEY or {KEY_FILE.as_posix()}"
        raise UserError(detail)


class StreamLost(UserError):
    """A stream of events ended without its end; asking again goes on from the present."""


_PICTURES = {code: 0x2400 + code for code in range(0x20)} | {0x7F: 0x2421}
_INVISIBLE = dict.fromkeys([*range(0x80, 0xA0), *range(0x202A, 0x202F), *range(0x2066, 0x206A)], "\ufffd")
_SHOWN = str.maketrans(_PICTURES | _INVISIBLE)


def shown(value: Any) -> Any:
    """Plain values with control characters made visible: what others wrote, such as the reason of a release, must not
    move the cursor, add lines to the audit log on the screen, or turn the direction of the text."""
    if isinstance(value, str):
        return value if value.isprintable() else value.translate(_SHOWN)
    if isinstance(value, dict):
        return {shown(name): shown(below) for name, below in value.items()}
    return [shown(below) for below in value] if isinstance(value, list) else value


def part(text: str) -> str:
    """What a user typed, as one segment of a path."""
    return quote(text, safe="")


def connect(control: str, key: str) -> ControlClient:
    """``key`` empty: the first line of ``run/admin.key`` below the current folder, where there is one."""
    return ControlClient(control, key or own_key(control, os.environ))


def control_options(command: _Command) -> _Command:
    """``--control`` and ``--key``; the command's function gets a ``client`` in their place."""

    @click.option("--control", envvar="TIDEGATE_CONTROL", default=DEFAULT_ADDRESS, help="Address of the control plane.")
    @click.option("--key", envvar="TIDEGATE_KEY", default="", show_default=False, help="Key; run/admin.key if unset.")
    @functools.wraps(command)
    def wrapped(*args: Any, control: str, key: str, **given: Any) -> Any:
        with connect(control, key) as client:
            return command(*args, client=client, **given)

    return wrapped  # type: ignore[return-value]


def own_key(address: str, environment: Mapping[str, str]) -> str:
    """The key in ``run/admin.key``, which is the business of this folder's own control plane alone. Raises UserError when
    the address is of another."""
    import httpx

    try:
        key = KEY_FILE.read_text("utf-8").strip().partition("\n")[0]
        url = httpx.URL(address)
    except (OSError, UnicodeDecodeError, httpx.InvalidURL):
        return ""  # the server then says that a key is missing, and where one is taken from
    if url.host and not _is_here(url.host) and _place(url) not in _own_places(environment):
        raise UserError(
            f"{KEY_FILE.as_posix()} is not sent to {address}: it is for this folder's own control plane "
            "(control.url, control.host); give a key with --key or TIDEGATE_KEY"
        )
    return key


def _is_here(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _own_places(environment: Mapping[str, str]) -> set[tuple[str, str, int | None]]:
    """Where the configuration says that the control plane is."""
    import httpx

    try:
        path, dotenv = discover(None, environment)
        own = load_settings(path, environment=environment, dotenv=dotenv).settings.control
        host = f"[{own.host}]" if ":" in own.host else own.host
        return {_place(httpx.URL(url)) for url in (own.url, f"http://{host}:{own.port}")}
    except (UserError, httpx.InvalidURL):
        return set()


def _place(url: httpx.URL) -> tuple[str, str, int | None]:
    return url.scheme, url.host, url.port


def _given(query: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in query.items() if value is not None and value != ""}


def _detail(answer: httpx.Response) -> str:
    try:
        body = msgspec.json.decode(answer.content)
    except (msgspec.DecodeError, UnicodeDecodeError):
        body = None
    if not isinstance(body, dict) or not (body.get("detail") or body.get("title")):
        return f"the control plane answered {answer.status_code}"
    body = shown(body)
    text = str(body.get("detail") or body["title"])
    places = [
        f"{'.'.join(str(step) for step in error.get('loc', []))}: {error.get('msg', '')}"
        for error in body.get("errors", [])
        if isinstance(error, dict)
    ]
    return "; ".join([text, *(place for place in places if place not in text)])
