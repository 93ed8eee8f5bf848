"""``tidegate audit``: who changed what, and whether the log is whole."""

from __future__ import annotations

import json
import time
from typing import Any

import click

from tidegate.cli.control import ControlClient, control_options

BROKEN = 1


@click.group()
def app() -> None:
    """Read and verify the audit log; needs an administrator's key."""


@app.command("list")
@click.option("--limit", type=click.IntRange(1, 100_000), default=20, help="Most that are shown, newest first.")
@click.option("--target", default="", help="Only changes of this, such as release:r-1f2e3d4c.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line, with all fields.")
@control_options
def list_(client: ControlClient, limit: int, target: str, as_json: bool) -> None:
    """Show changes, newest first: when, who, what, why."""
    found = 0
    for event in client.pages("/audit-events", limit, target=target):
        found += 1
        click.echo(json.dumps(event, ensure_ascii=False) if as_json else _line(event))
    if not found and not as_json:
        click.echo("nothing was changed yet" if not target else f"nothing was changed at {target}")


@app.command()
@click.option("--head", "heads", multiple=True, help="NUMBER:HASH kept elsewhere, from an earlier verify or the log.")
@control_options
def verify(client: ControlClient, heads: tuple[str, ...]) -> None:
    """Hold every row against the chain of hashes; exit code 1 when something was changed, removed, inserted or cut.

    Keep the head that this prints in another place: with --head it shows later that nothing up to there was rewritten.
    """
    found = client.get("/audit-events/verification", head=list(heads))
    for fault in found["faults"]:
        click.echo(f"row {fault['sequence']}: {fault['what']}", err=True)
    newest = found["newest"]
    if not found["whole"]:
        click.echo(f"the audit log is NOT whole: {len(found['faults'])} faults in {found['rows']} rows", err=True)
        raise SystemExit(BROKEN)
    against = f", against {found['heads']} kept heads" if found["heads"] else ""
    click.echo(f"the audit log is whole: {found['rows']} rows{against}")
    if newest is not None:
        click.echo(f"head: {newest['sequence']}:{newest['hash']}")


def _line(event: dict[str, Any]) -> str:
    when = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(event["time"]))
    change = event["change"] if isinstance(event["change"], dict) else {}
    origin = change.get("origin") or {}
    where = origin.get("address", "") if isinstance(origin, dict) else str(origin)
    words = f"{event['sequence']:>6}  {when}  {event['who']:<28}  {event['action']:<20}  {event['target']}"
    return words + (f"  from {where}" if where else "") + (f"  ({change['reason']})" if change.get("reason") else "")
