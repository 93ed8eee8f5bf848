"""``tidegate experiment``: A/B experiments on a running control plane."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from tidegate.cli.control import ControlClient, control_options, part
from tidegate.cli.options import limit_option, reason_option
from tidegate.errors import UserError


@click.group()
def app() -> None:
    """Run A/B experiments: fixed shares, late outcomes, intervals that stay valid however often one looks."""


@app.command()
@click.argument("spec", type=click.Path(path_type=Path, dir_okay=False))
@reason_option
@control_options
def start(client: ControlClient, spec: Path, reason: str) -> None:
    """Start the experiment that a YAML or JSON file describes."""
    body = _read(spec)
    experiment = client.post("/experiments", body | ({"reason": reason} if reason else {}))
    click.echo(f"experiment {experiment['spec']['name']}: {experiment.get('waiting') or experiment.get('state')}")
    click.echo(f"next: tidegate experiment report {experiment['spec']['name']}")


@app.command("list")
@limit_option(20)
@control_options
def list_(client: ControlClient, limit: int) -> None:
    """List experiments, newest first."""
    found = list(client.pages("/experiments", limit))
    if not found:
        click.echo("no experiments yet; start one: tidegate experiment start FILE")
    for experiment in found:
        arms = ", ".join(f"{arm['name']} {arm['share']:g} %" for arm in experiment["spec"]["arms"])
        state = experiment.get("state", "pending")
        note = experiment.get("waiting") or experiment.get("reason") or ""
        click.echo(f"{experiment['spec']['name']:24} {state:8} {experiment['spec']['endpoint']}: {arms}  {note}")


@app.command()
@click.argument("name")
@control_options
def report(client: ControlClient, name: str) -> None:
    """Show what an experiment shows now."""
    _print(client.get(f"/experiments/{part(name)}/report"))


@app.command()
@click.argument("name")
@click.option("--reason", required=True, help="Why; kept in the audit log.")
@control_options
def stop(client: ControlClient, name: str, reason: str) -> None:
    """End an experiment: the control arm takes everything again."""
    experiment = client.post(f"/experiments/{part(name)}/stop", {"reason": reason})
    click.echo(f"experiment {name}: {experiment['state']}, {experiment.get('reason', reason)}")


def _read(path: Path) -> dict[str, Any]:
    import yaml

    try:
        found = yaml.safe_load(path.read_text("utf-8"))
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: not YAML or JSON: {' '.join(str(error).split())}") from None
    if not isinstance(found, dict):
        raise UserError(f"{path}: expected keys such as name, endpoint, arms, metrics; see docs/how-to/experiment.md")
    return found


def _print(report: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table

    console = Console(markup=False, highlight=False)
    table = Table("metric", "arm", "units", "outcomes", "mean", "interval")
    for one in report["estimates"]:
        table.add_row(
            one["metric"],
            one["arm"],
            f"{one['units']:,}",
            f"{one['outcomes']:,}",
            _number(one.get("mean")),
            _range(one.get("interval")),
        )
    console.print(table)
    for one in report["comparisons"]:
        console.print(f"{one['reason']} (p {one.get('p', 1.0):.3g})")
    console.print(report["split"]["reason"])


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4g}"


def _range(value: list[float] | None) -> str:
    return "-" if value is None else f"{value[0]:.4g} to {value[1]:.4g}"
