"""Keys and the roles they give, the same for every protocol."""

from __future__ import annotations

import hmac
from collections.abc import Mapping

from tidegate.errors import NotAllowed, NotAuthenticated
from tidegate.protocols.base import Role
from tidegate.settings import Access


class Keys:
    """An operator's key may also predict. Without a predict key, predicting is open; without an operate key, changes are off."""

    def __init__(self, access: Access) -> None:
        self._predict = access.predict_key.encode()
        self._operate = access.operate_key.encode()
        self._metrics_open = access.metrics_open

    def check(self, role: Role, headers: Mapping[bytes, bytes]) -> None:
        """Raises NotAuthenticated without a valid key, NotAllowed with one that lacks the role."""
        if role == "none" or (role == "metrics" and self._metrics_open):
            return
        if role == "operate":
            if not self._operate:
                raise NotAllowed("changes over the network are off; set access.operate_key to allow them")
        elif not self._predict:
            return
        key = _key_of(headers)
        if key is None:
            raise NotAuthenticated("a key is needed: send it as X-API-Key or as Authorization: Bearer")
        if self._operate and hmac.compare_digest(key, self._operate):
            return
        if self._predict and hmac.compare_digest(key, self._predict):
            if role == "operate":
                raise NotAllowed("this key may predict, but not change what is served")
            return
        raise NotAuthenticated("the key is not valid")


def _key_of(headers: Mapping[bytes, bytes]) -> bytes | None:
    key = headers.get(b"x-api-key")
    if key is None:
        scheme, _, value = headers.get(b"authorization", b"").partition(b" ")
        key = value.strip() if scheme.lower() == b"bearer" else None
    return key
