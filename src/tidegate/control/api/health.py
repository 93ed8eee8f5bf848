"""Whether the control plane lives and can act, and its metrics. The only answers that need no key."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Annotated, get_args

import msgspec
from fastapi import APIRouter, Depends, Request, Response

from tidegate import __version__
from tidegate.control.api import monitor_metrics
from tidegate.control.api.calls import caller_of, give, services_of
from tidegate.control.api.documents import documented
from tidegate.control.api.services import Services
from tidegate.control.figures import effect_of
from tidegate.control.jobs.job import State
from tidegate.control.releases.release import OPEN, Release
from tidegate.errors import NotReady, StoreAway, UserError
from tidegate.types import Verdict

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

router = APIRouter(tags=["operations"])

MOST_RELEASES = 200
METRICS: Mapping[str, str] = {
    "tidegate_build_info": "Always 1; the version is a label.",
    "tidegate_snapshot_number": "Newest routing snapshot published; 1 is what the configuration says.",
    "tidegate_snapshot_effect_seconds": "From the publication of the newest snapshot to the last acknowledgement of it by an "
    "instance that was there: how long a decision took until it was in force.",
    "tidegate_release_evidence": "Evidence against the candidate of an open release, as a share of what rolls it back: 1 does. "
    "Bounds that claim no statistics are 0 or 1. By release and guardrail.",
    "tidegate_release_share": "Share of traffic that the candidate of an open release gets, 0 to 1. By endpoint.",
    "tidegate_releases_open": "Open releases. By state.",
    "tidegate_jobs": "Jobs that the store keeps. By state.",
    **monitor_metrics.METRICS,
}
"""What the control port's /metrics shows; all of them gauges."""


class Health(msgspec.Struct, frozen=True):
    status: str
    version: str = __version__


@router.get("/healthz", summary="Whether the process lives")
@documented(None, Health, example={"status": "ok", "version": __version__})
async def healthz() -> Response:
    return give(Health("ok"))


@router.get("/readyz", summary="Whether the store answers and the process is not ending")
@documented(None, Health, example={"status": "ready", "version": __version__})
def readyz(services: Annotated[Services, Depends(services_of)]) -> Response:
    if services.stopping.is_set():
        raise NotReady("ending")
    try:
        services.store.ping()
    except StoreAway:
        raise
    except UserError as error:
        raise NotReady(str(error), 5.0) from None
    return give(Health("ready"))


@router.get("/metrics", summary="Prometheus text")
@documented(None, media="text/plain", problems=(401, 403, 429))
def metrics(request: Request, services: Annotated[Services, Depends(services_of)]) -> Response:
    """Open when `access.metrics_open` is set; otherwise any valid key."""
    if not services.settings.access.metrics_open:
        caller_of(request)
    with services.store.read() as unit:
        latest = unit.snapshots.latest()
        words = {word.instance: word for word in unit.instances.acknowledgements(latest.number)} if latest else {}
        beats = unit.instances.all()
        rows = unit.releases.list(open=True, limit=MOST_RELEASES)
        jobs = unit.jobs.counts()
    times = [effect_of(beat, words.get(beat.instance), latest.published) for beat in beats] if latest else []
    effect = [seconds for seconds in times if seconds is not None]
    releases = [msgspec.json.decode(row.body, type=Release) for row in rows]
    lines = [
        *_gauge("tidegate_build_info", [(f'version="{__version__}"', 1)]),
        *_gauge("tidegate_snapshot_number", [("", latest.number if latest else 1)]),
        *_gauge("tidegate_snapshot_effect_seconds", [("", max(effect))] if effect else []),
        *_gauge(
            "tidegate_release_evidence",
            [
                (f'release="{_quoted(release.id)}",guardrail="{_quoted(guardrail)}"', share)
                for release in releases
                for guardrail, share in _evidence(release).items()
            ],
        ),
        *_gauge(
            "tidegate_release_share",
            [(f'endpoint="{_quoted(release.endpoint)}"', release.share / 10_000) for release in releases],
        ),
        *_gauge(
            "tidegate_releases_open",
            [(f'state="{state}"', sum(release.state == state for release in releases)) for state in OPEN],
        ),
        *_gauge("tidegate_jobs", [(f'state="{state}"', jobs.get(state, 0)) for state in get_args(State)]),
        *_monitors(services),
    ]
    return Response("\n".join(lines) + "\n", media_type="text/plain; version=0.0.4; charset=utf-8")


def _monitors(services: Services) -> Iterator[str]:
    found: dict[str, list[tuple[str, float]]] = {name: [] for name in monitor_metrics.METRICS}
    for name, labels, value in monitor_metrics.samples(services.monitoring, services.clock.wall()):
        found[name].append((",".join(f'{label}="{_quoted(text)}"' for label, text in labels.items()), value))
    for name, values in found.items():
        yield from _gauge(name, values)


def _evidence(release: Release) -> Mapping[str, float]:
    """By guardrail. A plan may have several of a kind; a name twice would make Prometheus refuse the whole page."""
    most: dict[str, float] = {}
    for verdict in release.verdicts:
        most[verdict.guardrail] = max(most.get(verdict.guardrail, -math.inf), _share(verdict))
    return most


def _share(verdict: Verdict) -> float:
    if verdict.threshold:
        return verdict.evidence / verdict.threshold
    return float(verdict.outcome == "fail")


def _gauge(name: str, samples: Iterable[tuple[str, float]]) -> list[str]:
    return [
        f"# HELP {name} {METRICS[name]}",
        f"# TYPE {name} gauge",
        *(
            f"{name}{{{labels}}} {_number(value)}" if labels else f"{name} {_number(value)}"
            for labels, value in samples
        ),
    ]


def _number(value: float) -> str:
    """Numbers that count or name something have all their digits."""
    return str(value) if isinstance(value, int) else f"{value:g}"


def _quoted(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
