"""R8, the network to the store: slow, or cut again and again. Predictions go on, and nothing that was counted is lost."""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy.engine import make_url

from tests.caller import Load, sum_of_row
from tests.chaos.test_bridge import Control, answer, config, fake
from tests.process import serving, until
from tests.services import running
from tidegate.types import Variant

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]

SLOW_SECONDS = 0.4
"""For each piece of every answer of the database."""
_AT_ONCE = struct.pack("ii", 1, 0)
"""Closed with a reset."""


class Proxy:
    """Passes bytes on to a port of this machine, as well as ``delay`` and ``cutting`` allow."""

    def __init__(self, port: int) -> None:
        self.delay = 0.0
        self.cutting = False
        self.cut = 0
        self._to = port
        self._ended = threading.Event()
        self._open: set[socket.socket] = set()
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listening.getsockname()[1])
        threading.Thread(target=self._accept, daemon=True).start()

    def reset(self) -> None:
        for one in list(self._open):
            self._drop(one)

    def close(self) -> None:
        self._ended.set()
        self._listening.close()
        self.reset()

    def _accept(self) -> None:
        while not self._ended.is_set():
            try:
                client, _ = self._listening.accept()
            except OSError:  # closed
                return
            self._open.add(client)
            if self.cutting:
                self._drop(client)
                continue
            server = socket.create_connection(("127.0.0.1", self._to))
            self._open.add(server)
            threading.Thread(target=self._pass, args=(client, server, False), daemon=True).start()
            threading.Thread(target=self._pass, args=(server, client, True), daemon=True).start()

    def _pass(self, source: socket.socket, target: socket.socket, answers: bool) -> None:
        try:
            while data := source.recv(65536):
                if answers and self.delay:
                    self._ended.wait(self.delay)
                target.sendall(data)
        except OSError:  # one of the two is gone, and so the other goes
            pass
        for one in (source, target):
            self._drop(one)

    def _drop(self, one: socket.socket) -> None:
        if one not in self._open:
            return
        self._open.discard(one)
        self.cut += 1
        try:
            one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _AT_ONCE)
            one.shutdown(socket.SHUT_RD)
        except OSError:  # its other end was faster
            pass
        one.close()


@pytest.fixture
def database(tmp_path: Path) -> Iterator[tuple[Control, Proxy, str]]:
    """Control on the database itself, and the URL that leads there through the proxy."""
    with running("postgresql", tmp_path / "postgres") as started:
        url = make_url(started.url)
        control, proxy = Control(started.url), Proxy(url.port or 0)
        yield control, proxy, url.set(port=proxy.port).render_as_string(hide_password=False)
        proxy.close()
        control.store.close()


@pytest.mark.parametrize("ill", ["slow", "reset"])
def test_a_bad_network_to_the_store_harms_no_answer(
    tmp_path: Path, database: tuple[Control, Proxy, str], ill: str
) -> None:
    control, proxy, through = database
    settings = config(control)
    settings["store"]["url"] = through
    folder = tmp_path / "server"
    folder.mkdir()

    def counted() -> int:
        with control.store.read() as unit:
            return sum(window.requests for window in unit.windows.between("sum", 0.0, 9e9))

    with serving(folder, settings) as server:
        control.bring(Variant("baseline", fake(1.0)))
        with Load(server.port, sum_of_row(1.0, 2.0, 3.0), clients=2, pause=0.005) as load:
            proxy.delay, proxy.cutting = (SLOW_SECONDS, False) if ill == "slow" else (0.0, True)
            proxy.reset()
            answered, cut = load.tally.answered, proxy.cut
            if ill == "slow":
                control.bring(Variant("baseline", fake(2.0)))
            else:
                server.wait_logged("the store is away")
                until(lambda: proxy.cut > cut + 3, "it tries again")
            until(lambda: load.tally.answered > answered + 400, "answers meanwhile")
            assert server.is_ready()
            proxy.delay, proxy.cutting = 0.0, False
            control.bring(Variant("baseline", fake(3.0)))
        load.tally.assert_clean(at_least=400)
        assert answer(server) == 3.0
        until(lambda: counted() == load.tally.answered + 1, "every request is in a window", 60)
        assert server.stop() == 0
