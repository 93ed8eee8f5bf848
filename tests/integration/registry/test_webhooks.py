"""MLflow's own webhooks, delivered by a real server to a listener on this machine."""

from __future__ import annotations

import contextlib
import queue
import threading
import time
import uuid
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tidegate import settings
from tidegate.control.registry.base import AliasMoved
from tidegate.control.registry.mlflow import MlflowRegistry
from tidegate.control.registry.webhooks import Event, VersionCreated, parse, verify
from tidegate.errors import NotAuthenticated
from tidegate.testing.models import write_affine_onnx

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]

SECRET = "shared between both"
SECONDS = 30.0


class Received(NamedTuple):
    headers: dict[str, str]
    body: bytes


class Listener(ThreadingHTTPServer):
    def __init__(self) -> None:
        self.received: queue.Queue[Received] = queue.Queue()
        super().__init__(("127.0.0.1", 0), Handler)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/api/v1/webhooks/mlflow"


class Handler(BaseHTTPRequestHandler):
    server: Listener

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.received.put(Received(dict(self.headers.items()), body))
        self.send_response(202)
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def listener() -> Iterator[Listener]:
    with Listener() as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@contextlib.contextmanager
def subscribed(address: str, url: str) -> Iterator[Any]:
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri=address, registry_uri=address)
    events = ["model_version.created", "model_version_alias.created", "model_version_alias.deleted"]
    webhook = client.create_webhook(f"tidegate-{uuid.uuid4().hex[:8]}", url, events, secret=SECRET)  # type: ignore[arg-type]
    try:
        yield client
    finally:
        client.delete_webhook(webhook.webhook_id)


def test_a_real_server_tells_of_versions_and_aliases(mlflow_server: str, listener: Listener, tmp_path: Path) -> None:
    """ "MLflow webhooks": what the registry tells reaches a server, signed, and is understood."""
    name = f"told-{uuid.uuid4().hex[:8]}"
    registry = MlflowRegistry(settings.Registry(kind="mlflow", uri=mlflow_server))
    with subscribed(mlflow_server, listener.url):
        registry.register(name, write_affine_onnx(tmp_path / "affine.onnx"), metadata={}, aliases=("champion",))
        registry.set_alias(name, "champion", None)
        events: list[Event] = []
        deliveries: set[str] = set()
        while len(events) < 3:
            received = listener.received.get(timeout=SECONDS)
            delivery = verify(received.headers, received.body, SECRET, time.time())
            event = parse(received.body)
            if getattr(event, "name", "") == name:
                deliveries.add(delivery.id)
                events.append(event)
    assert len(deliveries) == 3
    created = next(event for event in events if isinstance(event, VersionCreated))
    assert created.version == "1"
    assert created.run_id
    moves = [event for event in events if isinstance(event, AliasMoved)]
    # They are sent by several threads, so their order is not certain.
    assert sorted(moves, key=str) == sorted(
        [AliasMoved(name=name, alias="champion", version=version) for version in ("1", None)], key=str
    )
    with pytest.raises(NotAuthenticated):
        verify(received.headers, received.body, "another secret", time.time())
    with pytest.raises(NotAuthenticated, match="300 seconds"):
        verify(received.headers, received.body, SECRET, time.time() + 400)


def test_mlflows_own_test_call_is_understood(mlflow_server: str, listener: Listener) -> None:
    with subscribed(mlflow_server, listener.url) as client:
        (webhook,) = [found for found in client.list_webhooks() if found.url == listener.url]
        assert client.test_webhook(webhook.webhook_id, "model_version_alias.created").success
        received = listener.received.get(timeout=SECONDS)
    verify(received.headers, received.body, SECRET, time.time())
    assert parse(received.body) == AliasMoved(name="example_model", alias="example_alias", version="1")
