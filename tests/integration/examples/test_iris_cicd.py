"""examples/iris-cicd from its one command to the promotion: real MLflow, real webhook, real planes, real traces."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import pytest
import yaml

from tests.collector import Spans, attributes, http_collector
from tests.process import free_port, until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(420), pytest.mark.filterwarnings("ignore")]

EXAMPLE = Path(__file__).resolve().parents[3] / "examples" / "iris-cicd"
STORY_SECONDS = 300.0
FLOWERS = {"features": [[5.1, 3.5, 1.4, 0.2], [6.3, 3.3, 6.0, 2.5]]}


class Story(NamedTuple):
    """The example after its promotion, still serving."""

    process: subprocess.Popen[bytes]
    port: int
    folder: Path
    output: Path
    spans: Spans

    @property
    def key(self) -> str:
        return (self.folder / "admin.key").read_text().split()[0]


def three_ports() -> int:
    """The first of three in a row that are free."""
    while True:
        first = free_port()
        if first > 65_000:
            continue
        if free(first, first + 1, first + 2):
            return first


def free(*ports: int) -> bool:
    try:
        for port in ports:
            with socket.socket() as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                probe.bind(("127.0.0.1", port))
    except OSError:
        return False
    return True


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Story]:
    base = tmp_path_factory.mktemp("iris")
    port, output, spans = three_ports(), base / "output.txt", Spans()
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("TIDEGATE_", "OTEL_", "MLFLOW_"))}
    with http_collector(spans) as address, output.open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "run.py", "--port", str(port), "--folder", str(base / "run")],
            cwd=EXAMPLE,
            env={**kept, "OTEL_EXPORTER_OTLP_ENDPOINT": address, "PYTHONUNBUFFERED": "1"},
            stdout=log,
            stderr=subprocess.STDOUT,
        )
        try:
            told = lambda: "Ctrl-C ends" in output.read_text() or process.poll() is not None  # noqa: E731
            until(told, "the story was told", STORY_SECONDS)
            assert process.poll() is None, output.read_text()
            yield Story(process, port, base / "run", output, spans)
        finally:
            if process.poll() is None:
                process.send_signal(signal.SIGINT)
                until(lambda: "ending" in output.read_text(), "it ends")
                process.send_signal(signal.SIGINT)  # of somebody impatient
            assert process.wait(60) == 0, output.read_text()
            assert free(port, port + 1, port + 2), "a server was left behind"


def control(story: Story, path: str) -> Any:
    answer = httpx.get(f"http://127.0.0.1:{story.port + 1}/api/v1{path}", headers={"X-API-Key": story.key})
    answer.raise_for_status()
    return answer.json()


def test_a_registry_event_began_the_release_and_its_promotion_moved_the_alias(story: Story) -> None:
    """Registry webhooks do not reach a server by themselves (MLflow); here a signed one begins the release."""
    [release] = control(story, "/releases")["items"]
    assert (release["state"], release["requested_by"], release["candidate"]["version"]) == ("promoted", "webhook", "2")
    assert release["author"].startswith("webhook mlflow:")
    from mlflow import MlflowClient

    registry = MlflowClient(f"http://127.0.0.1:{story.port + 2}")
    assert registry.get_model_version_by_alias("iris", "champion").version == "2"
    run = registry.get_run(str(registry.get_model_version("iris", "2").run_id))
    assert run.data.metrics["holdout.accuracy"] > 0.85


def test_users_are_answered_by_the_better_model_and_noticed_nothing(story: Story) -> None:
    answer = httpx.post(f"http://127.0.0.1:{story.port}/predict/", json=FLOWERS).json()
    assert answer["model"]["version"] == "2"
    assert answer.get("labels", answer["predictions"]) == ["setosa", "virginica"]
    assert ", 0 got no answer" in story.output.read_text()


def test_spans_say_which_model_answered(story: Story) -> None:
    headers = {"X-Request-Id": "a-visit"}
    httpx.post(f"http://127.0.0.1:{story.port}/predict/", json=FLOWERS, headers=headers).raise_for_status()
    [span] = until(lambda: story.spans.named("predict", "a-visit"), "the span arrives")
    said = attributes(span)
    assert said["ml.model.name"] == "iris"
    assert said["ml.model.version"] == "2"
    assert (said["ml.input.feature_count"], said["ml.input.feature_dim"], said["ml.output.prediction_count"]) == (
        2,
        4,
        2,
    )


def test_the_notebook_runs(story: Story, monkeypatch: pytest.MonkeyPatch) -> None:
    import nbformat
    from nbclient import NotebookClient

    environment = {
        "TIDEGATE_URL": f"http://127.0.0.1:{story.port}",
        "TIDEGATE_CONTROL": f"http://127.0.0.1:{story.port + 1}",
        "TIDEGATE_KEY": story.key,
        "MLFLOW_TRACKING_URI": f"http://127.0.0.1:{story.port + 2}",
        "PYDEVD_DISABLE_FILE_VALIDATION": "1",
    }
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    notebook: Any = nbformat.read(EXAMPLE / "notebook.ipynb", as_version=4)  # type: ignore[no-untyped-call]
    NotebookClient(notebook, timeout=120, kernel_name="python3").execute()
    printed = "".join(output.get("text", "") for cell in notebook.cells for output in cell.get("outputs", []))
    assert "version 2 answered" in printed
    assert "promoted" in printed


@pytest.mark.parametrize("fault", ["port", "folder"])
def test_what_is_somebody_else_s_is_left_alone(tmp_path: Path, fault: str) -> None:
    (tmp_path / "theirs").touch()
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1] if fault == "port" else three_ports()
        folder = tmp_path if fault == "folder" else tmp_path / "run"
        done = subprocess.run(
            [sys.executable, "run.py", "--port", str(port), "--folder", str(folder)],
            cwd=EXAMPLE, capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
    assert done.returncode == 1
    assert (f"port {port} is in use" if fault == "port" else "did not make") in done.stderr
    assert [one.name for one in tmp_path.iterdir()] == ["theirs"]


def test_the_workflow_calls_commands_that_exist() -> None:
    """What the file runs is what this version understands."""
    from click.testing import CliRunner

    from tidegate.cli import app

    workflow = yaml.safe_load((EXAMPLE / "model-cicd.yml").read_text())
    assert workflow[True]["repository_dispatch"]["types"] == ["model-registered"]
    steps = [step["run"] for job in workflow["jobs"].values() for step in job["steps"] if "run" in step]
    commands = [step.split() for step in steps if step.startswith("tidegate ")]
    assert len(commands) == 2
    for command in commands:
        options = {word for word in command if word.startswith("--")}
        named = command[1:3] if command[1] == "release" else command[1:2]
        shown = CliRunner().invoke(app, [*named, "--help"])
        assert shown.exit_code == 0
        assert all(option in shown.output for option in options)
