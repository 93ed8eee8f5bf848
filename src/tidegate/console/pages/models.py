"""Models: what the registry has, and who serves it."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from tidegate.clock import Clock
from tidegate.console.shelf import Shelf
from tidegate.console.site import Site
from tidegate.control.access.caller import Caller
from tidegate.control.figures import Look, Split
from tidegate.control.registry.base import ModelVersion, Registry, RegistryAway

FRESH_SECONDS = 5.0
"""So long is shown what the registry told; every look of every viewer would be many calls of MLflow."""
MOST_MODELS = 100


class Told:
    """All versions of one model, or of each, or why there are none; and when the registry told it."""

    time = 0.0
    models: list[list[ModelVersion]] | None = None
    away: RegistryAway | None = None


class Models:
    """What the registry has, asked for every ``FRESH_SECONDS`` however many look; safe between threads."""

    def __init__(self, registry: Registry, clock: Clock) -> None:
        self._registry = registry
        self._clock = clock
        self._kept: Shelf[Told] = Shelf(Told, MOST_MODELS)

    def versions(self, name: str) -> list[ModelVersion]:
        """Newest first. Raises NotFound, RegistryAway."""
        return self._look(name)[0]

    def all(self) -> list[list[ModelVersion]]:
        """The versions of every model, by the models' names. Raises RegistryAway."""
        return self._look("")

    def _look(self, name: str) -> list[list[ModelVersion]]:
        with self._kept.hold(name) as told:
            known = told.models is not None or told.away is not None
            if not known or not 0 <= self._clock.monotonic() - told.time < FRESH_SECONDS:
                told.models, told.away = None, None
                try:
                    names = [name] if name else sorted(newest.name for newest in self._registry.versions(""))
                    told.models = [self._registry.versions(one) for one in names]
                except RegistryAway as error:  # or all viewers would wait for it, one after the other
                    told.away = error
                told.time = self._clock.monotonic()
            if told.models is None:
                assert told.away is not None
                raise RegistryAway(str(told.away))
            return told.models


def routes(site: Site) -> list[Route]:
    registered = Models(site.services.registry, site.services.clock)

    def index(request: Request, visitor: Caller) -> Response:
        look = site.figures.look()
        models = [(own[0], servers(look, own[0].name, own, visitor), len(own)) for own in registered.all() if own]
        return site.render(request, "models.html", visitor, section="Models", models=models)

    def show(request: Request, visitor: Caller) -> Response:
        name = request.path_params["name"]
        versions = registered.versions(name)
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
