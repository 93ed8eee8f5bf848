"""What passes between an instance and the store, whether the store is there or not."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping

import pytest

from tests.process import until
from tidegate.apps.follower import Follower, InForce, Instance, News
from tidegate.clock import ManualClock
from tidegate.errors import StoreAway
from tidegate.keys import KeyFacts, KnownKey
from tidegate.observations import Beat
from tidegate.serving.snapshots.publication import Publication

INSTANCE = Instance("host:8000", "host", 8000, 42, 1.0)


class FakeStore:
    """Answers at once, or is away; tells what it was told."""

    def __init__(self) -> None:
        self.published: Publication | None = None
        self.known: tuple[KnownKey, ...] = ()
        self.away = False
        self.broken = False
        self.opened = 0
        self.closed = 0
        self.acknowledged: list[tuple[int, float, str]] = []
        self.beats: list[Beat] = []
        self.used: dict[str, float] = {}
        self.looks = 0
        self.read_only = False

    def _check(self) -> None:
        if self.away:
            raise StoreAway("no answer from the database")
        if self.broken:
            raise RuntimeError("nobody foresaw this")

    def open(self) -> FakeStore:
        self.opened += 1
        self._check()
        return self

    def latest(self) -> Publication | None:
        self._check()
        self.looks += 1
        return self.published

    def keys(self) -> tuple[KnownKey, ...]:
        self._check()
        return self.known

    def wait(self, seconds: float) -> bool:
        threading.Event().wait(0.001)
        return True

    def acknowledge(self, number: int, at: float, error: str) -> None:
        self._check()
        if self.read_only:
            raise StoreAway("the disk is full")
        self.acknowledged.append((number, at, error))

    def beat(self, beat: Beat, used: Mapping[str, float]) -> None:
        self._check()
        self.used |= used
        self.beats.append(beat)

    def close(self) -> None:
        self.closed += 1


class Followed:
    """A follower of a fake store, and all that it told."""

    def __init__(self) -> None:
        self.store = FakeStore()
        self.clock = ManualClock(100.0)
        self.news: list[News] = []
        self.follower = Follower(self.store.open, self.news.append, INSTANCE, clock=self.clock)

    def start(self) -> None:
        self.follower.start()
        until(lambda: self.news and self.news[-1].state, "the first look")

    def heard(self, what: Callable[[News], object]) -> None:
        until(lambda: any(what(news) for news in self.news), "news")

    def looked_again(self) -> None:
        looks = self.store.looks
        until(lambda: self.store.looks > looks + 2, "more looks")


@pytest.fixture
def followed() -> Iterator[Followed]:
    followed = Followed()
    yield followed
    followed.follower.stop()


def test_the_first_look_tells_what_there_is(followed: Followed) -> None:
    followed.store.published = Publication(7, {})
    followed.start()
    assert followed.news == [News(Publication(7, {}), ()), News(state="following")]


def test_a_snapshot_is_told_once_and_so_is_the_next(followed: Followed) -> None:
    followed.start()
    for number in (2, 3):
        followed.store.published = Publication(number, {})
        followed.heard(lambda news: news.publication == followed.store.published)
        followed.looked_again()
    assert [news.publication.number for news in followed.news if news.publication is not None] == [2, 3]


def test_what_is_in_force_is_acknowledged_once_and_said_again_and_again(followed: Followed) -> None:
    followed.start()
    followed.looked_again()
    assert not followed.store.beats  # not before anything is in force
    followed.follower.report(InForce(snapshot=7, since=99.5, workers=2, models={"iris": {"baseline": "3"}}))
    until(lambda: followed.store.beats, "a sign of life")
    beat = followed.store.beats[0]
    assert (beat.instance, beat.snapshot, beat.workers, beat.time) == ("host:8000", 7, 2, 100.0)
    assert beat.models == {"iris": {"baseline": "3"}}
    followed.looked_again()
    assert len(followed.store.beats) == 1
    followed.clock.advance(1.0)
    until(lambda: len(followed.store.beats) == 2, "the next sign of life")
    assert followed.store.acknowledged == [(7, 99.5, "")]


def test_what_was_refused_is_acknowledged_with_the_reason(followed: Followed) -> None:
    followed.start()
    refused = InForce(snapshot=7, since=99.0, refused=8, refused_at=99.5, error="no such file")
    followed.follower.report(refused)
    until(lambda: followed.store.beats, "a sign of life")
    assert followed.store.acknowledged == [(7, 99.0, ""), (8, 99.5, "no such file")]
    assert (followed.store.beats[0].refused, followed.store.beats[0].error) == (8, "no such file")
    followed.follower.report(InForce(snapshot=8, since=99.9))
    until(lambda: len(followed.store.acknowledged) == 3, "the acknowledgement")
    assert followed.store.acknowledged[-1] == (8, 99.9, "")


def test_a_store_that_goes_away_is_said_once_and_what_waits_is_made_up_for(
    followed: Followed, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    followed.start()
    followed.store.away = True
    followed.heard(lambda news: news.state == "away")
    followed.follower.report(InForce(snapshot=7, since=99.0, used={"k": 98.0}))
    opened = followed.store.opened
    until(lambda: followed.store.opened > opened, "another try")
    followed.store.published = Publication(8, {})
    followed.store.away = False
    followed.heard(lambda news: news.publication == Publication(8, {}))
    until(lambda: followed.store.beats, "a sign of life")
    assert followed.store.acknowledged == [(7, 99.0, "")]
    assert followed.store.used == {"k": 98.0}
    until(lambda: followed.news[-1].state == "following", "that it is back")
    assert [news.state for news in followed.news if news.state] == ["following", "away", "following"]
    assert caplog.text.count("the store is away, what is in force stays: no answer") == 1
    assert caplog.text.count("the store is back") == 1
    assert followed.store.closed >= 1


def test_a_store_that_cannot_be_written_is_away_but_what_it_says_counts(
    followed: Followed, caplog: pytest.LogCaptureFixture
) -> None:
    followed.start()
    followed.store.read_only = True
    followed.follower.report(InForce(snapshot=7, since=99.0))
    followed.heard(lambda news: news.state == "away")
    followed.store.published = Publication(8, {})
    followed.heard(lambda news: news.publication == Publication(8, {}))
    assert [news.state for news in followed.news if news.state] == ["following", "away"]
    assert "the store is back" not in caplog.text


def test_what_nobody_foresaw_does_not_end_it(followed: Followed, caplog: pytest.LogCaptureFixture) -> None:
    followed.start()
    followed.store.broken = True
    followed.heard(lambda news: news.state == "away")
    followed.store.broken = False
    until(lambda: followed.news[-1] == News(state="following") and len(followed.news) > 3, "that it goes on")
    assert "nobody foresaw this" in caplog.text


def test_a_store_that_is_away_from_the_start_is_told_too(followed: Followed) -> None:
    followed.store.away = True
    followed.start()
    assert followed.news == [News(state="away")]


def test_keys_are_told_when_they_change(followed: Followed) -> None:
    followed.start()
    key = KnownKey(id="k", salt="s", digest="d", facts=KeyFacts(name="k"))
    followed.store.known = (key,)
    followed.looked_again()
    assert len(followed.news) == 2  # they are not read at every look
    followed.clock.advance(1.0)
    followed.heard(lambda news: news.keys == (key,))


def test_the_last_thing_it_says_is_that_it_leaves(followed: Followed) -> None:
    followed.start()
    followed.follower.report(InForce(snapshot=7, since=99.0))
    until(lambda: followed.store.beats, "a sign of life")
    followed.follower.report(InForce(snapshot=7, since=99.0, draining=True))
    followed.follower.stop()
    assert followed.store.beats[-1].draining
    assert followed.store.closed == 1
