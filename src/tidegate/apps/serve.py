"""``tidegate serve``: binds the port, then one serving process or a supervisor of several."""

from __future__ import annotations

import errno
import logging
import socket
from collections.abc import Callable

from tidegate import logs
from tidegate.apps.alone import Alone
from tidegate.apps.extras import need_store
from tidegate.apps.owner import Owner
from tidegate.apps.process import leave, run_loop
from tidegate.config import Loaded
from tidegate.errors import ConfigError
from tidegate.settings import Settings

logger = logging.getLogger("tidegate.serve")


def serve(loaded: Loaded, read: Callable[[], Loaded]) -> None:
    """Serves until stopped; ``read`` reads the settings again for a reload. Raises UserError when it cannot start."""
    settings = loaded.settings
    if not settings.endpoints:
        raise ConfigError("nothing to serve: name a model, or endpoints in tidegate.yaml")
    access = settings.access
    if access.keys_required and not (access.predict_key or access.operate_key or settings.store.url):
        raise ConfigError(
            "access.keys_required, and there is no key that anybody could have: set access.predict_key, store.url for keys "
            "made with tidegate, or access.keys_required: false to let everybody predict"
        )
    if settings.store.url:
        need_store(settings.store.url)
    logs.configure(settings.logs)
    listening = bind(settings.server.host, settings.server.port, "server")
    owner = Owner(loaded, read)
    if settings.server.workers > 1:
        from tidegate.apps.supervisor import Supervisor

        leave(Supervisor(owner, listening).run())
    else:
        run_loop(lambda: _serve_alone(owner, listening))
        leave(0)


def bind(host: str, port: int, section: str) -> socket.socket:
    """``section`` of the settings has host and port. Raises ConfigError that names the port and the way out when it is
    taken."""
    if not host:  # the system would take it for every address
        raise ConfigError(f"{section}.host is empty; give an address with --host, 0.0.0.0 for all of this machine")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listening = socket.socket(family, socket.SOCK_STREAM)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((host, port))
    except OSError as error:
        listening.close()
        if error.errno == errno.EADDRINUSE:
            raise ConfigError(f"port {port} is in use on {host}; choose another: --port, or {section}.port") from None
        raise ConfigError(
            f"cannot listen on {host}:{port}: {error.strerror}; choose others: {section}.host and {section}.port"
        ) from None
    listening.listen(2048)
    listening.setblocking(False)
    listening.set_inheritable(True)
    return listening


async def _serve_alone(owner: Owner, listening: socket.socket) -> None:
    settings = owner.desired.loaded.settings
    await Alone(owner, listening, lambda port, grpc_port: announce(settings, port, grpc_port)).run()


def announce(settings: Settings, port: int, grpc_port: int) -> None:
    host = "localhost" if settings.server.host in ("127.0.0.1", "0.0.0.0", "::", "::1") else settings.server.host  # noqa: S104
    names = ", ".join(settings.endpoints) if len(settings.endpoints) <= 10 else f"{len(settings.endpoints)} endpoints"
    logger.info("serving %s on http://%s:%d%s", names, host, port, f", gRPC on {grpc_port}" if grpc_port else "")
