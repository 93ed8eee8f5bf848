"""One number from a Prometheus server, for a guardrail. Bounded in time, and kept away from what no plan may reach."""

from __future__ import annotations

import ipaddress
import logging
import math
import socket
from collections.abc import Callable, Sequence
from urllib.parse import urlsplit

import httpx
import msgspec

from tidegate.clock import Clock, SystemClock
from tidegate.errors import InvalidInput

logger = logging.getLogger("tidegate.releases")

ANSWER_SECONDS = 2.0
MOST_BYTES = 1 << 20
_METADATA = (ipaddress.ip_address("100.100.100.200"), ipaddress.ip_address("fd00:ec2::254"))
"""Metadata services of clouds that are not link-local; the others are."""

Resolve = Callable[[str, int], Sequence[str]]
"""Addresses of a host."""


def addresses_of(host: str, port: int) -> list[str]:
    return [str(found[4][0]) for found in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)]


class Prometheus:
    """Asks ``/api/v1/query``. No redirects, no proxies, no link-local or metadata addresses: a plan comes from a caller
    of the control API, and must not make the control plane fetch what only it can reach."""

    def __init__(
        self, transport: httpx.BaseTransport | None = None, resolve: Resolve = addresses_of, clock: Clock | None = None
    ) -> None:
        self._client = httpx.Client(
            timeout=ANSWER_SECONDS, follow_redirects=False, trust_env=False, transport=transport
        )
        self._resolve = resolve
        self._clock = clock or SystemClock()

    def ask(self, url: str, query: str) -> float | None:
        """The query's value now; None when there is none, with the reason in the log. Never raises for the server's
        sake: a Prometheus that is away is no verdict on the candidate."""
        try:
            check_url(url)
            return self._answer(url, query)
        except (httpx.HTTPError, httpx.InvalidURL, InvalidInput, OSError, ValueError) as error:
            logger.warning("prometheus %s: %s", without_password(url), str(error) or type(error).__name__)
            return None

    def close(self) -> None:
        self._client.close()

    def _answer(self, url: str, query: str) -> float | None:
        until = self._clock.monotonic() + ANSWER_SECONDS
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80)
        address = self._allowed(host, port)
        # The address that was checked is the one that is called: a name may mean another one a moment later.
        target = httpx.URL(url.rstrip("/") + "/api/v1/query").copy_with(host=address)
        with self._client.stream(
            "GET",
            target,
            params={"query": query},
            headers={"Host": parts.netloc.rpartition("@")[2]},
            extensions={"sni_hostname": host},
        ) as answer:
            if answer.status_code != 200:
                raise ValueError(f"answered {answer.status_code}")
            content = b""
            for chunk in answer.iter_bytes():
                content += chunk
                if len(content) > MOST_BYTES:
                    raise ValueError("answered more than a number")
                if self._clock.monotonic() > until:  # the client's own limit is for each piece of the answer
                    raise ValueError(f"did not end its answer within {ANSWER_SECONDS:g} s")
        return number_in(content)

    def _allowed(self, host: str, port: int) -> str:
        found = list(self._resolve(host, port))
        for address in found:
            ip = ipaddress.ip_address(address.partition("%")[0])
            mapped = getattr(ip, "ipv4_mapped", None) or ip
            if mapped.is_link_local or mapped.is_multicast or mapped.is_unspecified or mapped in _METADATA:
                raise ValueError(f"{host} is {address}, which is not called")
        if not found:
            raise ValueError(f"{host} has no address")
        return found[0]


def check_url(url: str) -> None:
    """Raises InvalidInput for what is no http or https address with a host."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise InvalidInput(f"prometheus.url: {error}") from error
    if parts.scheme not in ("http", "https") or not parts.hostname or port == 0:
        raise InvalidInput("prometheus.url must be http://host or https://host")
    if parts.query or parts.fragment:
        raise InvalidInput("prometheus.url is a base address, without a query")


def without_password(url: str) -> str:
    """As it may be told: without a name and a password before the host."""
    scheme, slashes, rest = url.partition("//")
    place, slash, path = rest.partition("/")
    return f"{scheme}{slashes}{place.rpartition('@')[2]}{slash}{path}"


def number_in(content: bytes) -> float | None:
    """The value of a scalar, or of the one series of a vector; None without a series. Raises ValueError."""
    body = msgspec.json.decode(content)
    try:
        result, kind = body["data"]["result"], body["data"]["resultType"]
        if kind == "vector" and len(result) > 1:
            raise ValueError(f"the query gives {len(result)} series; write one that gives one, such as sum(…)")
        pair = result if kind == "scalar" else result[0]["value"] if result else None
        value = None if pair is None else float(pair[1])
    except (KeyError, IndexError, TypeError) as error:
        raise ValueError("not an answer of Prometheus") from error
    return value if value is not None and math.isfinite(value) else None
