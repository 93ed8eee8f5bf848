"""Notifications by SMTP."""

from __future__ import annotations

import contextlib
import smtplib
import ssl
from datetime import UTC, datetime
from email.message import EmailMessage
from email.utils import format_datetime, parseaddr

from tidegate.control.monitoring.notification import Notification, plain_text
from tidegate.errors import TidegateError, UserError
from tidegate.settings import Mail


class NotSent(TidegateError):
    """It may go better later. Says why without an address, a name or a password: it is shown and logged."""


def send_mail(told: Notification, settings: Mail, seconds: float, context: ssl.SSLContext | None = None) -> list[str]:
    """Recipients that the server refused, while it took others. Each step of the talk may take ``seconds``.

    Raises NotSent, and UserError for settings that cannot be right.
    """
    message = message_of(told, settings)
    try:
        server = _connected(settings, seconds, context)
        try:
            if settings.user:
                server.login(settings.user, settings.password)
            return sorted(server.send_message(message))
        finally:
            with contextlib.suppress(
                smtplib.SMTPException, OSError
            ):  # what was taken is not sent again for a bad good-bye
                server.quit()
            server.close()
    except smtplib.SMTPAuthenticationError:
        raise NotSent(
            "the mail server refuses the name or the password (alerts.mail.user, alerts.mail.password)"
        ) from None
    except smtplib.SMTPNotSupportedError:
        wanted = "STARTTLS" if settings.security == "starttls" else "what is needed to sign in"
        raise NotSent(f"the mail server does not offer {wanted} (alerts.mail.security, alerts.mail.user)") from None
    except smtplib.SMTPRecipientsRefused:
        raise NotSent("the mail server refuses all recipients (alerts.mail.to)") from None
    except smtplib.SMTPResponseException as error:
        raise NotSent(f"the mail server answered {error.smtp_code}") from None
    except smtplib.SMTPException as error:
        raise NotSent(f"the mail was not taken: {type(error).__name__}") from None
    except ssl.SSLCertVerificationError as error:
        raise NotSent(f"the mail server's certificate is not accepted: {_reason(error)}") from None
    except TimeoutError:
        raise NotSent(f"the mail server did not answer within {seconds:g} s") from None
    except (OSError, ValueError) as error:
        raise NotSent(f"the mail server could not be reached: {type(error).__name__}") from None


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


def _connected(settings: Mail, seconds: float, context: ssl.SSLContext | None) -> smtplib.SMTP:
    if settings.security == "tls":
        secure = context or ssl.create_default_context()
        return smtplib.SMTP_SSL(settings.host, settings.port, timeout=seconds, context=secure)
    server = smtplib.SMTP(settings.host, settings.port, timeout=seconds)
    if settings.security == "starttls":
        try:
            server.starttls(context=context or ssl.create_default_context())
        except BaseException:
            server.close()
            raise
    return server


def _reason(error: ssl.SSLCertVerificationError) -> str:
    """Without the name that was expected."""
    return error.verify_message.partition(",")[0] or "unknown"
