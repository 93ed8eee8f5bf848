"""Rows of a query to a database. Its address is in no error, nor any part of it: the password is one."""

from __future__ import annotations

import ipaddress
import os
import re
from collections.abc import Collection
from typing import TYPE_CHECKING
from urllib.parse import quote, unquote

from tidegate.control.training.config import SqlData
from tidegate.errors import ConfigError, MissingExtra, UserError

if TYPE_CHECKING:
    import pandas
    from sqlalchemy.engine import URL

HIDDEN = "…"
_LONGEST = 300
_SECRET = re.compile(r"pass|secret|token|key|credential", re.IGNORECASE)
"""Options of an address that are, or hold, one."""


def read_query(data: SqlData) -> pandas.DataFrame:
    """Raises UserError, without a cause: a driver quotes the address as it likes."""
    import pandas
    import sqlalchemy

    written = _written(data.url)
    url = _parsed(written)
    secrets, parts = _secrets(url, written), _parts(url)
    try:
        engine = sqlalchemy.create_engine(url)
        connection = engine.connect().execution_options(no_parameters=True)  # "%" and ":" are the query's own
    except ImportError as error:
        if url.get_backend_name() == "postgresql":
            raise MissingExtra("postgres", "data in PostgreSQL") from None
        raise UserError(f"data.sql: the driver of this database is missing: {error}") from None
    except Exception as error:  # noqa: BLE001 - whatever it is, it may quote the address
        told = _told(error, secrets, parts)
        raise UserError(f"data.sql: no connection to the database: {told}") from None
    try:
        with connection:
            return pandas.read_sql_query(data.query, connection)
    except (sqlalchemy.exc.SQLAlchemyError, ValueError) as error:
        raise UserError(f"data.sql: the query failed: {_told(error, secrets)}") from None
    finally:
        engine.dispose()


def _written(given: str) -> str:
    """Raises ConfigError for a variable that is not there."""
    if not given.startswith("$"):
        return given
    found = os.environ.get(given[1:], "")
    if not found:
        raise ConfigError(f"data.sql.url: the environment has no {given[1:]}")
    return found


def _parsed(written: str) -> URL:
    from sqlalchemy.engine import make_url
    from sqlalchemy.exc import ArgumentError

    try:
        url = make_url(written)
    except (ArgumentError, ValueError):  # the latter for a port that is no number
        raise ConfigError(
            "data.sql.url: expected an address such as postgresql://user:password@host/database, where @ / : # % in a "
            "password are written as %40 %2F %3A %23 %25"
        ) from None
    return url.set(drivername="postgresql+psycopg") if url.drivername in ("postgresql", "postgres") else url


def _secrets(url: URL, written: str) -> frozenset[str]:
    """The address and the password, as they are and as they are written."""
    whole = url.render_as_string(hide_password=False)
    user_and_password = [text.partition("://")[2].rpartition("@")[0] for text in (written, whole)]
    password = str(url.password or "")
    found = {
        written,
        whole,
        password,
        quote(password, safe=""),
        *(text.partition(":")[2] for text in user_and_password),
    }
    found |= {value for name, values in _options(url).items() if _SECRET.search(name) for value in values}
    return frozenset({*found, *map(unquote, found)} - {""})


def _parts(url: URL) -> frozenset[str]:
    """What else is in the address, and tells little when it stands alone."""
    options = {value for values in _options(url).values() for value in values}
    return frozenset({url.username or "", url.host or "", url.database or "", *options} - {""})


def _options(url: URL) -> dict[str, tuple[str, ...]]:
    return {name: (value,) if isinstance(value, str) else value for name, value in url.query.items()}


def _told(error: Exception, secrets: Collection[str], parts: Collection[str] = ()) -> str:
    """What the driver says, in one line. ``secrets`` are hidden wherever they are, ``parts`` as whole words, and with them
    numeric addresses: hosts are looked up on the way."""
    text = str(getattr(error, "orig", None) or error)
    for secret in sorted(secrets, key=len, reverse=True):
        text = text.replace(secret, HIDDEN)
    for part in sorted(parts, key=len, reverse=True):
        text = re.sub(rf"(?<!\w){re.escape(part)}(?!\w)", HIDDEN, text)
    if parts:
        text = re.sub(r"[0-9A-Fa-f:.]{3,}", lambda found: HIDDEN if _is_address(found[0]) else found[0], text)
    return " ".join(text.split())[:_LONGEST]


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text.rstrip("."))
    except ValueError:
        return False
    return True
