"""Puts the console's pages on the control port, beside the API."""

from __future__ import annotations

from typing import TYPE_CHECKING

from starlette.routing import Route

from tidegate.console.pages import (
    alerts,
    audit,
    door,
    endpoints,
    experiments,
    jobs,
    keys,
    models,
    monitoring,
    releases,
    reports,
    retrainings,
)
from tidegate.console.site import Services, Site

if TYPE_CHECKING:
    from fastapi import FastAPI


def mount(app: FastAPI, services: Services) -> None:
    """Adds the pages below ``/`` and the files that they load below ``/static``; none is in the OpenAPI document."""
    site = Site(services)
    routes = [Route("/static/{version}/{name:path}", site.assets.answer, name="console-static")]
    routes.append(Route("/favicon.ico", site.assets.icon, include_in_schema=False))
    for part in (
        door,
        endpoints,
        releases,
        experiments,
        models,
        monitoring,
        alerts,
        retrainings,
        reports,
        jobs,
        audit,
        keys,
    ):
        routes += part.routes(site)
    app.router.routes.extend(routes)
