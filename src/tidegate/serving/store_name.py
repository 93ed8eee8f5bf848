"""By which name the files of an instance know the store that they belong to."""

from __future__ import annotations

from hashlib import sha256


def store_name(url: str) -> str:
    """Short, safe in a file's name, and the same whoever signs in: a new password makes no other store."""
    kind, _, rest = url.partition("://")
    server, slash, database = rest.partition("/")
    return sha256(f"{kind}://{server.rpartition('@')[2]}{slash}{database}".encode()).hexdigest()[:16]
