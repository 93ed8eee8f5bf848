"""Notifications by SMTP."""

from __future__ import annotations

import contextlib
import smtplib
import socket
import ssl
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from email.message import EmailMessage
from email.utils import format_datetime, parseaddr

from tidegate.control.monitoring.notification import Notification, plain_text
from tidegate.errors import TidegateError, UserError
from tidegate.settings import Mail

STEPS = 5
"""Of a mail: greeting, signing in, sender, recipients, text. So many times what one step may take, a mail may take."""
AGAIN_SECONDS = 0.1


class NotSent(TidegateError):
    """It may go better later. Says why without an address, a name or a password: it is shown and logged."""


def send_mail(told: Notification, settings: Mail, seconds: float, context: ssl.SSLContext | None = None) -> list[str]:
    """Recipients that the server refused, while it took others. Each step of the talk may take ``seconds``, and the whole
    of it ``STEPS`` times as long.

    Raises NotSent, and UserError for settings that cannot be right.
    """
    message = message_of(told, settings)
    secure = None if settings.security == "none" else context or ssl.create_default_context()
    server = (
        smtplib.SMTP_SSL(timeout=seconds, context=secure)
        if settings.security == "tls"
        else smtplib.SMTP(timeout=seconds)
    )
    with _ending(server, STEPS * seconds) as ended:
        try:
            try:
                _connect(server, settings, secure)
                if settings.user:
                    server.login(settings.user, settings.password)
                return sorted(server.send_message(message))
            finally:
                if server.sock is not None:
                    with contextlib.suppress(
                        smtplib.SMTPException, OSError, ValueError
                    ):  # what was taken is not sent again for a bad good-bye
                        server.quit()
                server.close()
        except (smtplib.SMTPException, OSError, ValueError) as error:
            late = f"the mail server did not come to an end within {STEPS * seconds:g} s"
            raise NotSent(late if ended.is_set() else _words(error, settings, seconds)) from None


def message_of(told: Notification, settings: Mail) -> EmailMessage:
    """Raises UserError for addresses that are none. The id is the same at every try: most servers keep one of them."""
    for address in (settings.sender, *settings.to):
        if not parseaddr(address)[1] or not address.isprintable():
            raise UserError("alerts.mail.sender and alerts.mail.to must be mail addresses")
    if not settings.to:
        raise UserError("alerts.mail.to names nobody")
    message = EmailMessage()
    message["Subject"] = f"[tidegate] {told.title}"
    message["From"] = settings.sender
    message["To"] = ", ".join(settings.to)
    message["Date"] = format_datetime(datetime.fromtimestamp(told.time, UTC))
    message["Message-ID"] = f"<{told.id}@tidegate>"
    message["Auto-Submitted"] = "auto-generated"
    message.set_content(plain_text(told))
    return message


def _connect(server: smtplib.SMTP, settings: Mail, secure: ssl.SSLContext | None) -> None:
    server._host = settings.host  # type: ignore[attr-defined]  # whose certificate is checked
    code, words = server.connect(settings.host, settings.port)
    if code != 220:
        raise smtplib.SMTPConnectError(code, words)
    if settings.security == "starttls":
        server.starttls(context=secure)


@contextlib.contextmanager
def _ending(server: smtplib.SMTP, seconds: float) -> Iterator[threading.Event]:
    """Cuts the connection after ``seconds``, and then sets what it gives: a server that sends a byte now and then keeps
    every step from being late, and would hold this thread for ever."""
    over, late = threading.Event(), threading.Event()

    def watch() -> None:
        if over.wait(seconds):
            return
        late.set()
        while True:  # more than once: it may be being opened, or made secure, at this moment
            line = server.sock
            if line is not None:
                with contextlib.suppress(OSError):
                    socket.socket.shutdown(line, socket.SHUT_RDWR)  # below TLS, which another thread is using
            if over.wait(AGAIN_SECONDS):
                return

    thread = threading.Thread(target=watch, name="tidegate-mail", daemon=True)
    thread.start()
    try:
        yield late
    finally:
        over.set()
        thread.join()


def _words(error: Exception, settings: Mail, seconds: float) -> str:
    if isinstance(error, smtplib.SMTPAuthenticationError):
        return "the mail server refuses the name or the password (alerts.mail.user, alerts.mail.password)"
    if isinstance(error, smtplib.SMTPNotSupportedError):
        wanted = "STARTTLS" if settings.security == "starttls" else "what is needed to sign in"
        return f"the mail server does not offer {wanted} (alerts.mail.security, alerts.mail.user)"
    if isinstance(error, smtplib.SMTPRecipientsRefused):
        return "the mail server refuses all recipients (alerts.mail.to)"
    if isinstance(error, smtplib.SMTPResponseException):
        return f"the mail server answered {error.smtp_code}"
    if isinstance(error, smtplib.SMTPException):
        return f"the mail was not taken: {type(error).__name__}"
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"the mail server's certificate is not accepted: {_reason(error)}"
    if isinstance(error, TimeoutError):
        return f"the mail server did not answer within {seconds:g} s"
    return f"the mail server could not be reached: {type(error).__name__}"


def _reason(error: ssl.SSLCertVerificationError) -> str:
    """Without the name that was expected."""
    return error.verify_message.partition(",")[0] or "unknown"
