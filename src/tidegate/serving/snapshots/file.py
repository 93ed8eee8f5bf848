"""Routing snapshots from settings: what ``tidegate.yaml`` says, with every model pinned to the bytes found now."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import msgspec

from tidegate.errors import MissingExtra, ModelError, NotFound, RequestError
from tidegate.registry_files import (
    ALIASES,
    LATEST,
    find_version,
    is_mlflow,
    parse_uri,
    path_of,
    registry_folder,
    tell_mlflow,
)
from tidegate.serving.runtimes.sources import (
    digest_of_options,
    fingerprint,
    first_line,
    require_mlflow_address,
    resolve,
    scheme_of,
)
from tidegate.settings import EndpointSettings, Registry, Settings, Trust, VariantSettings
from tidegate.types import EndpointPlan, ModelRef, RoutingSnapshot, Variant

BASELINE = "baseline"
_SHOWN_DIGITS = 8


def snapshot_of(
    settings: Settings, base: Path, number: int, trust: Trust, unloaded: Collection[str] = ()
) -> RoutingSnapshot:
    """Reads the models' files for their digests, so it blocks. ``base`` is the folder that relative paths start from.

    Raises ModelError for a model that is not there.
    """
    tell_mlflow(settings.registry)
    endpoints = {
        name: _plan(name, endpoint, base, trust, settings.registry)
        for name, endpoint in settings.endpoints.items()
        if name not in unloaded
    }
    default = settings.default_endpoint or next(iter(settings.endpoints), "")
    return RoutingSnapshot(number, endpoints, default)


def _plan(name: str, endpoint: EndpointSettings, base: Path, trust: Trust, registry: Registry) -> EndpointPlan:
    variants = [Variant(BASELINE, _pinned(endpoint, name, base, trust, registry))]
    variants += [
        Variant(
            variant_name,
            _pinned(variant, name, base, trust, registry),
            share=0 if variant.shadow else round(variant.share * 100),
            shadow=variant.shadow,
        )
        for variant_name, variant in endpoint.variants.items()
    ]
    return EndpointPlan(name, tuple(variants), salt=endpoint.routing.salt)


def _pinned(
    model: EndpointSettings | VariantSettings, name: str, base: Path, trust: Trust, registry: Registry
) -> ModelRef:
    uri, version = _located(model.model, base), model.version
    scheme = scheme_of(uri)
    digest = model.digest
    if scheme == "models":
        name, which, by_alias = parse_uri(uri)
        if is_mlflow(registry):
            number = which if which.isdigit() else _registry_version(name, which, by_alias)
            uri, version = f"models:/{name}/{number}", version or number
        else:
            uri, found, kept_digest = _kept(uri, registry_folder(registry, base))
            version, digest = version or found, digest or kept_digest
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


def placed(ref: ModelRef, settings: Settings, base: Path) -> ModelRef:
    """A published model as this instance finds it: a path from ``base``, a version of the files registry as its path.

    Raises ModelError for a version that the registry does not have.
    """
    if scheme_of(ref.uri) != "models" or is_mlflow(settings.registry):
        return msgspec.structs.replace(ref, uri=_located(ref.uri, base))
    uri, _, digest = _kept(ref.uri, registry_folder(settings.registry, base))
    return msgspec.structs.replace(ref, uri=uri, digest=ref.digest or digest)


def _located(uri: str, base: Path) -> str:
    """Relative paths start from the configuration's folder, not from wherever the server was started."""
    if scheme_of(uri):
        return uri
    path = Path(uri).expanduser()
    return str(path if path.is_absolute() else base / path)


def _kept(uri: str, folder: Path) -> tuple[str, str, str]:
    """Path, number and digest of a version of the files registry."""
    name, which, _ = parse_uri(uri)
    try:
        kept = find_version(folder, name, which)
    except RequestError as error:
        raise ModelError(f"{uri}: {error}") from error
    return str(path_of(folder, kept)), kept.version, kept.digest


def _registry_version(name: str, which: str, by_alias: bool) -> str:
    """What an alias or stage of MLflow's registry means now."""
    uri = f"models:/{name}{'@' if by_alias else '/'}{which}"
    try:
        from mlflow import MlflowClient
        from mlflow.exceptions import MlflowException
    except ImportError as error:
        raise MissingExtra("mlflow", f"models from a registry ({uri})") from error
    require_mlflow_address(uri)
    client: Any = MlflowClient()
    try:
        if by_alias:
            return str(client.get_model_version_by_alias(name, which).version)
        # Asked for by search, because the call for a stage is going away; stages stay in what it returns.
        found = client.search_model_versions(f"name='{name}'")
    except MlflowException as error:
        raise ModelError(f"{uri}: MLflow does not say which version this is: {first_line(error)}") from error
    wanted = which.lower()
    numbers = [
        int(version.version)
        for version in found
        if wanted == LATEST or str(version.current_stage or "").lower() == wanted
    ]
    if not numbers:
        there = f"no version of {name} is in stage {which}" if found else f"there is no model {name}"
        raise ModelError(f"{uri}: {there}; MLflow 3 has aliases in place of stages: models:/{name}@champion")
    return str(max(numbers))


def known_endpoint(settings: Settings, name: str) -> None:
    """Raises NotFound when the configuration has no such endpoint."""
    if name not in settings.endpoints:
        known = ", ".join(sorted(settings.endpoints)[:20])
        raise NotFound(f"no endpoint {name[:80]!r} in the configuration; it has: {known}")


def watched_files(settings: Settings, base: Path) -> Mapping[Path, tuple[int, int]]:
    """Size and time of change of every local model file and registry alias, to notice that one was replaced."""
    seen: dict[Path, tuple[int, int]] = {}
    for endpoint in settings.endpoints.values():
        for model in (endpoint.model, *(variant.model for variant in endpoint.variants.values())):
            uri = _located(model, base)
            if scheme_of(uri) == "models" and not is_mlflow(settings.registry):
                name, alias, by_alias = parse_uri(uri)
                path = registry_folder(settings.registry, base) / name / ALIASES / alias
                if not by_alias:
                    continue
            elif scheme_of(uri):
                continue
            else:
                path = Path(uri)
            files = sorted(path.rglob("*")) if path.is_dir() else [path]
            for file in files[:1000]:
                if "__pycache__" not in file.parts and file.is_file():
                    stat = file.stat()
                    seen[file] = (stat.st_size, stat.st_mtime_ns)
    return seen


def trusted(settings: Settings, base: Path) -> Trust:
    """What the settings trust, and the files registry too: its pickles are there because the operator registered them."""
    if is_mlflow(settings.registry):
        return settings.trust
    return with_trust(settings, [registry_folder(settings.registry, base)]).trust


def with_trust(settings: Settings, paths: Collection[Path]) -> Settings:
    """The settings, with these paths trusted too: those that the operator typed on the command line."""
    pickles = (*settings.trust.pickles, *(str(path) for path in paths))
    return msgspec.structs.replace(settings, trust=msgspec.structs.replace(settings.trust, pickles=pickles))
