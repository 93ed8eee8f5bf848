"""API keys as both planes know them: ``tg_<id>_<secret>``, of which only a salted hash is kept.

The secret has 256 random bits, so that one round of sha256 keeps it as well as a slow hash would keep a password.
"""

from __future__ import annotations

import hmac
import re
import secrets
from hashlib import sha256
from typing import Literal

import msgspec

PREFIX = "tg"
KeyRole = Literal["predict", "operate", "admin"]
"""Each includes the ones before it."""

_KEY = re.compile(r"tg_([a-z0-9]{8,32})_([A-Za-z0-9_-]{32,128})")
_INCLUDED: dict[str, frozenset[str]] = {
    "predict": frozenset(("predict",)),
    "operate": frozenset(("predict", "operate")),
    "admin": frozenset(("predict", "operate", "admin")),
}


class KeyFacts(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a key allows; the store keeps it as JSON in ``KeyRow.body``. 0 means that no limit of its own applies."""

    name: str
    """For people; not unique."""
    roles: tuple[KeyRole, ...] = ("predict",)
    endpoints: tuple[str, ...] = ()
    """Those that it may call; empty: all."""
    requests_per_minute: int = 0
    concurrency: int = 0
    """Most requests in flight."""
    rows: int = 0
    """Most rows in one request."""

    def allows(self, role: str) -> bool:
        """Whether one of its roles is ``role`` or includes it."""
        return any(role in _INCLUDED[own] for own in self.roles)

    def reaches(self, endpoint: str) -> bool:
        return not self.endpoints or endpoint in self.endpoints


class KnownKey(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A key as the data plane is told of it. ``digest`` is hexadecimal; times are seconds since the epoch."""

    id: str
    salt: str
    digest: str
    facts: KeyFacts
    expires: float | None = None

    def expired(self, now: float) -> bool:
        return self.expires is not None and now >= self.expires


def parse(text: str) -> tuple[str, str] | None:
    """Id and secret; None for what is no key of ours."""
    found = _KEY.fullmatch(text)
    return None if found is None else (found.group(1), found.group(2))


def compose(id: str, secret: str) -> str:  # noqa: A002 - the name that both planes use
    """What its owner sends."""
    return f"{PREFIX}_{id}_{secret}"


def new_key() -> tuple[str, str, str]:
    """A fresh id, secret and salt."""
    return secrets.token_hex(6), secrets.token_urlsafe(32), secrets.token_hex(16)


def digest(salt: str, secret: str) -> str:
    """sha256 of salt, NUL and secret, in hexadecimal digits."""
    return sha256(f"{salt}\0{secret}".encode()).hexdigest()


def matches(salt: str, kept: str, secret: str) -> bool:
    """Whether the secret has this digest; takes as long when it has not."""
    return hmac.compare_digest(digest(salt, secret), kept)


def encode_facts(facts: KeyFacts) -> str:
    return msgspec.json.encode(facts).decode()


def decode_facts(body: str) -> KeyFacts:
    """Raises ValueError for what is not the body of a key."""
    return msgspec.json.decode(body, type=KeyFacts)
