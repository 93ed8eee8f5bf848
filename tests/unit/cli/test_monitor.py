"""``tidegate monitor``, ``baseline`` and ``alert``: two files without a server, and what a control plane is asked."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from tests.unit.cli.command import run
from tests.unit.cli.fake_control import FakeControl, fake_control
from tidegate.cli.baseline import moment
from tidegate.control.api import examples
from tidegate.control.api.alerts import AlertLine
from tidegate.control.monitoring import profiles
from tidegate.control.monitoring.comparison import Distribution, WindowView
from tidegate.control.monitoring.kept import Baseline
from tidegate.control.monitoring.monitor import Monitor
from tidegate.control.monitoring.records import Alert
from tidegate.errors import UserError


def whole(example: Any, kind: type) -> Any:
    """As the server sends it: with what is left out of the example."""
    return msgspec.to_builtins(msgspec.convert(example, kind))


MONITOR, WINDOW = whole(examples.MONITOR, Monitor), whole(examples.WINDOW_VIEW, WindowView)
ALERT, LINE = whole(examples.ALERT, Alert), whole(examples.ALERT_LINE, AlertLine)
BASELINE, DISTRIBUTION = whole(examples.BASELINE, Baseline), whole(examples.DISTRIBUTION, Distribution)


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    random = np.random.default_rng(1)
    for name, shift, missing in (("then", 0, 0), ("now", 12, 0), ("holes", 0, 300)):
        ages = random.normal(40 + shift, 10, 1000)
        lines = [
            f"{'' if place < missing else f'{age:.2f}'},{'ab'[place % 2]},{place % 3}" for place, age in enumerate(ages)
        ]
        (tmp_path / f"{name}.csv").write_text("age,plan,label\n" + "\n".join(lines) + "\n")
    return tmp_path


@pytest.fixture
def control() -> Iterator[FakeControl]:
    with fake_control() as server:
        yield server


def test_two_files_need_no_control_plane(files: Path) -> None:
    result = run("monitor", "run", "--baseline", "then.csv", "--production", "now.csv")
    assert result.exit_code == 0, result.output
    assert "drifted" in result.output
    (age,) = [line for line in result.output.splitlines() if " age " in line and "psi" in line]
    assert "drifted" in age
    assert "52." in age
    assert "passed: out of range of age" in result.output
    assert (
        "broken: missing of age" in run("monitor", "run", "--baseline", "then.csv", "--production", "holes.csv").output
    )


@pytest.mark.parametrize(
    ("production", "options", "code"),
    [
        ("now.csv", ("--fail-on-drift",), 1),
        ("now.csv", ("--fail-on-drift", "--share", "0.9"), 0),
        ("now.csv", ("--fail-on-drift", "--without", "age"), 0),
        ("then.csv", ("--fail-on-drift", "--fail-on-quality"), 0),
        ("holes.csv", ("--fail-on-quality",), 1),
        ("now.csv", ("--fail-on-drift", "--min-rows", "5000"), 0),
    ],
)
def test_a_ci_job_fails_where_it_is_told_to(files: Path, production: str, options: tuple[str, ...], code: int) -> None:
    result = run("monitor", "run", "--baseline", "then.csv", "--production", production, *options)
    assert result.exit_code == code, result.output


def test_a_profile_is_a_baseline_too_and_programs_read_json(files: Path) -> None:
    from tidegate.control.monitoring.files import profile_of_file

    (files / "then.json").write_bytes(profiles.encode(profile_of_file(files / "then.csv")))
    result = run("monitor", "run", "--baseline", "then.json", "--production", "now.csv", "--json")
    found = json.loads(result.output)
    assert found["drifted"]
    assert found["columns"][0]["result"]["column"] == "age"
    shown = run("monitor", "run", "--baseline", "then.json", "--production", "now.csv", "--column", "plan")
    assert "50.0%" in shown.output


def test_booleans_are_the_same_in_all_formats(files: Path) -> None:
    import pyarrow as pa  # type: ignore[import-untyped]
    import pyarrow.parquet as pq  # type: ignore[import-untyped]

    flags = [place % 3 == 0 for place in range(600)]
    pq.write_table(pa.table({"paid": flags}), files / "then.parquet")
    (files / "now.csv").write_text("paid\n" + "\n".join(str(flag) for flag in flags) + "\nNA\n")
    result = run("monitor", "run", "--baseline", "then.parquet", "--production", "now.csv", "--json")
    (paid,) = json.loads(result.output)["columns"]
    assert paid["now"]["most"] == pytest.approx({"false": 2 / 3, "true": 1 / 3})
    assert not paid["result"]["drifted"]
    assert paid["now"]["missing"] == 1


def test_the_plan_of_an_endpoint_holds_for_files(files: Path) -> None:
    (files / "tidegate.yaml").write_text(
        "endpoints:\n  churn:\n    model: m.onnx\n    monitor: {drift: {columns: {age: {method: 'off'}}}}\n"
    )
    result = run("monitor", "run", "churn", "--baseline", "then.csv", "--production", "now.csv", "--fail-on-drift")
    assert result.exit_code == 0, result.output


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["monitor", "run"], "name an endpoint, or give --baseline and --production"),
        (["monitor", "run", "--baseline", "then.csv"], "give --baseline and --production"),
        (["monitor", "run", "--baseline", "no.csv", "--production", "now.csv"], "no.csv: no such file"),
        (["monitor", "run", "--baseline", "then.csv", "--production", "odd.txt"], "expected a file that ends with"),
        (["monitor", "run", "--baseline", "bad.csv", "--production", "now.csv"], "line 3: 1 values, the header has 2"),
        (["monitor", "run", "--baseline", "bad.json", "--production", "now.csv"], "bad.json: no profile"),
        (["monitor", "run", "--baseline", "empty.csv", "--production", "now.csv"], "empty.csv: no rows"),
        (
            ["monitor", "run", "--baseline", "bad.jsonl", "--production", "now.csv"],
            "bad.jsonl, line 2: not a JSON object",
        ),
        (["monitor", "run", "--baseline", "bad.parquet", "--production", "now.csv"], "not a readable Parquet file"),
        (["monitor", "run", "x", "--baseline", "then.csv", "--production", "now.csv"], "no endpoints.x.monitor"),
        (
            ["monitor", "run", "--baseline", "then.csv", "--production", "now.csv", "--column", "agee"],
            "then.csv: no column 'agee'; it has age, ",
        ),
        (["baseline", "create", "x"], "give one of --file, --model, or --endpoint with --since"),
        (["baseline", "create", "x", "--model", "iris"], "expected NAME@VERSION"),
        (["baseline", "create", "x", "--endpoint", "e", "--since", "then"], "expected a time ago"),
    ],
)
def test_mistakes_are_told_in_one_line(files: Path, arguments: list[str], words: str) -> None:
    (files / "bad.csv").write_text("a,b\n1,2\n3\n")
    (files / "bad.json").write_text("{")
    (files / "empty.csv").write_text("a,b\n")
    (files / "bad.jsonl").write_text('{"a": 1}\n[1]\n')
    (files / "bad.parquet").write_text("no")
    (files / "odd.txt").write_text("no")
    result = run(*arguments)
    assert result.exit_code == 2
    assert words in result.output
    assert len(result.output.strip().splitlines()) == 1


def test_what_an_endpoint_shows(files: Path, control: FakeControl) -> None:
    control.answers = {
        ("GET", "/api/v1/monitors"): (200, {"items": [MONITOR], "next": None}),
        ("GET", "/api/v1/monitors/iris"): (200, MONITOR),
        ("GET", "/api/v1/monitors/iris/window"): (200, WINDOW),
        ("GET", "/api/v1/monitors/iris/distribution"): (200, DISTRIBUTION),
        ("POST", "/api/v1/monitors/iris/run"): (200, MONITOR),
    }
    where = ("--control", control.url, "--key", "k")
    listed = run("monitor", "list", *where).output
    assert "petal length" in listed
    assert "missing: sepal width" in listed
    assert "accuracy 0.94 (0.92 to 0.96)" in listed
    shown = run("monitor", "show", "iris", *where).output
    assert control.asked[-1].path.endswith("/window?variant=baseline&start=1795262400.0"), (
        "the newest that was looked at"
    )
    assert "accuracy 0.94 (0.92 to 0.96), from 512 labels of the window from 2026-11-21 " in shown
    assert "psi 0.41" in shown
    assert "compared with iris@3" in shown
    labelled = MONITOR["variants"][0]["performance"]
    arrived = {**labelled, "basis": "arrival", "metrics": {"accuracy": {"value": 0.1, "low": 0, "high": 1}}}
    found = {**labelled, "metrics": {"accuracy": {"value": 0.7, "low": 0.65, "high": 0.75}}}
    control.answers["GET", "/api/v1/monitors/iris/performance"] = (200, {"items": [arrived, found], "next": None})
    assert (
        "accuracy 0.7 (0.65 to 0.75), from 512 labels" in run("monitor", "show", "iris", "--start", "1", *where).output
    )
    assert f"since={WINDOW['start']}&until={WINDOW['start'] + 3600}" in control.asked[-1].path
    assert "1 to 1.5" in run("monitor", "show", "iris", "--column", "petal length", *where).output
    assert run("monitor", "run", "iris", "--fail-on-drift", *where).exit_code == 1
    assert json.loads(run("monitor", "show", "iris", "--json", *where).output)["window"]["drifted"]


def test_a_list_tells_too_few_rows_from_no_drift_and_numbers_have_a_quality_too(control: FakeControl) -> None:
    first = MONITOR["variants"][0]
    quiet = {**first, "drifted": [], "broken": [], "performance": None}
    rmse = {**first["performance"], "task": "regression", "metrics": {"rmse": {"value": 75.6, "low": 69, "high": 81.5}}}
    variants = [{**quiet, "said": "25 rows; 60 are needed"}, {**quiet, "variant": "candidate", "performance": rmse}]
    control.answers = {("GET", "/api/v1/monitors"): (200, {"items": [{**MONITOR, "variants": variants}], "next": None})}
    few, fine = [
        line
        for line in run("monitor", "list", "--control", control.url, "--key", "k").output.splitlines()
        if "iris@3" in line
    ]
    assert "too few rows" in few
    assert "nothing" in fine
    assert "rmse 75.6 (69 to 81.5)" in fine


def test_baselines_and_alerts_are_asked_for_as_the_api_takes_them(files: Path, control: FakeControl) -> None:
    alert = ALERT
    control.answers = {
        ("POST", "/api/v1/baselines"): (201, BASELINE),
        ("GET", "/api/v1/baselines"): (200, {"items": [BASELINE], "next": None}),
        ("GET", "/api/v1/alerts"): (200, {"items": [alert], "next": None}),
        ("GET", f"/api/v1/alerts/{alert['id']}"): (200, alert),
        ("GET", f"/api/v1/alerts/{alert['id']}/events"): (200, {"items": [LINE], "next": None}),
        ("POST", f"/api/v1/alerts/{alert['id']}/silence"): (200, {**alert, "silenced_until": 2e9}),
        ("POST", f"/api/v1/alerts/{alert['id']}/unsilence"): (200, alert),
    }
    where = ("--control", control.url, "--key", "k")
    made = run(
        "baseline", "create", "november", "--file", "then.csv", "--without", "label", "--endpoint", "iris", *where
    )
    assert "12,000 rows, 1 columns" in made.output
    body = control.asked[-1].body
    assert sorted(body["profile"]["columns"]) == ["age", "plan"]
    run("baseline", "create", "november", "--model", "iris@3", *where)
    assert (control.asked[-1].body["model"], control.asked[-1].body["version"]) == ("iris", "3")
    run("baseline", "create", "november", "--endpoint", "iris", "--since", "2026-11-01T00:00", *where)
    assert control.asked[-1].body["production"]["since"] == 1793491200.0
    assert "november" in run("baseline", "list", *where).output
    assert "firing" in run("alert", "list", *where).output
    assert "fired, told" in run("alert", "show", alert["id"], *where).output
    assert "silenced until 2033" in run("alert", "silence", alert["id"], "--for", "30m", *where).output
    assert control.asked[-1].body["seconds"] == 1800.0
    assert "no longer silenced" in run("alert", "unsilence", alert["id"], *where).output


def test_times() -> None:
    assert moment("--since", "90m", 10_000.0) == 4_600.0
    assert moment("--since", "1970-01-02", 0.0) == 86_400.0
    assert moment("--since", "1970-01-02T01:00+01:00", 0.0) == 86_400.0
    with pytest.raises(UserError, match="--until soon"):
        moment("--until", "soon", 0.0)
