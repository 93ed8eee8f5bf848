"""Monitoring: what is watched, one endpoint over time, and one of its features then and now."""

from __future__ import annotations

from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from tidegate.console import courses, heat, pictures, text
from tidegate.console.site import Site
from tidegate.console.watch import BASES, RAISED, alert_of
from tidegate.control.access.caller import Caller
from tidegate.control.monitoring.monitor import Monitor
from tidegate.control.monitoring.records import Performance
from tidegate.errors import InvalidInput, NotFound
from tidegate.monitor_plan import MonitorPlan
from tidegate.section import seconds_of

POLL_SECONDS = 10
"""Windows change slower than releases do."""
MOST_BASELINES = 10
LATEST = 4_000_000_000.0
"""No window is asked for after this, in seconds since the epoch."""


def routes(site: Site) -> list[Route]:
    services, watch = site.services, site.watch

    def index(request: Request, visitor: Caller) -> Response:
        plans = watch.plans(visitor)
        found = [(one, plans[one.endpoint]) for one in services.monitoring.views.monitors() if one.endpoint in plans]
        firing = watch.firing(visitor)
        found.sort(key=lambda pair: (not firing.get(pair[0].endpoint), not needs_a_look(pair[0]), pair[0].endpoint))
        unwatched = [
            name
            for name, one in services.settings.endpoints.items()
            if one.monitor is None and visitor.facts.reaches(name)
        ]
        return site.render(
            request,
            "monitoring.html",
            visitor,
            section="Monitoring",
            every=POLL_SECONDS,
            watched=found,
            unwatched=unwatched,
            metric_of=metric_of,
            announce=" ".join(f"{name}: {text.plural(count, 'alert')} firing." for name, count in firing.items()),
        )

    def endpoint(request: Request, visitor: Caller) -> Response:
        name, plan = wanted(request, visitor)
        since, until = between(request, plan)
        monitor = services.monitoring.views.monitor(name, plan)
        windows = services.monitoring.views.performance(name, since, until)
        with services.store.read() as unit:
            alerts = [alert_of(row.body) for row in unit.alerts.list(name, RAISED)]
            baselines = unit.baselines.list(name, MOST_BASELINES)
        seen = {one.variant for part in (monitor.variants, windows, alerts) for one in part}
        variants = ["baseline", *sorted(seen - {"baseline", ""})]
        variant = request.query_params.get("variant") or variants[0]
        reports = watch.reports(name, since, until, variant)
        every = request.query_params.get("all") == "1"
        newest = next((report for report in reversed(reports) if not report.note), reports[-1] if reports else None)
        return site.render(
            request,
            "monitored.html",
            visitor,
            section="Monitoring",
            every=POLL_SECONDS,
            name=name,
            plan=plan,
            monitor=monitor,
            since=since,
            until=until,
            latest="until" not in request.query_params,
            variant=variant,
            variants=variants,
            without=next((one.note for one in monitor.variants if one.variant == variant), ""),
            alerts=alerts,
            grid=heat.grid(reports, variant, features=None if every else heat.MOST_FEATURES),
            newest=newest,
            findings=sorted(newest.findings, key=lambda found: (not found.broken, found.column)) if newest else [],
            baselines=baselines,
            **quality(request, name, plan, windows, since, until),
            announce=f"{len(alerts)} alerts" if alerts else "",
        )

    def quality(
        request: Request, name: str, plan: MonitorPlan, windows: list[Performance], since: float, until: float
    ) -> dict[str, Any]:
        """What is shown of the labels: one metric, by the time of the prediction or of the label's arrival."""
        by = BASES.get(request.query_params.get("by", ""), "prediction")
        metrics = sorted({metric for window in windows for metric in window.metrics})
        asked = request.query_params.get("metric", "")
        metric = asked if asked in metrics else courses.main_metric(metrics, plan.performance.bounds)
        bound = plan.performance.bounds.get(metric)
        bounds = {
            f"{word} {value:g}": value
            for word, value in (("at least", bound.min), ("at most", bound.max))
            if value is not None
        } if bound else {}  # fmt: skip
        marks = watch.marks(name, since, until)
        picture = courses.quality(windows, metric, by, marks, bounds) if metric else None
        return {"by": by, "metric": metric, "metrics": metrics, "quality": picture, "marks": marks, "bounds": bounds}

    def feature(request: Request, visitor: Caller) -> Response:
        name, plan = wanted(request, visitor)
        column = request.query_params.get("name", "")
        variant = request.query_params.get("variant") or "baseline"
        since, until = between(request, plan)
        reports = watch.reports(name, since, until, variant)
        own = [report for report in reports if any(result.column == column for result in report.columns)]
        at = number(request, "start")
        shown = next((report for report in own if report.start == at), None) if at is not None else None
        shown = shown or next((report for report in reversed(own) if not report.note), own[-1] if own else None)
        if shown is None:
            raise NotFound(
                f"nothing was checked of the feature {column[:80]!r} of {name}'s {variant[:80]} in this time"
            )
        index = own.index(shown)
        result = next(result for result in shown.columns if result.column == column)
        try:
            bars = services.monitoring.views.distribution(name, column, variant, shown.start).bars
            shape, gone = pictures.shape(bars), ""
        except NotFound as error:
            shape, gone = None, str(error)
        return site.render(
            request,
            "feature.html",
            visitor,
            section="Monitoring",
            every=POLL_SECONDS,
            name=name,
            plan=plan,
            column=column,
            variant=variant,
            report=shown,
            result=result,
            shape=shape,
            gone=gone,
            course=courses.statistic(own, column, watch.marks(name, since, until)),
            findings=[found for found in shown.findings if found.column == column],
            before=own[index - 1].start if index else None,
            after=own[index + 1].start if index + 1 < len(own) else None,
        )

    def wanted(request: Request, visitor: Caller) -> tuple[str, MonitorPlan]:
        name = request.path_params["name"]
        configured = services.settings.endpoints.get(name)
        visitor.must_reach(name)
        if configured is None or configured.monitor is None:
            raise NotFound(
                f"the endpoint {name[:80]} is not watched; add endpoints.{name[:80]}.monitor to tidegate.yaml"
            )
        return name, configured.monitor

    def between(request: Request, plan: MonitorPlan) -> tuple[float, float]:
        until = number(request, "until")
        end = services.clock.wall() if until is None else until
        return end - heat.MOST_WINDOWS * seconds_of(plan.window), end

    return [
        Route("/monitoring", site.page(index)),
        Route("/monitoring/{name}", site.page(endpoint)),
        Route("/monitoring/{name}/feature", site.page(feature)),
    ]


def needs_a_look(monitor: Monitor) -> bool:
    """Something is odd, alert or not."""
    return bool(monitor.note) or any(one.drifted or one.broken for one in monitor.variants)


def metric_of(found: Performance, plan: MonitorPlan) -> str:
    """The one that is shown where there is room for one."""
    return courses.main_metric(found.metrics, plan.performance.bounds)


def number(request: Request, name: str) -> float | None:
    """A time in the query. Raises InvalidInput."""
    value = request.query_params.get(name)
    if value is None:
        return None
    try:
        found = float(value)
    except ValueError:
        found = -1.0
    if not 0 <= found <= LATEST:
        raise InvalidInput(f"{name} is a time in seconds since the epoch")
    return found
