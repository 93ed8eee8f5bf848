"""The copy of what the store said last, kept on disk, so that an instance can start again without the store.

A file is written beside and renamed, and carries a version and a checksum: one that is half there or was changed by hand is
no copy at all.
"""

from __future__ import annotations

import contextlib
import logging
import os
from hashlib import sha256
from pathlib import Path
from typing import TypeVar

import msgspec

from tidegate.keys import KnownKey
from tidegate.serving.snapshots.publication import Publication
from tidegate.serving.store_name import store_name

logger = logging.getLogger("tidegate.bridge")

VERSION = 1
_MOST_BYTES = 64 * 1024 * 1024

T = TypeVar("T")


class _Envelope(msgspec.Struct, forbid_unknown_fields=True):
    version: int
    checksum: str
    store: str
    body: msgspec.Raw


class KeptCopy:
    """In ``folder``, for the store at ``url``: what was kept of another store is not believed. ``name`` tells the
    instances apart that share a folder."""

    def __init__(self, folder: Path, url: str, name: str) -> None:
        self._store = store_name(url)
        self._folder = folder
        self._snapshot = folder / f"snapshot-{name}.json"
        self._keys = folder / f"keys-{name}.json"
        self._failed = False

    def snapshot(self) -> Publication | None:
        found = self._read(self._snapshot, Publication)
        return None if found is None else msgspec.structs.replace(found, origin="disk")

    def keys(self) -> tuple[KnownKey, ...] | None:
        return self._read(self._keys, tuple[KnownKey, ...])

    def keep_snapshot(self, publication: Publication) -> None:
        self._write(self._snapshot, msgspec.structs.replace(publication, origin="store"))

    def keep_keys(self, keys: tuple[KnownKey, ...]) -> None:
        self._write(self._keys, keys)

    def _read(self, path: Path, kind: type[T]) -> T | None:
        """None when there is no copy, or, with a warning, when it cannot be believed."""
        try:
            if path.stat().st_size > _MOST_BYTES:
                raise ValueError("it is too large")
            envelope = msgspec.json.decode(path.read_bytes(), type=_Envelope)
            if envelope.version != VERSION:
                raise ValueError(f"it has version {envelope.version}, not {VERSION}")
            if envelope.checksum != sha256(envelope.body).hexdigest():
                raise ValueError("its checksum is wrong")
            if envelope.store != self._store:
                raise ValueError("it belongs to another store")
            return msgspec.json.decode(envelope.body, type=kind)
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:  # msgspec's errors are ValueErrors
            logger.warning("%s: not used: %s", path, error)
            return None

    def _write(self, path: Path, value: object) -> None:
        """A disk that is full or read-only costs the copy, not the service; it is said once."""
        body = msgspec.json.encode(value)
        envelope = _Envelope(VERSION, sha256(body).hexdigest(), self._store, msgspec.Raw(body))
        fresh = path.with_suffix(f".{os.getpid()}")
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
            with os.fdopen(descriptor, "wb") as file:
                file.write(msgspec.json.encode(envelope))
                file.flush()
                os.fsync(file.fileno())
            fresh.replace(path)
        except OSError as error:
            with contextlib.suppress(OSError):
                fresh.unlink()
            if not self._failed:
                logger.warning("%s: cannot be kept, so a start without the store would not know it: %s", path, error)
            self._failed = True
        else:
            self._failed = False
