"""Routing snapshots from settings: what ``tidegate.yaml`` says, with every model pinned to the bytes found now."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import msgspec

from tidegate.errors import MissingExtra, ModelError, NotFound
from tidegate.serving.runtimes.sources import digest_of_options, fingerprint, resolve, scheme_of
from tidegate.settings import EndpointSettings, Settings, Trust, VariantSettings
from tidegate.types import EndpointPlan, ModelRef, RoutingSnapshot, Variant

BASELINE = "baseline"
_SHOWN_DIGITS = 8


def snapshot_of(
    settings: Settings, base: Path, number: int, trust: Trust, unloaded: Collection[str] = ()
) -> RoutingSnapshot:
    """Reads the models' files for their digests, so it blocks. ``base`` is the folder that relative paths start from.

    Raises ModelError for a model that is not there.
    """
    endpoints = {
        name: _plan(name, endpoint, base, trust)
        for name, endpoint in settings.endpoints.items()
        if name not in unloaded
    }
    default = settings.default_endpoint or next(iter(settings.endpoints), "")
    return RoutingSnapshot(number, endpoints, default)


def _plan(name: str, endpoint: EndpointSettings, base: Path, trust: Trust) -> EndpointPlan:
    variants = [Variant(BASELINE, _pinned(endpoint, name, base, trust))]
    variants += [
        Variant(
            variant_name,
            _pinned(variant, name, base, trust),
            share=0 if variant.shadow else round(variant.share * 100),
            shadow=variant.shadow,
        )
        for variant_name, variant in endpoint.variants.items()
    ]
    return EndpointPlan(name, tuple(variants), salt=endpoint.routing.salt)


def _pinned(model: EndpointSettings | VariantSettings, name: str, base: Path, trust: Trust) -> ModelRef:
    uri, version = _located(model.model, base), model.version
    scheme = scheme_of(uri)
    digest = model.digest
    if scheme == "models":
        uri, version = _numbered(uri, version)
    elif scheme == "fake":
        digest = digest or digest_of_options(model.options)
    elif scheme in ("", "file"):
        found, _ = fingerprint(resolve(ModelRef(uri), trust).path)
        digest = digest or found
        version = version or found.removeprefix("sha256:")[:_SHOWN_DIGITS]
    return ModelRef(
        uri,
        name,
        version or digest.removeprefix("sha256:")[:_SHOWN_DIGITS] or "1",
        digest,
        model.runtime,
        model.options,
    )


def _located(uri: str, base: Path) -> str:
    """Relative paths start from the configuration's folder, not from wherever the server was started."""
    if scheme_of(uri):
        return uri
    path = Path(uri).expanduser()
    return str(path if path.is_absolute() else base / path)


def _numbered(uri: str, version: str) -> tuple[str, str]:
    """An alias or stage of a registered model becomes the version it points to now; a number stays."""
    name, at, alias = uri.removeprefix("models:/").partition("@")
    if not at:
        name, _, alias = name.rpartition("/")
        if alias.isdigit():
            return uri, version or alias
    number = _registry_version(name, alias, by_alias=bool(at))
    return f"models:/{name}/{number}", version or number


def _registry_version(name: str, alias: str, by_alias: bool) -> str:
    try:
        from mlflow import MlflowClient
        from mlflow.exceptions import MlflowException
    except ImportError as error:
        raise MissingExtra("mlflow", f"models from a registry (models:/{name})") from error
    client: Any = MlflowClient()
    try:
        if by_alias:
            return str(client.get_model_version_by_alias(name, alias).version)
        versions = client.get_latest_versions(name, [alias])
    except MlflowException as error:
        raise ModelError(f"models:/{name}: the registry does not know {alias!r}: {error.message}") from error
    if not versions:
        raise ModelError(f"models:/{name}/{alias}: no version is in this stage")
    return str(versions[0].version)


def known_endpoint(settings: Settings, name: str) -> None:
    """Raises NotFound when the configuration has no such endpoint."""
    if name not in settings.endpoints:
        known = ", ".join(sorted(settings.endpoints)[:20])
        raise NotFound(f"no endpoint {name[:80]!r} in the configuration; it has: {known}")


def watched_files(settings: Settings, base: Path) -> Mapping[Path, tuple[int, int]]:
    """Size and time of change of every local model file, to notice that one was replaced."""
    seen: dict[Path, tuple[int, int]] = {}
    for endpoint in settings.endpoints.values():
        for model in (endpoint.model, *(variant.model for variant in endpoint.variants.values())):
            uri = _located(model, base)
            if scheme_of(uri):
                continue
            path = Path(uri)
            files = sorted(path.rglob("*")) if path.is_dir() else [path]
            for file in files[:1000]:
                if "__pycache__" not in file.parts and file.is_file():
                    stat = file.stat()
                    seen[file] = (stat.st_size, stat.st_mtime_ns)
    return seen


def with_trust(settings: Settings, paths: Collection[Path]) -> Settings:
    """The settings, with these paths trusted too: those that the operator typed on the command line."""
    pickles = (*settings.trust.pickles, *(str(path) for path in paths))
    return msgspec.structs.replace(settings, trust=msgspec.structs.replace(settings.trust, pickles=pickles))
