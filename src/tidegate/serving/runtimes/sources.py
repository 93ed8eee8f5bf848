"""From a model's URI to a local path that was checked once: schemes, canonical paths, trust."""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from urllib.parse import unquote, urlsplit

import msgspec

from tidegate.errors import DigestMismatch, MissingExtra, ModelError, UntrustedModel
from tidegate.registry_files import digest_of_options, fingerprint, scheme_of
from tidegate.settings import Trust
from tidegate.types import ModelRef

__all__ = [
    "Source", "digest_of_options", "fingerprint", "first_line", "require_mlflow_address", "require_trust", "resolve",
    "scheme_of", "verify_digest",
]  # fmt: skip

_REGISTRY = re.compile(r"^models:/[^/@]+(@[^/@]+|/[^/]+)$")


class Source(msgspec.Struct, frozen=True):
    """A model's files on this machine. ``release`` removes what was downloaded."""

    uri: str
    path: Path
    trusted: bool
    release: Callable[[], None] = lambda: None

    @property
    def where(self) -> str:
        """How errors and logs call the model: the URI as it was given."""
        return self.uri


def resolve(ref: ModelRef, trust: Trust) -> Source:
    """Finds the files behind a URI. Raises ModelError for a scheme that is not allowed or files that are not there."""
    uri = ref.uri.strip()
    if not uri or "\0" in uri:
        raise ModelError("a model needs a path or a URI")
    scheme = scheme_of(uri)
    if not scheme:
        return _local(uri, Path(uri), trust)
    if scheme not in trust.schemes:
        allowed = ", ".join(f"{name}:" for name in trust.schemes)
        raise ModelError(f"{uri}: models may come from a path or {allowed}; {scheme}: is not listed in trust.schemes")
    if scheme == "file":
        parts = urlsplit(uri)
        if parts.netloc not in ("", "localhost"):
            raise ModelError(f"{uri}: a file URI names no host; write file:///path")
        return _local(uri, Path(unquote(parts.path)), trust)
    if scheme in ("models", "runs"):
        return _from_mlflow(uri, scheme, trust)
    raise ModelError(f"{uri}: nothing reads {scheme}: URIs; use a path, file:, models: or runs:")


def _local(uri: str, path: Path, trust: Trust) -> Source:
    try:
        real = path.expanduser().resolve(strict=True)
    except (OSError, RuntimeError) as error:
        raise ModelError(f"{uri}: no such file or folder") from error
    if not real.is_file() and not real.is_dir():
        raise ModelError(f"{uri}: neither a file nor a folder")
    return Source(uri=uri, path=real, trusted=_covers(trust.pickles, real))


def _covers(entries: tuple[str, ...], real: Path) -> bool:
    """Both sides are canonical, so that a link out of a trusted folder is not trusted."""
    for entry in entries:
        if scheme_of(entry) in ("models", "runs"):
            continue
        base = Path(unquote(urlsplit(entry).path) if scheme_of(entry) == "file" else entry).expanduser().resolve()
        if real == base or base in real.parents:
            return True
    return False


def _from_mlflow(uri: str, scheme: str, trust: Trust) -> Source:
    if (scheme == "models" and not _REGISTRY.match(uri)) or ".." in uri.split("/"):
        raise ModelError(f"{uri}: write models:/name@alias, models:/name/3 or runs:/run_id/path")
    try:
        from mlflow.artifacts import download_artifacts
    except ImportError as error:
        raise MissingExtra("mlflow", f"models from a registry ({uri})") from error
    require_mlflow_address(uri)
    folder = tempfile.mkdtemp(prefix="tidegate-model-")

    def release() -> None:
        shutil.rmtree(folder, ignore_errors=True)

    try:
        local = download_artifacts(artifact_uri=uri, dst_path=folder)
    except Exception as error:
        release()
        raise ModelError(f"{uri}: MLflow cannot fetch it: {first_line(error)}") from error
    trusted = any(
        uri == entry or uri.startswith(entry.rstrip("/") + "/") or _same_name(uri, entry) for entry in trust.pickles
    )
    return Source(uri=uri, path=Path(local).resolve(), trusted=trusted, release=release)


def require_mlflow_address(uri: str) -> None:
    """Raises ModelError when nobody said where MLflow is; it would make an empty registry in the current folder."""
    if not os.environ.get("MLFLOW_TRACKING_URI"):
        raise ModelError(f"{uri}: say where MLflow is: registry.uri in tidegate.yaml, or MLFLOW_TRACKING_URI")


def _same_name(uri: str, entry: str) -> bool:
    """``models:/iris`` covers every version and alias of iris; ``models:/`` covers the registry."""
    return scheme_of(entry) == scheme_of(uri) and (entry in ("models:/", "runs:/") or uri.startswith(entry + "@"))


def require_trust(source: Source, what: str) -> None:
    """Raises UntrustedModel, which says how to trust the source, for formats that can run code."""
    if source.trusted:
        return
    entry = source.uri.split("@")[0] if scheme_of(source.uri) in ("models", "runs") else str(source.path)
    raise UntrustedModel(
        f"{source.where}: {what} can run any code when it loads. If you know where it comes from, add {entry} "
        f"to trust.pickles (tidegate.yaml: trust: {{pickles: [{entry}]}}); ONNX and skops files need no trust"
    )


def first_line(error: BaseException) -> str:
    """The beginning of a foreign exception's text, short enough for one line."""
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= 300 else text[:297] + "..."


def verify_digest(ref: ModelRef, digest: str) -> None:
    if not ref.digest:
        return
    wanted = ref.digest if ":" in ref.digest else f"sha256:{ref.digest}"
    if wanted.lower() != digest:
        raise DigestMismatch(
            f"{ref.uri}: the bytes are {digest}, pinned is {wanted}; pin the new digest or restore the file"
        )
