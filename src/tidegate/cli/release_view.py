"""How a release looks in a terminal: where it stands, both sides, and the evidence of each guardrail."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

BAR = 24
COLOURS = {"pass": "green", "fail": "bold red", "undecided": "yellow", "no_data": "dim"}
STATES = {"promoted": "bold green", "rolled_back": "bold red", "failed": "bold red", "inconclusive": "bold yellow",
          "paused": "bold yellow"}  # fmt: skip


def view(release: Mapping[str, Any], lines: Sequence[str] = ()) -> RenderableType:
    """``release`` as the control API gives it; defaults are left out there."""
    parts: list[RenderableType] = [head(release), steps(release), sides(release), evidence(release)]
    waiting, reason = release.get("waiting", ""), release.get("reason", "")
    if waiting:
        parts.append(Text.assemble(("waits for  ", "dim"), waiting))
    if reason and not waiting:
        parts.append(Text.assemble(("because    ", "dim"), reason))
    parts += [Text(line, style="dim") for line in lines]
    return Group(*parts)


def head(release: Mapping[str, Any]) -> Text:
    state = release.get("state", "pending")
    return Text.assemble(
        (f"{release['endpoint']}  ", "bold"),
        f"{_version(release['baseline'])} → {_version(release['candidate'])}  ",
        (state.replace("_", " "), STATES.get(state, "bold cyan")),
        f"  {release['id']}",
        (f"  in force after {release['effect_seconds']:.2f} s" if release.get("effect_seconds") else "", "dim"),
    )


def steps(release: Mapping[str, Any]) -> Text:
    """shadow ▸ 1 % ▸ 5 % ▸ … with what is reached in bold."""
    plan, state = release.get("plan", {}), release.get("state", "pending")
    phase = release.get("resumes", "pending") if state in ("paused", "inconclusive") else state
    step = release.get("step", -1)
    found = Text()
    names = [("shadow", phase == "shadow", step >= 0)] if plan.get("shadow") else []
    shares = plan.get("steps") or (1, 5, 25, 50, 100)
    for place, share in enumerate(shares):
        here = phase in ("ramping", "baking") and place == step
        names.append((f"{share:g} %", here, place < step or state == "promoted"))
    for place, (name, here, done) in enumerate(names):
        found.append(" ▸ " if place else "", style="dim")
        found.append(name, style="reverse bold" if here else "green" if done else "dim")
    return found


def sides(release: Mapping[str, Any]) -> RenderableType:
    counted = release.get("sides", {})
    if not counted:
        return Text("nothing is counted yet", style="dim")
    table = Table("", "share", "requests", "failed", "p50", "p90", "p99", box=None, padding=(0, 2), header_style="dim")
    share = release.get("share", 0)
    for name in ("baseline", "candidate", "shadow"):
        side = counted.get(name)
        if side is None:
            continue
        requests, failures = side.get("requests", 0), side.get("failures", 0)
        part = {"baseline": 10_000 - share, "candidate": share}.get(name)
        rate = f"{failures:,} ({100 * failures / requests:.2g} %)" if failures and requests else "0"
        table.add_row(
            name,
            "copies" if part is None else f"{part / 100:g} %",
            f"{requests:,}",
            Text(rate, style="red" if failures and name != "baseline" else ""),
            *(_milliseconds(side.get(quantile, 0.0)) for quantile in ("p50", "p90", "p99")),
        )
    return table


def evidence(release: Mapping[str, Any]) -> RenderableType:
    """One line a guardrail: how far the evidence for and against has come towards its threshold."""
    table = Table.grid(padding=(0, 2))
    for verdict in release.get("verdicts", ()):
        outcome = verdict["outcome"]
        table.add_row(
            Text(verdict["guardrail"], style="bold"),
            bar(verdict),
            Text(outcome.replace("_", " "), style=COLOURS[outcome]),
            Text(verdict["reason"], overflow="fold"),
        )
    return table


def bar(verdict: Mapping[str, Any]) -> Text:
    """Against the candidate in red, for it in green: full is the threshold."""
    threshold = verdict.get("threshold", 0.0)
    against, support = verdict.get("evidence", 0.0), verdict.get("support", 0.0)
    if not threshold:
        return Text("·" * BAR, style="dim")
    worse = against >= support
    part = max(0.0, min(1.0, (against if worse else support) / threshold))
    full = round(part * BAR)
    return Text.assemble(("█" * full, "red" if worse else "green"), ("░" * (BAR - full), "dim"))


def _version(model: Mapping[str, Any]) -> str:
    return f"{model.get('name') or model['uri']} {model.get('version', '1')}"


def _milliseconds(seconds: float) -> str:
    return f"{seconds * 1000:.3g} ms" if seconds else "–"
