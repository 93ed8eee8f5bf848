"""Serving instances: their signs of life, and which snapshots they have put in force."""

from __future__ import annotations

import msgspec
from sqlalchemy import or_, select

from tidegate.observations import Beat
from tidegate.storage.base import Repository
from tidegate.storage.records import Acknowledgement
from tidegate.storage.tables import acknowledgements, instances

LATEST_SECONDS = 60.0

_decoder = msgspec.json.Decoder(Beat)


class Instances(Repository):
    def beat(self, beat: Beat) -> None:
        """Keeps the newest of each instance; one that comes late changes nothing. None is as late as ``LATEST_SECONDS``: then
        the clock was put back, and what was told before would outlive the instance."""
        query = self._insert(instances).values(
            instance=beat.instance, time=beat.time, snapshot=beat.snapshot, body=msgspec.json.encode(beat).decode()
        )
        fresh = query.excluded
        self._connection.execute(
            query.on_conflict_do_update(
                index_elements=["instance"],
                set_={"time": fresh.time, "snapshot": fresh.snapshot, "body": fresh.body},
                where=or_(instances.c.time <= fresh.time, instances.c.time > fresh.time + LATEST_SECONDS),
            )
        )

    def live(self, now: float, within: float) -> list[Beat]:
        """Instances heard of in the last ``within`` seconds, draining ones too."""
        query = select(instances.c.body).where(instances.c.time >= now - within).order_by(instances.c.instance)
        return [_decoder.decode(body) for body in self._connection.execute(query).scalars()]

    def all(self) -> list[Beat]:
        query = select(instances.c.body).order_by(instances.c.instance)
        return [_decoder.decode(body) for body in self._connection.execute(query).scalars()]

    def acknowledge(self, number: int, instance: str, at: float, error: str = "") -> None:
        """The newest word of an instance on a snapshot counts: after a failure it may try again."""
        query = self._insert(acknowledgements).values(number=number, instance=instance, time=at, error=error)
        self._connection.execute(
            query.on_conflict_do_update(
                index_elements=["number", "instance"],
                set_={"time": query.excluded.time, "error": query.excluded.error},
            )
        )

    def acknowledgements(self, number: int) -> list[Acknowledgement]:
        query = select(acknowledgements).where(acknowledgements.c.number == number)
        return self._rows(Acknowledgement, query.order_by(acknowledgements.c.time, acknowledgements.c.instance))
