"""``tidegate release`` against a control plane of canned answers."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result

from tests.unit.cli.command import run
from tests.unit.cli.fake_control import FakeControl, fake_control
from tidegate.cli.control import own_key
from tidegate.errors import UserError

BASE = "/api/v1/releases"
RELEASE: dict[str, Any] = {
    "id": "r-1", "endpoint": "iris", "state": "ramping", "step": 1, "share": 500, "created": 1.0, "changed": 2.0,
    "baseline": {"uri": "/m/1", "name": "iris", "version": "1"},
    "candidate": {"uri": "/m/2", "name": "iris", "version": "2"},
    "plan": {"shadow": {"min_requests": 5}, "steps": [1, 5, 100]},
    "waiting": "step 2 of 3 (5 %): 134 of 200 requests, 12 of 30 seconds; latency undecided", "effect_seconds": 0.4,
    "sides": {
        "baseline": {"requests": 1900, "failures": 3, "p50": 0.004, "p99": 0.02},
        "candidate": {"requests": 134, "p50": 0.004, "p99": 0.02},
    },
    "verdicts": [
        {"guardrail": "errors", "test": "t", "outcome": "pass", "reason": "fine", "support": 5.0, "threshold": 4.6},
        {"guardrail": "latency", "test": "t", "outcome": "undecided", "reason": "not enough", "evidence": 2.3,
         "threshold": 4.6},
    ],
}  # fmt: skip


@pytest.fixture
def control() -> Iterator[FakeControl]:
    with fake_control() as server:
        yield server


def ask(control: FakeControl, *arguments: str, **environment: str) -> Result:
    given = {"TIDEGATE_CONTROL": control.url, "COLUMNS": "160", **environment}
    return run("release", *arguments, environment=given)


def happening(kind: str, text: str, revision: int, **changes: Any) -> dict[str, Any]:
    event = {"kind": kind, "text": text, "revision": revision, "time": 5.0, "who": "releases"}
    return {"event": event, "release": RELEASE | changes}


def test_start_sends_endpoint_model_reason_and_plan(control: FakeControl, tmp_path: Path) -> None:
    control.answers["POST", BASE] = (201, RELEASE)
    plan = tmp_path / "plan.yaml"
    plan.write_text("steps: [10, 100]\n")
    result = ask(
        control, "start", "iris", "models:/iris/2", "-r", "retrained", "--plan", str(plan), TIDEGATE_KEY="tg_k"
    )
    assert result.exit_code == 0, result.output
    assert result.output.splitlines()[0] == "release r-1 of iris began"
    [asked] = control.asked
    assert asked.body == {
        "endpoint": "iris", "model": "models:/iris/2", "reason": "retrained", "plan": {"steps": [10, 100]},
    }  # fmt: skip
    assert asked.headers["x-api-key"] == "tg_k"
    assert asked.headers["idempotency-key"]


def test_the_key_is_found_below_the_current_folder(
    control: FakeControl, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    control.answers["GET", BASE] = (200, {"items": [], "next": None})
    monkeypatch.chdir(tmp_path)
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "admin.key").write_text("tg_from_file\n")
    assert ask(control, "list").output == "no releases\n"
    assert control.asked[0].headers["x-api-key"] == "tg_from_file"


@pytest.mark.parametrize(
    ("address", "sent"),
    [
        ("http://127.0.0.1:9", True),
        ("http://localhost:9", True),
        ("http://[::1]:9", True),
        ("https://tidegate.example/", True),
        ("https://tidegate.example:443", True),
        ("http://10.1.2.3:8101", True),
        ("http://tidegate.example", False),
        ("https://tidegate.example:8443", False),
        ("https://tidegate.example@elsewhere.example", False),
        ("http://10.1.2.3:8001", False),
        ("http://localhost.elsewhere.example", False),
    ],
)
def test_the_key_of_the_folder_is_for_its_own_control_plane(
    address: str, sent: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "admin.key").write_text("tg_from_file\n")
    (tmp_path / "tidegate.yaml").write_text("control: {url: 'https://tidegate.example', host: 10.1.2.3, port: 8101}\n")
    if sent:
        assert own_key(address, {}) == "tg_from_file"
        return
    with pytest.raises(UserError, match="give a key with --key or TIDEGATE_KEY"):
        own_key(address, {})


def test_the_key_of_the_folder_does_not_leave_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    given = {"TIDEGATE_CONTROL": "http://192.0.2.1:9"}
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "admin.key").write_text("tg_from_file\n")
    (tmp_path / "tidegate.yaml").write_text("control: [what nobody can read\n")
    result = run("release", "list", environment=given)
    assert result.exit_code == 2
    assert result.stderr == (
        "error: run/admin.key is not sent to http://192.0.2.1:9: it is for this folder's own control plane "
        "(control.url, control.host); give a key with --key or TIDEGATE_KEY\n"
    )


def test_a_proxy_is_not_asked_for_this_machine(control: FakeControl) -> None:
    control.answers["GET", BASE] = (200, {"items": [], "next": None})
    assert ask(control, "list", HTTP_PROXY="http://127.0.0.1:9", NO_PROXY="").output == "no releases\n"


def test_list_shows_where_each_stands(control: FakeControl) -> None:
    control.answers["GET", BASE] = (200, {"items": [RELEASE], "next": None})
    result = ask(control, "list", "--endpoint", "iris", "--open")
    assert "iris 2" in result.output
    assert "134 of 200 requests" in result.output
    assert "endpoint=iris" in control.asked[0].path
    assert "open=true" in control.asked[0].path


def test_square_brackets_of_others_are_text_and_no_colours(control: FakeControl) -> None:
    odd = "see [/wiki] and [bold]"
    control.answers["GET", BASE] = (200, {"items": [RELEASE | {"waiting": odd}], "next": None})
    assert odd in ask(control, "list").output
    key = {"id": "31ea", "name": odd, "roles": ["admin"], "endpoints": [], "state": "active", "expires": None}
    control.answers["GET", "/api/v1/api-keys"] = (200, {"items": [key | {"used": None}], "next": None})
    given = {"TIDEGATE_CONTROL": control.url, "COLUMNS": "160"}
    assert odd in run("keys", "list", environment=given).output
    estimate = {"metric": odd, "arm": "b", "units": 1, "outcomes": 1}
    report = {"estimates": [estimate], "comparisons": [], "split": {"reason": odd}}
    control.answers["GET", "/api/v1/experiments/x/report"] = (200, report)
    assert run("experiment", "report", "x", environment=given).output.count(odd) == 2


def test_show_tells_steps_sides_evidence_and_history(control: FakeControl) -> None:
    control.answers["GET", f"{BASE}/r-1"] = (200, RELEASE)
    control.answers["GET", f"{BASE}/r-1/history"] = (
        200, {"items": [{"kind": "started", "text": "release of iris 2", "time": 1.0, "who": "ann"}], "next": None},
    )  # fmt: skip
    text = ask(control, "show", "r-1").output
    for part in (
        "iris 1 → iris 2",
        "shadow ▸ 1 % ▸ 5 % ▸ 100 %",
        "1,900",
        "3 (0.16 %)",
        "20 ms",
        "in force after 0.40 s",
    ):
        assert part in text
    assert "█" * 24 in text, "the evidence for it has reached its threshold"
    assert "█" * 12 + "░" * 12 in text
    assert "waits for  step 2 of 3 (5 %)" in text
    assert "release of iris 2  (ann)" in text


@pytest.mark.parametrize(("act", "state"), [("pause", "paused"), ("resume", "ramping"), ("rollback", "rolled_back")])
def test_a_person_steps_in(control: FakeControl, act: str, state: str) -> None:
    control.answers["POST", f"{BASE}/r-1/{act}"] = (200, RELEASE | {"state": state})
    result = ask(control, act, "r-1", "--reason", "customers call")
    assert result.output == f"release r-1 is {state}\n"
    assert control.asked[0].body == {"reason": "customers call"}


@pytest.mark.slow
@pytest.mark.parametrize(("state", "code"), [("promoted", 0), ("rolled_back", 3), ("failed", 3), ("inconclusive", 3)])
def test_watch_tells_the_story_in_lines_and_ends_with_its_outcome(control: FakeControl, state: str, code: int) -> None:
    """A reason of waiting is told once, whatever its figures; a broken stream goes on where it was."""
    control.streams[f"{BASE}/r-1/events"] = [
        [
            happening("stepped", "step 1 of 3 (1 %)", 2, share=100),
            {"event": None, "release": RELEASE | {"waiting": "1 of 200 requests"}},
            {"event": None, "release": RELEASE | {"waiting": "90 of 200 requests"}},
        ],
        [happening("ended", "that is it", 9, state=state), {"event": None, "release": RELEASE | {"state": state}}],
    ]
    control.answers["GET", f"{BASE}/r-1"] = (200, RELEASE)
    result = ask(control, "watch", "r-1")
    assert result.exit_code == code, result.output
    lines = result.output.splitlines()
    assert [line.split(maxsplit=1)[1] for line in lines[:3]] == [
        "r-1    1 % stepped: step 1 of 3 (1 %)",
        "r-1    5 % waiting: 1 of 200 requests",
        "r-1    5 % ended: that is it",
    ]
    assert "after=2" in [asked.path for asked in control.asked if "events" in asked.path][1]


@pytest.mark.slow
def test_watch_goes_on_when_the_control_plane_begins_again(control: FakeControl) -> None:
    """Its streams end with it, and until it is there again it has no answer."""
    control.answers["GET", f"{BASE}/r-1"] = (200, RELEASE)
    control.streams[f"{BASE}/r-1/events"] = [
        [happening("stepped", "step 1 of 3 (1 %)", 2)],
        None,
        [happening("ended", "that is it", 9, state="promoted")],
    ]
    result = ask(control, "watch", "r-1")
    assert result.exit_code == 0, result.output
    assert [asked.path.partition("?")[2] for asked in control.asked[1:]] == ["after=-1", "after=2", "after=2"]


def test_watch_says_at_once_that_nobody_answers(control: FakeControl) -> None:
    result = ask(control, "watch", "r-1", TIDEGATE_CONTROL="http://127.0.0.1:1")
    assert result.exit_code == 2
    assert "no control plane answers" in result.output
    assert ask(control, "watch", "r-1").exit_code == 2  # it answers, and knows no such release


def test_a_reason_does_not_drive_the_terminal(control: FakeControl) -> None:
    """Else an operator could hide lines of what an administrator reads."""
    evil = "a\x1b[2J\x1b]0;owned\x07\n  7  admin\x9b1m\u202etxt.exe"
    control.answers["GET", f"{BASE}/r-1"] = (200, RELEASE | {"waiting": evil})
    control.answers["GET", f"{BASE}/r-1/history"] = (200, {"items": [], "next": None})
    result = ask(control, "show", "r-1")
    assert result.exit_code == 0, result.output
    assert "a␛[2J␛]0;owned␇␊  7" in result.output
    assert not set("\x1b\x07\x9b\u202e") & set(result.output)
    control.answers["GET", f"{BASE}/r-1"] = (409, {"detail": evil})
    assert "\x1b" not in ask(control, "show", "r-1").output
    control.answers["GET", f"{BASE}/r-1"] = (200, RELEASE)
    control.streams[f"{BASE}/r-1/events"] = [[happening("inconclusive", evil, 3, state="inconclusive")]]
    told = ask(control, "watch", "r-1").output
    assert "␛[2J" in told
    assert "\x1b" not in told


def test_replay_names_what_does_not_agree(control: FakeControl) -> None:
    found = {"looks": 3, "windows": 9, "decisions": 5, "agrees": True, "findings": []}
    control.answers["GET", f"{BASE}/r-1/replay"] = (200, found)
    assert ask(control, "replay", "r-1").output == "3 looks at 9 windows, 5 decisions: all agree\n"
    control.answers["GET", f"{BASE}/r-1/replay"] = (
        200, found | {"agrees": False, "findings": ["look 2: window 7 (candidate of p) was changed"]},
    )  # fmt: skip
    result = ask(control, "replay", "r-1")
    assert result.exit_code == 1
    assert "window 7" in result.output


@pytest.mark.parametrize(
    ("status", "body", "text"),
    [
        (409, {"detail": "release r-1 is promoted: it is not paused"}, "release r-1 is promoted: it is not paused"),
        (
            401,
            {"detail": "a key is needed"},
            "a key is needed; a key is taken from --key, TIDEGATE_KEY or run/admin.key",
        ),
        (422, {"detail": "wrong", "errors": [{"loc": ["plan", "steps"], "msg": "grow"}]}, "wrong; plan.steps: grow"),
        (500, "oops", "the control plane answered 500"),
    ],
)
def test_refusals_are_one_line(control: FakeControl, status: int, body: Any, text: str) -> None:
    control.answers["POST", f"{BASE}/r-1/resume"] = (status, body)
    result = ask(control, "resume", "r-1")
    assert result.exit_code == 2
    assert result.stderr == f"error: {text}\n"


def test_a_control_plane_that_is_not_there_is_one_line() -> None:
    result = run("release", "list", "--control", "http://127.0.0.1:9", environment={"TIDEGATE_CONTROL": ""})
    assert result.exit_code == 2
    assert result.stderr.startswith("error: no control plane answers at http://127.0.0.1:9")
    assert "tidegate up" in result.stderr


def test_what_is_typed_stays_one_segment_of_the_path(control: FakeControl) -> None:
    ask(control, "show", "../keys?x=1")
    assert control.asked[0].path == "/api/v1/releases/..%2Fkeys%3Fx%3D1"
