"""Alerts: what is raised, what happened to one of them, and silence for a while."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from starlette.datastructures import FormData
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from tidegate.console import lists, sentences, text
from tidegate.console.asking import WRONG, Choices, Question, ask, reason_in
from tidegate.console.site import Site
from tidegate.console.watch import RAISED, alert_of
from tidegate.control.access.caller import Caller
from tidegate.control.monitoring.raising import AlertChange
from tidegate.control.monitoring.records import Alert
from tidegate.errors import NotFound

ENDED = ("resolved", "ok")
SECONDS = ((3600, "for an hour"), (14_400, "for 4 hours"), (86_400, "for a day"), (604_800, "for a week"))
ACTIONS = ("silence", "unsilence")


class Line(NamedTuple):
    """What happened to an alert. ``mark`` is the tone of its pin."""

    time: float
    mark: str
    heading: str
    who: str
    words: str
    notified: bool


def routes(site: Site) -> list[Route]:
    services = site.services

    def index(request: Request, visitor: Caller) -> Response:
        endpoint = request.query_params.get("endpoint") or None
        if endpoint is not None:
            visitor.must_reach(endpoint)
        among = visitor.facts.endpoints
        with services.store.read() as unit:
            raised = [alert_of(row.body) for row in unit.alerts.list(endpoint, RAISED, 200, among=among)]
            cursor = request.query_params.get("cursor")
            rows = unit.alerts.list(endpoint, ENDED, lists.PAGE + 1, cursor, among)
        ended, following = lists.cut(rows, lambda row: row.id)
        raised.sort(key=lambda alert: (alert.state != "firing", silenced(alert), -alert.changed))
        return site.render(
            request,
            "alerts.html",
            visitor,
            section="Alerts",
            endpoint=endpoint,
            raised=raised,
            ended=[alert_of(row.body) for row in ended],
            following=following,
            announce="; ".join(f"{alert.endpoint}: {alert.text}" for alert in raised[:5] if alert.state == "firing"),
        )

    def show(request: Request, visitor: Caller) -> Response:
        alert = visible(request, visitor)
        return site.render(
            request,
            "alert.html",
            visitor,
            section="Alerts",
            alert=alert,
            quiet=silenced(alert),
            happened=[
                line_of(time, change) for _, time, _, change in reversed(services.monitoring.alert_changes(alert.id))
            ],
            watched=getattr(services.settings.endpoints.get(alert.endpoint), "monitor", None) is not None,
            announce=f"{alert.state}: {alert.text}",
        )

    def question(request: Request, visitor: Caller) -> Response:
        visitor.must("operate")
        alert = visible(request, visitor)
        return ask(site, request, visitor, question_of(alert, action_of(request)))

    def act(request: Request, visitor: Caller, form: FormData) -> Response:
        visitor.must("operate")
        alert, action = visible(request, visitor), action_of(request)
        reason = reason_in(form)
        seconds = str(form.get("seconds", SECONDS[0][0]))
        wrong = ""
        if not reason:
            wrong = WRONG
        elif action == "silence" and seconds not in {str(choice) for choice, _ in SECONDS}:
            wrong = "choose from the list how long"
        if wrong:
            return ask(site, request, visitor, question_of(alert, action), wrong)
        if action == "silence":
            services.monitoring.silence(alert.id, float(seconds), who=visitor.who, reason=reason)
        else:
            services.monitoring.unsilence(alert.id, who=visitor.who, reason=reason)
        return site.to(request, f"/alerts/{alert.id}")

    def visible(request: Request, visitor: Caller) -> Alert:
        id_ = request.path_params["id"]
        with services.store.read() as unit:
            row = unit.alerts.get(id_)
        if row is None:
            raise NotFound(f"there is no alert {id_[:80]}")
        visitor.must_reach(row.endpoint)
        return alert_of(row.body)

    def silenced(alert: Alert) -> bool:
        return alert.silenced_until > services.clock.wall()

    return [
        Route("/alerts", site.page(index)),
        Route("/alerts/{id}", site.page(show)),
        Route("/alerts/{id}/{action}", site.page(question)),
        Route("/alerts/{id}/{action}", site.act(act), methods=["POST"]),
    ]


def question_of(alert: Alert, action: str) -> Question:
    what = f"{sentences.about(alert)} of {alert.endpoint}"
    silencing = action == "silence"
    return Question(
        section="Alerts",
        heading=f"Silence {what}?" if silencing else f"Notify about {what} again?",
        warning="Nobody is notified and no training starts because of it meanwhile. It is watched on."
        if silencing
        else "The silence ends at once.",
        target=f"/alerts/{alert.id}/{action}",
        back=f"/alerts/{alert.id}",
        verb="Silence" if silencing else "End the silence",
        glyph=action,
        choices=Choices("seconds", "How long", SECONDS, SECONDS[0][0]) if silencing else None,
    )


def action_of(request: Request) -> str:
    action = str(request.path_params["action"])
    if action not in ACTIONS:
        raise NotFound(f"an alert cannot {action[:40]}")
    return action


HEADINGS: Mapping[str, str] = {
    "pending": "Seen, not confirmed yet", "fired": "Fired", "resolved": "Resolved", "ok": "Gone before it fired",
    "silence": "Silenced", "unsilence": "Silence ended", "silence_over": "Silence was over", "told": "Told again",
}  # fmt: skip
MARKS: Mapping[str, str] = {"fired": "bad", "pending": "wait", "resolved": "good", "ok": "good"}


def line_of(time: float, change: AlertChange) -> Line:
    """What happened, as the page shows it: a silence with its end and its reason, anything else with its sentence."""
    heading = HEADINGS.get(change.event, text.words(change.event).capitalize())
    return Line(time, MARKS.get(change.event, ""), heading, change.who, change.reason or change.text, change.notified)
