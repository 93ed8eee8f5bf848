"""Overview, and the page of one endpoint."""

from __future__ import annotations

from collections.abc import Iterable

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


def routes(site: Site) -> list[Route]:
    def card(endpoint: EndpointFigures, last: Release | None) -> dict[str, object]:
        """What the three cells of an endpoint say; ``last`` is its newest release that has ended."""
        release = endpoint.release
        configured = site.services.settings.endpoints.get(endpoint.name)
        header = unit_header(endpoint.name)
        return {
            "figures": endpoint,
            "release": release,
            "last": last,
            "slo": configured.slo if configured else None,
            "live": sentences.live(endpoint),
            "gets": sentences.gets(release, header) if release else sentences.gets_without_release(endpoint, header),
        }

    def unit_header(name: str) -> str:
        configured = site.services.settings.endpoints.get(name)
        return configured.routing.unit_header if configured else ""

    def ended(names: Iterable[str | None], most: int) -> list[Release]:
        """The newest that have ended of each of these endpoints, ``most`` of each; None stands for all of them."""
        with site.services.store.read() as unit:
            rows = [row for name in names for row in unit.releases.list(endpoint=name, open=False, limit=most)]
        return [release_of(row) for row in sorted(rows, key=lambda row: row.created, reverse=True)]

    def overview(request: Request, visitor: Caller) -> Response:
        look = site.figures.look()
        shown = [one for one in look.endpoints if visitor.facts.reaches(one.name)]
        last = {release.endpoint: release for release in ended((one.name for one in shown), 1)}
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
            cards_=[card(one, last.get(one.name)) for one in sorted(shown, key=sentences.urgent)],
            ended=ended(visitor.facts.endpoints or (None,), RECENT)[:RECENT],
            announce=said,
        )

    def endpoint(request: Request, visitor: Caller) -> Response:
        name = request.path_params["name"]
        look = site.figures.look()
        found = look.endpoint(name)
        if found is None:
            raise NotFound(f"there is no endpoint {name[:80]}")
        visitor.must_reach(name)
        before = ended((name,), RECENT)
        shown = [found.variants[split.variant] for split in found.splits if split.variant in found.variants]
        return site.render(
            request,
            "endpoint.html",
            visitor,
            section="Overview",
            look=look,
            card=card(found, before[0] if before else None),
            figures=found,
            shown=shown,
            latency=pictures.latency(shown),
            outputs=pictures.outputs({variant.variant: variant.outputs for variant in shown}),
            configured=site.services.settings.endpoints.get(name),
            ended=before,
        )

    return [Route("/", site.page(overview)), Route("/endpoints/{name}", site.page(endpoint))]
