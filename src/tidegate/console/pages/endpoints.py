"""Overview, and the page of one endpoint."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from tidegate.console import pictures, sentences
from tidegate.console.site import Site
from tidegate.control.access.caller import Caller
from tidegate.control.figures import EndpointFigures
from tidegate.control.releases.history import release_of
from tidegate.control.releases.release import Release
from tidegate.errors import NotFound

RECENT = 5
"""Ended releases shown."""
NEWEST = 100
"""Ended releases among which an endpoint's last one is looked for."""


def routes(site: Site) -> list[Route]:
    def card(endpoint: EndpointFigures, ended: list[Release]) -> dict[str, object]:
        """What the three cells of an endpoint say; ``ended`` are the newest releases that have ended."""
        release = endpoint.release
        configured = site.services.settings.endpoints.get(endpoint.name)
        header = unit_header(endpoint.name)
        return {
            "figures": endpoint,
            "release": release,
            "last": next((found for found in ended if found.endpoint == endpoint.name), None),
            "slo": configured.slo if configured else None,
            "live": sentences.live(endpoint),
            "gets": sentences.gets(release, header) if release else sentences.gets_without_release(endpoint, header),
        }

    def unit_header(name: str) -> str:
        configured = site.services.settings.endpoints.get(name)
        return configured.routing.unit_header if configured else ""

    def recent(visitor: Caller, endpoint: str | None = None) -> list[Release]:
        with site.services.store.read() as unit:
            rows = unit.releases.list(endpoint=endpoint, open=False, limit=NEWEST)
        return [release_of(row) for row in rows if visitor.facts.reaches(row.endpoint)]

    def overview(request: Request, visitor: Caller) -> Response:
        look = site.figures.look()
        ended = recent(visitor)
        said = " ".join(
            f"{release.endpoint}: {sentences.stage(release)}, {release.share / 100:g} percent."
            for release in look.releases
            if visitor.facts.reaches(release.endpoint)
        )
        return site.render(
            request,
            "overview.html",
            visitor,
            section="Overview",
            look=look,
            cards_=[
                card(endpoint, ended)
                for endpoint in sorted(look.endpoints, key=sentences.urgent)
                if visitor.facts.reaches(endpoint.name)
            ],
            ended=ended[:RECENT],
            announce=said,
        )

    def endpoint(request: Request, visitor: Caller) -> Response:
        name = request.path_params["name"]
        look = site.figures.look()
        found = look.endpoint(name)
        if found is None:
            raise NotFound(f"there is no endpoint {name[:80]}")
        visitor.must_reach(name)
        ended = recent(visitor, name)
        shown = [found.variants[split.variant] for split in found.splits if split.variant in found.variants]
        return site.render(
            request,
            "endpoint.html",
            visitor,
            section="Overview",
            look=look,
            card=card(found, ended),
            figures=found,
            shown=shown,
            latency=pictures.latency(shown),
            outputs=pictures.outputs({variant.variant: variant.outputs for variant in shown}),
            configured=site.services.settings.endpoints.get(name),
            ended=ended[:RECENT],
        )

    return [Route("/", site.page(overview)), Route("/endpoints/{name}", site.page(endpoint))]
