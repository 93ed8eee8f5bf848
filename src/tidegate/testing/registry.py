"""A registry in memory that keeps every promise of the real ones but survival; ``away`` makes every call fail."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec

from tidegate.clock import Clock, ManualClock
from tidegate.control.registry.base import ModelVersion, RegistryAway
from tidegate.control.registry.refs import local_path, profile_of, read_bounded
from tidegate.errors import InvalidInput, ModelError, NotFound
from tidegate.registry_files import LATEST, STAGE_ALIASES, check_alias, check_name, fingerprint, parse_uri, scheme_of
from tidegate.types import ModelRef, Signature


class MemoryRegistry:
    """A source that is a path on disk is pinned to its bytes; any other text stands for a model of its own."""

    def __init__(self, clock: Clock | None = None) -> None:
        self.away = False
        self.moves: list[tuple[str, str, str | None]] = []
        """Every call of ``set_alias`` that changed something."""
        self._clock = clock or ManualClock()
        self._kept: dict[str, list[ModelVersion]] = {}
        self._aliases: dict[tuple[str, str], str] = {}

    def versions(self, name: str) -> list[ModelVersion]:
        self._reach()
        if not name:
            return [self._described(kept[-1]) for _, kept in sorted(self._kept.items())]
        if check_name(name) not in self._kept:
            raise NotFound(f"the registry has no model {name}")
        return [self._described(version) for version in reversed(self._kept[name])]

    def get(self, name: str, version: str) -> ModelVersion:
        there = self.versions(check_name(name))
        if version == LATEST:
            return there[0]
        number = version
        if not version.isdigit():
            alias = version if (name, version) in self._aliases else STAGE_ALIASES.get(version.lower(), version)
            number = self._aliases.get((name, alias), "")
        for found in there:
            if found.version == number:
                return found
        raise NotFound(f"{name} has no version or alias {version[:80]}")

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
        self._reach()
        check_name(name)
        for alias in aliases:
            check_alias(alias)
        path = Path(source)
        if path.is_absolute() and not path.exists():
            raise ModelError(f"{source}: no such file or folder")
        digest = fingerprint(path)[0] if path.exists() else _digest_of(str(source))
        kept = self._kept.setdefault(name, [])
        made = ModelVersion(
            name=name,
            version=str(len(kept) + 1),
            uri=str(source),
            digest=digest,
            created=self._clock.wall(),
            signature=signature,
            metadata=dict(metadata),
            profile=str(profile or ""),
            run_id=metadata.get("run_id", ""),
        )
        kept.append(made)
        for alias in aliases:
            self.set_alias(name, alias, made.version)
        return self._described(made)

    def set_alias(self, name: str, alias: str, version: str | None) -> None:
        self._reach()
        check_name(name)
        check_alias(alias)
        if self._aliases.get((name, alias)) == version:
            return
        if version is None:
            del self._aliases[name, alias]
        elif not version.isdigit():
            raise InvalidInput(f"an alias points to a version's number, not to {version[:80]!r}")
        else:
            self._aliases[name, alias] = self.get(name, version).version
        self.moves.append((name, alias, version))

    def ref(self, uri: str) -> ModelRef:
        if scheme_of(uri) != "models":
            self._reach()
            path = Path(uri)
            digest = fingerprint(path)[0] if path.exists() else _digest_of(uri)
            return ModelRef(uri, version=digest.removeprefix("sha256:")[:8], digest=digest)
        name, which, _ = parse_uri(uri)
        try:
            found = self.get(name, which)
        except NotFound as error:
            raise ModelError(f"{uri}: {error}") from error
        return ModelRef(found.uri, found.name, found.version, found.digest)

    def profile(self, version: ModelVersion, most_bytes: int) -> bytes:
        self._reach()
        path = local_path(profile_of(version), Path.cwd())
        if path is None:
            raise ModelError(f"{version.profile}: no file")
        return read_bounded(path, version.profile, most_bytes)

    def _reach(self) -> None:
        if self.away:
            raise RegistryAway("the registry does not answer")

    def _described(self, version: ModelVersion) -> ModelVersion:
        pointing = (
            alias
            for (name, alias), number in sorted(self._aliases.items())
            if (name, number) == (version.name, version.version)
        )
        return msgspec.structs.replace(version, aliases=tuple(pointing))


def _digest_of(text: str) -> str:
    return f"sha256:{hashlib.sha256(text.encode()).hexdigest()}"
