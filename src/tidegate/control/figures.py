"""What is going on now, read from the store for people: rates, failures, quantiles, health. Used by API and console.

Pure folds over variant windows, and ``Figures``, which reads the store at most once a second however many ask. Raw
prediction events are never read here.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Literal

import msgspec

from tidegate.clock import Clock
from tidegate.control.releases.release import Release
from tidegate.metrics import BINS, BINS_PER_DECADE, edge, quantile
from tidegate.observations import Beat, VariantWindow
from tidegate.settings import Settings
from tidegate.types import EndpointPlan, ModelRef

if TYPE_CHECKING:
    from tidegate.storage.records import Acknowledgement
    from tidegate.storage.store import Store

PERIOD = 60.0
"""Seconds that rates and quantiles look back."""
LAG = 2.0
"""Windows reach the store about a second after they end; figures stop this many seconds ago, so that none is missing."""
Role = Literal["baseline", "candidate", "shadow", "warm", "arm"]
"""Of a variant in its endpoint's plan: warm is loaded without traffic, arm is one of an experiment's."""
FORGOTTEN = 3600.0
"""An instance that is silent for so long is not shown as gone any more."""
FAILED = ("failed", "timeout", "breaker_open")
"""The kinds of outcome that are failures of the model."""


class VariantFigures(msgspec.Struct, frozen=True, kw_only=True):
    """One variant over ``seconds``. Quantiles in seconds, 0 when nothing was counted; ``rate`` in requests a second since
    the variant's first window in that time."""

    variant: str
    version: str = ""
    shadow: bool = False
    seconds: float = PERIOD
    requests: int = 0
    failures: int = 0
    """Requests that the model failed, whoever answered them; not made one per unit."""
    rate: float = 0.0
    outcomes: Mapping[str, int] = {}
    p50: float = 0.0
    p90: float = 0.0
    p99: float = 0.0
    latency: Mapping[int, int] = {}
    outputs: Mapping[str, int] = {}
    series: tuple[int, ...] = ()
    """Requests in each second, oldest first."""

    @property
    def failure_rate(self) -> float:
        return self.failures / self.requests if self.requests else 0.0


class Split(msgspec.Struct, frozen=True, kw_only=True):
    """Who gets what: one variant of an endpoint's plan. ``share`` in basis points of 10 000."""

    variant: str
    version: str
    model: str = ""
    """Its name in the registry; empty for what is not registered."""
    uri: str = ""
    share: int = 0
    shadow: bool = False
    role: Role = "baseline"


class InstanceHealth(msgspec.Struct, frozen=True, kw_only=True):
    """A serving instance as its newest beat says. ``age`` in seconds; ``behind`` it has an older snapshot in force."""

    beat: Beat
    age: float
    state: Literal["live", "draining", "behind", "refused", "gone"]


class EndpointFigures(msgspec.Struct, frozen=True, kw_only=True):
    """All that the pages show of one endpoint."""

    name: str
    is_default: bool = False
    splits: tuple[Split, ...] = ()
    variants: Mapping[str, VariantFigures] = {}
    total: VariantFigures = VariantFigures(variant="")
    """Over the variants that answer users; copies to a shadow are not among them."""
    instances: int = 0
    """Live instances that have this endpoint in force."""
    health: Literal["healthy", "degraded", "down", "unknown"] = "unknown"
    why: str = ""
    """What is wrong, in one sentence; empty when nothing is."""
    release: Release | None = None
    """The open one."""
    experiment: str = ""

    @property
    def baseline(self) -> Split | None:
        return self.splits[0] if self.splits else None

    @property
    def candidate(self) -> Split | None:
        return next((split for split in self.splits if split.role in ("candidate", "shadow")), None)


class Look(msgspec.Struct, frozen=True, kw_only=True):
    """Everything at one time."""

    time: float
    seconds: float
    endpoints: tuple[EndpointFigures, ...]
    instances: tuple[InstanceHealth, ...]
    snapshot: int
    published: float
    releases: tuple[Release, ...]
    """Open ones."""

    def endpoint(self, name: str) -> EndpointFigures | None:
        return next((found for found in self.endpoints if found.name == name), None)

    @property
    def live(self) -> int:
        return sum(instance.state != "gone" for instance in self.instances)


def quantile_of(bins: Mapping[int, int], q: float) -> float:
    """The q-quantile of a sparse latency histogram, in seconds."""
    if not bins:
        return 0.0
    dense = [0.0] * BINS
    for index, count in bins.items():
        dense[min(index, BINS - 1)] += count
    return quantile(dense, q)


def add(into: dict[str, int], counts: Mapping[str, int]) -> None:
    for kind, count in counts.items():
        into[kind] = into.get(kind, 0) + count


def fold(windows: Iterable[VariantWindow], start: float, end: float) -> dict[str, VariantFigures]:
    """Figures by variant of the windows that begin in [start, end).

    Only those of the newest version in its newest role: what a variant's name meant before is another model's story.
    """
    gathered: dict[str, list[VariantWindow]] = {}
    for window in windows:
        if start <= window.start < end:
            gathered.setdefault(window.variant, []).append(window)
    figures = {}
    for variant, seen in gathered.items():
        newest = max(seen, key=lambda window: (window.start, window.snapshot))
        own = [window for window in seen if (window.version, window.shadow) == (newest.version, newest.shadow)]
        figures[variant] = _sum(variant, own, start, end, version=newest.version, shadow=newest.shadow)
    return figures


def total_of(windows: Iterable[VariantWindow], start: float, end: float) -> VariantFigures:
    """What users got in [start, end), whichever variant and version answered; copies to a shadow are left out."""
    return _sum("", [window for window in windows if not window.shadow and start <= window.start < end], start, end)


def _sum(
    variant: str, windows: Sequence[VariantWindow], start: float, end: float, *, version: str = "", shadow: bool = False
) -> VariantFigures:
    seconds = end - start
    length = max(1, round(seconds))
    began = min((window.start for window in windows), default=start)
    outcomes: dict[str, int] = {}
    outputs: dict[str, int] = {}
    latency: dict[int, int] = {}
    series = [0] * length
    for window in windows:
        add(outcomes, window.outcomes)
        add(outputs, window.outputs)
        for index, count in window.latency.items():
            latency[index] = latency.get(index, 0) + count
        series[min(length - 1, int(window.start - start))] += window.requests
    requests = sum(series)
    return VariantFigures(
        variant=variant,
        version=version,
        shadow=shadow,
        seconds=seconds,
        requests=requests,
        failures=failed(outcomes),
        rate=requests / max(1.0, min(seconds, end - began)),
        outcomes=outcomes,
        p50=quantile_of(latency, 0.5),
        p90=quantile_of(latency, 0.9),
        p99=quantile_of(latency, 0.99),
        latency=latency,
        outputs=outputs,
        series=tuple(series),
    )


def failed(outcomes: Mapping[str, int]) -> int:
    return sum(outcomes.get(kind, 0) for kind in FAILED)


def splits_of(plan: EndpointPlan) -> tuple[Split, ...]:
    """The plan as the data plane reads it: the baseline takes what no other takes."""
    others = plan.variants[1:]
    rest = 10_000 - sum(variant.share for variant in others if not variant.shadow)
    found = [_split(plan.baseline.name, plan.baseline.model, rest, role="baseline")]
    for variant in others:
        if variant.shadow:
            role: Role = "shadow"
        elif variant.share == 0:
            role = "warm"
        else:
            role = "candidate" if variant.name == "candidate" or plan.experiment is None else "arm"
        share = 0 if variant.shadow else variant.share
        found.append(_split(variant.name, variant.model, share, role=role))
    return tuple(found)


def _split(variant: str, model: ModelRef, share: int, *, role: Role) -> Split:
    return Split(
        variant=variant,
        version=model.version,
        model=model.name,
        uri=model.uri,
        share=share,
        shadow=role == "shadow",
        role=role,
    )


def configured_splits(name: str, settings: Settings, beats: Sequence[Beat]) -> tuple[Split, ...]:
    """An endpoint that nothing was published for: shares as the configuration says, versions as the beats say."""
    versions: Mapping[str, str] = next((beat.models[name] for beat in beats if name in beat.models), {})
    configured = settings.endpoints.get(name)
    if configured is None:
        return tuple(
            _split(variant, ModelRef("", version=version), 0 if index else 10_000, role="warm" if index else "baseline")
            for index, (variant, version) in enumerate(versions.items())
        )
    others = configured.variants
    rest = 10_000 - sum(round(own.share * 100) for own in others.values() if not own.shadow)
    version = versions.get("baseline", "") or configured.version
    found = [_split("baseline", ModelRef(configured.model, version=version), rest, role="baseline")]
    for variant, own in others.items():
        share = 0 if own.shadow else round(own.share * 100)
        role: Role = "shadow" if own.shadow else "candidate" if share else "warm"
        version = versions.get(variant, "") or own.version
        found.append(_split(variant, ModelRef(own.model, version=version), share, role=role))
    return tuple(found)


def health_of(beats: Iterable[Beat], newest: int, now: float, dead_seconds: float) -> tuple[InstanceHealth, ...]:
    """Instances, those that need a look first."""
    order = {"refused": 0, "behind": 1, "gone": 2, "draining": 3, "live": 4}
    found = []
    for beat in beats:
        age = max(0.0, now - beat.time)
        state: Literal["live", "draining", "behind", "refused", "gone"] = "live"
        if age > dead_seconds:
            state = "gone"
        elif beat.draining:
            state = "draining"
        elif beat.refused and beat.refused >= newest:
            state = "refused"
        elif newest and beat.snapshot < newest:
            state = "behind"
        found.append(InstanceHealth(beat=beat, age=age, state=state))
    return tuple(sorted(found, key=lambda health: (order[health.state], health.beat.instance)))


def judge(name: str, instances: Sequence[InstanceHealth]) -> tuple[int, Literal["healthy", "degraded", "down"], str]:
    """How many live instances have the endpoint, how it stands, and what is wrong."""
    live = [one for one in instances if one.state not in ("gone", "draining")]
    having = [one for one in live if name in one.beat.models]
    if not having:
        return 0, "down", "No live instance serves it." if instances else "No serving instance has reported yet."
    refused = [one for one in live if one.state == "refused"]
    if refused:
        error = refused[0].beat.error or "no reason given"
        return (
            len(having),
            "degraded",
            f"{refused[0].beat.instance} refused snapshot {refused[0].beat.refused}: {error}",
        )
    behind = [one for one in live if one.state == "behind"]
    if behind:
        names = ", ".join(one.beat.instance for one in behind[:3])
        return (
            len(having),
            "degraded",
            f"{len(behind)} of {len(live)} instances have not loaded the newest snapshot: {names}",
        )
    if len(having) < len(live):
        return len(having), "degraded", f"{len(live) - len(having)} of {len(live)} live instances do not serve it."
    return len(having), "healthy", ""


def distribution(bins: Mapping[int, int], per_decade: int = 16) -> list[tuple[float, float, float]]:
    """A latency histogram for eyes: (from, to, share of requests) with ``per_decade`` bars a factor of ten; seconds."""
    width = BINS_PER_DECADE // per_decade
    total = sum(bins.values())
    coarse: dict[int, int] = {}
    for index, count in bins.items():
        bar = max(0, index - 1) // width
        coarse[bar] = coarse.get(bar, 0) + count
    if not coarse:
        return []
    return [
        (edge(bar * width), edge((bar + 1) * width), coarse.get(bar, 0) / total)
        for bar in range(min(coarse), max(coarse) + 1)
    ]


def effect_of(beat: Beat, word: Acknowledgement | None, published: float) -> float | None:
    """Seconds from a publication until the instance had it in force; None while it has not, and for one that started
    later and found it there."""
    if word is None or word.error or beat.started > published:
        return None
    return max(0.0, word.time - published)


class Figures:
    """The newest ``Look``, made afresh when the last one is older than ``fresh`` seconds. Safe between threads."""

    def __init__(
        self, store: Store, settings: Settings, clock: Clock, *, period: float = PERIOD, fresh: float = 1.0
    ) -> None:
        self._store = store
        self._settings = settings
        self._clock = clock
        self._period = period
        self._fresh = fresh
        self._lock = threading.Lock()
        self._look: Look | None = None
        self._made = 0.0

    def look(self) -> Look:
        """Raises StoreAway."""
        with self._lock:
            now = self._clock.monotonic()
            if self._look is None or not 0 <= now - self._made < self._fresh:
                self._look = self._read()
                self._made = now
            return self._look

    def forget(self) -> None:
        """After a change that whoever made it wants to see at once."""
        with self._lock:
            self._look = None

    def _read(self) -> Look:
        now = self._clock.wall()
        end = now - LAG
        start = end - self._period
        with self._store.read() as unit:
            published = unit.snapshots.latest()
            beats = [beat for beat in unit.instances.all() if beat.time > now - FORGOTTEN]
            releases = tuple(
                msgspec.json.decode(row.body, type=Release) for row in unit.releases.list(open=True, limit=200)
            )
            plans = published.snapshot.endpoints if published else {}
            names = [*self._settings.endpoints, *plans]
            names += [name for beat in beats for name in beat.models]
            windows = {name: unit.windows.between(name, start, end) for name in sorted(dict.fromkeys(names))}
        number = published.number if published else 0
        instances = health_of(beats, number, now, self._settings.store.dead_seconds)
        default = (published.snapshot.default_endpoint if published else "") or self._settings.default_endpoint
        if not default and self._settings.endpoints:
            default = next(iter(self._settings.endpoints))
        endpoints = []
        for name, own in windows.items():
            count, health, why = judge(name, instances)
            plan = plans.get(name)
            live = [one.beat for one in instances if one.state != "gone"]
            endpoints.append(
                EndpointFigures(
                    name=name,
                    is_default=name == default,
                    splits=splits_of(plan) if plan else configured_splits(name, self._settings, live),
                    variants=fold(own, start, end),
                    total=total_of(own, start, end),
                    instances=count,
                    health=health,
                    why=why,
                    release=next((release for release in releases if release.endpoint == name), None),
                    experiment=plan.experiment.experiment if plan and plan.experiment else "",
                )
            )
        return Look(
            time=now,
            seconds=self._period,
            endpoints=tuple(endpoints),
            instances=instances,
            snapshot=number,
            published=published.published if published else 0.0,
            releases=releases,
        )
