"""Embedded stores for tests: migrated once per test process, then copied."""

from __future__ import annotations

import functools
import shutil
import tempfile
from pathlib import Path

from tidegate.clock import Clock, SystemClock
from tidegate.storage.store import Store, open_store


@functools.cache
def _template() -> Path:
    path = Path(tempfile.mkdtemp(prefix="tidegate-template-")) / "store.db"
    open_store(f"sqlite:///{path}", migrate=True).close()
    return path


def sqlite_store(folder: Path, clock: Clock | None = None, name: str = "store.db") -> Store:
    """A fresh store in ``folder``; the caller closes it."""
    shutil.copyfile(_template(), folder / name)
    return open_store(f"sqlite:///{folder / name}", clock or SystemClock())
