"""``tidegate baseline``: what production is compared with."""

from __future__ import annotations

import datetime
import time
from pathlib import Path
from typing import Any

import click
import msgspec

from tidegate.cli.control import ControlClient, control_options, part
from tidegate.cli.monitor import profile_of_path
from tidegate.cli.options import json_option, limit_option, print_json, reason_option
from tidegate.errors import UserError
from tidegate.section import seconds_of


@click.group()
def app() -> None:
    """Make, list, show and delete baselines."""


@app.command()
@click.argument("name")
@click.option(
    "--file",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Rows (CSV, JSON lines, Parquet), or a profile (JSON).",
)
@click.option("--without", multiple=True, help="Column of the file to leave out, such as the label; may be repeated.")
@click.option("--matrix", default="", help="Input whose columns the file has, where the model takes one array for all.")
@click.option("--model", default="", metavar="NAME@VERSION", help="The profile that was registered with a version.")
@click.option("--endpoint", default="", help="Whose it is; without a file or a model, made of its predictions.")
@click.option("--variant", default="", help="Whose predictions; the baseline's if unset.")
@click.option("--since", default="", help="Of predictions: from when, such as 7d ago (7d) or 2026-11-01T00:00.")
@click.option("--until", default="", help="Of predictions: until when; now if unset.")
@reason_option
@control_options
def create(
    client: ControlClient,
    name: str,
    file: Path | None,
    without: tuple[str, ...],
    matrix: str,
    model: str,
    endpoint: str,
    variant: str,
    since: str,
    until: str,
    reason: str,
) -> None:
    """Make the baseline NAME of a file, of a registered version, or of an endpoint's predictions.

    Then set endpoints.<name>.monitor.reference to NAME.
    """
    from tidegate.control.monitoring import profiles

    body: dict[str, Any] = {"name": name, "endpoint": endpoint, "reason": reason}
    if file is not None and not model and not since:
        body["profile"] = msgspec.json.decode(profiles.encode(profile_of_path(file, without, matrix)))
    elif model and file is None and not since:
        body["model"], _, body["version"] = model.rpartition("@")
        if not body["model"]:
            raise UserError(f"--model {model}: expected NAME@VERSION")
    elif endpoint and since and file is None and not model:
        now = time.time()
        body["production"] = {"since": moment("--since", since, now), "variant": variant}
        if until:
            body["production"]["until"] = moment("--until", until, now)
    else:
        raise UserError("give one of --file, --model, or --endpoint with --since")
    made = client.post("/baselines", body)
    click.echo(f"baseline {made['name']}: {made['rows']:,} rows, {len(made['columns'])} columns")
    click.echo(f"next: set endpoints.{endpoint or '<name>'}.monitor.reference to {made['name']}")


@app.command("list")
@click.option("--endpoint", default="", help="Only of this endpoint.")
@limit_option(50)
@json_option
@control_options
def list_(client: ControlClient, endpoint: str, limit: int, as_json: bool) -> None:
    """List baselines, newest first."""
    from rich.table import Table

    from tidegate.cli import monitor_view

    found = list(client.pages("/baselines", limit, endpoint=endpoint))
    if as_json:
        print_json(found)
        return
    if not found:
        click.echo("no baselines yet; make one: tidegate baseline create NAME --file FILE")
        return
    table = Table("name", "endpoint", "model", "version", "made")
    for one in found:
        table.add_row(one["name"], one["endpoint"], one["model"], one["version"], monitor_view.moment(one["created"]))
    monitor_view.console().print(table)


@app.command()
@click.argument("name")
@json_option
@control_options
def show(client: ControlClient, name: str, as_json: bool) -> None:
    """Show the columns of a baseline."""
    from rich.table import Table

    from tidegate.cli import monitor_view

    found = client.get(f"/baselines/{part(name)}")
    if as_json:
        print_json(found)
        return
    table = Table("column", "kind", "rows", "missing", "mean", "from", "to", "most frequent")
    for one in found["columns"]:
        table.add_row(
            one["name"],
            one["kind"],
            f"{one['rows']:,}",
            f"{one['missing']:,}",
            *("" if one[key] is None else f"{one[key]:.4g}" for key in ("mean", "low", "high")),
            ", ".join(f"{text} {share:.0%}" for text, share in one["most"].items()),
        )
    click.echo(
        f"{found['name']}: {found['rows']:,} rows, {monitor_view.moment(found['created'])} UTC, {found['digest']}"
    )
    monitor_view.console().print(table)


@app.command()
@click.argument("name")
@reason_option
@control_options
def delete(client: ControlClient, name: str, reason: str) -> None:
    """Delete a baseline, with the windows that have its bins."""
    client.delete(f"/baselines/{part(name)}", {"reason": reason})
    click.echo(f"baseline {name}: deleted")


def moment(option: str, text: str, now: float) -> float:
    """Seconds since the epoch of a time so long ago, or of a date; without a zone it is UTC. Raises UserError."""
    try:
        return now - seconds_of(text)
    except (ValueError, KeyError):
        pass
    try:
        found = datetime.datetime.fromisoformat(text)
    except ValueError:
        raise UserError(
            f"{option} {text}: expected a time ago such as 90m or 7d, or a date such as 2026-11-01T12:00"
        ) from None
    return (found if found.tzinfo else found.replace(tzinfo=datetime.UTC)).timestamp()
