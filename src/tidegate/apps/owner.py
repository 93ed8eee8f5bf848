"""Who owns the configuration of a running server: reads it again, numbers what is applied, remembers what is unloaded.

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

from tidegate.apps.process import same_server
from tidegate.config import Loaded
from tidegate.errors import UserError
from tidegate.serving.snapshots.file import known_endpoint, watched_files

logger = logging.getLogger("tidegate.reload")


class Desired(msgspec.Struct, frozen=True):
    """What every serving process should have in force."""

    loaded: Loaded
    number: int = 1
    unloaded: frozenset[str] = frozenset()


class Owner:
    """``read`` reads all sources of settings again."""

    def __init__(self, loaded: Loaded, read: Callable[[], Loaded]) -> None:
        self.desired = Desired(loaded)
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
        return Desired(loaded, self.desired.number + 1, self.desired.unloaded)

    def operated(self, operation: str, endpoint: str) -> Desired:
        """The next thing to apply for ``load`` or ``unload``. Raises NotFound, UserError."""
        known_endpoint(self.desired.loaded.settings, endpoint)
        unloaded = self.desired.unloaded
        if operation == "unload":
            return Desired(self.desired.loaded, self.desired.number + 1, unloaded | {endpoint})
        return msgspec.structs.replace(self.reread(), unloaded=unloaded - {endpoint})

    def accept(self, desired: Desired) -> None:
        self.desired = desired
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
