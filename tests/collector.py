"""A real OTLP receiver for traces, over gRPC and over HTTP, that can be slow, cut connections, go away and come back."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Literal

import grpc  # type: ignore[import-untyped]
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2 as messages
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2_grpc as services

Mood = Literal["well", "slow", "reset"]


class Spans:
    """What was received, and how the receiver behaves."""

    def __init__(self) -> None:
        self.mood: Mood = "well"
        self.received: list[Any] = []
        self.resources: list[dict[str, str]] = []
        self.hurry = threading.Event()
        """Set at the end, so that nobody waits for a slow answer."""
        self._lock = threading.Lock()

    def take(self, request: Any) -> None:
        with self._lock:
            for resource in request.resource_spans:
                self.resources.append(attributes(resource.resource))
                for scope in resource.scope_spans:
                    self.received += scope.spans

    def named(self, name: str, correlation: str = "") -> list[Any]:
        with self._lock:
            return [
                span
                for span in self.received
                if span.name == name and (not correlation or attributes(span).get("correlation.id") == correlation)
            ]


def attributes(holder: Any) -> dict[str, Any]:
    return {pair.key: getattr(pair.value, pair.value.WhichOneof("value")) for pair in holder.attributes}


class _Service(services.TraceServiceServicer):
    def __init__(self, spans: Spans) -> None:
        self._spans = spans

    def Export(self, request: Any, context: Any) -> Any:  # noqa: N802 - the service's name for it
        self._spans.take(request)
        return messages.ExportTraceServiceResponse()


@contextlib.contextmanager
def grpc_collector(spans: Spans) -> Iterator[str]:
    server = grpc.server(ThreadPoolExecutor(2))
    services.add_TraceServiceServicer_to_server(_Service(spans), server)  # type: ignore[no-untyped-call]
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        server.stop(None).wait(5)


class _Listening(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, port: int, spans: Spans) -> None:
        self.spans = spans
        super().__init__(("127.0.0.1", port), _Handler)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients that leave are expected here."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Listening

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        spans = self.server.spans
        if spans.mood == "reset":
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.connection.close()
            return
        if spans.mood == "slow":
            spans.hurry.wait(60)
        request = messages.ExportTraceServiceRequest()
        request.ParseFromString(body)
        spans.take(request)
        answer = messages.ExportTraceServiceResponse().SerializeToString()
        self.send_response(200)
        self.send_header("content-type", "application/x-protobuf")
        self.send_header("content-length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class's name for it
        pass


@contextlib.contextmanager
def http_collector(spans: Spans, port: int = 0) -> Iterator[str]:
    server = _Listening(port, spans)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        spans.hurry.set()
        server.shutdown()
        server.server_close()
        thread.join(5)
