"""``tidegate release``: start a release, follow it, step in, recompute it."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import msgspec

from tidegate.cli.control import ControlClient, StreamLost, control_options, part, shown
from tidegate.cli.options import print_json
from tidegate.errors import UserError

PATH = "/releases"
ENDED_WELL = ("promoted",)
ENDED_BADLY = ("rolled_back", "failed", "inconclusive")
NOT_PROMOTED = 3
"""Exit code of ``watch`` and ``start --watch`` when the candidate was not promoted."""
AGAIN_SECONDS = 0.3
MOST_BREAKS = 200
"""Times in a row that a broken stream is followed again."""
PATIENCE = 5
"""Breaks in a row before it is said."""


@click.group()
def app() -> None:
    """Release a new version as far as the evidence allows."""


@app.command()
@click.argument("endpoint")
@click.argument("model")
@click.option("--reason", "-r", default="", help="Why; kept in the audit log.")
@click.option("--plan", type=click.Path(path_type=Path), help="YAML or JSON file; the endpoint's plan when left out.")
@click.option("--watch", "follow", is_flag=True, help="Follow it until it ends.")
@click.option("--plain", is_flag=True, help="With --watch: lines, for logs.")
@control_options
def start(
    endpoint: str, model: str, reason: str, plan: Path | None, follow: bool, plain: bool, client: ControlClient
) -> None:
    """Begin a release of MODEL on ENDPOINT.

    MODEL is a path, models:/iris/3 or models:/iris@challenger. Nobody gets it before every instance has loaded it.
    """
    body = {"endpoint": endpoint, "model": model, "reason": reason}
    if plan is not None:
        body["plan"] = _document(plan)
    release = client.post(PATH, body)
    click.echo(f"release {release['id']} of {endpoint} began")
    if follow:
        raise SystemExit(_follow(client, release["id"], plain))
    click.echo(f"follow it: tidegate release watch {release['id']}")


@app.command("list")
@click.option("--endpoint", default="", help="Only of this endpoint.")
@click.option("--open", "only_open", is_flag=True, help="Only those that have not ended.")
@click.option("--limit", type=click.IntRange(1, 10_000), default=20, help="Newest first, at most so many.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line.")
@control_options
def list_(endpoint: str, only_open: bool, limit: int, as_json: bool, client: ControlClient) -> None:
    """Show releases, the newest first."""
    query: dict[str, Any] = {"endpoint": endpoint, "open": "true" if only_open else None}
    found = list(client.pages(PATH, limit, **query))
    if as_json:
        for release in found:
            click.echo(msgspec.json.encode(release))
        return
    if not found:
        click.echo("no releases")
        return
    from rich.console import Console
    from rich.table import Table

    table = Table("id", "endpoint", "candidate", "state", "share", "why")
    for release in found:
        table.add_row(
            release["id"],
            release["endpoint"],
            _version(release["candidate"]),
            release.get("state", "pending"),
            _percent(release.get("share", 0)),
            release.get("waiting") or release.get("reason", ""),
        )
    Console(highlight=False, markup=False).print(table)


@app.command()
@click.argument("release")
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
@control_options
def show(release: str, as_json: bool, client: ControlClient) -> None:
    """Show where a release stands, why it waits, its evidence and its history."""
    found = client.get(f"{PATH}/{part(release)}")
    if as_json:
        print_json(found)
        return
    from rich.console import Console

    from tidegate.cli.release_view import view

    console = Console(highlight=False, markup=False)
    console.print(view(found))
    for line in client.pages(f"{PATH}/{part(release)}/history", 1000):
        console.print(f"{_clock(line['time'])}  {line['kind']:<12} {line['text']}  ({line['who']})")


@app.command()
@click.argument("release", default="", metavar="[RELEASE]")
@click.option("--plain", is_flag=True, help="Lines, for logs; the default where the output is no terminal.")
@control_options
def watch(release: str, plain: bool, client: ControlClient) -> None:
    """Follow a release, the newest if none is named, until it ends: exit code 0 when it is promoted, 3 when it is not."""
    raise SystemExit(_follow(client, release or _newest(client), plain))


@app.command()
@click.argument("release")
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
@control_options
def replay(release: str, as_json: bool, client: ControlClient) -> None:
    """Compute every decision again from the stored evidence; exit code 1 when something does not agree."""
    found = client.get(f"{PATH}/{part(release)}/replay")
    if as_json:
        print_json(found)
    else:
        click.echo(
            f"{found['looks']} looks at {found['windows']} windows, {found['decisions']} decisions: "
            + ("all agree" if found["agrees"] else "they do not agree")
        )
        for finding in found["findings"]:
            click.echo(f"  {finding}")
    raise SystemExit(0 if found["agrees"] else 1)


def _newest(client: ControlClient) -> str:
    for found in client.pages(PATH, 1):
        return str(found["id"])
    raise UserError("there is no release yet; start one: tidegate release start ENDPOINT MODEL")


def _acting(name: str, text: str) -> None:
    @app.command(name, help=text)
    @click.argument("release")
    @click.option("--reason", "-r", default="", help="Why; kept in the audit log.")
    @control_options
    def act(release: str, reason: str, client: ControlClient) -> None:
        found = client.post(f"{PATH}/{part(release)}/{name}", {"reason": reason})
        click.echo(f"release {found['id']} is {found.get('state', 'pending')}")


_acting("pause", "Hold the share where it is.")
_acting("resume", "Go on after a pause, or after an inconclusive end.")
_acting("promote", "Give the candidate everything now, whatever the evidence.")
_acting("rollback", "Give the old version everything again; one publication, also after a promotion while it is warm.")


def _follow(client: ControlClient, release: str, plain: bool) -> int:
    """The exit code."""
    state = _plainly(client, release) if plain or not sys.stdout.isatty() else _live(client, release)
    return 0 if state in ENDED_WELL else NOT_PROMOTED


def _plainly(client: ControlClient, release: str) -> str:
    said = ""
    state = "pending"
    for event, found in _stream(client, release):
        state = found.get("state", "pending")
        line = event["text"] if event is not None else found.get("waiting", "")
        kind = event["kind"] if event is not None else "waiting"
        gist = f"{kind} {line}" if event is not None else _gist(line)
        if line and gist != said:
            said = gist
            moment = event["time"] if event is not None else found["changed"]
            click.echo(f"{_clock(moment)} {release} {_percent(found.get('share', 0)):>6} {kind}: {line}")
    return state


def _gist(waiting: str) -> str:
    """The sentence without its figures: lines for logs come when the reason changes, not with each request."""
    return "".join(character for character in waiting if not character.isdigit())


def _live(client: ControlClient, release: str) -> str:
    from rich.console import Console
    from rich.live import Live

    from tidegate.cli.release_view import view

    found: dict[str, Any] = {}
    console = Console(highlight=False, markup=False)
    lines: list[str] = []
    with Live(console=console, auto_refresh=False, transient=False) as live:
        for event, found in _stream(client, release):
            if event is not None:
                lines.append(f"{_clock(event['time'])}  {event['text']}")
            live.update(view(found, lines[-6:]), refresh=True)
    return str(found.get("state", "pending"))


def _stream(client: ControlClient, release: str) -> Iterator[tuple[dict[str, Any] | None, dict[str, Any]]]:
    """(event, release) as they come, until it has ended; goes on after a break, as often as it takes within reason."""
    after, breaks, state = -1, 0, "pending"
    client.get(f"{PATH}/{part(release)}")  # whether anybody answers, and knows it: a break is waited for only later
    while True:
        try:
            for data in client.events(f"{PATH}/{part(release)}/events?after={after}"):
                happening = shown(msgspec.json.decode(data))
                event, found = happening.get("event"), happening["release"]
                after = event["revision"] if event is not None else after
                breaks, state = 0, found.get("state", "pending")
                yield event, found
                if state == "inconclusive" and (event is None or event["kind"] == "inconclusive"):
                    return  # it stays open until a person decides
            if state in (*ENDED_WELL, *ENDED_BADLY):
                return
        except StreamLost:
            breaks += 1
            if breaks > MOST_BREAKS:
                raise
            if breaks == PATIENCE:
                click.echo("the control plane does not answer; trying again", err=True)
        time.sleep(AGAIN_SECONDS)


def _document(path: Path) -> Any:
    import yaml

    try:
        return yaml.safe_load(path.read_text("utf-8"))
    except OSError as error:
        raise UserError(f"{path}: {error.strerror or error}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: neither YAML nor JSON: {' '.join(str(error).split())}") from error


def _version(model: dict[str, Any]) -> str:
    return f"{model.get('name') or model['uri']} {model.get('version', '')}".strip()


def _percent(share: int) -> str:
    return f"{share / 100:g} %"


def _clock(moment: float) -> str:
    return time.strftime("%H:%M:%S", time.localtime(moment))
