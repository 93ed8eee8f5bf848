"""The registry: which versions of a model exist, where their files are, and which alias points where."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

import msgspec

from tidegate import settings
from tidegate.errors import ConfigError, Refused
from tidegate.types import ModelRef, Signature

CHAMPION = "champion"
"""Alias of the version that serves; a promotion moves it."""
CHALLENGER = "challenger"
"""Alias of the version that a release lets through."""


class RegistryAway(Refused):
    """The registry cannot be reached, or does not answer in time. The same call may be tried again."""

    reason = "registry_away"


class ModelDenied(ConfigError):
    """The registry does not let us at this model; it may at others."""


class ModelVersion(msgspec.Struct, frozen=True, kw_only=True):
    """One immutable version. Only its aliases and, in MLflow, its stage and tags ever change."""

    name: str
    version: str
    """A whole number, as text."""
    uri: str
    """What the data plane loads: a path, or models:/name/version."""
    digest: str = ""
    """sha256:… of the files as the data plane computes it; empty while MLflow's files were never fetched here."""
    created: float
    """Seconds since the epoch."""
    aliases: tuple[str, ...] = ()
    stage: str = ""
    """MLflow's older stages: Staging, Production, Archived; empty where there is none."""
    signature: Signature | None = None
    metadata: Mapping[str, str] = {}
    profile: str = ""
    """Path or URI of the reference profile that the training left; empty when there is none."""
    run_id: str = ""


class AliasMoved(msgspec.Struct, frozen=True, kw_only=True):
    """An alias points elsewhere: seen by looking, or told by a webhook."""

    name: str
    alias: str
    version: str | None
    """None: the alias is gone."""
    previous: str = ""
    """Where it was to point; empty where a webhook does not say."""


class Registry(Protocol):
    """Every call may raise RegistryAway, after a bounded time; the caller tries again."""

    def versions(self, name: str) -> list[ModelVersion]:
        """Newest first. An empty name lists the newest version of every model. Raises NotFound."""

    def get(self, name: str, version: str) -> ModelVersion:
        """By number, alias, older stage, or ``latest``. Raises NotFound."""

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
        """Keeps a copy of a file or folder as the next version. Raises ModelError when it cannot be read, and
        InvalidInput for a name or alias that no registry may have."""

    def set_alias(self, name: str, alias: str, version: str | None) -> None:
        """Points an alias at a version number, or removes it (None). Twice is the same as once. Raises NotFound."""

    def ref(self, uri: str) -> ModelRef:
        """What ``models:/iris@champion``, ``models:/iris/3``, ``models:/iris/Production`` or a path means now, pinned to
        its bytes, which are read. ``name`` is the registered model's, and empty for what is not registered; a scheme
        that no registry has is left as it is, without a digest. Raises ModelError, DigestMismatch."""

    def profile(self, version: ModelVersion, most_bytes: int) -> bytes:
        """The file of the reference profile. Raises NotFound where there is none, ModelError for what cannot be read, and
        TooLarge."""


def open_registry(registry: settings.Registry, trust: settings.Trust, *, base: Path | None = None) -> Registry:
    """The registry that the settings name; nothing is reached or made before its first call. Relative paths start from
    ``base``, the configuration's folder; without one, from the current folder. Raises ConfigError."""
    from tidegate.registry_files import is_mlflow, registry_folder

    base = base or Path.cwd()
    if is_mlflow(registry):
        from tidegate.control.registry.mlflow import MlflowRegistry

        return MlflowRegistry(registry, trust, base=base)
    from tidegate.control.registry.files import FilesRegistry

    return FilesRegistry(registry_folder(registry, base), trust, base=base)
