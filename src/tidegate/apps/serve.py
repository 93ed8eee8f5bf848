"""``tidegate serve``: binds the port, then one serving process or a supervisor of several."""

from __future__ import annotations

import asyncio
import errno
import logging
import signal
import socket
from collections.abc import Callable

from tidegate import logs
from tidegate.apps.owner import Desired, Owner, StateFile
from tidegate.apps.process import ServingProcess, leave, run_loop
from tidegate.config import Loaded
from tidegate.errors import ConfigError, UserError
from tidegate.settings import Settings

logger = logging.getLogger("tidegate.serve")

WATCH_SECONDS = 1.0


def serve(loaded: Loaded, read: Callable[[], Loaded]) -> None:
    """Serves until stopped; ``read`` reads the settings again for a reload. Raises UserError when it cannot start."""
    settings = loaded.settings
    if not settings.endpoints:
        raise ConfigError("nothing to serve: name a model, or endpoints in tidegate.yaml")
    logs.configure(settings.logs)
    listening = bind(settings.server.host, settings.server.port)
    owner = Owner(loaded, read)
    if settings.server.workers > 1:
        from tidegate.apps.supervisor import Supervisor

        leave(Supervisor(owner, listening).run())
    else:
        run_loop(lambda: _serve_alone(owner, listening))
        leave(0)


def bind(host: str, port: int) -> socket.socket:
    """Raises ConfigError that names the port and the way out when it is taken."""
    if not host:  # the system would take it for every address
        raise ConfigError("server.host is empty; give an address with --host, 0.0.0.0 for all of this machine")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listening = socket.socket(family, socket.SOCK_STREAM)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((host, port))
    except OSError as error:
        listening.close()
        if error.errno == errno.EADDRINUSE:
            raise ConfigError(f"port {port} is in use on {host}; choose another with --port") from None
        raise ConfigError(f"cannot listen on {host}:{port}: {error.strerror}; choose with --host and --port") from None
    listening.listen(2048)
    listening.setblocking(False)
    listening.set_inheritable(True)
    return listening


async def _serve_alone(owner: Owner, listening: socket.socket) -> None:
    """One process that owns its own configuration."""
    loop = asyncio.get_running_loop()
    settings = owner.desired.loaded.settings
    port = listening.getsockname()[1]
    state = StateFile(port)
    changing = asyncio.Lock()
    tasks: set[asyncio.Task[None]] = set()

    async def bring(desired: Callable[[], Desired]) -> None:
        async with changing:
            wanted = desired()
            await process.apply(wanted.loaded.settings, wanted.number, wanted.unloaded)
            owner.accept(wanted)

    async def operate(operation: str, endpoint: str) -> None:
        await bring(lambda: owner.operated(operation, endpoint))

    async def reload() -> None:
        try:
            await bring(owner.reread)
        except UserError as error:
            logger.error("reload failed, the previous state stays in force: %s", error)  # noqa: TRY400
            state.write(owner.desired.number, str(error))
        except Exception as error:
            logger.exception("reload failed, the previous state stays in force")
            state.write(owner.desired.number, type(error).__name__)
        else:
            state.write(owner.desired.number)

    async def watch() -> None:
        while True:
            await asyncio.sleep(WATCH_SECONDS)
            if await asyncio.to_thread(owner.changed):
                await reload()

    def begin(work: Callable[[], object]) -> None:
        task = loop.create_task(work())  # type: ignore[arg-type,var-annotated]
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    def ready(grpc_port: int) -> None:
        state.write(owner.desired.number)
        announce(settings, port, grpc_port)
        if settings.server.watch:
            begin(watch)

    process = ServingProcess(owner.desired.loaded, listening, operate=operate, on_ready=ready)
    process.handle_signals()
    if hasattr(signal, "SIGHUP"):
        loop.add_signal_handler(signal.SIGHUP, begin, reload)
    try:
        await process.run()
    finally:
        for task in tasks:
            task.cancel()
        state.remove()


def announce(settings: Settings, port: int, grpc_port: int) -> None:
    host = "localhost" if settings.server.host in ("127.0.0.1", "0.0.0.0", "::", "::1") else settings.server.host  # noqa: S104
    names = ", ".join(settings.endpoints) if len(settings.endpoints) <= 10 else f"{len(settings.endpoints)} endpoints"
    logger.info("serving %s on http://%s:%d%s", names, host, port, f", gRPC on {grpc_port}" if grpc_port else "")
