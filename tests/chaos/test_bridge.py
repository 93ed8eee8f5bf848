"""What is published is what is served: by every process, without a failed request, with the store and without it."""

from __future__ import annotations

import contextlib
import shutil
import statistics
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil  # type: ignore[import-untyped]
import pytest
from sqlalchemy.engine import make_url

from tests.caller import Load, anew, sum_of_row
from tests.chaos.test_two_phases import SLOW_IN_ALL_BUT_ONE, Flags
from tests.process import Server, free_port, serving, until
from tests.services import halt, launch, paused, running
from tidegate.keys import KeyFacts, compose, digest, encode_facts, new_key
from tidegate.storage.records import Acknowledgement, KeyRow, Published
from tidegate.storage.store import Store, open_store
from tidegate.types import EndpointPlan, ModelRef, RoutingSnapshot, Variant

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

CYCLES = 25
"""Of four publications each."""


class Control:
    """What the control plane does with the store, and what it sees there."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.store: Store = open_store(url, migrate=True)

    def publish(self, *variants: Variant, endpoint: str = "sum") -> Published:
        return self.publish_all(**{endpoint: variants})

    def publish_all(self, **endpoints: tuple[Variant, ...]) -> Published:
        snapshot = RoutingSnapshot(0, {name: EndpointPlan(name, variants) for name, variants in endpoints.items()})
        with self.store.begin() as unit:
            return unit.snapshots.publish(snapshot, reason="test", author="test", at=time.time())

    def acknowledged(self, published: Published, seconds: float = 30.0) -> Acknowledgement:
        """The first acknowledgement, good or bad."""

        def look() -> list[Acknowledgement]:
            with self.store.read() as unit:
                return unit.instances.acknowledgements(published.number)

        found: list[Acknowledgement] = until(look, f"snapshot {published.number} acknowledged", seconds)
        return found[0]

    def bring(self, *variants: Variant) -> float:
        """Publishes, waits until it is in force; seconds from the decision to the effect."""
        published = self.publish(*variants)
        said = self.acknowledged(published)
        assert said.error == ""
        return said.time - published.published

    def beat(self) -> Any:
        with self.store.read() as unit:
            beats = unit.instances.all()
        return beats[0] if beats else None


@pytest.fixture
def control(tmp_path: Path) -> Iterator[Control]:
    control = Control(f"sqlite:///{tmp_path}/store.db")
    yield control
    control.store.close()


def config(control: Control, **more: Any) -> dict[str, Any]:
    endpoint = {"model": "fake:", "version": "v0", "options": {"bias": 0.0}}
    return {"store": {"url": control.url}, "endpoints": {"sum": endpoint}, **more}


def fake(bias: float, **options: Any) -> ModelRef:
    return ModelRef("fake:", "sum", f"v{bias:g}", "", "auto", {"bias": bias, **options})


def answer(server: Server, **headers: str) -> float:
    return float(server.predict([0, 0, 0, 0], **headers).json["predictions"][0])


@pytest.mark.parametrize("workers", [1, 2])
def test_a_hundred_publications_under_load_fail_no_request(tmp_path: Path, control: Control, workers: int) -> None:
    """R4. kserve/kserve#5335, #2130, SeldonIO/seldon-core#5181: what is published is what is served, and info shows it."""
    biases = tuple(float(number) for number in range(CYCLES + 1))
    rollbacks: list[float] = []
    with serving(tmp_path, config(control), workers=workers) as server:
        with Load(server.port, sum_of_row(*biases), clients=3, pause=0.005) as load:
            for number in range(1, CYCLES + 1):
                old, new = Variant("baseline", fake(number - 1.0)), fake(float(number))
                control.bring(old, Variant("candidate", new))
                assert answer(server) == number - 1
                assert answer(server, x_canary="candidate") == number
                control.bring(old, Variant("candidate", new, share=5000))
                control.bring(Variant("baseline", new), Variant("previous", old.model))
                assert {answer(server) for _ in range(5)} == {number}
                rollbacks.append(control.bring(old, Variant("candidate", new)))
                assert {answer(server) for _ in range(5)} == {number - 1}
                shown = server.call("GET", "/info").json
                assert (shown["snapshot"], shown["source"], shown["store"]) == (1 + 4 * number, "store", "following")
            until(lambda: load.tally.answered > 200, "some load")
        load.tally.assert_clean(at_least=200)
        assert server.metrics()["tidegate_snapshot_number"] == 1 + 4 * CYCLES
        assert statistics.median(rollbacks) <= 1.0, f"a rollback takes effect within a second: {sorted(rollbacks)}"


def test_a_candidate_takes_no_traffic_before_every_process_has_it_warm(tmp_path: Path, control: Control) -> None:
    """kserve/kserve#5983: no request may meet a candidate that is not ready."""
    flags, folder = Flags(tmp_path), tmp_path / "new"
    folder.mkdir()
    (folder / "model.py").write_text(textwrap.dedent(SLOW_IN_ALL_BUT_ONE))
    told = config(control, trust={"pickles": [str(folder)]})
    with serving(tmp_path, told, workers=2, environment=flags.environment) as server:
        candidate = Variant("candidate", ModelRef(str(folder), "sum", "2"), share=10_000)
        published = control.publish(Variant("baseline", fake(0.0)), candidate)
        until(lambda: len(flags.held()) == 1, "one that still loads")
        with Load(server.port, anew(sum_of_row(0.0)), clients=2, most=200) as load:
            load.join(60).assert_clean(at_least=200)
        assert control.beat().snapshot == 0
        flags.set("go")
        assert control.acknowledged(published).error == ""
        with Load(server.port, anew(sum_of_row(100.0)), clients=2, most=200) as load:
            load.join(60).assert_clean(at_least=200)


@pytest.mark.parametrize("workers", [1, 2])
def test_a_candidate_that_cannot_be_loaded_is_refused_and_the_old_version_stays(
    tmp_path: Path, control: Control, workers: int
) -> None:
    with serving(tmp_path, config(control), workers=workers) as server:
        control.bring(Variant("baseline", fake(1.0)))
        broken = Variant("candidate", fake(7.0, fail_load=True), share=10_000)
        said = control.acknowledged(control.publish(Variant("baseline", fake(1.0)), broken))
        assert "failed to load, as told" in said.error
        until(lambda: control.beat().refused == 3, "a beat that says so")
        assert (control.beat().snapshot, control.beat().models) == (2, {"sum": {"baseline": "v1"}})
        shown = server.call("GET", "/info").json
        assert (shown["snapshot"], shown["refused_snapshot"]) == (2, 3)
        assert server.is_ready()
        assert {answer(server) for _ in range(10)} == {1.0}
        control.bring(Variant("baseline", fake(2.0)))
        assert {answer(server) for _ in range(10)} == {2.0}
        until(lambda: server.call("GET", "/info").json["refused_snapshot"] == 0, "that it is over")


def test_an_instance_that_joins_becomes_ready_with_the_newest_snapshot(tmp_path: Path, control: Control) -> None:
    control.publish(Variant("baseline", fake(1.0)), Variant("candidate", fake(2.0), share=10_000))
    for workers in (1, 2):
        with serving(tmp_path, config(control), workers=workers, ready=False) as server:
            seen: list[float] = []

            def ask(server: Server = server, seen: list[float] = seen) -> bool:
                try:
                    if server.call("GET", "/readyz").status != 200:
                        return False
                except OSError:
                    return False
                seen.append(answer(server))
                return len(seen) > 20

            until(ask, "twenty answers", 60)
            assert set(seen) == {2.0}


def test_a_start_falls_back_when_the_newest_snapshot_cannot_be_loaded(tmp_path: Path, control: Control) -> None:
    published = control.publish(Variant("baseline", fake(1.0, fail_load=True)))
    for workers in (1, 2):
        with serving(tmp_path, config(control), workers=workers) as server:
            assert answer(server) == 0.0
            assert "failed to load" in control.acknowledged(published).error
            shown = server.call("GET", "/info").json
            assert (shown["snapshot"], shown["source"], shown["refused_snapshot"]) == (1, "configuration", 2)


@pytest.mark.parametrize("workers", [1, 2])
def test_a_restart_without_the_store_serves_what_was_kept(tmp_path: Path, control: Control, workers: int) -> None:
    """R8: and the keys of callers are still good."""
    id_, secret, salt = new_key()
    with control.store.begin() as unit:
        facts = encode_facts(KeyFacts(name="k"))
        unit.keys.add(KeyRow(id_, salt, digest(salt, secret), time.time(), None, None, None, facts))
    key = compose(id_, secret)
    told, port = config(control, access={"keys_required": True}), free_port()
    with serving(tmp_path, told, workers=workers, port=port) as server:
        control.bring(Variant("baseline", fake(5.0)))
        until(lambda: server.predict([0, 0, 0, 0], x_api_key=key).status == 200, "the key")
        assert server.stop() == 0
        assert control.beat().draining
    control.store.close()
    away = tmp_path / "away"
    away.mkdir()
    for file in tmp_path.glob("store.db*"):
        shutil.move(file, away)
    assert not [file for file in (tmp_path / "run").rglob("*") if secret.encode() in file.read_bytes()]
    with serving(tmp_path, told, workers=workers, port=port) as server:
        shown = server.call("GET", "/info", headers={"x-api-key": key}).json
        assert (shown["snapshot"], shown["source"], shown["store"]) == (2, "disk", "away")
        assert answer(server, x_api_key=key) == 5.0
        assert server.predict([0, 0, 0, 0]).status == 401
        for file in away.iterdir():
            shutil.move(file, tmp_path)
        again = Control(control.url)
        again.bring(Variant("baseline", fake(6.0)))
        assert answer(server, x_api_key=key) == 6.0
        until(lambda: server.call("GET", "/info", headers={"x-api-key": key}).json["store"] == "following", "the store")
        again.store.close()


def test_a_broken_copy_is_no_obstacle(tmp_path: Path, control: Control) -> None:
    port = free_port()
    with serving(tmp_path, config(control), port=port) as server:
        control.bring(Variant("baseline", fake(5.0)))
    kept = tmp_path / "run" / f"snapshot-{port}.json"
    until(kept.exists, "the copy")
    kept.write_bytes(kept.read_bytes()[:-20])
    (tmp_path / "store.db").rename(tmp_path / "gone.db")
    with serving(tmp_path, config(control), port=port) as server:
        assert answer(server) == 0.0
        assert "not used" in server.log


def test_the_process_that_follows_is_replaced(tmp_path: Path, control: Control) -> None:
    with serving(tmp_path, config(control), workers=2) as server:
        control.bring(Variant("baseline", fake(1.0)))
        serves = [process.pid for process in server.workers()]
        follower = next(p for p in psutil.Process(server.process.pid).children() if _follows(p, server))
        follower.kill()
        server.wait_logged("starting another")
        control.bring(Variant("baseline", fake(2.0)))
        assert answer(server) == 2.0
        assert set(serves) & {process.pid for process in server.workers()}


def _follows(process: psutil.Process, server: Server) -> bool:
    """It alone does not listen on the server's port."""
    return not any(c.status == psutil.CONN_LISTEN and c.laddr.port == server.port for c in process.net_connections())


def test_a_rollback_does_not_wait_for_the_candidate_of_another_endpoint(tmp_path: Path, control: Control) -> None:
    told = config(control)
    told["endpoints"]["other"] = told["endpoints"]["sum"]
    baseline = Variant("baseline", fake(0.0))
    with serving(tmp_path, told, workers=2) as server:
        both = (baseline, Variant("candidate", fake(1.0), share=10_000))
        control.acknowledged(control.publish_all(sum=both, other=(baseline,)))
        assert answer(server) == 1.0
        slow = Variant("candidate", fake(9.0, load_ms=8000))
        published = control.publish_all(sum=both, other=(baseline, slow))
        back = control.publish_all(sum=(baseline,), other=(baseline, slow))
        until(lambda: {answer(server) for _ in range(5)} == {0.0}, "the rollback", 6)
        with control.store.read() as unit:
            assert unit.instances.acknowledgements(back.number) == []
        assert control.acknowledged(back).error == ""
        assert published.number < back.number


@pytest.fixture
def postgres(tmp_path: Path) -> Iterator[tuple[str, int, Path]]:
    """URL, process and folder of a server of one's own."""
    folder = tmp_path / "postgres"
    with running("postgresql", folder) as started:
        yield started.url, started.pid, folder


def followed(server: Server) -> tuple[int, str, str]:
    shown = server.call("GET", "/info").json
    return shown["snapshot"], shown["source"], shown["store"]


@pytest.mark.parametrize("workers", [1, 2])
def test_serving_goes_on_while_the_store_is_stopped_or_paused(
    tmp_path: Path, postgres: tuple[str, int, Path], workers: int
) -> None:
    """R8: predictions go on; what the store says counts again as soon as it is back, by itself."""
    url, pid, folder = postgres
    control = Control(url)
    with (
        contextlib.ExitStack() as ends,
        contextlib.closing(control.store),
        serving(tmp_path, config(control), workers=workers) as server,
    ):
        control.bring(Variant("baseline", fake(1.0)))
        with Load(server.port, sum_of_row(1.0, 2.0, 3.0), clients=2, pause=0.005) as load:
            with paused(pid):
                answered = load.tally.answered
                until(lambda: load.tally.answered > answered + 200, "answers while the store hangs")
            control.bring(Variant("baseline", fake(2.0)))
            halt("postgresql", pid)
            until(lambda: followed(server) == (3, "store", "away"), "the store is away")
            server.wait_logged("the store is away")
            answered = load.tally.answered
            until(lambda: load.tally.answered > answered + 200, "answers without a store")
            assert server.is_ready()
            ends.callback(halt, "postgresql", launch("postgresql", folder, make_url(url).port or 0).pid)
            until(lambda: followed(server) == (3, "store", "following"), "the store is back")
            server.wait_logged("the store is back")
            control.bring(Variant("baseline", fake(3.0)))
        load.tally.assert_clean(at_least=400)
        assert answer(server) == 3.0
        assert server.log.count("the store is away") <= 3, "it is said, not repeated"
