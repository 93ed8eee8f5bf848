"""Models: what the registry has, and who serves it."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from tidegate.console.site import Site
from tidegate.control.access.caller import Caller
from tidegate.control.figures import Look, Split
from tidegate.control.registry.base import ModelVersion


def routes(site: Site) -> list[Route]:
    def index(request: Request, visitor: Caller) -> Response:
        newest = sorted(site.services.registry.versions(""), key=lambda version: version.name)
        look = site.figures.look()
        models = [
            (version, servers(look, version.name, own, visitor), len(own))
            for version in newest
            for own in [site.services.registry.versions(version.name)]
        ]
        return site.render(request, "models.html", visitor, section="Models", models=models)

    def show(request: Request, visitor: Caller) -> Response:
        name = request.path_params["name"]
        versions = site.services.registry.versions(name)
        serving = servers(site.figures.look(), name, versions, visitor)
        return site.render(
            request, "model.html", visitor, section="Models", name=name, versions=versions, serving=serving
        )

    return [Route("/models", site.page(index)), Route("/models/{name}", site.page(show))]


def servers(look: Look, name: str, versions: list[ModelVersion], visitor: Caller) -> dict[str, list[tuple[str, Split]]]:
    """Version -> (endpoint, variant) pairs that serve it, of what the visitor may see: by the registered name, or by the
    file's address."""
    found: dict[str, list[tuple[str, Split]]] = {}
    by_uri = {version.uri: version.version for version in versions}
    numbers = {version.version for version in versions}
    for endpoint in look.endpoints:
        if not visitor.facts.reaches(endpoint.name):
            continue
        for split in endpoint.splits:
            version = split.version if split.model == name and split.version in numbers else by_uri.get(split.uri)
            if version is not None:
                found.setdefault(version, []).append((endpoint.name, split))
    return found
