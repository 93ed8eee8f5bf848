"""Real servers that take notifications, on this machine: HTTP, HTTPS and SMTP."""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import functools
import ipaddress
import queue
import socketserver
import ssl
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import msgspec
from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword, Session
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID


class Request(msgspec.Struct):
    path: str
    headers: dict[str, str]
    body: bytes


class Receiver:
    """Answers each POST with the next of ``statuses``, the last for ever. With ``silent`` it takes them and says nothing."""

    def __init__(self, *statuses: int, silent: bool = False, context: ssl.SSLContext | None = None) -> None:
        self.requests: list[Request] = []
        self._statuses = list(statuses) or [200]
        self._silent = silent
        self._over = threading.Event()
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                receiver._take(self)

            def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.handle_error = lambda *_: None  # type: ignore[method-assign]
        if context is not None:
            self._server.socket = context.wrap_socket(
                self._server.socket, server_side=True, do_handshake_on_connect=False
            )
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01})
        self.url = f"http{'s' if context else ''}://127.0.0.1:{self._server.server_port}/hook/SECRET-PATH"

    def _take(self, handler: BaseHTTPRequestHandler) -> None:
        body = handler.rfile.read(int(handler.headers["Content-Length"]))
        self.requests.append(
            Request(handler.path, {name.lower(): value for name, value in handler.headers.items()}, body)
        )
        if self._silent:
            self._over.wait(30)
            return
        status = self._statuses.pop(0) if len(self._statuses) > 1 else self._statuses[0]
        handler.send_response(status)
        if 300 <= status < 400:
            handler.send_header("Location", self.url.replace("hook", "elsewhere"))
        handler.send_header("Content-Length", "0")
        handler.end_headers()

    def __enter__(self) -> Receiver:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


@contextlib.contextmanager
def dripping(words: bytes) -> Iterator[int]:
    """The port of a server that says ``words``, and then a letter every hundredth of a second for as long as it is heard."""
    over = threading.Event()

    class Handler(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            with contextlib.suppress(OSError):
                self.request.sendall(words)
                while not over.wait(0.01):
                    self.request.sendall(b"x")

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield int(server.server_address[1])
        finally:
            over.set()
            server.shutdown()
            thread.join()


class Mailbox:
    """What ``handle_DATA`` got; refuses recipients at ``refused.example``."""

    def __init__(self) -> None:
        self.mails: list[Envelope] = []
        self.users: list[str] = []

    async def handle_RCPT(  # noqa: N802
        self, server: SMTP, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        if address.endswith("@refused.example"):
            return "550 not here"
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:  # noqa: N802
        self.mails.append(envelope)
        return "250 taken"

    def check(self, server: SMTP, session: Session, envelope: Envelope, mechanism: str, given: Any) -> AuthResult:
        assert isinstance(given, LoginPassword)
        good = given.password == b"right"
        if good:
            self.users.append(given.login.decode())
        return AuthResult(success=good, handled=False)


@contextlib.contextmanager
def smtp(
    security: str = "none", context: ssl.SSLContext | None = None, sign_in: bool = False
) -> Iterator[tuple[Mailbox, int]]:
    """A server on a thread, and its port."""
    mailbox = Mailbox()
    options: dict[str, Any] = {"hostname": "127.0.0.1"}
    if security == "starttls":
        options |= {"tls_context": context, "require_starttls": True}
    if sign_in:
        secure = security == "starttls"  # aiosmtpd does not see that a whole connection is
        options |= {"authenticator": mailbox.check, "auth_required": secure, "auth_require_tls": secure}
    ports: queue.Queue[int] = queue.Queue()
    loop = asyncio.new_event_loop()
    over = asyncio.Event()

    async def serve() -> None:
        made = functools.partial(SMTP, mailbox, loop=loop, **options)
        server = await loop.create_server(made, "127.0.0.1", 0, ssl=context if security == "tls" else None)
        ports.put(server.sockets[0].getsockname()[1])
        await over.wait()
        server.close()
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for one in others:
            one.cancel()
        await asyncio.gather(*others, return_exceptions=True)

    thread = threading.Thread(target=loop.run_until_complete, args=(serve(),))
    thread.start()
    try:
        yield mailbox, ports.get(timeout=10)
    finally:
        loop.call_soon_threadsafe(over.set)
        thread.join()
        loop.close()


def certificate(folder: Path, name: str = "127.0.0.1") -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """Of a server that says it is ``name``, and of clients that trust whoever signed it."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "test")])
    now = datetime.datetime.now(datetime.UTC)
    other: x509.GeneralName = x509.IPAddress(ipaddress.ip_address(name)) if name[0].isdigit() else x509.DNSName(name)
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([other]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    path = folder / "server.pem"
    path.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        + made.public_bytes(serialization.Encoding.PEM)
    )
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(path)
    client = ssl.create_default_context(cadata=made.public_bytes(serialization.Encoding.PEM).decode())
    return server, client
