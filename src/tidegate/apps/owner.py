"""Who owns the configuration of a running server: reads it again, numbers what is applied, remembers what is unloaded,
and which published snapshot is followed.

Pure of processes and sockets; the supervisor and the single process both use it.
"""

from __future__ import annotations

import contextlib
import errno
import json
import logging
import os
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

import msgspec

from tidegate.apps.desired import Desired
from tidegate.apps.process import same_server
from tidegate.config import Loaded
from tidegate.errors import UserError
from tidegate.serving.snapshots.file import known_endpoint, watched_files
from tidegate.serving.snapshots.publication import Publication, warm_part

logger = logging.getLogger("tidegate.reload")


class Refused(msgspec.Struct, frozen=True):
    """A published snapshot that could not be brought into force; ``at``: epoch seconds."""

    number: int
    error: str
    at: float


class Owner:
    """``read`` reads all sources of settings again."""

    def __init__(self, loaded: Loaded, read: Callable[[], Loaded]) -> None:
        self.desired = Desired(loaded)
        self.newest: Publication | None = None
        """What was published last, as far as is known."""
        self.refused: Refused | None = None
        self._instead: list[Publication | None] = []
        self._read = read
        self._seen = _files(loaded)
        self._looked = self._seen
        self._changing: Mapping[Path, tuple[int, int]] | None = None

    def reread(self) -> Desired:
        """The next thing to apply. Raises UserError when the configuration cannot be read; then nothing changes."""
        loaded = self._read()
        self._looked = _files(loaded)  # before they are loaded: what changes after this is another change
        if not same_server(loaded.settings, self.desired.loaded.settings):
            logger.warning("only endpoints and trust are reloaded; other changes need a restart")
        before = self.desired
        return msgspec.structs.replace(before, loaded=loaded, number=before.number + 1, reading=before.reading + 1)

    def operated(self, operation: str, endpoint: str) -> Desired:
        """The next thing to apply for ``load`` or ``unload``. Raises NotFound, UserError."""
        known_endpoint(self.desired.loaded.settings, endpoint)
        unloaded = self.desired.unloaded
        if operation == "unload":
            return msgspec.structs.replace(self.desired, number=self.desired.number + 1, unloaded=unloaded | {endpoint})
        return msgspec.structs.replace(self.reread(), unloaded=unloaded - {endpoint})

    def begin_with(self, *publications: Publication | None) -> None:
        """Before anything is in force: what to start with, best first; the configuration alone is the last resort."""
        numbers: set[int] = set()
        for publication in publications:
            if publication is not None and publication.number not in numbers:
                numbers.add(publication.number)
                self._instead.append(publication)
        self._instead.append(None)
        self.desired = msgspec.structs.replace(self.desired, published=self._instead.pop(0))

    def fall_back(self, error: str, at: float) -> bool:
        """What it should have started with cannot be loaded: whether there is something else, which is desired now."""
        if self.desired.published is None:
            return False
        self.refused = Refused(self.desired.snapshot, error, at)
        self.desired = msgspec.structs.replace(self.desired, published=self._instead.pop(0))
        return True

    def heard(self, publication: Publication) -> None:
        self.newest = publication

    def to_follow(self) -> Desired | None:
        """The newest snapshot, or first what of it needs no load, unless it is in force or refused; a refused one is tried
        again after any change."""
        newest = self.newest
        if newest is None or newest == self.desired.published:
            return None
        if self.refused is not None and self.refused.number == newest.number:
            return None
        published = warm_part(self.desired.published, newest) or newest
        return msgspec.structs.replace(self.desired, number=self.desired.number + 1, published=published)

    def refuse(self, desired: Desired, error: str, at: float) -> None:
        """A snapshot that was to be followed could not be brought into force; ``at``: epoch seconds."""
        part = self.desired.published is not None and desired.snapshot == self.desired.published.number
        number = self.newest.number if part and self.newest is not None else desired.snapshot
        self.refused = Refused(number, error, at)

    def accept(self, desired: Desired) -> None:
        self.desired = desired
        self.refused = None
        self._seen = self._looked

    def changed(self) -> bool:
        """True once files changed and then stood still from one look to the next."""
        now = _files(self.desired.loaded)
        if now == self._seen:
            self._changing = None
            return False
        if now != self._changing:
            self._changing = now
            return False
        self._seen = now
        self._changing = None
        return True


def _files(loaded: Loaded) -> Mapping[Path, tuple[int, int]]:
    """Size and time of change of every file that a change may come from."""
    try:
        seen = dict(watched_files(loaded.settings, loaded.base))
        if loaded.file is not None:
            stat = loaded.file.stat()
            seen[loaded.file] = (stat.st_size, stat.st_mtime_ns)
    except OSError:
        return {}
    return seen


class StateFile:
    """Tells ``tidegate reload`` which process to signal, and how the last reload went.

    ``user`` owns it: this process's user, where there are such numbers. What belongs to others is neither believed nor
    written, since anybody may make a folder where temporary files are.
    """

    def __init__(self, port: int, user: int | None = None) -> None:
        if user is None and hasattr(os, "getuid"):
            user = os.getuid()
        self._user = user
        self.path = Path(tempfile.gettempdir()) / f"tidegate-{'user' if user is None else user}" / f"{port}.json"

    def write(self, number: int, error: str = "") -> None:
        text = json.dumps({"pid": os.getpid(), "number": number, "error": error})
        fresh = self.path.with_suffix(f".{os.getpid()}")
        try:
            self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            if not self._owns(self.path.parent):
                raise PermissionError(errno.EPERM, "its folder belongs to another user")
            fresh.write_text(text, "utf-8")
            fresh.replace(self.path)
        except OSError as error_:
            logger.warning("cannot write %s: tidegate reload will not find this server (%s)", self.path, error_)

    def read(self) -> Mapping[str, str | int]:
        """Raises UserError when no server of this user has written it: it names the process that will be signalled."""
        try:
            if not (self._owns(self.path.parent) and self._owns(self.path)):
                raise PermissionError(errno.EPERM, "belongs to another user")
            state: Mapping[str, str | int] = json.loads(self.path.read_text("utf-8"))
        except (OSError, ValueError):
            raise UserError(
                f"no server of yours has written {self.path}; is it running on this machine and on this --port?"
            ) from None
        return state

    def remove(self) -> None:
        with contextlib.suppress(OSError):
            self.path.unlink()

    def _owns(self, path: Path) -> bool:
        """A link to what is theirs does not count. Raises OSError when there is nothing."""
        return self._user is None or path.lstat().st_uid == self._user
