"""What a workflow's task asks of the control plane: once, patiently, until it has ended."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from tidegate.errors import UserError
from tidegate.integrations.control import Away, Control, Ended, ask, good_key, newest_drift

JOB = "/jobs/j1"
Reply = tuple[int, Any] | tuple[int, Any, dict[str, str]]


class Script:
    """Answers in the order that was written down, as a control plane does, and keeps what it was asked."""

    def __init__(self, *replies: Reply | Exception) -> None:
        self.replies = list(replies)
        self.asked: list[httpx.Request] = []
        self.slept: list[float] = []
        self.now = 0.0

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.asked.append(request)
        reply = self.replies.pop(0)
        if isinstance(reply, Exception):
            raise reply
        status, body, *headers = reply
        return httpx.Response(status, json=body, headers=headers[0] if headers else {})

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds

    def control(self, **more: Any) -> Control:
        transport = httpx.MockTransport(self)
        return Control(
            "http://c.test", "tg_secret", transport=transport, sleep=self.sleep, monotonic=lambda: self.now, **more
        )

    def paths(self) -> list[str]:
        return [f"{one.method} {one.url.path.removeprefix('/api/v1')}" for one in self.asked]


def started(state: str = "queued", **more: Any) -> Reply:
    return 202, {"state": state}, {"Location": f"/api/v1{JOB}", **more}


REPLAYED = {"Idempotent-Replayed": "true"}


def test_starts_waits_and_gives_what_it_ended_with() -> None:
    script = Script(started(), (200, {"state": "running"}), (200, {"state": "done", "result": {"rows": 3}}))
    told: list[str] = []
    began: list[str] = []
    with script.control() as control:
        found = ask(
            control,
            "/reports",
            {"kind": "drift"},
            "run/task",
            every=2.0,
            began=began.append,
            told=lambda one: told.append(one["state"]),
        )
    assert found["result"] == {"rows": 3}
    assert (began, told) == ([JOB], ["running", "done"])
    assert script.slept == [2.0]
    first = script.asked[0]
    assert first.headers["idempotency-key"] == "run/task"
    assert first.headers["x-api-key"] == "tg_secret"
    assert json.loads(first.content) == {"kind": "drift"}


def test_does_not_wait_where_it_is_not_to() -> None:
    script = Script(started("running"))
    assert ask(script.control(), "/reports", {}, "k", wait=False) == {"state": "running"}


def test_what_is_done_at_once_is_not_waited_for() -> None:
    script = Script((200, {"endpoint": "iris", "rows": 9}))
    assert ask(script.control(), "/monitors/iris/run", {}, "k") == {"endpoint": "iris", "rows": 9}


@pytest.mark.parametrize("state", ["failed", "cancelled", "rolled_back"])
def test_an_end_without_success_is_an_error_that_says_why(state: str) -> None:
    script = Script(started(), (200, {"state": state, "error": "no such column"}))
    with pytest.raises(Ended, match=f"jobs/j1 is {state}: no such column") as caught:
        ask(script.control(), "/reports", {}, "k")
    assert caught.value.state == state


def test_a_second_try_waits_for_what_the_first_started() -> None:
    script = Script(started("queued", **REPLAYED), (200, {"state": "running"}), (200, {"state": "done"}))
    ask(script.control(), "/reports", {}, "k")
    assert script.paths() == ["POST /reports", f"GET {JOB}", f"GET {JOB}"]


def test_a_second_try_tries_again_what_the_first_saw_fail() -> None:
    script = Script(
        started("queued", **REPLAYED),
        (200, {"state": "failed", "revision": 7}),
        (200, {"state": "queued"}),
        (200, {"state": "done"}),
    )
    assert ask(script.control(), "/reports", {}, "k")["state"] == "done"
    assert script.paths()[2] == f"POST {JOB}/retry"
    assert script.asked[2].headers["idempotency-key"] == "k/again-7"


def test_a_second_try_lets_a_cancelled_job_end_before_it_starts_it_again() -> None:
    script = Script(
        started("queued", **REPLAYED),
        (200, {"state": "running", "cancelling": True}),
        (200, {"state": "cancelled"}),
        (200, {"state": "queued"}),
        (200, {"state": "done"}),
    )
    assert ask(script.control(), "/reports", {}, "k")["state"] == "done"


def test_what_is_no_job_begins_anew_in_a_second_try() -> None:
    place = {"Location": "/api/v1/retrainings/t1"}
    script = Script(
        (202, {"state": "queued"}, place | REPLAYED),
        (200, {"state": "failed", "revision": 3}),
        (202, {"state": "queued"}, {"Location": "/api/v1/retrainings/t2"}),
        (200, {"state": "promoted"}),
    )
    assert ask(script.control(), "/retrainings", {"endpoint": "iris"}, "k")["state"] == "promoted"
    assert script.paths()[2:] == ["POST /retrainings", "GET /retrainings/t2"]
    assert script.asked[2].headers["idempotency-key"] == "k/again-3"


def test_a_release_that_was_rolled_back_is_not_begun_again() -> None:
    rolled = {"state": "rolled_back", "reason": "errors"}
    script = Script((201, {"state": "ramping"}, {"Location": "/api/v1/releases/r1"} | REPLAYED), (200, rolled))
    with pytest.raises(Ended, match="releases/r1 is rolled_back: errors"):
        ask(script.control(), "/releases", {}, "k", again=False)
    assert script.paths() == ["POST /releases", "GET /releases/r1"]


def test_a_state_may_be_enough() -> None:
    script = Script(started(), (200, {"state": "training"}), (200, {"state": "releasing"}))
    assert ask(script.control(), "/retrainings", {}, "k", enough=("accepted", "releasing"))["state"] == "releasing"


def test_what_has_no_state_is_there_at_once() -> None:
    script = Script((201, {"name": "summer", "rows": 9}, {"Location": "/api/v1/baselines/summer"}))
    assert ask(script.control(), "/baselines", {}, "k")["name"] == "summer"


@pytest.mark.parametrize(
    "reply",
    [
        httpx.ConnectError("refused"),
        httpx.ReadTimeout("slow"),
        (503, {"detail": "the store is away"}),
        (429, {"detail": "slower"}),
        (409, {"detail": "the first request with this Idempotency-Key is still under way"}),
    ],
)
def test_what_may_pass_is_asked_again_with_the_same_key(reply: Reply | Exception) -> None:
    script = Script(reply, started(), reply, (200, {"state": "done"}))
    assert ask(script.control(), "/reports", {}, "k")["state"] == "done"
    assert [one.headers.get("idempotency-key") for one in script.asked[:2]] == ["k", "k"]


def test_waits_as_long_as_the_control_plane_asks_for() -> None:
    script = Script((503, {"detail": "not now"}, {"Retry-After": "7"}), (200, {"state": "done"}))
    script.control().get(JOB)
    assert script.slept == [7.0]


def test_patience_ends() -> None:
    script = Script(*[httpx.ConnectError("refused")] * 50)
    with pytest.raises(Away, match="for 60 s"):
        script.control(patience=60.0).get(JOB)
    assert sum(script.slept) <= 60.0


@pytest.mark.parametrize(
    ("reply", "words"),
    [
        ((422, {"detail": "not valid", "errors": [{"loc": ["body", "kind"], "msg": "unknown"}]}), "body.kind: unknown"),
        ((401, {"detail": "the key is not known"}), "TIDEGATE_API_KEY"),
        ((409, {"detail": "a retraining runs already"}), "runs already"),
        ((404, None), "answer was 404"),
    ],
)
def test_what_will_not_pass_is_said_in_the_servers_words(reply: Reply, words: str) -> None:
    script = Script(reply)
    with pytest.raises(UserError, match=words) as caught:
        script.control().get(JOB)
    assert "tg_secret" not in str(caught.value)


def test_an_answer_of_something_else_is_no_answer() -> None:
    with pytest.raises(UserError, match="not an answer of a control plane"):
        Script((200, [1])).control().get(JOB)


@pytest.mark.parametrize("address", ["", "c.test:8001", "ftp://c.test", "http://[::1"])
def test_an_address_that_is_none_is_said_so(address: str) -> None:
    with pytest.raises(UserError, match="no address"):
        Control(address)


def test_the_newest_report_of_a_window_that_is_over() -> None:
    def report(name: str, complete: bool, variant: str = "baseline") -> dict[str, Any]:
        return {"id": name, "complete": complete, "variant": variant}

    items = [report("d4", False), report("d3", True, "candidate"), report("d2", True), report("d1", True)]
    found = newest_drift(Script((200, {"items": items, "next": None})).control(), "churn")
    assert found is not None
    assert found["id"] == "d2"
    assert newest_drift(Script((200, {"items": [], "next": None})).control(), "churn") is None


@pytest.mark.parametrize("make", [lambda: "manual__2026-01-01 00:00", lambda: "é" * 20, lambda: "x" * 500, lambda: ""])
def test_any_name_of_a_run_makes_a_key_that_is_taken(make: Callable[[], str]) -> None:
    key = good_key(make())
    assert 0 < len(key) <= 200
    assert all("!" <= letter <= "~" for letter in key)
    assert good_key("scheduled__2026-11-01T00:00:00+00:00") == "scheduled__2026-11-01T00:00:00+00:00"
