"""The Open Inference Protocol v2 over gRPC, with Triton's repository and statistics calls and ``grpc.health.v1``.

grpcio and protobuf are imported when a server starts, which must be after the process was forked.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import os
import secrets
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from time import perf_counter
from typing import TYPE_CHECKING, Any

from tidegate import __version__, errors
from tidegate.errors import ConfigError, MalformedBody, MissingExtra, NotFound, RequestError, Unsupported
from tidegate.logs import CORRELATION
from tidegate.problems import nearest
from tidegate.protocols.access import Keys
from tidegate.protocols.base import Request, Role
from tidegate.protocols.calls import make_call
from tidegate.protocols.grpc_body import read_request, write_response
from tidegate.protocols.keyring import Keyring
from tidegate.protocols.v2 import (
    EXTENSIONS,
    apply_parameters,
    is_ready,
    model_metadata,
    model_statistics,
    repository_index,
    signature_of,
    target,
)
from tidegate.protocols.v2_body import select
from tidegate.protocols.v2_tensors import bind
from tidegate.settings import Access, Limits

if TYPE_CHECKING:
    from tidegate.serving.live import Endpoint
    from tidegate.serving.predict import Predictor

logger = logging.getLogger("tidegate.grpc")

SERVICE = "inference.GRPCInferenceService"
HEALTH = "grpc.health.v1.Health"

CODES: Mapping[type[BaseException], str] = {
    errors.RequestError: "INVALID_ARGUMENT",
    errors.BodyTooSlow: "DEADLINE_EXCEEDED",
    errors.NotFound: "NOT_FOUND",
    errors.NotAuthenticated: "UNAUTHENTICATED",
    errors.NotAllowed: "PERMISSION_DENIED",
    errors.MethodNotAllowed: "UNIMPLEMENTED",
    errors.Unsupported: "UNIMPLEMENTED",
    errors.Refused: "UNAVAILABLE",
    errors.QueueFull: "RESOURCE_EXHAUSTED",
    errors.RateLimited: "RESOURCE_EXHAUSTED",
    errors.DeadlineExceeded: "DEADLINE_EXCEEDED",
    errors.CallerGone: "CANCELLED",
    BaseException: "INTERNAL",
}
"""Status codes by class of error; a class that is not listed has that of its nearest base."""

_SERVING, _NOT_SERVING, _SERVICE_UNKNOWN = 1, 2, 3
_WATCH_SECONDS = 0.25
_MOST_WATCHERS = 256
_LONGEST_TEXT = 500
"""Characters of an error's text, which travels in a header that clients take up to 8 KiB of, percent-encoded."""

Method = Callable[[Any, Request, Any], Awaitable[Any]]
"""Maps a message, the call's metadata as a request, and gRPC's context to an answer."""


class GrpcServer:
    """One process's gRPC server, on the running event loop. ``share_port`` lets several processes listen on one port."""

    def __init__(
        self,
        predictor: Predictor,
        access: Access,
        limits: Limits,
        *,
        share_port: bool = False,
        max_calls: int = 10_000,
        correlation_header: str = "X-Request-Id",
        log_requests: str = "errors",
        keyring: Keyring | None = None,
    ) -> None:
        self._predictor = predictor
        self._live = predictor.live
        self._keys = Keys(access, keyring)
        self._limits = limits
        self._share_port = share_port
        self._max_calls = max_calls
        self._id_header = correlation_header.lower().encode("latin-1")
        self._log_requests = log_requests
        self._ids = itertools.count(1)
        self._id_prefix = secrets.token_hex(6)
        self._stopping = asyncio.Event()
        self._watchers = 0
        self._server: Any = None

    async def start(self, host: str, port: int) -> int:
        """Listens; gives the port, which a 0 lets the system choose. Raises MissingExtra or ConfigError."""
        os.environ.setdefault("GRPC_VERBOSITY", "NONE")  # its own lines on stderr are not for our users
        try:
            import grpc  # type: ignore[import-untyped]

            from tidegate.protocols.grpc_messages import classes

            self._messages = classes()
        except ImportError as error:
            raise MissingExtra("grpc", "serving over gRPC") from error
        self._grpc = grpc
        self._server = grpc.aio.server(
            options=[
                ("grpc.max_receive_message_length", self._limits.body_bytes),
                ("grpc.max_send_message_length", -1),
                ("grpc.so_reuseport", int(self._share_port)),
            ],
            maximum_concurrent_rpcs=self._max_calls,
        )
        self._server.add_generic_rpc_handlers(
            (
                grpc.method_handlers_generic_handler(SERVICE, self._inference_methods()),
                grpc.method_handlers_generic_handler(HEALTH, self._health_methods()),
            )
        )
        address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        try:
            bound: int = self._server.add_insecure_port(address)
        except RuntimeError as error:
            raise ConfigError(
                f"gRPC cannot listen on {address}: the port is taken or the address is not ours"
            ) from error
        await self._server.start()
        return bound

    async def stop(self, grace: float) -> None:
        """Takes no new calls; those in flight have ``grace`` seconds to end."""
        self._stopping.set()
        if self._server is not None:
            await self._server.stop(grace)

    def _inference_methods(self) -> dict[str, Any]:
        return {
            "ServerLive": self._unary("none", "ServerLiveRequest", self._server_live),
            "ServerReady": self._unary("none", "ServerReadyRequest", self._server_ready),
            "ModelReady": self._unary("none", "ModelReadyRequest", self._model_ready),
            "ServerMetadata": self._unary("none", "ServerMetadataRequest", self._server_metadata),
            "ModelMetadata": self._unary("predict", "ModelMetadataRequest", self._model_metadata),
            "ModelInfer": self._unary("predict", "ModelInferRequest", self._infer),
            "ModelStatistics": self._unary("predict", "ModelStatisticsRequest", self._statistics),
            "RepositoryIndex": self._unary("predict", "RepositoryIndexRequest", self._index),
            "RepositoryModelLoad": self._unary("operate", "RepositoryModelLoadRequest", self._load),
            "RepositoryModelUnload": self._unary("operate", "RepositoryModelUnloadRequest", self._unload),
        }

    def _health_methods(self) -> dict[str, Any]:
        return {
            "Check": self._unary("none", "HealthCheckRequest", self._health_check),
            "Watch": self._grpc.unary_stream_rpc_method_handler(self._health_watch, response_serializer=_serialized),
        }

    def _unary(self, role: Role, message_name: str, method: Method) -> Any:
        """A handler that parses here, so that a broken message is the client's error."""
        message_class = self._messages[message_name]

        async def handle(body: bytes, context: Any) -> Any:
            request = self._request(message_name.removesuffix("Request"), body, context)
            try:
                request.caller = self._keys.admit(role, request.headers, {})
                message = _parsed(message_class, body)
                named = getattr(message, "model_name", "") or getattr(message, "name", "")
                if request.caller is not None and named:
                    request.caller.check(named)
                return await method(message, request, context)
            except Exception as error:  # noqa: BLE001 - whatever happens, the client gets an answer
                return await self._abort(context, error, request)
            finally:
                if request.caller is not None:
                    request.caller.leave()

        return self._grpc.unary_unary_rpc_method_handler(handle, response_serializer=_serialized)

    def _request(self, method: str, body: bytes, context: Any) -> Request:
        """The call's metadata under the names of HTTP headers, so that both are read by the same code."""
        headers = {
            key.encode(): value if isinstance(value, bytes) else value.encode()
            for key, value in context.invocation_metadata() or ()
        }
        given = headers.get(self._id_header, b"")
        if 0 < len(given) <= 128 and given.isascii() and given.decode().isprintable():
            request_id = given.decode()
        else:
            request_id = f"{self._id_prefix}-{next(self._ids):x}"
        CORRELATION.set(request_id)
        return Request("POST", method, b"", headers, body, {}, request_id, perf_counter(), context.cancelled)

    async def _abort(self, context: Any, error: Exception, request: Request) -> None:
        code = code_of(error)
        text = str(error)[:_LONGEST_TEXT] or code
        trailing = [("x-request-id", request.request_id)]
        if code == "INTERNAL":
            logger.error("request failed", exc_info=error, extra={"correlation_id": request.request_id})
            text = f"the model could not answer; the operator finds the cause in the log under {request.request_id}"
        elif self._log_requests != "none":
            logger.info("%s: %s", request.path, type(error).__name__, extra={"status": code})
        if isinstance(error, errors.Refused):
            trailing.append(("grpc-retry-pushback-ms", str(max(1, int(min(error.retry_after, 60.0) * 1000)))))
        await context.abort(self._grpc.StatusCode[code], text, tuple(trailing))

    async def _infer(self, message: Any, request: Request, context: Any) -> Any:
        endpoint, version = target(self._live, message.model_name, message.model_version)
        try:
            return await self._infer_with(endpoint, version, message, request, context)
        except RequestError:  # in the tensors, the parameters or the variant's name, or found by the model
            endpoint.count("", "grpc", "invalid")
            raise

    async def _infer_with(self, endpoint: Endpoint, version: str, message: Any, request: Request, context: Any) -> Any:
        signature = signature_of(endpoint, version)
        sent = read_request(message)
        if signature.outputs:
            select(sent.outputs, [spec.name for spec in signature.outputs])
        inputs, rows = bind(signature, sent.inputs, endpoint.settings.max_rows)
        call = make_call(request, endpoint, inputs, rows, "grpc", version=version)
        apply_parameters(call, sent.parameters)
        remaining = context.time_remaining()
        if remaining is not None:
            call.deadline = min(call.deadline, perf_counter() + remaining)
        prediction = await self._predictor.predict(call)
        variant = prediction.variant if prediction.variant.isascii() else repr(prediction.variant.encode())
        context.set_trailing_metadata((("x-request-id", request.request_id), ("x-model-variant", variant)))
        return write_response(self._messages, sent, prediction.outputs, endpoint.name, prediction.version)

    async def _server_live(self, message: Any, request: Request, context: Any) -> Any:
        return self._messages["ServerLiveResponse"](live=True)

    async def _server_ready(self, message: Any, request: Request, context: Any) -> Any:
        return self._messages["ServerReadyResponse"](ready=await self._ready())

    async def _model_ready(self, message: Any, request: Request, context: Any) -> Any:
        endpoint, version = target(self._live, message.name, message.version)
        return self._messages["ModelReadyResponse"](ready=is_ready(endpoint, version))

    async def _server_metadata(self, message: Any, request: Request, context: Any) -> Any:
        answer = self._messages["ServerMetadataResponse"]
        return answer(name="tidegate", version=__version__, extensions=EXTENSIONS[1:])

    async def _model_metadata(self, message: Any, request: Request, context: Any) -> Any:
        return self._messages["ModelMetadataResponse"](
            **model_metadata(*target(self._live, message.name, message.version))
        )

    async def _statistics(self, message: Any, request: Request, context: Any) -> Any:
        if message.name:
            endpoint, version = target(self._live, message.name, message.version)
            found = model_statistics(self._live, endpoint, version)
        else:
            found = [entry for e in self._live.endpoints.values() for entry in model_statistics(self._live, e, "")]
        return self._messages["ModelStatisticsResponse"](model_stats=found)

    async def _index(self, message: Any, request: Request, context: Any) -> Any:
        return self._messages["RepositoryIndexResponse"](models=repository_index(self._live, message.ready))

    async def _load(self, message: Any, request: Request, context: Any) -> Any:
        if message.parameters:
            raise Unsupported("load takes no parameters here: models are configured on the server")
        await self._live.load_endpoint(message.model_name)
        return self._messages["RepositoryModelLoadResponse"]()

    async def _unload(self, message: Any, request: Request, context: Any) -> Any:
        await self._live.unload_endpoint(message.model_name)
        return self._messages["RepositoryModelUnloadResponse"]()

    async def _ready(self) -> bool:
        return not self._stopping.is_set() and not await self._live.probe()

    async def _health_check(self, message: Any, request: Request, context: Any) -> Any:
        status = await self._health(message.service)
        if status == _SERVICE_UNKNOWN:
            raise NotFound(f'no service "{message.service[:80]}"; an endpoint\'s name, "{SERVICE}" or "" are known')
        return self._messages["HealthCheckResponse"](status=status)

    async def _health(self, service: str) -> int:
        if service in ("", SERVICE):
            return _SERVING if await self._ready() else _NOT_SERVING
        endpoint = self._live.endpoints.get(service)
        if endpoint is None:
            return _SERVICE_UNKNOWN
        ready = not self._stopping.is_set() and not self._live.not_ready() and is_ready(endpoint, "")
        return _SERVING if ready else _NOT_SERVING

    async def _health_watch(self, body: bytes, context: Any) -> AsyncIterator[Any]:
        """Sends the status now and at each change, until the server stops."""
        if self._watchers >= _MOST_WATCHERS:
            await context.abort(self._grpc.StatusCode.RESOURCE_EXHAUSTED, "too many watchers")
        try:
            service = _parsed(self._messages["HealthCheckRequest"], body).service
        except MalformedBody as error:
            await context.abort(self._grpc.StatusCode.INVALID_ARGUMENT, str(error))
        self._watchers += 1
        try:
            last = None
            while True:
                stopping = self._stopping.is_set()
                status = await self._health(service)
                if status != last:
                    yield self._messages["HealthCheckResponse"](status=status)
                if stopping:
                    return
                last = status
                try:
                    await asyncio.wait_for(self._stopping.wait(), _WATCH_SECONDS)
                except TimeoutError:
                    continue
        finally:
            self._watchers -= 1


def code_of(error: BaseException) -> str:
    """Name of the status code."""
    return nearest(error, CODES)


def reserve_port(host: str, port: int) -> socket.socket:
    """A bound socket that does not listen: it keeps the port, and its number, for processes that will share it.

    Raises ConfigError when the port is taken. The caller keeps the socket open as long as the processes run.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        with socket.socket(family) as alone:
            alone.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            alone.bind((host, port))
            port = alone.getsockname()[1]
        shared = socket.socket(family)
        shared.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        shared.bind((host, port))
    except OSError as error:
        raise ConfigError(f"gRPC cannot listen on {host}:{port}: {error.strerror}") from error
    return shared


def _parsed(message_class: Any, body: bytes) -> Any:
    try:
        return message_class.FromString(body)
    except Exception as error:
        # protobuf raises DecodeError, and in rare cases others; all of them mean a broken message.
        raise MalformedBody("the message cannot be decoded") from error


def _serialized(message: Any) -> bytes:
    return message.SerializeToString()  # type: ignore[no-any-return]
