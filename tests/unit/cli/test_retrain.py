from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import click
import httpx
import pytest
from click.testing import CliRunner, Result

from tests.unit.control.api.plane import control_plane
from tests.unit.control.api.test_retrainings import SETTINGS
from tidegate.cli import retrain
from tidegate.cli.control import ControlClient
from tidegate.cli.retrain import chain

OUTCOME = {
    "accepted": True, "name": "iris", "version": "4", "uri": "models:/iris/4", "family": "ridge",
    "data_digest": "sha256:0", "run_id": "run-1", "code_version": "c0ffee", "compile_note": "compiled",
    "rows": {"read": 1200, "train": 900, "test": 300, "rejected": 0},
    "origins": [{"kind": "dvc", "place": "iris.csv", "revision": "abc", "md5": "d41d"}],
    "gate": {"reason": "shown to be no worse"},
}  # fmt: skip


def test_the_chain_names_every_link_that_is_there() -> None:
    found = {
        "id": "t-1", "endpoint": "iris", "mode": "combined", "state": "releasing", "author": "tidegate",
        "trigger": "alert", "reason": "age drifted", "alerts": ["a-1"], "reports": ["d-1"], "job": "j-1",
        "release": "r-1", "waiting": "release r-1 goes on", "outcome": OUTCOME,
    }  # fmt: skip
    assert dict(chain(found)) == {
        "retraining": "t-1 of iris, combined: releasing",
        "asked by": "tidegate (alert) age drifted",
        "alert": "a-1",
        "report": "d-1",
        "job": "j-1",
        "data": "sha256:0",
        "rows": "read 1,200, train 900, test 300",
        "dvc": "iris.csv abc d41d",
        "code": "c0ffee",
        "run": "run-1",
        "model": "ridge models:/iris/4",
        "gate": "accepted: shown to be no worse",
        "onnx": "compiled",
        "release": "r-1",
        "waiting": "release r-1 goes on",
    }


def test_what_is_not_there_is_no_link() -> None:
    found = {
        "id": "t-1",
        "endpoint": "iris",
        "mode": "features",
        "state": "queued",
        "author": "ada",
        "trigger": "person",
    }
    assert [name for name, _ in chain(found)] == ["retraining", "asked by"]


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Callable[..., Result]]:
    """Commands against a control plane's own application."""
    with control_plane(tmp_path, SETTINGS) as plane:
        key = plane.key()

        def answer(request: httpx.Request) -> httpx.Response:
            headers = {**request.headers, "host": "testserver"}
            given = plane.client.request(
                request.method, request.url.raw_path.decode(), content=request.read(), headers=headers
            )
            return httpx.Response(given.status_code, content=given.content)

        with ControlClient("http://control.test", key, httpx.MockTransport(answer)) as client:

            def call(command: click.Command, *arguments: str) -> Result:
                inner = command.callback
                assert inner is not None
                own = [one for one in command.params if one.name not in ("control", "key")]
                plain = click.Command(command.name, params=own)
                plain.callback = lambda **given: inner.__wrapped__(client=client, **given)  # type: ignore[attr-defined]
                return CliRunner().invoke(plain, list(arguments))

            yield call


def test_one_is_started_listed_shown_and_cancelled(run: Callable[..., Result]) -> None:
    started = run(retrain.start, "iris", "--mode", "features", "--reason", "a new season")
    assert started.exit_code == 0, started.output
    name = started.output.split()[0]
    assert started.output.splitlines()[-1] == f"next: tidegate retrain show {name}"
    listed = run(retrain.list_).output.splitlines()
    assert listed[0].startswith(name)
    assert "its job waits for a worker" in listed[0]
    assert listed[1] == "iris: not looked at yet"
    shown = run(retrain.show, name).output
    assert f"retraining {name} of iris, features: queued" in shown
    assert "(person) a new season" in shown
    assert run(retrain.cancel, name, "--reason", "wrong data").output.rstrip().endswith(": wrong data")


def test_an_endpoint_needs_no_word_before_it() -> None:
    context = click.Context(retrain.app)
    assert retrain.app.resolve_command(context, ["iris", "--mode", "features"])[0] == "start"
    assert retrain.app.resolve_command(context, ["list"])[0] == "list"
