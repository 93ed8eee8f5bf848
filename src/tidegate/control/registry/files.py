"""The embedded registry: a folder. Safe with several processes, and when one is killed at any instruction.

A version is written beside its place and gets its number by one rename, which fails when another process was faster; an
alias is one small file that is replaced whole. The layout is told in ``tidegate.registry_files``.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec

from tidegate.clock import Clock, SystemClock
from tidegate.control.registry.base import ModelVersion
from tidegate.control.registry.refs import local_path, must_match, profile_of, read_bounded, unregistered
from tidegate.errors import InvalidInput, ModelError, NotFound, RequestError, UserError
from tidegate.registry_files import (
    ALIASES,
    MODEL,
    RECORD,
    Kept,
    alias_file,
    aliases_of,
    check_alias,
    check_name,
    files_below,
    find_version,
    fingerprint,
    names,
    numbers,
    parse_uri,
    path_of,
    read_version,
    readable,
    scheme_of,
)
from tidegate.settings import Trust
from tidegate.types import ModelRef, Signature

_UNFINISHED = ".new-"
_ABANDONED_SECONDS = 86_400.0
"""What was not finished for so long was left by a process that was killed; no copy takes a day."""
_MOST_METADATA = 64
_LONGEST_METADATA = 5000


class FilesRegistry:
    """``folder`` is made when the first version is registered; relative paths of models start from ``base``."""

    def __init__(
        self, folder: Path, trust: Trust | None = None, *, base: Path | None = None, clock: Clock | None = None
    ) -> None:
        self.folder = folder.resolve()
        self._trust = trust or Trust()
        self._base = base or Path.cwd()
        self._clock = clock or SystemClock()

    def versions(self, name: str) -> list[ModelVersion]:
        if not name:
            newest = (next(readable(self.folder, found), None) for found in names(self.folder))
            return [self._described(kept) for kept in newest if kept is not None]
        check_name(name)
        if not numbers(self.folder, name):
            raise NotFound(f"the registry has no model {name}")
        pointing = aliases_of(self.folder, name)
        return [self._described(kept, pointing) for kept in readable(self.folder, name)]

    def get(self, name: str, version: str) -> ModelVersion:
        return self._described(find_version(self.folder, name, version))

    def register(
        self,
        name: str,
        source: Path | str,
        *,
        metadata: Mapping[str, str],
        aliases: Sequence[str] = (),
        profile: Path | str | None = None,
        signature: Signature | None = None,
    ) -> ModelVersion:
        check_name(name)
        for alias in aliases:
            check_alias(alias)
        check_metadata(metadata)
        path = local_path(str(source), self._base)
        if path is None:
            raise ModelError(f"{source}: the registry of files keeps copies of files and folders; give a path")
        try:
            return self._register(name, path, metadata, aliases, profile, signature)
        except OSError as error:
            raise UserError(f"{error.filename or self.folder}: cannot be written: {error.strerror or error}") from error

    def _register(
        self,
        name: str,
        source: Path,
        metadata: Mapping[str, str],
        aliases: Sequence[str],
        profile: Path | str | None,
        signature: Signature | None,
    ) -> ModelVersion:
        home = self.folder / name
        if self.folder == source or source in self.folder.parents:
            raise ModelError(f"{source}: the registry itself lies in this folder; name the model's own folder")
        home.mkdir(parents=True, exist_ok=True)
        self._refuse_other_case(name)
        self._sweep(home)
        fresh = home / f"{_UNFINISHED}{os.getpid()}-{secrets.token_hex(8)}"
        fresh.mkdir()
        try:
            model = copy_model(source, fresh / MODEL)
            kept = Kept(
                name=name,
                version="0",
                path=model.relative_to(fresh).as_posix(),
                digest=fingerprint(model)[0],
                created=self._clock.wall(),
                signature=signature,
                metadata=dict(metadata),
                profile=self._keep_profile(profile, fresh),
                run_id=metadata.get("run_id", ""),
            )
            kept = _publish(kept, fresh, home)
        except BaseException:
            shutil.rmtree(fresh, ignore_errors=True)
            raise
        for alias in aliases:
            self.set_alias(name, alias, kept.version)
        return self._described(kept)

    def set_alias(self, name: str, alias: str, version: str | None) -> None:
        file = alias_file(self.folder, name, alias)
        try:
            self._point(file, name, version)
        except OSError as error:
            raise UserError(f"{file}: cannot be written: {error.strerror or error}") from error

    def _point(self, file: Path, name: str, version: str | None) -> None:
        if version is None:
            file.unlink(missing_ok=True)
            with contextlib.suppress(FileNotFoundError):  # of a model without aliases there is no such folder
                _sync_folder(file.parent)
            return
        if not version.isascii() or not version.isdigit():
            raise InvalidInput(f"an alias points to a version's number, not to {version[:80]!r}")
        number = read_version(self.folder, name, int(version)).version
        file.parent.mkdir(exist_ok=True)
        _replace(file, number.encode())

    def ref(self, uri: str) -> ModelRef:
        if scheme_of(uri) != "models":
            return unregistered(uri, self._trust, self._base)
        name, which, _ = parse_uri(uri)
        try:
            kept = find_version(self.folder, name, which)
        except RequestError as error:
            raise ModelError(f"{uri}: {error}") from error
        path = path_of(self.folder, kept)
        if not path.exists():
            raise ModelError(f"{uri}: the files of version {kept.version} are gone from the registry")
        must_match(uri, path, kept.digest)
        return ModelRef(str(path), kept.name, kept.version, kept.digest)

    def profile(self, version: ModelVersion, most_bytes: int) -> bytes:
        where = profile_of(version)
        what = f"the reference profile of {version.name} version {version.version}"
        if scheme_of(where) not in ("", "file"):
            raise ModelError(f"{what} is at {where}: the registry of files reads files alone")
        path = local_path(where, self._base)
        assert path is not None, "a path, as its scheme says"
        return read_bounded(path, what, most_bytes)

    def _described(self, kept: Kept, pointing: Mapping[str, str] | None = None) -> ModelVersion:
        pointing = aliases_of(self.folder, kept.name) if pointing is None else pointing
        profile = kept.profile
        if profile and not scheme_of(profile):
            profile = str(self.folder / kept.name / kept.version / profile)
        return ModelVersion(
            name=kept.name,
            version=kept.version,
            uri=str(path_of(self.folder, kept)),
            digest=kept.digest,
            created=kept.created,
            aliases=tuple(alias for alias, number in pointing.items() if number == kept.version),
            signature=kept.signature,
            metadata=kept.metadata,
            profile=profile,
            run_id=kept.run_id,
        )

    def _keep_profile(self, profile: Path | str | None, fresh: Path) -> str:
        if profile is None or not str(profile):
            return ""
        path = local_path(str(profile), self._base)
        if path is None:
            return str(profile)
        if not path.is_file():
            raise ModelError(f"{profile}: a reference profile is one file")
        kept = fresh / f"profile{path.suffix}"
        _copy_file(path, kept)
        return kept.name

    def _refuse_other_case(self, name: str) -> None:
        """Some systems take Iris and iris for one folder, so a registry that is moved there must not have both."""
        for other in names(self.folder):
            if other != name and other.casefold() == name.casefold():
                raise InvalidInput(f"the registry has a model {other}; {name} differs only in upper and lower case")

    def _sweep(self, home: Path) -> None:
        """Removes what killed processes left."""
        for left in [*home.glob(f"{_UNFINISHED}*"), *(home / ALIASES).glob(f"{_UNFINISHED}*")]:
            with contextlib.suppress(OSError):  # another process may be removing it too
                if self._clock.wall() - left.stat().st_mtime > _ABANDONED_SECONDS:
                    shutil.rmtree(left) if left.is_dir() else left.unlink()


def check_metadata(metadata: Mapping[str, str]) -> None:
    """Raises InvalidInput when there is more than any registry keeps."""
    if len(metadata) > _MOST_METADATA:
        raise InvalidInput(f"{len(metadata)} entries of metadata; at most {_MOST_METADATA} are kept")
    for key, value in metadata.items():
        if not key or len(key) > 250 or len(value) > _LONGEST_METADATA:
            raise InvalidInput(
                f"metadata {key[:80]!r}: a key has 1 to 250 characters, a value up to {_LONGEST_METADATA}"
            )


def copy_model(source: Path, target: Path) -> Path:
    """Copies what the digest covers, and no more; returns the path to load. A single file keeps its name, which some
    formats need."""
    target.mkdir()
    if source.is_file():
        _copy_file(source, target / source.name)
        _sync_folder(target)
        return target / source.name
    files = files_below(source)
    if not files:
        raise ModelError(f"{source}: the folder holds no files")
    for file in files:
        copy = target / file.relative_to(source)
        copy.parent.mkdir(parents=True, exist_ok=True)
        _copy_file(file, copy)
    for folder in {copy.parent for copy in target.rglob("*")}:
        _sync_folder(folder)
    return target


def _copy_file(source: Path, target: Path) -> None:
    try:
        reading = source.open("rb")
    except OSError as error:
        raise ModelError(f"{source}: cannot be read: {error.strerror}") from error
    with reading, target.open("xb") as writing:
        shutil.copyfileobj(reading, writing, 1 << 20)
        writing.flush()
        os.fsync(writing.fileno())


def _publish(kept: Kept, fresh: Path, home: Path) -> Kept:
    """Gives the finished folder the next free number. Who comes second finds it taken, and takes the next."""
    number = 1 + next(iter(numbers(home.parent, home.name)), 0)
    while True:
        numbered = msgspec.structs.replace(kept, version=str(number))
        _write(fresh / RECORD, msgspec.json.format(msgspec.json.encode(numbered), indent=2))
        _sync_folder(fresh)
        try:
            fresh.rename(home / str(number))
        except OSError:
            if not (home / str(number)).exists():
                raise
            number += 1
            continue
        _sync_folder(home)
        _sync_folder(home.parent)
        return numbered


def _replace(file: Path, data: bytes) -> None:
    fresh = file.with_name(f"{_UNFINISHED}{os.getpid()}-{secrets.token_hex(8)}")
    try:
        _write(fresh, data)
        fresh.replace(file)
    except BaseException:
        fresh.unlink(missing_ok=True)
        raise
    _sync_folder(file.parent)


def _write(file: Path, data: bytes) -> None:
    with file.open("wb") as writing:
        writing.write(data)
        writing.flush()
        os.fsync(writing.fileno())


def _sync_folder(folder: Path) -> None:
    """Makes names durable. Windows has nothing of the kind."""
    if os.name == "nt":
        return
    opened = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)
