"""References to what no registry keeps: paths, and URIs that the data plane reads by itself."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import unquote, urlsplit

from tidegate.control.registry.base import ModelVersion
from tidegate.errors import DigestMismatch, ModelError, NotFound, TooLarge
from tidegate.registry_files import fingerprint, scheme_of
from tidegate.settings import Trust
from tidegate.types import ModelRef

SHOWN_DIGITS = 8


def local_path(uri: str, base: Path) -> Path | None:
    """The canonical path behind a path or file: URI; None for other schemes. Raises ModelError when nothing is there."""
    scheme = scheme_of(uri)
    if scheme not in ("", "file"):
        return None
    if not uri.strip() or "\0" in uri:
        raise ModelError("a model needs a path or a URI")
    text = unquote(urlsplit(uri).path) if scheme else uri
    try:
        return (base / Path(text).expanduser()).resolve(strict=True)
    except (OSError, RuntimeError) as error:
        raise ModelError(f"{uri}: no such file or folder") from error


def unregistered(uri: str, trust: Trust, base: Path) -> ModelRef:
    """A path pinned to its bytes; another allowed scheme as it is. Raises ModelError."""
    path = local_path(uri, base)
    if path is not None:
        digest, _ = fingerprint(path)
        return ModelRef(str(path), version=digest.removeprefix("sha256:")[:SHOWN_DIGITS], digest=digest)
    if (scheme := scheme_of(uri)) not in trust.schemes:
        allowed = ", ".join(f"{name}:" for name in trust.schemes)
        raise ModelError(f"{uri}: models may come from a path or {allowed}; {scheme}: is not listed in trust.schemes")
    return ModelRef(uri)


def read_bounded(path: Path, shown: str, most_bytes: int) -> bytes:
    """Raises ModelError, TooLarge."""
    try:
        with path.open("rb") as file:
            data = file.read(most_bytes + 1)
    except OSError as error:
        raise ModelError(f"{shown}: cannot be read: {error.strerror}") from error
    if len(data) > most_bytes:
        raise TooLarge(f"{shown}: larger than {most_bytes >> 20} MiB")
    return data


def profile_of(version: ModelVersion) -> str:
    """Where it is. Raises NotFound."""
    if not version.profile:
        raise NotFound(
            f"{version.name} version {version.version} was registered without a reference profile; "
            "make one: tidegate baseline create"
        )
    return version.profile


def must_match(uri: str, path: Path, digest: str) -> None:
    """Raises DigestMismatch when the files are not the registered ones."""
    found, _ = fingerprint(path)
    if found != digest:
        raise DigestMismatch(f"{uri}: the bytes are {found}, registered were {digest}; register a new version")
