"""What a variant is compared with: the profile that was registered with its version, a named baseline, or a file.

A registered profile is read once, and kept as the baseline ``<model>@<version>``; so a new version has its own. A file is
read anew when it changed. What was not found is looked for again after a minute.
"""

from __future__ import annotations

import logging
import threading
from collections import OrderedDict
from pathlib import Path

import msgspec

from tidegate.clock import Clock
from tidegate.control.monitoring import profiles
from tidegate.control.monitoring.files import SUFFIXES, profile_of_file
from tidegate.control.monitoring.folding import Reference
from tidegate.control.monitoring.profiles import Profile
from tidegate.control.registry.base import ModelVersion, Registry
from tidegate.errors import NotFound, Refused, TidegateError, UserError
from tidegate.registry_files import parse_uri, scheme_of
from tidegate.settings import EndpointSettings
from tidegate.storage.records import BaselineRow
from tidegate.storage.store import Store
from tidegate.types import ModelRef

logger = logging.getLogger("tidegate.monitoring")

TRAINING = "training"
MOST_BYTES = 64 * 1024 * 1024
"""Of a registered profile."""
MOST_HELD = 32
"""Profiles in memory."""
RETRY_SECONDS = 60.0
LONGEST_NAME = 200


class References:
    """Safe between threads. ``base``: where relative paths of the settings start from."""

    def __init__(self, store: Store, registry: Registry, clock: Clock, base: Path) -> None:
        self._store = store
        self._registry = registry
        self._clock = clock
        self._base = base
        self._lock = threading.Lock()
        self._held: OrderedDict[str, Profile] = OrderedDict()
        self._missing: dict[str, tuple[float, str]] = {}
        self._versions: dict[tuple[str, str], ModelVersion | None] = {}

    def find(self, endpoint: str, wanted: str, model: ModelRef | None) -> Reference | str:
        """The reference, or in one sentence why there is none. Raises Refused while the store or the registry is away."""
        if wanted == TRAINING:
            if model is None or not model.name:
                return (
                    f"there is no training profile: {endpoint} does not serve a registered version; make a baseline "
                    f"(tidegate baseline create NAME --endpoint {endpoint} --since 7d) and name it in monitor.reference"
                )
            name = training_name(model.name, model.version)
        else:
            name = wanted
        try:
            found = None if is_file(wanted) else self.named(name)
            made = self._made(endpoint, name, wanted, model) if found is None else found
        except Refused:  # what is away now is there later, and what it would have been compared with waits
            raise
        except TidegateError as error:
            return str(error)
        if isinstance(made, str) or made.profile.names or model is None or not model.name:
            return made
        version = self.version(model)
        specs = () if version is None or version.signature is None else version.signature.inputs
        return msgspec.structs.replace(made, names={spec.name: spec.columns for spec in specs if spec.columns})

    def version(self, model: ModelRef | None) -> ModelVersion | None:
        """What the registry knows of a version; None for what is not registered. Raises Refused while it is away."""
        if model is None or not model.name:
            return None
        key = model.name, model.version
        if key not in self._versions:
            try:
                self._versions[key] = self._registry.get(*key)
            except Refused:
                raise
            except TidegateError:
                self._versions[key] = None
        return self._versions[key]

    def named(self, name: str) -> Reference | None:
        """Raises StoreAway, and UserError for one that cannot be read."""
        with self._store.read() as unit:
            digest = unit.baselines.digest_of(name)
        return None if digest is None else self._reference(name, digest)

    def by_digest(self, digest: str) -> Reference | None:
        """The one whose bins a window has, under whatever name; None when it is gone."""
        with self._store.read() as unit:
            name = unit.baselines.name_of(digest)
        return None if name is None else self._reference(name, digest)

    def appeared(self, name: str) -> None:
        """A baseline was made, so that it is looked for at once."""
        with self._lock:
            self._missing.pop(name, None)

    def keep(self, row: BaselineRow, profile: Profile) -> Reference:
        """Writes it down; one of the same name is replaced."""
        with self._store.begin() as unit:
            unit.baselines.put(row)
        with self._lock:
            self._missing.pop(row.name, None)
        self._hold(row.digest, profile)
        return Reference(row.name, row.digest, profile)

    def registered(self, name: str, version: str) -> Profile:
        """The profile that was registered with a version. Raises NotFound, ModelError, TooLarge, UserError,
        RegistryAway."""
        found = self._registry.get(name, version)
        return decoded(self._registry.profile(found, MOST_BYTES), f"the reference profile of {name} version {version}")

    def _made(self, endpoint: str, name: str, wanted: str, model: ModelRef | None) -> Reference | str:
        known = self._missing.get(name)
        if known is not None and self._clock.wall() - known[0] < RETRY_SECONDS:
            return known[1]
        try:
            if wanted == TRAINING and model is not None:
                profile = self.registered(model.name, model.version)
                row = row_of(name, profile, self._clock.wall(), endpoint, model.name, model.version)
                made = self.keep(row, profile)
                logger.info(
                    "%s: predictions of version %s are compared with its training profile", endpoint, model.version
                )
                return made
            if is_file(wanted):
                return self._of_file(endpoint, wanted)
            raise NotFound(f"there is no baseline {wanted[:80]}; make it: tidegate baseline create {wanted[:80]}")
        except Refused:
            raise
        except TidegateError as error:
            with self._lock:
                self._missing[name] = (self._clock.wall(), str(error))
            raise

    def _of_file(self, endpoint: str, wanted: str) -> Reference:
        path = self._base / wanted
        try:
            facts = path.stat()
        except OSError as error:
            raise UserError(f"monitor.reference: {wanted}: {error.strerror or 'cannot be read'}") from error
        state = f"{facts.st_size}-{facts.st_mtime_ns}"
        with self._store.read() as unit:
            digest, known = unit.baselines.digest_of(wanted), unit.baselines.version_of(wanted)
        if digest is not None and known == state:
            return self._reference(wanted, digest)
        profile = profile_of_file(path)
        return self.keep(row_of(wanted, profile, self._clock.wall(), endpoint, version=state), profile)

    def _reference(self, name: str, digest: str) -> Reference:
        with self._lock:
            held = self._held.get(digest)
            if held is not None:
                self._held.move_to_end(digest)
                return Reference(name, digest, held)
        with self._store.read() as unit:
            row = unit.baselines.get(name)
        if row is None or row.digest != digest:
            raise NotFound(f"the baseline {name[:80]} was changed at this moment; look again")
        profile = decoded(row.body.encode(), f"the baseline {name[:80]}")
        self._hold(digest, profile)
        return Reference(name, digest, profile)

    def _hold(self, digest: str, profile: Profile) -> None:
        with self._lock:
            self._held[digest] = profile
            while len(self._held) > MOST_HELD:
                self._held.popitem(last=False)


def training_name(name: str, version: str) -> str:
    return f"{name}@{version}"


def is_file(wanted: str) -> bool:
    return wanted.lower().removesuffix(".gz").endswith(SUFFIXES)


def row_of(
    name: str, profile: Profile, now: float, endpoint: str = "", model: str = "", version: str = ""
) -> BaselineRow:
    return BaselineRow(
        name=name,
        endpoint=endpoint,
        model=model,
        version=version,
        digest=profiles.digest(profile),
        created=now,
        body=profiles.encode(profile).decode(),
    )


def decoded(data: bytes, what: str) -> Profile:
    """Raises UserError for what is no profile."""
    try:
        return profiles.decode(data)
    except TidegateError as error:
        raise UserError(f"{what}: {error}") from error


def model_of(endpoint: EndpointSettings, variant: str, version: str) -> ModelRef | None:
    """What the configuration says of a variant, for predictions that no published snapshot knows."""
    configured = endpoint if variant == "baseline" else endpoint.variants.get(variant)
    if configured is None or scheme_of(configured.model) != "models":
        return None
    try:
        return ModelRef(configured.model, parse_uri(configured.model)[0], version)
    except TidegateError:
        return None
