"""``tidegate retrain``: trainings on a running control plane, and where each of them came from and led to."""

from __future__ import annotations

import datetime
import json
import time
from typing import Any

import click

from tidegate.cli.control import ControlClient, control_options, part
from tidegate.cli.options import json_option, limit_option, reason_option
from tidegate.errors import UserError

START = "start"
LOOK_SECONDS = 2.0
REFUSED = 1


class Endpoints(click.Group):
    """``tidegate retrain ENDPOINT`` is ``tidegate retrain start ENDPOINT``."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and args[0] not in self.commands and not args[0].startswith("-"):
            args = [START, *args]
        return super().resolve_command(ctx, args)


@click.group(cls=Endpoints, subcommand_metavar="ENDPOINT | COMMAND [ARGS]...")
def app() -> None:
    """Train an endpoint's model anew, compare it with what serves, and release it if it is as good."""


@app.command(START)
@click.argument("endpoint")
@click.option(
    "--mode",
    type=click.Choice(["features", "combined"]),
    help="features: the table alone; combined: labelled production rows too. The plan's own when unset.",
    show_default=False,
)
@reason_option
@click.option("--wait", is_flag=True, help="Until it is accepted, refused or failed; exit code 1 when not accepted.")
@json_option
@control_options
def start(client: ControlClient, endpoint: str, mode: str | None, reason: str, wait: bool, as_json: bool) -> None:
    """Train the model of ENDPOINT anew, by endpoints.ENDPOINT.monitor.retrain."""
    body = {"endpoint": endpoint, "reason": reason} | ({"mode": mode} if mode else {})
    made = client.post("/retrainings", body)
    if wait:
        made = _waited(client, made)
    if as_json:
        click.echo(json.dumps(made, indent=2, ensure_ascii=False))
    else:
        click.echo(_line(made))
        click.echo(f"next: tidegate retrain show {made['id']}")
    if wait and not (made.get("outcome") or {}).get("accepted"):
        raise SystemExit(REFUSED)


@app.command("list")
@click.argument("endpoint", required=False)
@limit_option(20)
@control_options
def list_(client: ControlClient, endpoint: str | None, limit: int) -> None:
    """List retrainings, newest first, and what the policies wait for."""
    found = list(client.pages("/retrainings", limit, endpoint=endpoint))
    if not found:
        click.echo("no retrainings yet; start one: tidegate retrain ENDPOINT")
    for one in found:
        click.echo(_line(one))
    for one in client.pages("/retrainings/outlook", limit):
        if endpoint in (None, one["endpoint"]):
            said = (one.get("decision") or {}).get("reason", "not looked at yet")
            click.echo(f"{one['endpoint']}: {said}")


@app.command()
@click.argument("id")
@json_option
@control_options
def show(client: ControlClient, id: str, as_json: bool) -> None:  # noqa: A002
    """Show the chain of one: alert, report, job, data, run, version, gate, release, outcome."""
    found = client.get(f"/retrainings/{part(id)}")
    if as_json:
        click.echo(json.dumps(found, indent=2, ensure_ascii=False))
        return
    for name, text in chain(found):
        click.echo(f"{name:10} {text}")
    for event in found.get("events", []):
        click.echo(f"  {_time(event['time'])} {event['state']:11} {event['text']}")


@app.command()
@click.argument("id")
@click.option("--reason", required=True, help="Why; kept in the audit log.")
@control_options
def cancel(client: ControlClient, id: str, reason: str) -> None:  # noqa: A002
    """End one that is not being released yet."""
    click.echo(_line(client.post(f"/retrainings/{part(id)}/cancel", {"reason": reason})))


def chain(found: dict[str, Any]) -> list[tuple[str, str]]:
    """Each link that is there, as a name and what people want to know of it."""
    links = [("retraining", f"{found['id']} of {found['endpoint']}, {found['mode']}: {found['state']}")]
    links.append(("asked by", f"{found['author']} ({found['trigger']}) {found.get('reason', '')}".strip()))
    links += [("alert", one) for one in found.get("alerts", [])]
    links += [("report", one) for one in found.get("reports", [])]
    links.append(("job", found.get("job", "")))
    outcome = found.get("outcome")
    if outcome:
        rows = ", ".join(f"{name.replace('_', ' ')} {count:,}" for name, count in outcome["rows"].items() if count)
        links += [("data", outcome["data_digest"]), ("rows", rows)]
        for origin in outcome.get("origins", []):
            told = " ".join(part for part in (origin["place"], origin.get("revision"), origin.get("md5")) if part)
            links.append((origin["kind"], told))
        links += [("code", outcome.get("code_version", "")), ("run", outcome.get("run_id", ""))]
        links += [("model", " ".join(part for part in (outcome.get("family"), outcome.get("uri")) if part))]
        links.append(("gate", ("accepted: " if outcome["accepted"] else "refused: ") + outcome["gate"]["reason"]))
        links.append(("onnx", outcome.get("compile_note", "")))
    links += [("release", found.get("release", "")), ("waiting", found.get("waiting", ""))]
    return [(name, text) for name, text in links if text]


def _waited(client: ControlClient, made: dict[str, Any]) -> dict[str, Any]:
    """The retraining once it is decided whether its version is good enough."""
    try:
        while made["state"] in ("queued", "training"):
            time.sleep(LOOK_SECONDS)
            made = client.get(f"/retrainings/{part(made['id'])}")
    except KeyboardInterrupt:
        raise UserError(f"it goes on; see tidegate retrain show {made['id']}") from None
    return made


def _line(one: dict[str, Any]) -> str:
    events = one.get("events") or [{"text": ""}]
    said = one.get("waiting") or events[-1]["text"]
    return f"{one['id']:12} {_time(one['created'])} {one['endpoint']:20} {one['state']:11} {one['trigger']:8} {said}"


def _time(seconds: float) -> str:
    return f"{datetime.datetime.fromtimestamp(seconds).astimezone():%Y-%m-%d %H:%M:%S}"
