"""The files registry on disk, as both planes read it: names, versions, aliases and the digest of a model's files.

    <folder>/<name>/<number>/version.json    what is known of the version; written before the folder gets its number
    <folder>/<name>/<number>/model/…         a copy of the registered file or folder
    <folder>/<name>/aliases/<alias>          the number that the alias points to, as text

A version's folder appears by one rename and never changes; an alias changes by one rename. So a reader needs no lock.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec

from tidegate.errors import InvalidInput, ModelError, NotFound
from tidegate.settings import Registry
from tidegate.types import Signature

logger = logging.getLogger(__name__)

RECORD = "version.json"
MODEL = "model"
ALIASES = "aliases"
LATEST = "latest"
STAGE_ALIASES: Mapping[str, str] = {"production": "champion", "staging": "challenger"}
"""What MLflow's older stages mean where there are only aliases."""

_SCHEME = re.compile(r"^([A-Za-z][A-Za-z0-9+.-]+):")
"""Two characters at least, so that a Windows drive is no scheme."""
_NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9_.-]{0,98}[A-Za-z0-9_-])?")
_ALIAS = re.compile(r"[a-z][a-z0-9_-]{0,63}")
_DEVICES = re.compile(r"(?:con|prn|aux|nul|com[0-9]|lpt[0-9])(?:\..*)?", re.IGNORECASE)
"""Names that Windows keeps for devices, with any suffix."""
_NUMBER = re.compile(r"[1-9][0-9]{0,8}")
_URI = re.compile(r"models:/+([^/@]+)(?:@([^/@]+)|/([^/@]+))")
_CHUNK = 1 << 20
_FETCH_NOTE = "registered_model_meta"


class Kept(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """version.json. ``path`` and ``profile`` are relative to the version's folder; a profile may be a URI instead."""

    name: str
    version: str
    path: str
    digest: str
    created: float
    signature: Signature | None = None
    metadata: Mapping[str, str] = {}
    profile: str = ""
    run_id: str = ""


def scheme_of(uri: str) -> str:
    """The scheme in lower case; empty for a plain path."""
    match = _SCHEME.match(uri)
    return match.group(1).lower() if match else ""


def is_mlflow(registry: Registry) -> bool:
    """Whether the settings mean an MLflow server: by kind, or by an address such as http://… or sqlite://…, which is
    all that users of MLFLOW_TRACKING_URI have."""
    return registry.kind == "mlflow" or scheme_of(registry.uri) not in ("", "file")


def tell_mlflow(registry: Registry) -> None:
    """Hands the tracking address to MLflow the way that every process started from here sees too, and bounds how long
    it tries: its own defaults wait for many minutes when the server is away. What the operator set stays."""
    if registry.uri and is_mlflow(registry):
        os.environ["MLFLOW_TRACKING_URI"] = registry.uri
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "10")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
    os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")


def registry_folder(registry: Registry, base: Path) -> Path:
    """Folder of the files registry; a relative one starts from ``base``, and without one it is run/registry."""
    uri = registry.uri
    if scheme_of(uri) == "file":
        from urllib.parse import unquote, urlsplit

        uri = unquote(urlsplit(uri).path)
    path = Path(uri or "run/registry").expanduser()
    return (path if path.is_absolute() else base / path).resolve()


def check_name(name: str) -> str:
    """The name, which is safe as a folder's on every system. Raises InvalidInput."""
    if not _NAME.fullmatch(name) or _DEVICES.fullmatch(name):
        raise InvalidInput(
            f"{name[:120]!r} cannot be a model's name: use up to 100 letters, digits, '-', '_' and '.', "
            "beginning with a letter or digit and not ending in '.'"
        )
    return name


def check_alias(alias: str) -> str:
    """The alias, which is no number and not ``latest``. Raises InvalidInput."""
    taken = alias == LATEST or re.fullmatch(r"v\d+", alias)
    if not _ALIAS.fullmatch(alias) or taken or _DEVICES.fullmatch(alias):
        raise InvalidInput(
            f"{alias[:120]!r} cannot be an alias: use lower-case letters, digits, '-' and '_', beginning with a letter, "
            "such as champion; latest and v1, v2, … have their own meaning"
        )
    return alias


def parse_uri(uri: str) -> tuple[str, str, bool]:
    """Name, the version that is asked for, and whether an alias is meant (``@``). Raises ModelError."""
    match = _URI.fullmatch(uri.strip())
    if match is None or ".." in match.groups():
        raise ModelError(f"{uri}: write models:/name@alias, models:/name/3 or models:/name/Production")
    name, alias, version = match.groups()
    return name, alias or version, alias is not None


def names(folder: Path) -> list[str]:
    """Models that have a version."""
    try:
        found = sorted(path.name for path in folder.iterdir() if _NAME.fullmatch(path.name))
    except (FileNotFoundError, NotADirectoryError):
        return []
    return [name for name in found if numbers(folder, name)]


def numbers(folder: Path, name: str) -> list[int]:
    """Numbers of the versions that are there, newest first; none for a name without any."""
    try:
        return sorted(
            (int(path.name) for path in (folder / name).iterdir() if _NUMBER.fullmatch(path.name)), reverse=True
        )
    except (FileNotFoundError, NotADirectoryError):
        return []


def read_version(folder: Path, name: str, number: int) -> Kept:
    """Raises NotFound, and ModelError for a record that somebody damaged."""
    record = folder / check_name(name) / str(number) / RECORD
    try:
        return msgspec.json.decode(record.read_bytes(), type=Kept)
    except FileNotFoundError as error:
        raise NotFound(f"the registry has no version {number} of {name}{_known(folder, name)}") from error
    except (OSError, msgspec.MsgspecError) as error:
        raise ModelError(f"models:/{name}/{number}: {RECORD} cannot be read: {error}") from error


def readable(folder: Path, name: str) -> Iterator[Kept]:
    """Versions newest first, without those whose record is damaged: one of them must not hide the others."""
    for number in numbers(folder, name):
        try:
            yield read_version(folder, name, number)
        except (ModelError, NotFound) as error:
            logger.warning("a version is left out: %s", error)


def aliases_of(folder: Path, name: str) -> dict[str, str]:
    """Version numbers by alias."""
    found = {}
    try:
        files = sorted((folder / name / ALIASES).iterdir())
    except (FileNotFoundError, NotADirectoryError):
        return {}
    for file in files:
        if _ALIAS.fullmatch(file.name) and (number := _read_alias(file)):
            found[file.name] = number
    return found


def _read_alias(file: Path) -> str:
    try:
        text = file.read_text("ascii").strip()
    except (OSError, UnicodeDecodeError):  # removed between listing and reading, or not one of ours
        return ""
    return text if _NUMBER.fullmatch(text) else ""


def find_version(folder: Path, name: str, which: str) -> Kept:
    """By number, alias, older stage or ``latest``. Raises NotFound, which lists what there is."""
    check_name(name)
    if _NUMBER.fullmatch(which):
        return read_version(folder, name, int(which))
    if which == LATEST:
        newest = next(readable(folder, name), None)
        if newest is None:
            raise NotFound(f"the registry has no model {name}{_others(folder)}")
        return newest
    pointing = aliases_of(folder, name)
    alias = which if which in pointing else STAGE_ALIASES.get(which.lower(), which)
    number = pointing.get(alias)
    if number is None:
        if not numbers(folder, name):
            raise NotFound(f"the registry has no model {name}{_others(folder)}")
        meant = f"{which[:80]} (alias {alias} here, where there are no stages)" if alias != which else which[:80]
        raise NotFound(f"{name} has no version or alias {meant}{_known(folder, name)}")
    return read_version(folder, name, int(number))


def _known(folder: Path, name: str) -> str:
    there = [str(number) for number in numbers(folder, name)[:10]]
    pointing = [f"{alias} → {number}" for alias, number in list(aliases_of(folder, name).items())[:10]]
    return f"; there are {', '.join([*there, *pointing])}" if there else ""


def _others(folder: Path) -> str:
    found = names(folder)[:10]
    return f"; there are {', '.join(found)}" if found else f"; {folder} is empty"


def path_of(folder: Path, kept: Kept) -> Path:
    """What the data plane loads."""
    return folder / kept.name / kept.version / kept.path


def alias_file(folder: Path, name: str, alias: str) -> Path:
    return folder / check_name(name) / ALIASES / check_alias(alias)


def digest_of_options(options: Mapping[str, Any]) -> str:
    """Identity of a model that has no bytes, only options."""
    text = json.dumps(options, sort_keys=True, default=str).encode()
    return f"sha256:{hashlib.sha256(text).hexdigest()}"


def fingerprint(path: Path) -> tuple[str, int]:
    """Digest and size. A file: sha256 of its bytes, as ``sha256sum`` prints it. A folder: sha256 over its files,
    sorted by relative path, each as path (POSIX, UTF-8), NUL, length as eight bytes big-endian, bytes. Left out:
    hidden files, ``__pycache__``, links to outside, and ``registered_model_meta``, where MLflow notes by which name
    and alias a copy was fetched. Raises ModelError when something cannot be read."""
    try:
        return _fingerprint(path)
    except OSError as error:
        raise ModelError(f"{error.filename or path}: cannot be read: {error.strerror or error}") from error


def _fingerprint(path: Path) -> tuple[str, int]:
    whole = hashlib.sha256()
    if path.is_file():
        return f"sha256:{_feed(whole, path)}", path.stat().st_size
    size = 0
    for file in sorted(files_below(path), key=lambda f: f.relative_to(path).as_posix()):
        length = file.stat().st_size
        whole.update(file.relative_to(path).as_posix().encode() + b"\0" + length.to_bytes(8, "big"))
        _feed(whole, file)
        size += length
    return f"sha256:{whole.hexdigest()}", size


def files_below(folder: Path) -> list[Path]:
    """The files that a digest covers, in no order."""
    found = []
    for file in folder.rglob("*"):
        parts = file.relative_to(folder).parts
        if any(part.startswith(".") or part == "__pycache__" for part in parts) or not file.is_file():
            continue
        if parts != (_FETCH_NOTE,) and folder in file.resolve().parents:
            found.append(file)
    return found


def _feed(whole: Any, path: Path) -> str:
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            whole.update(chunk)
    digest: str = whole.hexdigest()
    return digest
