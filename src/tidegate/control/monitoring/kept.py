"""Named baselines: made of rows, of a profile, of predictions in production, or of a registered version."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from typing import Any

import msgspec

from tidegate.clock import Clock
from tidegate.control.access import audit
from tidegate.control.monitoring import profiles, rows
from tidegate.control.monitoring.facts import ColumnFacts, facts_of
from tidegate.control.monitoring.files import columns_of
from tidegate.control.monitoring.profiles import Profile
from tidegate.control.monitoring.references import TRAINING, References, decoded, is_file, row_of
from tidegate.errors import Conflict, InvalidInput, NotFound, TidegateError
from tidegate.observations import PredictionEvent
from tidegate.settings import Settings
from tidegate.storage.records import BaselineRow
from tidegate.storage.store import Store

logger = logging.getLogger("tidegate.monitoring")

MOST_EVENTS = 20_000
"""Predictions that a baseline of production is made of; the newest."""
LEAST_ROWS = 20
MOST_CELLS = 4_000_000
"""Rows times columns of a baseline; a body that is full of values has fewer, one with a name for each row has more."""
EVENTS_AT_ONCE = 100
MOST_BASELINES = 1000
"""Kept at a time; further ones are refused."""
_GOOD = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


class Baseline(msgspec.Struct, frozen=True, kw_only=True):
    """``columns`` are there where one baseline is asked for, and not in lists."""

    name: str
    endpoint: str
    model: str
    version: str
    digest: str
    created: float
    rows: int = 0
    columns: tuple[ColumnFacts, ...] = ()


class Baselines:
    def __init__(self, store: Store, references: References, settings: Settings, clock: Clock) -> None:
        self._store = store
        self._references = references
        self._settings = settings
        self._clock = clock

    def list(
        self, endpoint: str | None = None, limit: int = 50, cursor: str | None = None, among: Sequence[str] = ()
    ) -> list[Baseline]:
        """Newest first."""
        with self._store.read() as unit:
            return [_listed(row) for row in unit.baselines.list(endpoint, limit, cursor, among)]

    def get(self, name: str) -> Baseline:
        """Raises NotFound."""
        row = self.row(name)
        profile = decoded(row.body.encode(), f"the baseline {name[:80]}")
        columns = tuple(facts_of(own, column, column) for own, column in profile.columns.items())
        return msgspec.structs.replace(_listed(row), rows=profile.rows, columns=columns)

    def row(self, name: str) -> BaselineRow:
        """Raises NotFound."""
        with self._store.read() as unit:
            row = unit.baselines.get(name)
        if row is None:
            raise NotFound(f"there is no baseline {name[:80]!r}")
        return row

    def of_profile(self, name: str, profile: Profile, *, endpoint: str, who: str, reason: str = "") -> Baseline:
        """Raises InvalidInput for a name that cannot be, or the profile of a window; Conflict when it exists."""
        if profile.reference or not profile.columns:
            raise InvalidInput("this is no reference profile: it has no columns, or counts in the bins of another")
        if profile.rows < LEAST_ROWS:
            raise InvalidInput(f"{profile.rows} rows; a baseline needs {LEAST_ROWS} at least")
        return self._add(name, profile, endpoint, "", "", who, reason)

    def of_rows(
        self,
        name: str,
        records: Sequence[Mapping[str, Any]],
        *,
        endpoint: str,
        kinds: Mapping[str, str],
        matrix: str,
        who: str,
        reason: str = "",
    ) -> Baseline:
        """``matrix`` names the input whose columns these are, where the model takes one array for all of them."""
        names = len({name for record in records for name in record})
        if names * len(records) > MOST_CELLS:
            raise InvalidInput(f"{names} columns of {len(records)} rows: more than {MOST_CELLS:,} values", ("rows",))
        table = columns_of(records)
        profile = profile_of(table, kinds, matrix)
        return self.of_profile(name, profile, endpoint=endpoint, who=who, reason=reason)

    def of_production(
        self, name: str, endpoint: str, since: float, until: float, *, variant: str = "", who: str, reason: str = ""
    ) -> Baseline:
        """Of the newest sampled predictions made in [since, until), forced ones left out: at most ``MOST_EVENTS``, and as
        many as make about ``MOST_CELLS`` values. Raises InvalidInput for too few."""
        with self._store.read() as unit:
            latest = unit.snapshots.latest()
        plan = None if latest is None else latest.snapshot.endpoints.get(endpoint)
        wanted = variant or "baseline"
        model = next((one.model for one in plan.variants if one.name == wanted), None) if plan is not None else None
        version = self._references.version(model)
        specs = () if version is None or version.signature is None else version.signature.inputs
        names = {spec.name: spec.columns for spec in specs if spec.columns}
        with self._store.read() as unit:
            table = newest_rows(unit.events.newest_of(endpoint, wanted, since, until, MOST_EVENTS), names)
        if table.rows < LEAST_ROWS:
            raise InvalidInput(
                f"{table.rows} sampled predictions of {wanted} in this time; a baseline needs {LEAST_ROWS} rows at least "
                "(event_sample says how many are kept)"
            )
        profile = profiles.make_profile(table, names=names)
        return self._add(name, profile, endpoint, "" if model is None else model.name, "", who, reason)

    def of_model(self, name: str, model: str, version: str, *, endpoint: str, who: str, reason: str = "") -> Baseline:
        """A copy of the profile that was registered with a version. Raises NotFound."""
        return self._add(name, self._references.registered(model, version), endpoint, model, version, who, reason)

    def delete(self, name: str, *, who: str, reason: str = "") -> None:
        """With the windows that have its bins. Raises NotFound, and Conflict while a monitor is configured to use it."""
        for endpoint, configured in self._settings.endpoints.items():
            if configured.monitor is not None and configured.monitor.reference == name:
                raise Conflict(f"the monitor of {endpoint} uses {name}: change endpoints.{endpoint}.monitor.reference")
        with self._store.begin() as unit:
            row = unit.baselines.get(name)
            if row is None:
                raise NotFound(f"there is no baseline {name[:80]!r}")
            unit.baselines.delete(name)
            if row.endpoint and unit.baselines.name_of(row.digest) is None:
                unit.monitors.forget(row.endpoint, row.digest)
            audit.record(
                unit,
                who,
                "baseline.delete",
                f"baseline:{name}",
                at=self._clock.wall(),
                before=_listed(row),
                reason=reason,
            )

    def _add(
        self, name: str, profile: Profile, endpoint: str, model: str, version: str, who: str, reason: str
    ) -> Baseline:
        check_name(name)
        now = self._clock.wall()
        row = row_of(name, profile, now, endpoint, model, version)
        with self._store.begin() as unit:
            if unit.baselines.digest_of(name) is not None:
                raise Conflict(f"there is a baseline {name} already; delete it first, or choose another name")
            if unit.baselines.count() >= MOST_BASELINES:
                raise Conflict(f"{MOST_BASELINES} baselines are kept already; delete some")
            unit.baselines.put(row)
            audit.record(unit, who, "baseline.create", f"baseline:{name}", at=now, after=_listed(row), reason=reason)
        self._references.appeared(name)
        return self.get(name)


def newest_rows(
    newest: Iterator[PredictionEvent], names: Mapping[str, Sequence[str]], most: int = MOST_CELLS
) -> rows.Rows:
    """Of events that come the newest first, in the order of time, until there are ``most`` values. A part of the events is in
    memory at a time."""
    parts: list[rows.Rows] = []
    cells = 0
    while cells < most and (part := list(islice(newest, EVENTS_AT_ONCE))):
        parts.append(rows.table_of(reversed(part), names))
        cells += parts[-1].rows * len(parts[-1])
    return rows.joined(reversed(parts))


def check_name(name: str) -> None:
    """Raises InvalidInput."""
    if not _GOOD.fullmatch(name) or name == TRAINING or is_file(name):
        raise InvalidInput(
            "a baseline's name has letters, digits, '.', '_' and '-', at most 100, and is neither "
            f"{TRAINING!r} nor that of a file",
            ("name",),
        )


def profile_of(table: rows.Table, kinds: Mapping[str, str], matrix: str) -> Profile:
    """Raises InvalidInput for columns that are no table."""
    try:
        return profiles.make_profile(table, kinds=kinds, names={matrix: tuple(table)} if matrix else {})
    except TidegateError:
        raise
    except (ValueError, TypeError, OverflowError) as error:
        raise InvalidInput(f"no profile can be made of these rows: {error}") from error


def _listed(row: BaselineRow) -> Baseline:
    return Baseline(
        name=row.name,
        endpoint=row.endpoint,
        model=row.model,
        version=row.version,
        digest=row.digest,
        created=row.created,
    )
