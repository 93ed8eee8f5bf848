"""What every page has: the services, the templates, the visitor, and answers to errors that people can read."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import quote, urlencode

import jinja2
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import FormData
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response

from tidegate.clock import Clock
from tidegate.console import sentences, text
from tidegate.console.assets import Assets
from tidegate.console.traces import Traces
from tidegate.console.watch import Watch
from tidegate.control.access.audit import Origin, acting_from
from tidegate.control.access.caller import Caller
from tidegate.control.api.calls import COOKIE, address_of, check_csrf, check_same_origin
from tidegate.control.api.errors import request_id_of
from tidegate.control.figures import Figures
from tidegate.errors import NotAllowed, NotAuthenticated, NotFound, Refused, RequestError, UserError
from tidegate.settings import Settings

if TYPE_CHECKING:
    from tidegate.control.access.gate import Access
    from tidegate.control.experiments.service import ExperimentService
    from tidegate.control.jobs.queue import Queue
    from tidegate.control.monitoring.service import MonitorService
    from tidegate.control.registry.base import Registry
    from tidegate.control.releases.service import ReleaseService
    from tidegate.control.training.retrain import RetrainService
    from tidegate.storage.store import Store

logger = logging.getLogger("tidegate.console")

POLL_SECONDS = 2
NAVIGATION = (
    ("/", "Overview", "overview"),
    ("/releases", "Releases", "release"),
    ("/experiments", "Experiments", "experiment"),
    ("/models", "Models", "model"),
    ("/monitoring", "Monitoring", "monitoring"),
    ("/alerts", "Alerts", "alert"),
    ("/retrainings", "Retraining", "retraining"),
    ("/reports", "Reports", "report"),
    ("/jobs", "Jobs", "job"),
    ("/audit", "Audit", "audit"),
    ("/keys", "Keys", "key"),
)
HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; font-src 'self'; img-src 'self' data:; "
        "connect-src 'self'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
    ),
    "Referrer-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}


class Services(Protocol):
    """What the console needs; the control API's own services have it."""

    @property
    def store(self) -> Store: ...
    @property
    def registry(self) -> Registry: ...
    @property
    def releases(self) -> ReleaseService: ...
    @property
    def experiments(self) -> ExperimentService: ...
    @property
    def figures(self) -> Figures: ...
    @property
    def jobs(self) -> Queue: ...
    @property
    def monitoring(self) -> MonitorService: ...
    @property
    def retraining(self) -> RetrainService: ...
    @property
    def access(self) -> Access: ...
    @property
    def settings(self) -> Settings: ...
    @property
    def clock(self) -> Clock: ...


Page = Callable[[Request, Caller], Response]
Act = Callable[[Request, Caller, FormData], Response]


class Site:
    """One per control plane; safe between threads."""

    def __init__(self, services: Services) -> None:
        self.services = services
        self.assets = Assets()
        self.figures = services.figures
        self.traces = Traces(services.store)
        self.watch = Watch(services.store, services.settings, services.clock)
        folder = Path(__file__).parent / "templates"
        self._templates = jinja2.Environment(
            loader=jinja2.FileSystemLoader(folder),
            autoescape=True,
            undefined=jinja2.StrictUndefined,
            auto_reload=False,  # a running console goes on while its files are replaced
            trim_blocks=True,
            lstrip_blocks=True,
        )
        names = ("number", "short", "percent", "share", "rate", "seconds", "duration", "version", "words", "sentence")
        self._templates.filters |= {
            name: getattr(text, name)
            for name in (*names, "pretty", "data", "absolute", "signed", "person", "name_and_id", "stop")
        }
        self._templates.globals |= {"say": sentences, "plural": text.plural, "DASH": text.DASH}
        macros = self._templates.get_template("macros.html").module
        self._templates.globals |= {
            name: macro for name, macro in vars(macros).items() if isinstance(macro, jinja2.runtime.Macro)
        }

    def render(
        self, request: Request, template: str, visitor: Caller | None, *, status: int = 200, **context: Any
    ) -> HTMLResponse:
        """A page, or only its live part where htmx asks again."""
        root = request.scope.get("root_path", "")
        now = self.services.clock.wall()
        partial = request.headers.get("hx-request") == "true"
        framing = context.pop("framing", False)
        page = self._templates.get_template(template).render(
            root=root,
            asset=lambda name: root + self.assets.path(name),
            navigation=NAVIGATION,
            section=context.pop("section", ""),
            here=request.url.path + (f"?{request.url.query}" if request.url.query else ""),
            every=context.pop("every", POLL_SECONDS),
            link=lambda **changes: linked(request, changes),
            firing=self.watch.firing(visitor) if visitor else {},
            partial=partial,
            visitor=visitor,
            may_change=visitor is not None and visitor.facts.allows("operate"),
            now=now,
            when=lambda then: text.time(then, now),
            **context,
        )
        headers = {**HEADERS, "Vary": "HX-Request"}
        if framing:
            headers["Content-Security-Policy"] += "; frame-src 'self'"
        return HTMLResponse(page, status, headers=headers)

    def page(self, show: Page) -> Callable[[Request], Any]:
        """A GET for whoever is signed in."""

        async def respond(request: Request) -> Response:
            return await run_in_threadpool(self._answer, request, lambda visitor: show(request, visitor))

        return respond

    def act(self, change: Act) -> Callable[[Request], Any]:
        """A POST with a form that carries the session's token."""

        async def respond(request: Request) -> Response:
            form = await request.form(max_files=0, max_fields=50)

            def checked(visitor: Caller) -> Response:
                check_same_origin(request)
                check_csrf(visitor, str(form.get("csrf", "")))
                with acting_from(Origin(visitor.address, visitor.key, request_id_of(request))):
                    answer = change(request, visitor, form)
                self.figures.forget()
                self.watch.forget()
                return answer

            return await run_in_threadpool(self._answer, request, checked)

        return respond

    def visitor(self, request: Request) -> Caller:
        """Raises NotAuthenticated, RateLimited."""
        return self.services.access.by_cookie(request.cookies.get(COOKIE, ""), address_of(request))

    def to(self, request: Request, path: str) -> RedirectResponse:
        return RedirectResponse(request.scope.get("root_path", "") + path, 303, headers=HEADERS)

    def _answer(self, request: Request, work: Callable[[Caller], Response]) -> Response:
        visitor: Caller | None = None
        try:
            visitor = self.visitor(request)
            return work(visitor)
        except NotAuthenticated:
            return self._to_the_door(request)
        except (RequestError, UserError, Refused) as error:
            return self.sorry(request, visitor, error)

    def _to_the_door(self, request: Request) -> Response:
        root = request.scope.get("root_path", "")
        wanted = request.url.path.removeprefix(root) if request.method == "GET" else "/"
        door = f"{root}/sign-in" + (f"?next={quote(wanted)}" if wanted != "/" else "")
        if request.headers.get("hx-request") == "true":
            return Response(status_code=401, headers={**HEADERS, "HX-Redirect": door})
        return RedirectResponse(door, 303, headers=HEADERS)

    def sorry(self, request: Request, visitor: Caller | None, error: Exception) -> Response:
        """An error as a page: what happened, and what to do next."""
        status, title = next(found for kind, found in ERRORS.items() if isinstance(error, kind))
        retry = getattr(error, "retry_after", None)
        answer = self.render(request, "error.html", visitor, status=status, title=title, detail=str(error), retry=retry)
        if retry is not None:
            answer.headers["Retry-After"] = str(max(1, round(retry)))
        return answer


def linked(request: Request, changes: Mapping[str, object]) -> str:
    """This page with another query; None takes a part out."""
    query = {**request.query_params, **changes}
    written = urlencode({name: value for name, value in query.items() if value is not None})
    return request.url.path + (f"?{written}" if written else "")


ERRORS: Mapping[type[Exception], tuple[int, str]] = {
    NotFound: (404, "There is nothing here"),
    NotAllowed: (403, "This key may not do that"),
    RequestError: (422, "That cannot be done"),
    UserError: (409, "That cannot be done now"),
    Refused: (503, "Not at the moment"),
}
"""Statuses and headings; the first class that fits."""
