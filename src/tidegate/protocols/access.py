"""Keys and the roles they give, the same for every protocol.

There are two kinds: those of the configuration, which know no limits, and those that the control plane has made.
"""

from __future__ import annotations

import hmac
from collections.abc import Mapping

from tidegate.errors import NotAllowed, NotAuthenticated, NotReady
from tidegate.keys import PREFIX
from tidegate.protocols.base import Role
from tidegate.protocols.keyring import Caller, Keyring
from tidegate.settings import Access

_OURS = f"{PREFIX}_".encode()


class Keys:
    """An operator's key may also predict. Predicting is open without ``predict_key`` unless ``keys_required``; changes are
    off for whoever has no key with that role."""

    def __init__(self, access: Access, keyring: Keyring | None = None) -> None:
        self._predict = access.predict_key.encode()
        self._operate = access.operate_key.encode()
        self._metrics_open = access.metrics_open
        self._open = not access.predict_key and not access.keys_required
        self._keyring = keyring if keyring is not None else Keyring()

    def admit(self, role: Role, headers: Mapping[bytes, bytes], args: Mapping[str, str]) -> Caller | None:
        """Counts the call, until ``Caller.leave``; None for a caller without limits. ``args``: names in the path.

        Raises NotAuthenticated without a valid key, NotAllowed with one that lacks the role or may not call this endpoint,
        RateLimited when it has used up what it may, NotReady while nobody knows which keys there are.
        """
        if role == "none" or (role == "metrics" and self._metrics_open):
            return None
        key = _key_of(headers)
        if key is not None and key.startswith(_OURS):
            caller = self._keyring.find(key.decode("latin-1"))
            if caller is not None:
                return self._enter(caller, role, args)
        if role == "operate":
            if not self._operate and not len(self._keyring) and not self._may_be_valid(key):
                raise NotAllowed("changes over the network are off; set access.operate_key to allow them")
        elif self._open:
            return None
        self._check(role, key)
        return None

    def _enter(self, caller: Caller, role: Role, args: Mapping[str, str]) -> Caller:
        if not caller.facts.allows("operate" if role == "operate" else "predict"):
            raise NotAllowed("this key may predict, but not change what is served")
        endpoint = args.get("endpoint") or args.get("model")
        if endpoint:
            caller.check(endpoint)
        caller.enter(self._keyring.monotonic())
        return caller

    def _check(self, role: Role, key: bytes | None) -> None:
        """One of the configuration's keys."""
        if key is None:
            raise NotAuthenticated("a key is needed: send it as X-API-Key or as Authorization: Bearer")
        if self._operate and hmac.compare_digest(key, self._operate):
            return
        if self._predict and hmac.compare_digest(key, self._predict):
            if role == "operate":
                raise NotAllowed("this key may predict, but not change what is served")
            return
        if self._may_be_valid(key):
            raise NotReady("which keys are valid is not known yet; try again soon")
        raise NotAuthenticated("the key is not valid")

    def _may_be_valid(self, key: bytes | None) -> bool:
        """One that the control plane may have made, while nobody knows which it has."""
        return key is not None and key.startswith(_OURS) and not self._keyring.known


def _key_of(headers: Mapping[bytes, bytes]) -> bytes | None:
    key = headers.get(b"x-api-key")
    if key is None:
        scheme, _, value = headers.get(b"authorization", b"").partition(b" ")
        key = value.strip() if scheme.lower() == b"bearer" else None
    return key
