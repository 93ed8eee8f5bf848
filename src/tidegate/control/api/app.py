"""The control port's application: the API's resources, the console's pages, and the edge around both."""

from __future__ import annotations

from fastapi import APIRouter, FastAPI

from tidegate import __version__, console
from tidegate.control.api import (
    alerts,
    audit,
    baselines,
    batch_jobs,
    documents,
    drift_reports,
    endpoints,
    errors,
    experiments,
    feedback,
    health,
    instances,
    jobs,
    keys,
    models,
    monitors,
    releases,
    reports,
    retrainings,
    session,
    snapshots,
    stream,
    webhooks,
)
from tidegate.control.api.edge import Edge
from tidegate.control.api.services import Services

ROUTERS: tuple[APIRouter, ...] = (
    health.router,
    documents.router,
    releases.router,
    stream.router,
    endpoints.router,
    models.router,
    experiments.router,
    monitors.router,
    baselines.router,
    drift_reports.router,
    alerts.router,
    reports.router,
    retrainings.router,
    feedback.router,
    snapshots.router,
    instances.router,
    jobs.router,
    batch_jobs.router,
    keys.router,
    audit.router,
    webhooks.router,
    session.router,
)


def make_app(services: Services, *, with_console: bool = True) -> FastAPI:
    """Everything that answers on the control port."""
    app = FastAPI(
        title="Tidegate control API",
        version=__version__,
        openapi_url=None,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
    )
    app.state.services = services
    app.state.streams = stream.Streams()
    app.openapi = lambda: _document(app)  # type: ignore[method-assign]
    errors.install(app)
    for router in ROUTERS:
        app.router.routes.extend(router.routes)
    if with_console:
        console.mount(app, services)
    app.add_middleware(
        Edge,
        origins=services.settings.control.origins,
        correlation_header=services.settings.server.correlation_header,
        large={
            batch_jobs.UPLOADS: services.settings.jobs.max_upload_mb << 20,
            baselines.PATH: baselines.MOST_BYTES,
        },
    )
    return app


def _document(app: FastAPI) -> dict[str, object]:
    if app.openapi_schema is None:
        app.openapi_schema = documents.build(app)
    return app.openapi_schema
