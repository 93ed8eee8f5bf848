"""The guardrail that asks a Prometheus server: what it believes, and what it does not call."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import httpx
import pytest
from msgspec.structs import replace

from tests.unit.control.releases.plane import PLAN, Plane
from tidegate.clock import ManualClock
from tidegate.control.releases.prometheus import Prometheus, number_in
from tidegate.errors import InvalidInput
from tidegate.settings import EndpointSettings, Guardrail, PrometheusGuardrail, ReleaseSettings

URL = "http://prometheus:9090/base"


def vector(*values: str) -> dict[str, Any]:
    return {"data": {"resultType": "vector", "result": [{"metric": {}, "value": [1.0, value]} for value in values]}}


class Server:
    """What the client calls, and from which addresses."""

    def __init__(self, body: Any, status: int = 200, addresses: Sequence[str] = ("10.0.0.7",), **headers: str) -> None:
        self.calls: list[httpx.Request] = []
        self.body, self.status, self.headers, self.addresses = body, status, headers, addresses

    def answer(self, request: httpx.Request) -> httpx.Response:
        self.calls.append(request)
        return httpx.Response(self.status, json=self.body, headers=self.headers)

    @property
    def client(self) -> Prometheus:
        return Prometheus(httpx.MockTransport(self.answer), lambda _host, _port: self.addresses)


@pytest.mark.parametrize(
    ("body", "value"),
    [
        (vector("0.25"), 0.25),
        ({"data": {"resultType": "scalar", "result": [1.0, "3"]}}, 3.0),
        (vector(), None),
        (vector("NaN"), None),
        (vector("1", "2"), None),
        ({"status": "error"}, None),
        ("nonsense", None),
    ],
)
def test_one_number_or_none(body: Any, value: float | None) -> None:
    assert Server(body).client.ask(URL, "rate(x[1m])") == value


class Dripping(httpx.SyncByteStream):
    """Each byte comes in time for the client's limit, and the answer never ends."""

    def __init__(self, clock: ManualClock) -> None:
        self.clock = clock

    def __iter__(self) -> Iterator[bytes]:
        for _ in range(1000):
            self.clock.advance(1.0)
            yield b" "
        pytest.fail("it was listened to for a thousand seconds")


def test_an_answer_that_never_ends_holds_nobody_up(caplog: pytest.LogCaptureFixture) -> None:
    """The same thread rolls other releases back, and renews the lease."""
    clock = ManualClock()
    transport = httpx.MockTransport(lambda _request: httpx.Response(200, stream=Dripping(clock)))
    assert Prometheus(transport, lambda _host, _port: ["10.0.0.7"], clock).ask(URL, "up") is None
    assert "did not end its answer" in caplog.text


def test_the_checked_address_is_the_one_that_is_called() -> None:
    server = Server(vector("1"))
    assert server.client.ask(URL, "up") == 1.0
    [call] = server.calls
    assert str(call.url) == "http://10.0.0.7:9090/base/api/v1/query?query=up"
    assert call.headers["host"] == "prometheus:9090"


@pytest.mark.parametrize(
    "address",
    [
        "169.254.169.254",
        "fe80::1",
        "fd00:ec2::254",
        "100.100.100.200",
        "0.0.0.0",
        "::ffff:169.254.169.254",
        "224.0.0.1",
    ],
)
def test_metadata_addresses_are_never_called(address: str) -> None:
    """OWASP API7, server-side request forgery: also behind a name, and behind the second of its addresses."""
    for addresses in ((address,), ("10.0.0.7", address)):
        server = Server(vector("1"), addresses=addresses)
        assert server.client.ask("http://innocent.example", "up") is None
        assert server.calls == []


def test_redirects_are_not_followed() -> None:
    server = Server("", 302, location="http://169.254.169.254/latest")
    assert server.client.ask(URL, "up") is None
    assert len(server.calls) == 1


@pytest.mark.parametrize(
    "url", ["file:///etc/passwd", "gopher://x", "http://", "prometheus:9090", "http://x:0", "http://x?a=1"]
)
def test_only_http_addresses_are_taken(plane: Plane, url: str) -> None:
    assert Server(vector("1")).client.ask(url, "up") is None
    rails = (Guardrail(prometheus=PrometheusGuardrail(query="up", max=1, url=url)),)
    with pytest.raises(InvalidInput, match=r"prometheus\.url"):
        plane.start(plan=replace(PLAN, guardrails=rails))


def test_what_cannot_be_reached_is_no_verdict() -> None:
    def away(_: httpx.Request) -> httpx.Response:
        raise httpx.ConnectTimeout("too slow")

    def unknown(_host: str, _port: int) -> list[str]:
        raise OSError("no such host")

    assert Prometheus(httpx.MockTransport(away), lambda _h, _p: ["10.0.0.7"]).ask(URL, "up") is None
    assert Prometheus(httpx.MockTransport(away), unknown).ask(URL, "up") is None
    with pytest.raises(ValueError, match="2 series"):
        number_in(httpx.Response(200, json=vector("1", "2")).content)


def test_a_password_in_the_address_is_used_and_never_logged(caplog: pytest.LogCaptureFixture) -> None:
    server = Server("", 500)
    assert server.client.ask("http://ann:s3cret@prometheus:9090/base", "up") is None
    assert server.calls[0].headers["authorization"].startswith("Basic ")
    assert "prometheus http://prometheus:9090/base: answered 500" in caplog.text
    assert "s3cret" not in caplog.text


def asking(every: str = "2s") -> ReleaseSettings:
    rail = PrometheusGuardrail(query="errors", max=0.5, url=URL, every=every)
    return replace(PLAN, guardrails=(*PLAN.guardrails, Guardrail(prometheus=rail)))


def test_a_value_above_its_maximum_rolls_back(plane: Plane) -> None:
    server = Server(vector("0.1"))
    plane.service = plane.another("one", server.client)
    release = plane.start(plan=asking())
    plane.seconds(4)
    assert plane.service.get(release.id).state == "ramping"
    server.body = vector("0.9")
    release = plane.until(release.id, "rolled_back")
    assert "0.9" in release.reason
    assert plane.service.replay(release.id).agrees


def test_it_is_asked_as_often_as_the_plan_says(plane: Plane) -> None:
    server = Server(vector("0.1"))
    plane.service = plane.another("one", server.client)
    plane.start(plan=replace(asking("5s"), step=replace(PLAN.step, min_requests=10_000)))
    plane.seconds(22)
    assert 4 <= len(server.calls) <= 5


def test_one_that_never_answers_keeps_the_release_from_being_promoted(plane: Plane) -> None:
    plane.service = plane.another("one", Server("", 500).client)
    plan = replace(asking(), step=replace(PLAN.step, max_seconds=20.0), on_inconclusive="promote")
    release = plane.start(plan=plan)
    release = plane.until(release.id, "inconclusive")
    assert "prometheus no data" in release.reason


def test_a_control_plane_that_lost_its_lease_in_the_middle_of_a_look_writes_nothing(plane: Plane) -> None:
    """R13: asking took so long that another one leads; what the first one saw is not written."""
    second = plane.another("two", Server(vector("0.1")).client)
    slow: list[Callable[[], None]] = []

    def answer(_: httpx.Request) -> httpx.Response:
        if not slow:
            return httpx.Response(200, json=vector("0.1"))
        slow.pop()()
        return httpx.Response(200, json=vector("0.9"))

    def sleep() -> None:
        plane.clock.advance(11)
        plane.follow({}, 100)
        second.tick()

    first = plane.another("one", Prometheus(httpx.MockTransport(answer), lambda _h, _p: ["10.0.0.7"]))
    plane.service.stop()
    plane.service = first
    release = plane.start(plan=asking())
    plane.seconds(2)
    slow.append(sleep)
    while slow:
        plane.seconds(1)
    assert (first.leads, second.leads) == (False, True)
    assert plane.service.get(release.id).state == "ramping", "0.9 would have rolled it back"


def test_many_slow_answers_do_not_cost_the_lease(plane: Plane) -> None:
    """Each look is shorter than the lease, all of them are longer; the last release is looked at as well."""

    def answer(_: httpx.Request) -> httpx.Response:
        plane.clock.advance(4.0)
        return httpx.Response(200, json=vector("0.1"))

    shop = EndpointSettings(model="models:/iris@champion", release=asking("1s"))
    plane.settings = replace(plane.settings, endpoints=dict.fromkeys(("iris", "a", "b", "c"), shop))
    plane.service.stop()
    plane.service = plane.another("one", Prometheus(httpx.MockTransport(answer), lambda _h, _p: ["10.0.0.7"]))
    plane.service.bootstrap()
    begun = [plane.service.start(name, "models:/iris/2", who="ann") for name in plane.settings.endpoints]
    plane.seconds(3)
    before = [plane.service.get(release.id).tick for release in begun]
    plane.seconds(1)
    after = [plane.service.get(release.id).tick for release in begun]
    assert all(new > old for new, old in zip(after, before, strict=True))
    assert plane.service.leads


class Adjusted(ManualClock):
    """Somebody sets the time of day."""

    ahead = 0.0

    def wall(self) -> float:
        return super().wall() + self.ahead


def test_a_clock_that_is_set_back_does_not_keep_it_from_being_asked(plane: Plane) -> None:
    """R11: the value from before would judge the candidate for an hour."""
    plane.clock = Adjusted(plane.clock.wall())
    server = Server(vector("0.1"))
    plane.service = plane.another("one", server.client)
    release = plane.start(plan=replace(asking(), step=replace(PLAN.step, min_requests=10_000)))
    plane.seconds(5)
    plane.clock.ahead = -3600.0
    plane.seconds(5)
    server.body = vector("0.9")
    plane.seconds(5)
    assert plane.service.get(release.id).state == "rolled_back"
