"""Experiments: the list, and one with its intervals over time."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from starlette.datastructures import FormData
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from tidegate.console import lists, pictures
from tidegate.console.asking import LONGEST_REASON, Question, ask
from tidegate.console.shelf import Shelf
from tidegate.console.site import Site
from tidegate.control.access.caller import Caller
from tidegate.control.experiments.experiment import Experiment, Report
from tidegate.errors import InvalidInput

if TYPE_CHECKING:
    from tidegate.control.experiments.service import ExperimentService

MOST_EXPERIMENTS = 16


class Reports:
    """All reports of the experiments looked at last: read once, then only what is new; safe between threads."""

    def __init__(self, service: ExperimentService) -> None:
        self._service = service
        self._kept: Shelf[list[Report]] = Shelf(list, MOST_EXPERIMENTS)

    def of(self, name: str) -> list[Report]:
        """Oldest first. Raises NotFound, StoreAway."""
        with self._kept.hold(name) as kept:
            # Only the newest of the kept ones can have been replaced or thinned out meanwhile.
            fresh = self._service.reports(name, after=kept[-2].time if len(kept) > 1 else 0.0)
            kept[-1:] = fresh
            return list(kept)


def routes(site: Site) -> list[Route]:
    services = site.services
    kept_reports = Reports(services.experiments)

    def index(request: Request, visitor: Caller) -> Response:
        def read(count: int, after: str | None) -> list[Experiment]:
            return services.experiments.list(count, after)[0]

        cursor = request.query_params.get("cursor")
        found, following = lists.seen(visitor, read, cursor, lambda one: one.name, lambda one: one.spec.endpoint)
        return site.render(
            request, "experiments.html", visitor, section="Experiments", experiments=found, following=following
        )

    def show(request: Request, visitor: Caller) -> Response:
        experiment = visible(request, visitor)
        reports = kept_reports.of(experiment.name)
        newest = reports[-1] if reports else None
        charts: list[tuple[str, Any]] = []
        for metric in experiment.spec.metrics:
            picture = pictures.intervals(reports, metric.name)
            if picture is not None:
                charts.append((metric.name, picture))
        return site.render(
            request,
            "experiment.html",
            visitor,
            section="Experiments",
            experiment=experiment,
            report=newest,
            charts=charts,
            kinds={metric.name: metric for metric in experiment.spec.metrics},
        )

    def question(request: Request, visitor: Caller) -> Response:
        visitor.must("operate")
        return ask(site, request, visitor, question_of(visible(request, visitor).name))

    def stop(request: Request, visitor: Caller, form: FormData) -> Response:
        visitor.must("operate")
        experiment = visible(request, visitor)
        reason = str(form.get("reason", "")).strip()
        if not reason:
            return ask(site, request, visitor, question_of(experiment.name), "Say why: it goes into the audit log.")
        if len(reason) > LONGEST_REASON:
            raise InvalidInput(f"a reason has at most {LONGEST_REASON} characters")
        services.experiments.stop(experiment.name, who=visitor.who, reason=reason)
        return site.to(request, f"/experiments/{experiment.name}")

    def visible(request: Request, visitor: Caller) -> Experiment:
        experiment = services.experiments.get(request.path_params["name"])
        visitor.must_reach(experiment.spec.endpoint)
        return experiment

    return [
        Route("/experiments", site.page(index)),
        Route("/experiments/{name}", site.page(show)),
        Route("/experiments/{name}/stop", site.page(question)),
        Route("/experiments/{name}/stop", site.act(stop), methods=["POST"]),
    ]


def question_of(name: str) -> Question:
    return Question(
        section="Experiments",
        heading=f"Stop the experiment {name}?",
        warning="The control arm gets all the traffic back. What was counted stays; it cannot be started again.",
        target=f"/experiments/{name}/stop",
        back=f"/experiments/{name}",
        verb="Stop",
        glyph="pause",
        danger=True,
    )
