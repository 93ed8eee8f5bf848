"""What the store keeps of one endpoint's monitor, for as long as one look takes: its state, and the profiles of its windows.

A write goes through only if nobody wrote since the read, and under the lease where one is given; so a look that was cut
anywhere leaves nothing half, and what it did not write down is done again.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from typing import NamedTuple

from msgspec.structs import replace

from tidegate.clock import Clock
from tidegate.control.monitoring import profiles
from tidegate.control.monitoring.profiles import Profile
from tidegate.control.monitoring.state import MonitorState, WindowKey, read_state, write_state
from tidegate.errors import LeaseLost, LostRace
from tidegate.storage.records import Lease, MonitorRow, ProfileRow
from tidegate.storage.store import Store, Unit

Lead = Callable[[], Lease | None]
"""Gives the lease, renewed where it is time."""


class Page(NamedTuple):
    """``row`` is as the store has it; ``state`` may be ahead of it, by what a look has found and not yet written."""

    row: MonitorRow
    state: MonitorState


class Book:
    """``seconds`` is the length of a window. ``lead`` is None where a person looks."""

    def __init__(self, store: Store, clock: Clock, endpoint: str, seconds: float, lead: Lead | None) -> None:
        self.endpoint = endpoint
        self.seconds = seconds
        self._store = store
        self._clock = clock
        self._lead = lead
        self._profiles: dict[WindowKey, Profile] = {}

    def reading(self) -> AbstractContextManager[Unit]:
        return self._store.read()

    @contextlib.contextmanager
    def writing(self, durable: bool = True) -> Iterator[Unit]:
        """Under the lease, which is renewed in good time. Raises LeaseLost."""
        lease = None if self._lead is None else self._lead()
        if self._lead is not None and lease is None:
            raise LeaseLost("another control plane looks now")
        with self._store.begin(durable) as unit:
            if lease is not None:
                unit.leases.check(lease, self._clock.wall())
            yield unit

    def write(self, unit: Unit, row: MonitorRow, state: MonitorState, cursor: int | None = None) -> Page:
        """The page after. Raises LostRace."""
        expected, state = state.revision, replace(state, revision=state.revision + 1)
        row = MonitorRow(
            self.endpoint, row.cursor if cursor is None else cursor, self._clock.wall(), write_state(state)
        )
        save(unit, row, expected)
        return Page(row, state)

    def profile(self, key: WindowKey) -> Profile | None:
        """Of a window, as it is so far."""
        if key not in self._profiles:
            with self._store.read() as unit:
                row = unit.monitors.profile(self.endpoint, key.variant, key.version, key.baseline, key.start)
            if row is None or row.seconds != self.seconds:
                return None
            self._profiles[key] = profiles.decode(row.body)
        return self._profiles[key]

    def put_profiles(self, unit: Unit, windows: Mapping[WindowKey, Profile]) -> None:
        """They are remembered at once: a write that fails ends the look."""
        for key, profile in windows.items():
            unit.monitors.put_profile(
                ProfileRow(
                    endpoint=self.endpoint,
                    variant=key.variant,
                    version=key.version,
                    baseline=key.baseline,
                    start=key.start,
                    seconds=self.seconds,
                    rows=profile.rows,
                    body=profiles.encode(profile).decode(),
                )
            )
        self._profiles.update(windows)


def save(unit: Unit, row: MonitorRow, expected: int) -> None:
    """``expected`` is the revision that was read. Raises LostRace when another has written since."""
    stored = unit.monitors.get(row.endpoint)
    if stored is None:
        unit.monitors.add(row)
    elif read_state(stored.body).revision != expected:
        raise LostRace(f"the monitor of {row.endpoint} was written by another look at this moment")
    else:
        unit.monitors.put(row)
