"""The control plane as a task of a workflow sees it: ask once, whatever happens on the way, and wait for what comes of it.

Knows no workflow tool. A task that is tried again asks with the same key, and so finds what its first try had started.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Collection, Mapping
from hashlib import sha256
from typing import Any
from urllib.parse import urlsplit

import httpx
import msgspec

from tidegate.errors import Refused, UserError

logger = logging.getLogger("tidegate.integrations")

PREFIX = "/api/v1"
DEFAULT_ADDRESS = "http://127.0.0.1:8001"
ANSWER_SECONDS = 30.0
LONGEST_PAUSE = 30.0
NOT_NOW = frozenset({408, 429, 502, 503, 504})
HERE = ("all://127.0.0.1", "all://localhost", "all://[::1]")
"""No proxy of the environment reaches this machine, nor is the key its business."""
GOOD = frozenset({"done", "promoted", "refused", "ended"})
"""States in which something has ended. A retraining that its gate refused has done what it was to do."""
BAD = frozenset({"failed", "cancelled", "rolled_back"})
JOBS = ("/jobs/", "/batch-jobs/")


class Away(Refused):
    """The control plane does not answer now, or refuses for now."""

    reason = "control_away"


class Ended(UserError):
    """What was asked for has ended without success; ``state`` says how."""

    def __init__(self, detail: str, state: str) -> None:
        super().__init__(detail)
        self.state = state


class Started(msgspec.Struct, frozen=True):
    """``place`` is the path below the prefix under which it is found from now on; empty where it is done already."""

    body: dict[str, Any]
    place: str = ""
    repeated: bool = False
    """The same key had asked for it before."""


class Control:
    """``patience`` is how many seconds in a row the control plane may be away; what it runs goes on meanwhile. Calls raise
    Away when that is over, and UserError in the control plane's words."""

    def __init__(
        self,
        address: str,
        key: str = "",
        *,
        patience: float = 300.0,
        transport: httpx.BaseTransport | None = None,
        sleep: Callable[[float], None] = time.sleep,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self.address = address.rstrip("/")
        self._patience = patience
        self._sleep = sleep
        self._monotonic = monotonic
        if not self.address.startswith(("http://", "https://")):
            raise UserError(f"{address!r} is no address of a control plane: expected such as {DEFAULT_ADDRESS}")
        try:
            self._client = httpx.Client(
                base_url=self.address + PREFIX,
                headers={"X-API-Key": key} if key else {},
                timeout=ANSWER_SECONDS,
                transport=transport,
                mounts=dict.fromkeys(HERE),
            )
        except (httpx.InvalidURL, ValueError, TypeError) as error:
            raise UserError(f"{address!r} is no address of a control plane: {type(error).__name__}") from None

    def __enter__(self) -> Control:
        return self

    def __exit__(self, *_: object) -> None:
        self._client.close()

    def get(self, path: str, **query: Any) -> dict[str, Any]:
        given = {name: value for name, value in query.items() if value is not None}
        return _object(self._patiently("GET", path, params=given))

    def post(self, path: str, body: Mapping[str, Any] | None = None, *, key: str) -> Started:
        """The same ``key`` never acts twice."""
        answer = self._patiently("POST", path, json=dict(body or {}), headers={"Idempotency-Key": good_key(key)})
        place = urlsplit(answer.headers.get("location", "")).path.removeprefix(PREFIX)
        return Started(_object(answer), place, answer.headers.get("idempotent-replayed") == "true")

    def follow(
        self,
        place: str,
        every: float,
        told: Callable[[dict[str, Any]], None] = lambda _: None,
        enough: Collection[str] = (),
    ) -> dict[str, Any]:
        """Looks every so many seconds until it has ended, well or not, or is in a state that is ``enough``; ``told`` gets
        each new state or progress."""
        last: Any = None
        while True:
            found = self.get(place)
            now = (found.get("state"), found.get("progress"))
            if now != last:
                told(found)
                last = now
            if has_ended(found) or found["state"] in enough:
                return found
            self._sleep(every)

    def _patiently(self, method: str, path: str, **given: Any) -> httpx.Response:
        pause, end = 0.5, self._monotonic() + self._patience
        while True:
            try:
                return self._call(method, path, **given)
            except Away as error:
                pause = min(max(pause, error.retry_after), LONGEST_PAUSE)
                if self._monotonic() + pause >= end:
                    raise Away(f"{error}; so it has been for {self._patience:g} s") from None
                logger.warning("%s; looking again in %g s", error, pause)
            self._sleep(pause)
            pause *= 2

    def _call(self, method: str, path: str, **given: Any) -> httpx.Response:
        """Raises Away for what may pass, UserError in the server's words for what does not."""
        try:
            answer = self._client.request(method, path, **given)
        except (httpx.TransportError, httpx.InvalidURL) as error:
            raise Away(f"no control plane answers at {self.address}: {error or type(error).__name__}") from None
        if answer.status_code < 300:
            return answer
        detail = _detail(answer)
        if answer.status_code in NOT_NOW or (answer.status_code == 409 and "under way" in detail):
            raise Away(f"{self.address}: {detail}", _retry_after(answer))
        if answer.status_code == 401:
            detail += "; the key is taken from the connection's password, or from TIDEGATE_API_KEY"
        raise UserError(f"{method} {PREFIX}{path}: {detail}")


def ask(
    control: Control,
    path: str,
    body: Mapping[str, Any],
    key: str,
    *,
    wait: bool = True,
    again: bool = True,
    enough: Collection[str] = (),
    every: float = 5.0,
    began: Callable[[str], None] = lambda _: None,
    told: Callable[[dict[str, Any]], None] = lambda _: None,
) -> dict[str, Any]:
    """Starts what ``path`` starts, or finds what the same key started before, and gives it as it ended.

    With ``again``, what an earlier try saw fail is done once more: a job goes on after its finished steps, anything else
    begins anew. ``began`` gets the place of what is waited for. Raises Ended when it ends without success.
    """
    started = control.post(path, body, key=key)
    found = started.body
    while started.repeated and started.place and again:
        found = control.get(started.place)
        if found.get("cancelling"):
            found = control.follow(started.place, every, told)
        if found.get("state") not in BAD:
            break
        key = f"{key}/again-{found.get('revision', 0)}"
        if started.place.startswith(JOBS):
            found = control.post(f"/jobs/{started.place.rpartition('/')[2]}/retry", key=key).body
            break
        started = control.post(path, body, key=key)
        found = started.body
    if not started.place or "state" not in found:
        return found
    began(started.place)
    if not wait:
        return found
    found = control.follow(started.place, every, told, enough)
    if found["state"] in BAD:
        why = found.get("error") or found.get("reason") or _last_event(found) or "the control plane says no more"
        raise Ended(f"{started.place.strip('/')} is {found['state']}: {why}", str(found["state"]))
    return found


def has_ended(found: Mapping[str, Any]) -> bool:
    """What has no state is no work: it is there at once."""
    return found.get("state", "done") in GOOD | BAD


def _last_event(found: Mapping[str, Any]) -> str:
    events = found.get("events")
    return str(events[-1].get("text", "")) if events else ""


def newest_drift(control: Control, endpoint: str, variant: str = "baseline") -> dict[str, Any] | None:
    """The newest report of a window that is over, or None."""
    found = control.get("/drift-reports", endpoint=endpoint, limit=50).get("items", [])
    over = [report for report in found if report.get("complete") and report.get("variant") == variant]
    return over[0] if over else None


def good_key(text: str) -> str:
    """One that the control plane takes: short, printable, without spaces."""
    printable = all("!" <= letter <= "~" for letter in text)
    return text if printable and 0 < len(text) <= 200 else f"sha256:{sha256(text.encode()).hexdigest()}"


def _object(answer: httpx.Response) -> dict[str, Any]:
    if not answer.content:
        return {}
    try:
        found = msgspec.json.decode(answer.content)
    except (msgspec.DecodeError, UnicodeDecodeError):
        found = None
    if not isinstance(found, dict):
        raise UserError(f"{answer.url.host}: not an answer of a control plane")
    return found


def _detail(answer: httpx.Response) -> str:
    try:
        found = _object(answer)
    except UserError:
        found = {}
    text = str(found.get("detail") or found.get("title") or f"the answer was {answer.status_code}")
    places = [
        f"{'.'.join(map(str, one.get('loc', [])))}: {one.get('msg', '')}"
        for one in found.get("errors", [])
        if isinstance(one, dict)
    ]
    return "; ".join([text, *(place for place in places if place not in text)])


def _retry_after(answer: httpx.Response) -> float:
    text = answer.headers.get("retry-after", "")
    return float(text) if text.isdigit() else 1.0
