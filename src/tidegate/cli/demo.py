"""``tidegate demo``: the whole loop on this machine. A better model promotes itself, a faulty one is sent back."""

from __future__ import annotations

import http.client
import json
import math
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from tidegate.apps.extras import need_control
from tidegate.cli.control import ControlClient
from tidegate.cli.demo_models import Made, train
from tidegate.cli.demo_traffic import HOST, Traffic
from tidegate.cli.figures import Figures, figures
from tidegate.errors import UserError

START_SECONDS = 180.0
STOP_SECONDS = 60.0
LOOK_SECONDS = 0.5
LINE_SECONDS = 3.0
RELEASE_SECONDS = 600.0
LAST_PORT = 65535

CONFIG = """\
# Written by `tidegate demo`. Run it yourself: tidegate up --config {folder}/tidegate.yaml --folder {folder}
endpoints:
  iris:
    model: models:/iris/1
    event_sample: 1.0          # labels are joined with every prediction
    release:
      shadow: {{min_requests: 300}}
      steps: [10, 25, 50, 100]
      step: {{min_requests: 100, min_seconds: 5, max_seconds: 300}}
      guardrails:
        - errors: {{tolerance: 1.5, alpha: 0.01}}
        - latency: {{quantiles: [0.5, 0.9], slack: 0.1, acceptable_ms: 25, alpha: 0.01}}
        - outputs: {{max_shift: 0.4, alpha: 0.01}}
        - outcome: {{metric: accuracy, wait: 2s, margin: 0.02, alpha: 0.01}}
      keep_warm_seconds: 600
server:
  host: {host}
  port: {port}
control:
  host: {host}
  port: {control_port}
registry:
  uri: registry
logs:
  level: warning
"""

CLEAR = "\r\x1b[2K"
LINE_LENGTH = 110
MARK = "made-by-tidegate-demo"


@click.command()
@click.option("--port", type=click.IntRange(1, LAST_PORT), default=8000, help="Port of the predictions.")
@click.option(
    "--control-port",
    type=click.IntRange(1, LAST_PORT),
    default=None,
    show_default="the port above",
    help="Port of the console and the control API.",
)
@click.option(
    "--folder",
    type=click.Path(path_type=Path),
    default=Path("run") / "demo",
    help="Where models, store and tidegate.yaml are written; what an earlier demo left there goes.",
)
@click.option(
    "--traffic", type=click.FloatRange(min=1), default=100.0, help="Requests per second that the demo sends itself."
)
@click.option("--seconds", type=click.FloatRange(min=0), default=0.0, help="End after this long; 0 runs until Ctrl-C.")
def demo(port: int, control_port: int | None, folder: Path, traffic: float, seconds: float) -> None:
    """Release a better model and a faulty one under live traffic, and watch what becomes of them."""
    need_control()
    control_port = control_port or beside(port, 1)
    check_port(port, "--port", port)
    check_port(control_port, "--control-port", port)
    for name in ("SIGINT", "SIGTERM", "SIGHUP"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), _interrupt)
    try:
        run(port, control_port, folder, traffic, seconds)
    except KeyboardInterrupt:
        click.echo("stopped")


def run(port: int, control_port: int, folder: Path, traffic: float, seconds: float) -> None:
    end = time.monotonic() + seconds if seconds else math.inf
    begin_anew(folder)
    click.echo("Training three models on the iris data ...")
    made = train(folder / "models")
    register(folder, made)
    config = folder / "tidegate.yaml"
    config.write_text(CONFIG.format(folder=folder.as_posix(), host=HOST, port=port, control_port=control_port), "utf-8")
    click.echo("Starting both planes ...")
    command = [sys.executable, "-m", "tidegate", "up", "--config", str(config), "--folder", str(folder)]
    log_path = folder / "server.log"
    log_path.unlink(missing_ok=True)
    # For its owner alone: the control plane prints the administrator's key there.
    with os.fdopen(os.open(log_path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as log:
        # A session of its own: Ctrl-C reaches the demo alone, which then ends the planes in order.
        planes = subprocess.Popen(  # noqa: S603
            command, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
        )
    calls = Traffic(port, made, traffic)
    try:
        wait_until_ready(planes, (port, control_port), log_path)
        key = (folder / "admin.key").read_text("utf-8").split()[0]
        click.echo(introduction(port, control_port, key, made.rows[0], traffic))
        calls.start()
        with ControlClient(f"http://{HOST}:{control_port}", key) as client:
            tell(client, calls, lambda: watched(planes, log_path, end))
        show(planes, port, end, log_path)
    finally:
        try:
            calls.stop()
        finally:  # a second Ctrl-C while the calls end must not leave the planes behind
            stop(planes)


def tell(client: ControlClient, calls: Traffic, look: Callable[[], bool]) -> None:
    """The story: two releases, one after the other."""
    click.echo(
        "1. Version 2 knows the flowers better. It is released: copies first, then 10, 25, 50, 100 % of the users."
    )
    follow(client, client.post("/releases", {"endpoint": "iris", "model": "models:/iris/2"})["id"], look)
    click.echo(
        "2. Version 3 has faults: it raises for long petals, and is slow now and then. It is released without the"
    )
    click.echo("   copies, so that it meets real users.")
    plan = client.get("/releases", limit=1)["items"][0]["plan"] | {"shadow": None}
    body = {"endpoint": "iris", "model": "models:/iris/3", "plan": plan}
    follow(client, client.post("/releases", body)["id"], look)
    click.echo(f"The users saw {calls.failed} failed requests of {calls.sent:,}.")
    click.echo("The evidence of both releases is in the console. Ctrl-C ends.\n")


def follow(client: ControlClient, release_id: str, look: Callable[[], bool]) -> None:
    """Prints what is new about a release until it has ended; on a terminal the last line is kept up to date."""
    told, live = "", sys.stdout.isatty()
    deadline = time.monotonic() + RELEASE_SECONDS
    while look() and time.monotonic() < deadline:
        release = client.get(f"/releases/{release_id}")
        state, share, waiting = release["state"], release["share"] / 100, release["waiting"]
        if state in ("promoted", "rolled_back", "failed", "inconclusive"):
            click.echo(f"{CLEAR if live else ''}   => {state.replace('_', ' ')}: {release['reason']}\n")
            return
        news = f"{state} {share:g} {waiting.partition(';')[2]}"
        if live:
            click.echo(f"{CLEAR}   {state:8} {share:3.0f} %  {waiting}"[:LINE_LENGTH], nl=False)
        elif news != told:
            click.echo(f"   {state:8} {share:3.0f} %  {waiting}")
        told = news


def register(folder: Path, made: Made) -> None:
    from tidegate.control.registry.base import CHAMPION, open_registry
    from tidegate.settings import Registry, Trust

    registry = open_registry(Registry(uri="registry"), Trust(pickles=(str(folder.absolute()),)), base=folder.absolute())
    for path, note in ((made.weak, "sepals only"), (made.better, "all measures"), (made.faulty, "faulty on purpose")):
        version = registry.register("iris", path.absolute(), metadata={"note": note})
        if version.version == "1":
            registry.set_alias("iris", CHAMPION, version.version)


def begin_anew(folder: Path) -> None:
    """The story begins with version 1. Only a folder that a demo made is emptied."""
    import shutil

    mark = folder / MARK
    if folder.exists() and any(folder.iterdir()) and not mark.exists():
        raise UserError(f"{folder} has files that no demo made; choose another with --folder")
    shutil.rmtree(folder, ignore_errors=True)
    try:
        folder.mkdir(parents=True)
        mark.write_text("Made by `tidegate demo`, which empties this folder when it begins.\n", "utf-8")
    except OSError as error:
        raise UserError(f"{folder}: cannot be written: {error.strerror}; choose another with --folder") from None


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt


def check_port(port: int, option: str, first: int) -> None:
    with socket.socket() as probe:
        if sys.platform != "win32":
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            raise UserError(
                f"port {port} is in use; choose another: PORT={beside(first, 10)} make run, "
                f"or tidegate demo {option} {beside(port, 10)}"
            ) from None


def beside(port: int, distance: int) -> int:
    """A port so far above, or below where there is none."""
    return port + distance if port + distance <= LAST_PORT else port - distance


def introduction(port: int, control_port: int, key: str, row: list[float], traffic: float) -> str:
    base = f"http://{HOST}:{port}"
    call = f"curl -s {base}/predict/iris -H 'Content-Type: application/json' -d '{json.dumps({'features': [row]})}'"
    return "\n".join(
        [
            "",
            f"Serving     {base}/predict/iris",
            f"Documents   {base}/docs",
            f"Console     http://{HOST}:{control_port}/",
            f"Sign in     {key}",
            "            (the administrator's key, made just now)",
            "",
            "Ask it, and ask what is in force:",
            f"  {call}",
            f"  curl -s {base}/info",
            "",
            "Watch a release in another terminal:",
            f"  tidegate release watch --control http://{HOST}:{control_port} --key {key}",
            "",
            f"The demo itself sends {traffic:g} requests per second, and says of half of them later what they were.",
            "",
        ]
    )


def watched(planes: subprocess.Popen[bytes], log: Path, end: float) -> bool:
    """Waits a moment; whether the story may go on. Raises UserError when the planes have ended."""
    _alive(planes, log)
    _pause(planes, LOOK_SECONDS)
    if time.monotonic() > end:
        raise KeyboardInterrupt
    return True


def wait_until_ready(planes: subprocess.Popen[bytes], ports: tuple[int, ...], log: Path) -> None:
    end = time.monotonic() + START_SECONDS
    waiting = list(ports)
    while waiting and time.monotonic() < end:
        _alive(planes, log)
        if _ready(waiting[0]):
            waiting.pop(0)
        else:
            _pause(planes, 0.05)
    if waiting:
        raise UserError(f"port {waiting[0]} was not ready after {START_SECONDS:g} s; {log} ends with:\n{tail(log)}")


def _ready(port: int) -> bool:
    try:
        return get(port, "/readyz")[0] == 200
    except OSError:  # nobody listens there yet
        return False


def get(port: int, path: str) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection(HOST, port, timeout=5)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


def show(planes: subprocess.Popen[bytes], port: int, end: float, log: Path) -> None:
    """Live figures, until the end."""
    if sys.stdout.isatty():
        from rich.live import Live

        with Live(table([]), auto_refresh=False) as live:
            while _alive(planes, log) and time.monotonic() < end:
                live.update(table(_read(port)), refresh=True)
                _pause(planes, LOOK_SECONDS)
    else:
        while _alive(planes, log) and time.monotonic() < end:
            _pause(planes, min(LINE_SECONDS, max(end - time.monotonic(), 0)))
            click.echo(line(_read(port)))


def _pause(planes: subprocess.Popen[bytes], seconds: float) -> None:
    """Waits, but not longer than the planes live."""
    try:
        planes.wait(seconds)
    except subprocess.TimeoutExpired:
        return


def _read(port: int) -> list[Figures]:
    try:
        return figures(get(port, "/metrics")[1].decode())
    except OSError:
        return []


def _alive(planes: subprocess.Popen[bytes], log: Path) -> bool:
    if planes.poll() is not None:
        raise UserError(f"tidegate up ended with code {planes.returncode}; {log} ends with:\n{tail(log)}")
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


def stop(planes: subprocess.Popen[bytes]) -> None:
    if planes.poll() is None:
        planes.terminate()
        try:
            planes.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            planes.kill()
            planes.wait()


def tail(path: Path, lines: int = 5) -> str:
    return "\n".join(path.read_text("utf-8", "replace").splitlines()[-lines:])
