"""What a database's complaints mean: the one place where its exceptions become ours."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from sqlalchemy import exc

from tidegate.errors import InvalidInput, LostRace, StoreAway, TidegateError, UserError

MIGRATE = "run: tidegate store migrate"
RETRY_SECONDS = 1.0

_SQLITE = (
    ("no such table", f"the store has no tables yet; {MIGRATE}"),
    ("no such column", f"the store is older than this version of Tidegate; {MIGRATE}"),
)
_SQLITE_AWAY = (
    ("is full", "the disk of the store is full"),
    ("readonly", "the store cannot be written: it is read-only"),
    ("locked", "the store is busy: another process has been writing for too long"),
    ("unable to open", "the file of the store cannot be opened"),
    ("disk i/o", "the disk of the store fails"),
    ("malformed", "the file of the store is damaged; restore it from a backup"),
    ("not a database", "the file of the store is no SQLite database"),
)
_POSTGRES_AWAY = {
    "08": "the store cannot be reached",
    "53": "the store has run out of disk, memory or connections",
    "55": "the store is busy: another process has been writing for too long",
    "57": "the store is starting, stopping, or took too long",
    "58": "the disk of the store fails",
}
"""By the class of SQLSTATE, its first two characters."""
_POSTGRES_REFUSED = (
    ("authentication failed", "the store refuses the user or the password"),
    ("does not exist", "the store's database or user does not exist"),
    ("too many", "the store has run out of connections"),
)
"""Words of a connection that was refused: the driver gives no SQLSTATE then, and the server may speak another language."""
_READ_ONLY = "25006"
_LOST_RACE = ("40", "23")
_OLD_SCHEMA = ("42P01", "42703")


def meaning(error: Exception) -> TidegateError | None:
    """Of an exception of SQLAlchemy or of psycopg; None for what is a mistake in this package, such as wrong SQL."""
    if isinstance(error, exc.TimeoutError):
        return StoreAway("every connection to the store is in use", RETRY_SECONDS)
    if isinstance(error, exc.DBAPIError):
        original: BaseException = error.orig or error
    elif type(error).__module__.startswith("psycopg"):
        original = error
    else:
        return None
    state = getattr(original, "sqlstate", None)
    if state is not None:
        return _of_state(state)
    words, kind = str(original).lower(), type(original).__name__
    if kind == "IntegrityError":
        return LostRace("somebody else wrote the same thing first")
    if kind == "DataError":
        return InvalidInput("the store cannot keep this value")
    if type(original).__module__.startswith("sqlite3"):
        return _of_words(words)
    if kind in ("OperationalError", "InterfaceError") or isinstance(error, exc.OperationalError | exc.InterfaceError):
        text = next((text for sign, text in _POSTGRES_REFUSED if sign in words), "the store cannot be reached")
        return StoreAway(text, RETRY_SECONDS)
    return None


def _of_words(words: str) -> TidegateError | None:
    for sign, text in _SQLITE:
        if sign in words:
            return UserError(text)
    for sign, text in _SQLITE_AWAY:
        if sign in words:
            return StoreAway(text, RETRY_SECONDS)
    return None


def _of_state(state: str) -> TidegateError | None:
    if state in _OLD_SCHEMA:
        return UserError(f"the store has no tables yet, or older ones; {MIGRATE}")
    if state == _READ_ONLY:
        return StoreAway("the store cannot be written: it is read-only", RETRY_SECONDS)
    if state.startswith(_LOST_RACE):
        return LostRace("somebody else changed the same thing first; look again and repeat")
    if state.startswith("22"):
        return InvalidInput("the store cannot keep this value")
    text = _POSTGRES_AWAY.get(state[:2])
    return None if text is None else StoreAway(text, RETRY_SECONDS)


@contextlib.contextmanager
def translated() -> Iterator[None]:
    try:
        yield
    except TidegateError:
        raise
    except Exception as error:
        ours = meaning(error)
        if ours is None:
            raise
        raise ours from error
