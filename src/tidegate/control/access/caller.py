"""Who calls: what a valid key or session stands for while one request is answered."""

from __future__ import annotations

import msgspec

from tidegate.errors import NotAllowed
from tidegate.keys import KeyFacts, KeyRole


class Caller(msgspec.Struct, frozen=True, kw_only=True):
    """``key`` is the key's id. ``csrf`` is the token that a session's changes must carry; empty for a key."""

    key: str
    facts: KeyFacts
    address: str = ""
    session: str = ""
    """Digest of the session's token; empty for a key."""
    csrf: str = ""
    expires: float | None = None
    """When the session, or else the key, ends."""

    @property
    def who(self) -> str:
        """For the audit log: a name for people, and the id, since names are not unique."""
        return f"{self.facts.name} ({self.key})"

    def must(self, role: KeyRole) -> None:
        """Raises NotAllowed. Who administers could make a key for any endpoint, so a key of some endpoints may not."""
        if not self.facts.allows(role):
            raise NotAllowed(f"this needs a key with the role {role}; this one has {', '.join(self.facts.roles)}")
        if role == "admin" and self.facts.endpoints:
            raise NotAllowed("this key is for some endpoints only; keys and the audit log need one for all of them")

    def must_reach(self, endpoint: str) -> None:
        """Raises NotAllowed for an endpoint that is not one of the key's."""
        if not self.facts.reaches(endpoint):
            raise NotAllowed(f"this key may not use the endpoint {endpoint}")
