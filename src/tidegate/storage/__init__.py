"""The store: where both planes meet. SQLite on one machine, PostgreSQL on many; the same code and the same tests."""

from importlib.util import find_spec

from tidegate.errors import MissingExtra

if find_spec("sqlalchemy") is None or find_spec("alembic") is None:
    raise MissingExtra("store", "the store")
