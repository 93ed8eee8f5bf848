"""``tidegate keys``: who may call, on a running control plane."""

from __future__ import annotations

from typing import Any

import click

from tidegate.cli.control import ControlClient, control_options, part
from tidegate.cli.options import reason_option
from tidegate.errors import UserError
from tidegate.section import seconds_of

ROLES = ("predict", "operate", "admin")


class Time(click.ParamType[float]):
    """A number and its unit; gives seconds."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        try:
            return seconds_of(value) if isinstance(value, str) else float(value)
        except (ValueError, KeyError):
            self.fail(f"{value!r} is not a duration; write 30m, 12h or 90d", param, ctx)


@click.group()
def app() -> None:
    """Make, list, rotate and revoke API keys; needs an administrator's key."""


@app.command()
@click.argument("name")
@click.option("--role", "roles", type=click.Choice(ROLES), multiple=True, help="What it may do; predict if unset.")
@click.option("--endpoint", "endpoints", multiple=True, help="Endpoint that it may use; all if unset.")
@click.option("--expires", type=Time(), default=None, help="Time from now, such as 90d; never if unset.")
@click.option("--requests-per-minute", type=click.IntRange(0), default=0, help="0: no limit of its own.")
@click.option("--concurrency", type=click.IntRange(0), default=0, help="Most requests in flight; 0: no limit.")
@click.option("--rows", type=click.IntRange(0), default=0, help="Most rows in one request; 0: no limit.")
@reason_option
@control_options
def create(client: ControlClient, name: str, roles: tuple[str, ...], expires: float | None, **given: Any) -> None:
    """Make a key and print it: the only time that it is shown."""
    body = {"name": name, "roles": list(roles) or ["predict"], "expires_seconds": expires, **given}
    _show(client.post("/api-keys", body))


@app.command("list")
@click.option("--all", "everything", is_flag=True, help="Revoked and expired ones too.")
@control_options
def list_(client: ControlClient, everything: bool) -> None:
    """List keys, newest first; the keys themselves are kept nowhere."""
    from rich.console import Console
    from rich.table import Column, Table

    fixed = [Column(name, no_wrap=True, overflow="fold") for name in ("id", "state", "expires", "last use")]
    table = Table(fixed[0], "name", "roles", "endpoints", *fixed[1:])
    shown = 0
    for key in client.pages("/api-keys", 100_000):
        if everything or key["state"] in ("active", "expiring"):
            shown += 1
            table.add_row(
                key["id"],
                key["name"],
                ", ".join(key["roles"]),
                ", ".join(key["endpoints"]) or "all",
                key["state"],
                _time(key["expires"], "never"),
                _time(key["used"], "never"),
            )
    if shown:
        Console(markup=False).print(table)
    else:
        click.echo("no keys; make one: tidegate keys create NAME")


@app.command()
@click.argument("key_id", metavar="ID")
@reason_option
@control_options
def revoke(client: ControlClient, key_id: str, reason: str) -> None:
    """End a key at once."""
    key = client.post(f"/api-keys/{part(_id(key_id))}/revoke", {"reason": reason})
    click.echo(f"{key['id']} ({key['name']}): {key['state']}")


@app.command()
@click.argument("key_id", metavar="ID")
@click.option("--grace", type=Time(), default="1h", help="How long the old key goes on beside the new one.")
@reason_option
@control_options
def rotate(client: ControlClient, key_id: str, grace: float, reason: str) -> None:
    """Make a new key in place of this one, and print it; the old one ends after a while."""
    _show(client.post(f"/api-keys/{part(_id(key_id))}/rotate", {"grace_seconds": grace, "reason": reason}))
    click.echo(f"{_id(key_id)} ends in {grace:g} s", err=True)


def _id(text: str) -> str:
    """The id; of a whole key too, which somebody may have at hand. The secret goes nowhere."""
    pieces = text.split("_")
    found = pieces[1] if len(pieces) >= 3 and pieces[0] == "tg" else text
    if not found:
        raise UserError("name a key by its id; 'tidegate keys list' shows them")
    return found


def _show(made: dict[str, Any]) -> None:
    """The key alone on standard output, for scripts; the rest beside it."""
    view = made["view"]
    if not made["key"]:
        raise UserError(f"the key {view['id']} was made before, and is not shown again; rotate it")
    click.echo(f"{view['id']} ({view['name']}, {', '.join(view['roles'])}); this is shown once:", err=True)
    click.echo(made["key"])


def _time(at: float | None, otherwise: str) -> str:
    import time

    return otherwise if at is None else time.strftime("%Y-%m-%d %H:%M", time.localtime(at))
