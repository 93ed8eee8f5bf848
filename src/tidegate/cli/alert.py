"""``tidegate alert``: what is not right, and since when."""

from __future__ import annotations

import time

import click

from tidegate.cli.control import ControlClient, control_options, part
from tidegate.cli.keys import Time
from tidegate.cli.options import json_option, limit_option, print_json, reason_option

COLOURS = {"firing": "bold red", "pending": "yellow", "resolved": "green", "ok": "dim"}


@click.group()
def app() -> None:
    """Look at alerts of drift, quality and performance, and silence them."""


@app.command("list")
@click.option("--endpoint", default="", help="Only of this endpoint.")
@click.option("--state", type=click.Choice(tuple(COLOURS)), default=None, help="Only in this state.")
@limit_option(50)
@json_option
@control_options
def list_(client: ControlClient, endpoint: str, state: str | None, limit: int, as_json: bool) -> None:
    """List alerts, those that changed last first."""
    from rich.table import Table
    from rich.text import Text

    from tidegate.cli import monitor_view

    found = list(client.pages("/alerts", limit, endpoint=endpoint, state=state))
    if as_json:
        print_json(found)
        return
    if not found:
        click.echo("no alerts")
        return
    now = time.time()
    table = Table("id", "state", "since", "what", "silenced")
    for one in found:
        until = one["silenced_until"]
        silenced = f"until {monitor_view.moment(until)} by {one['silenced_by']}" if until > now else ""
        state_ = Text(one["state"], COLOURS[one["state"]])
        table.add_row(one["id"], state_, monitor_view.ago(now - one["changed"]), one["text"], silenced)
    monitor_view.console().print(table)


@app.command()
@click.argument("alert_id", metavar="ID")
@json_option
@control_options
def show(client: ControlClient, alert_id: str, as_json: bool) -> None:
    """Show an alert and what happened to it."""
    from tidegate.cli import monitor_view

    alert = client.get(f"/alerts/{part(alert_id)}")
    lines = list(client.pages(f"/alerts/{part(alert_id)}/events", 200))
    if as_json:
        print_json({"alert": alert, "events": lines})
        return
    out = monitor_view.console()
    out.print(f"{alert['rule']} of {alert['endpoint']}: {alert['state']}", style=COLOURS[alert["state"]])
    out.print(alert["text"])
    if alert["silenced_until"] > time.time():
        out.print(f"silenced until {monitor_view.moment(alert['silenced_until'])} UTC by {alert['silenced_by']}")
    for line in lines:
        change = line["change"]
        who = f" by {change['who']}" if change["who"] else ""
        why = f" ({change['reason']})" if change["reason"] else ""
        told = ", told" if change["notified"] else ""
        out.print(f"{monitor_view.moment(line['time'])}  {change['event'].replace('_', ' ')}{who}{why}{told}")
    out.print(f"next: {alert['command']}")


@app.command()
@click.argument("alert_id", metavar="ID")
@click.option("--for", "seconds", type=Time(), default="1h", help="For how long, such as 30m or 7d.")
@reason_option
@control_options
def silence(client: ControlClient, alert_id: str, seconds: float, reason: str) -> None:
    """Notify nobody of an alert for a while."""
    from tidegate.cli import monitor_view

    alert = client.post(f"/alerts/{part(alert_id)}/silence", {"seconds": seconds, "reason": reason})
    click.echo(f"{alert['rule']}: silenced until {monitor_view.moment(alert['silenced_until'])} UTC")


@app.command()
@click.argument("alert_id", metavar="ID")
@reason_option
@control_options
def unsilence(client: ControlClient, alert_id: str, reason: str) -> None:
    """End an alert's silence."""
    alert = client.post(f"/alerts/{part(alert_id)}/unsilence", {"reason": reason})
    click.echo(f"{alert['rule']}: {alert['state']}, no longer silenced")
