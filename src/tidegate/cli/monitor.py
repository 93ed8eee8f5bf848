"""``tidegate monitor``: how what is served compares with what it was made for; of an endpoint, or of two files."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import msgspec

from tidegate.cli.control import DEFAULT_ADDRESS, ControlClient, connect, control_options, part
from tidegate.cli.options import json_option, print_json
from tidegate.errors import UserError

if TYPE_CHECKING:
    from tidegate.control.monitoring.profiles import Profile
    from tidegate.monitor_plan import MonitorPlan

DRIFTED = 1
"""Exit code."""
METHODS = ("auto", "psi", "ks", "js", "wasserstein", "chi2", "linf")
FILE = click.Path(path_type=Path, dir_okay=False)


@click.group()
def app() -> None:
    """Watch drift, quality of rows and quality of predictions."""


@app.command("list")
@json_option
@control_options
def list_(client: ControlClient, as_json: bool) -> None:
    """List what is watched, with the newest results."""
    from tidegate.cli import monitor_view

    found = list(client.pages("/monitors", 10_000))
    if as_json:
        print_json(found)
    elif not found:
        click.echo("nothing is watched; add endpoints.<name>.monitor to tidegate.yaml")
    else:
        monitor_view.print_list(found, time.time())


@app.command()
@click.argument("endpoint")
@click.option("--variant", default="baseline", help="Whose predictions.")
@click.option(
    "--start",
    type=float,
    default=None,
    help="Start of the window in seconds since the epoch; the newest that was looked at if unset.",
)
@click.option("--column", default="", help="Show how this one was distributed then and now.")
@json_option
@control_options
def show(client: ControlClient, endpoint: str, variant: str, start: float | None, column: str, as_json: bool) -> None:
    """Show a window of an endpoint: every column then and now, and what the checks say."""
    from tidegate.cli import monitor_view

    path = f"/monitors/{part(endpoint)}"
    monitor = client.get(path)
    about: dict[str, Any] = {"variant": variant, "start": _checked(monitor, variant) if start is None else start}
    if column:
        found = client.get(f"{path}/distribution", column=column, **about)
        print_json(found) if as_json else monitor_view.print_distribution(found)
        return
    if not any(one["report"] or one["rows"] for one in monitor["variants"]):
        print_json(monitor) if as_json else monitor_view.print_head(monitor, time.time())
        return
    window = client.get(f"{path}/window", **about)
    if start is not None:  # an alert about quality names a window too, and the newest one is another
        span = {"since": window["start"], "until": window["start"] + monitor["window_seconds"]}
        made = client.pages(f"{path}/performance", 500, variant=variant, **span)
        its = (one for one in made if one["basis"] == "prediction" and one["version"] == window["version"])
        window["performance"] = next(its, None)
    if as_json:
        print_json({"monitor": monitor, "window": window})
        return
    monitor_view.print_head(monitor, time.time())
    monitor_view.print_window(window)


@app.command()
@click.argument("endpoint", required=False)
@click.option("--baseline", type=FILE, help="Rows as they should be (CSV, JSON lines, Parquet), or a profile (JSON).")
@click.option("--production", type=FILE, help="Rows to look at.")
@click.option("--method", type=click.Choice(METHODS), default=None, help="Of files: measure of drift; auto if unset.")
@click.option(
    "--alpha",
    type=click.FloatRange(0, 1, min_open=True, max_open=True),
    default=None,
    help="Of files: share of false alarms.",
)
@click.option(
    "--floor",
    type=click.FloatRange(0, min_open=True),
    default=None,
    help="Of files: effect below which nothing is said.",
)
@click.option("--share", type=click.FloatRange(0, 1), default=None, help="Of files: share of columns that may drift.")
@click.option("--min-rows", type=click.IntRange(1), default=None, help="Of files: fewest rows.")
@click.option(
    "--without", "without", multiple=True, help="Of files: column to leave out, such as the label; may be repeated."
)
@click.option("--column", default="", help="Of files: show how this one is distributed then and now.")
@click.option("--fail-on-drift", is_flag=True, help="Exit with 1 when drifted.")
@click.option("--fail-on-quality", is_flag=True, help="Exit with 1 when rows are not as they should be.")
@click.option("--config", type=FILE, help="Configuration whose monitor.drift and .quality of ENDPOINT hold for files.")
@json_option
@click.option("--control", envvar="TIDEGATE_CONTROL", default=DEFAULT_ADDRESS, help="Address of the control plane.")
@click.option("--key", envvar="TIDEGATE_KEY", default="", show_default=False, help="Key; run/admin.key if unset.")
def run(
    endpoint: str | None,
    baseline: Path | None,
    production: Path | None,
    column: str,
    fail_on_drift: bool,
    fail_on_quality: bool,
    config: Path | None,
    as_json: bool,
    control: str,
    key: str,
    **given: Any,
) -> None:  # fmt: skip
    """Look now: at ENDPOINT, or at two files, which needs no control plane."""
    if (baseline is None) != (production is None):
        raise UserError("two files are compared: give --baseline and --production")
    if baseline is not None and production is not None:
        window = _of_files(baseline, production, _plan(endpoint, config, given), given["without"], column, as_json)
    elif endpoint:
        with connect(control, key) as client:
            window = _of_endpoint(client, endpoint, as_json)
    else:
        raise UserError("name an endpoint, or give --baseline and --production")
    drifted = fail_on_drift and window.get("drifted", False)
    broken = fail_on_quality and any(one["broken"] for one in window.get("findings", ()))
    if drifted or broken:
        raise SystemExit(DRIFTED)


def _of_endpoint(client: ControlClient, endpoint: str, as_json: bool) -> dict[str, Any]:
    from tidegate.cli import monitor_view

    path = f"/monitors/{part(endpoint)}"
    monitor = client.post(f"{path}/run")
    seen = any(one["report"] or one["rows"] for one in monitor["variants"] if one["variant"] == "baseline")
    about = {"start": _checked(monitor, "baseline")}
    window: dict[str, Any] = client.get(f"{path}/window", **about) if seen else {}
    if as_json:
        print_json({"monitor": monitor, "window": window or None})
        return window
    monitor_view.print_head(monitor, time.time())
    if window:
        monitor_view.print_window(window)
    return window


def _checked(monitor: dict[str, Any], variant: str) -> float | None:
    """The newest window that says something: the running one was not checked while it has few rows."""
    return next((one["start"] for one in monitor["variants"] if one["variant"] == variant and one["report"]), None)


def _of_files(
    baseline: Path, production: Path, plan: MonitorPlan, without: tuple[str, ...], column: str, as_json: bool
) -> dict[str, Any]:
    from tidegate.cli import monitor_view
    from tidegate.control.monitoring import checking, facts, profiles
    from tidegate.control.monitoring.files import table_of_file
    from tidegate.control.monitoring.folding import Reference
    from tidegate.control.monitoring.histogram import histogram

    reference = profile_of_path(baseline, without)
    table = {name: values for name, values in table_of_file(production).items() if name not in without}
    window = profiles.fold(reference, None, table)
    found = Reference(baseline.name, profiles.digest(reference), reference)
    report = checking.check(
        found, window, plan, endpoint=production.name, variant="file", version="", start=0.0, seconds=0.0, now=time.time(),
        complete=True,
    )  # fmt: skip
    shown: dict[str, Any] = {
        "endpoint": production.name,
        "variant": "file",
        "version": "",
        "baseline": baseline.name,
        "rows": window.rows,
        "reference_rows": reference.rows,
        "complete": True,
        "drifted": report.drifted,
        "note": report.note,
        "columns": msgspec.to_builtins(facts.compared(reference, window, report.columns)),
        "findings": msgspec.to_builtins(report.findings),
    }
    if column:
        if column not in reference.columns:
            raise UserError(f"{baseline}: no column {column!r}; it has {', '.join(list(reference.columns)[:20])}")
        bars = msgspec.to_builtins(histogram(reference, window, column))
        result = next((one["result"] for one in shown["columns"] if one["then"]["name"] == column), None)
        told = {key: shown[key] for key in ("endpoint", "baseline", "rows", "reference_rows")}
        told |= {"column": column, "bars": bars, "result": result}
        print_json(told) if as_json else monitor_view.print_distribution(told)
    elif as_json:
        print_json(shown)
    else:
        monitor_view.print_window(shown)
    return shown


def profile_of_path(path: Path, without: tuple[str, ...] = (), matrix: str = "") -> Profile:
    """Of a file with rows, or one that is a profile already. Raises UserError."""
    from tidegate.control.monitoring import profiles
    from tidegate.control.monitoring.files import table_of_file
    from tidegate.control.monitoring.kept import profile_of
    from tidegate.errors import RequestError

    try:
        if path.suffix.lower() == ".json":
            return profiles.decode(path.read_bytes())
        table = {name: values for name, values in table_of_file(path).items() if name not in without}
        return profile_of(table, {}, matrix)
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}") from None
    except RequestError as error:
        raise UserError(f"{path}: {error}") from None


def _plan(endpoint: str | None, config: Path | None, given: dict[str, Any]) -> MonitorPlan:
    """The endpoint's, with what the command line says instead."""
    from tidegate.monitor_plan import MonitorPlan

    plan = MonitorPlan()
    if config is not None and not endpoint:
        raise UserError("--config: of which endpoint? name it")
    if endpoint:
        import os

        from tidegate.config import discover, load_settings

        path, dotenv = discover(config, os.environ)
        loaded = load_settings(path, environment=os.environ, dotenv=dotenv)
        configured = loaded.settings.endpoints.get(endpoint)
        if configured is None or configured.monitor is None:
            raise UserError(f"the configuration has no endpoints.{endpoint}.monitor")
        plan = configured.monitor
    drift = {name: given[name] for name in ("method", "alpha", "floor", "share") if given[name] is not None}
    quality = msgspec.structs.replace(plan.quality, min_rows=0)
    return msgspec.structs.replace(
        plan,
        drift=msgspec.structs.replace(plan.drift, **drift),
        quality=quality,
        min_rows=given["min_rows"] or plan.min_rows,
    )
