"""``tidegate demo``: two models trained here, one real server, live figures."""

from __future__ import annotations

import http.client
import json
import math
import random
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import click

from tidegate.cli.figures import Figures, figures
from tidegate.errors import MissingExtra, UserError

HOST = "127.0.0.1"
START_SECONDS = 180.0
STOP_SECONDS = 40.0
TABLE_SECONDS = 0.5
LINE_SECONDS = 3.0

CONFIG = """\
# Written by `tidegate demo`. Serve it yourself: tidegate serve --config {folder}/tidegate.yaml
endpoints:
  iris:
    model: models/forest.joblib
    version: "1"
    variants:
      candidate:
        model: models/logistic.joblib
        version: "2"
        share: 10
server:
  host: {host}
  port: {port}
trust:
  pickles: [models]
"""


@click.command()
@click.option("--port", type=click.IntRange(1, 65535), default=8000, help="HTTP port.")
@click.option(
    "--folder",
    type=click.Path(path_type=Path),
    default=Path("run"),
    help="Where the models and tidegate.yaml are written.",
)
@click.option(
    "--traffic", type=click.FloatRange(min=0), default=20.0, help="Requests per second that the demo sends itself."
)
@click.option("--seconds", type=click.FloatRange(min=0), default=0.0, help="End after this long; 0 runs until Ctrl-C.")
def demo(port: int, folder: Path, traffic: float, seconds: float) -> None:
    """Train two models on the iris data, serve them with a 10 % candidate, show live figures."""
    check_port(port)
    for name in ("SIGTERM", "SIGHUP"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), _interrupt)
    try:
        run(port, folder, traffic, seconds)
    except KeyboardInterrupt:
        click.echo("stopped")


def run(port: int, folder: Path, traffic: float, seconds: float) -> None:
    click.echo("Training two models on the iris data ...")
    rows = train(folder / "models")
    config = folder / "tidegate.yaml"
    config.write_text(CONFIG.format(folder=folder.as_posix(), host=HOST, port=port), "utf-8")
    click.echo("Starting the server ...")
    command = [sys.executable, "-m", "tidegate", "serve", "--config", str(config)]
    log_path = folder / "server.log"
    with log_path.open("wb") as log:
        # A session of its own: Ctrl-C reaches the demo alone, which then drains the server.
        server = subprocess.Popen(  # noqa: S603
            command, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
        )
    ended = threading.Event()
    try:
        wait_until_ready(server, port, log_path)
        click.echo(introduction(port, Signature(get_json(port, "/models/iris"))))
        if traffic > 0:
            click.echo(f"The demo itself sends {traffic:g} requests per second (--traffic 0: none). Ctrl-C ends.\n")
            threading.Thread(target=send_traffic, args=(port, rows, traffic, ended), daemon=True).start()
        show(server, port, seconds, log_path)
    finally:
        ended.set()
        stop(server)


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt


def check_port(port: int) -> None:
    with socket.socket() as probe:
        if sys.platform != "win32":
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            other = port + 10 if port + 10 <= 65535 else port - 10
            raise UserError(
                f"port {port} is in use; choose another: PORT={other} make run, or tidegate demo --port {other}"
            ) from None


def train(folder: Path) -> list[list[float]]:
    """Writes two classifiers of different families; returns the rows they were trained on."""
    try:
        import joblib
        from sklearn.datasets import load_iris
        from sklearn.ensemble import RandomForestClassifier
        from sklearn.linear_model import LogisticRegression
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import StandardScaler
    except ImportError:
        raise MissingExtra("sklearn", "the demo's models") from None
    folder.mkdir(parents=True, exist_ok=True)
    data = load_iris()
    names = data.target_names[data.target]
    forest = RandomForestClassifier(n_estimators=100, random_state=0).fit(data.data, names)
    logistic = make_pipeline(StandardScaler(), LogisticRegression()).fit(data.data, names)
    joblib.dump(forest, folder / "forest.joblib")
    joblib.dump(logistic, folder / "logistic.joblib")
    rows: list[list[float]] = data.data.tolist()
    return rows


class Signature:
    """What the running server says about the endpoint, as far as an example call needs it."""

    def __init__(self, described: dict[str, Any]) -> None:
        self.described = described

    def example(self) -> dict[str, Any]:
        """The body of a call with one row, from the example that the server gives."""
        example = self.described.get("example") or self.described.get("signature", {}).get("example")
        if not isinstance(example, dict):
            raise UserError("the server gave no example for the endpoint iris")
        if set(example) & {"features", "records", "texts", "instances"}:
            return example
        values = list(example.values())
        if len(values) == 1 and isinstance(values[0], list) and values[0] and isinstance(values[0][0], list):
            return {"features": values[0]}
        return {"inputs": example}


def introduction(port: int, signature: Signature) -> str:
    base = f"http://{HOST}:{port}"
    body = json.dumps(signature.example())
    call = f"curl -s {base}/predict/iris -H 'Content-Type: application/json' -d '{body}'"
    return "\n".join(
        [
            "",
            f"Serving     {base}/predict/iris",
            f"Documents   {base}/docs",
            f"Metrics     {base}/metrics",
            f"In force    {base}/info",
            "",
            "Ask it (10 % of the callers get the candidate), then ask the candidate:",
            f"  {call}",
            f"  {call} -H 'X-Canary: candidate'",
            "",
        ]
    )


def wait_until_ready(server: subprocess.Popen[bytes], port: int, log: Path) -> None:
    end = time.monotonic() + START_SECONDS
    while time.monotonic() < end:
        if server.poll() is not None:
            raise UserError(f"the server ended with code {server.returncode}; {log} ends with:\n{tail(log)}")
        try:
            if get(port, "/readyz")[0] == 200:
                return
        except OSError:
            pass
        time.sleep(0.05)
    raise UserError(f"the server was not ready after {START_SECONDS:g} s; {log} ends with:\n{tail(log)}")


def get(port: int, path: str) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection(HOST, port, timeout=5)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


def get_json(port: int, path: str) -> dict[str, Any]:
    status, body = get(port, path)
    if status != 200:
        raise UserError(f"GET {path} answered {status}")
    found: dict[str, Any] = json.loads(body)
    return found


def send_traffic(port: int, rows: list[list[float]], per_second: float, ended: threading.Event) -> None:
    chance = random.Random(0)  # noqa: S311
    connection = http.client.HTTPConnection(HOST, port, timeout=5)
    while not ended.wait(1 / per_second):
        body = json.dumps({"features": [chance.choice(rows)]})
        headers = {"Content-Type": "application/json", "X-User-Id": f"user-{chance.randrange(1000)}"}
        try:
            connection.request("POST", "/predict/iris", body, headers)
            connection.getresponse().read()
        except (OSError, http.client.HTTPException):
            connection.close()


def show(server: subprocess.Popen[bytes], port: int, seconds: float, log: Path) -> None:
    end = time.monotonic() + seconds if seconds else math.inf
    if sys.stdout.isatty():
        from rich.live import Live

        with Live(table([]), auto_refresh=False) as live:
            while _alive(server, log) and time.monotonic() < end:
                live.update(table(_read(port)), refresh=True)
                _pause(server, TABLE_SECONDS)
    else:
        while _alive(server, log) and time.monotonic() < end:
            _pause(server, min(LINE_SECONDS, max(end - time.monotonic(), 0)))
            click.echo(line(_read(port)))


def _pause(server: subprocess.Popen[bytes], seconds: float) -> None:
    """Waits, but not longer than the server lives."""
    try:
        server.wait(seconds)
    except subprocess.TimeoutExpired:
        return


def _read(port: int) -> list[Figures]:
    try:
        return figures(get(port, "/metrics")[1].decode())
    except OSError:
        return []


def _alive(server: subprocess.Popen[bytes], log: Path) -> bool:
    if server.poll() is not None:
        raise UserError(f"the server ended with code {server.returncode}; {log} ends with:\n{tail(log)}")
    return True


def table(rows: list[Figures]) -> Any:
    from rich.table import Table

    shown = Table("endpoint", "variant", "requests", "errors", "p50 ms", "p99 ms")
    for row in rows:
        numbers = (f"{row.requests:,}", f"{row.errors:,}", _ms(row.p50_ms), _ms(row.p99_ms))
        shown.add_row(row.endpoint, row.variant, *numbers)
    return shown


def line(rows: list[Figures]) -> str:
    parts = [
        f"{row.variant}: {row.requests} requests, {row.errors} errors, "
        f"p50 {_ms(row.p50_ms)} ms, p99 {_ms(row.p99_ms)} ms"
        for row in rows
    ]
    return " | ".join(parts) or "no requests yet"


def _ms(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.2f}"


def stop(server: subprocess.Popen[bytes]) -> None:
    if server.poll() is None:
        server.terminate()
        try:
            server.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()


def tail(path: Path, lines: int = 5) -> str:
    return "\n".join(path.read_text("utf-8", "replace").splitlines()[-lines:])
