"""Notifications on their way: queued with the alert, sent by a worker, sent again until they are taken.

``outbox`` adds one job a channel in the caller's transaction, so that the news is there if and only if the alert is, and a
channel that fails does not repeat the others. A worker runs ``run``; the pauses between tries are the job's.

A webhook is signed as registries sign theirs to us: HMAC-SHA256 over ``id.timestamp.body``, base64, with a version before
it. Addresses come from the operator's settings; even so only http and https are called, redirects are not followed, and
nothing of an answer is read but its status. No address and no secret gets into an error or the log.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import logging
import ssl
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal

import httpx
import msgspec

import tidegate
from tidegate.clock import Clock
from tidegate.control.monitoring.mail import NotSent, send_mail
from tidegate.control.monitoring.notification import Notification, slack_body, webhook_body
from tidegate.errors import QueueFull, UserError
from tidegate.settings import Alerts

if TYPE_CHECKING:
    from tidegate.control.jobs.job import Job
    from tidegate.control.jobs.queue import Queue
    from tidegate.control.jobs.task import Task
    from tidegate.storage.store import Unit

logger = logging.getLogger("tidegate.alerts")

Channel = Literal["webhook", "slack", "mail"]

KIND = "notify"
TRIES = 12
"""With pauses that double from ``jobs.backoff_seconds`` a server may be away for hours."""
SPARE_SECONDS = 60.0
"""What a try may take beside the time-outs of its channel."""
VERSION = "v1"


class Sending(msgspec.Struct, frozen=True):
    """Payload of a job."""

    channel: Channel
    notification: Notification


def channels_of(settings: Alerts) -> tuple[Channel, ...]:
    """That have an address."""
    addresses: Mapping[Channel, str] = {
        "webhook": settings.webhook,
        "slack": settings.slack,
        "mail": settings.mail.host,
    }
    return tuple(channel for channel, address in addresses.items() if address)


def outbox(unit: Unit, queue: Queue, notification: Notification | None, settings: Alerts) -> list[Job]:
    """One job a channel, in the caller's transaction; none for no news. A queue that is full must not keep the alert from
    being stored: then it is said in the log."""
    jobs: list[Job] = []
    if notification is None:
        return jobs
    for channel in channels_of(settings):
        payload = msgspec.to_builtins(Sending(channel, notification))
        try:
            jobs.append(
                queue.submit_in(
                    unit,
                    KIND,
                    payload,
                    who="tidegate",
                    key=f"notify:{notification.id}:{channel}",
                    endpoint=notification.endpoint,
                    parent=notification.alerts[0].id,
                    timeout=SPARE_SECONDS + 10 * settings.timeout_seconds,
                    attempts=TRIES,
                )
            )
        except QueueFull as error:
            logger.error("notification %s is not sent by %s: %s", notification.id, channel, error)  # noqa: TRY400
    return jobs


def log(notification: Notification | None) -> None:
    """The channel that is always there: a line an alert, once it is stored."""
    if notification is None:
        return
    for one in notification.alerts:
        fields = {
            "endpoint": notification.endpoint,
            "variant": one.variant,
            "version": one.version,
            "outcome": one.state,
        }
        level = logging.WARNING if one.state == "firing" else logging.INFO
        logger.log(level, "alert %s: %s; next: %s", one.state, one.text, one.command, extra=fields)
    if notification.more:
        logger.warning("and %d more alerts", notification.more, extra={"endpoint": notification.endpoint})


def run(task: Task) -> Mapping[str, Any]:
    """The handler of jobs of kind ``notify``."""
    try:
        asked = msgspec.convert(task.payload, Sending)
    except msgspec.ValidationError as error:
        raise UserError(f"this is no notification: {error}") from None
    sender = Sender(task.settings.alerts, task.clock)
    return sender.send(asked.channel, asked.notification)


class Sender:
    """``context`` decides which certificates are accepted; the system's authorities when None."""

    def __init__(self, settings: Alerts, clock: Clock, context: ssl.SSLContext | None = None) -> None:
        self._settings = settings
        self._clock = clock
        self._context = context

    def send(self, channel: Channel, told: Notification) -> Mapping[str, Any]:
        """Raises NotSent when another try may go better, and UserError for a channel that cannot be used."""
        if channel not in channels_of(self._settings):
            raise UserError(f"alerts.{channel} is not set (any more), so this notification goes nowhere")
        result: dict[str, Any] = {"channel": channel, "notification": told.id, "sent": self._clock.wall()}
        if channel == "mail":
            refused = send_mail(told, self._settings.mail, self._settings.timeout_seconds, self._context)
            return result | {"refused_recipients": len(refused)}
        if channel == "slack":
            return result | {"status": self._post("slack", self._settings.slack, slack_body(told), {})}
        body = webhook_body(told)
        return result | {"status": self._post("webhook", self._settings.webhook, body, self._signed(told.id, body))}

    def _signed(self, delivery: str, body: bytes) -> dict[str, str]:
        now = int(self._clock.wall())
        headers = {"X-Tidegate-Delivery-Id": delivery, "X-Tidegate-Timestamp": str(now)}
        secret = self._settings.webhook_secret
        return headers | {"X-Tidegate-Signature": signature(secret, delivery, now, body)} if secret else headers

    def _post(self, channel: Channel, url: str, body: bytes, headers: Mapping[str, str]) -> int:
        """Status of an answer that says that it was taken."""
        target = _checked(channel, url)
        seconds = self._settings.timeout_seconds
        said = {"Content-Type": "application/json", "User-Agent": f"tidegate/{tidegate.__version__}"}
        try:
            status = asyncio.run(self._status(target, body, {**said, **headers}))
        except (TimeoutError, httpx.TimeoutException):
            raise NotSent(f"{channel}: no answer within {seconds:g} s") from None
        except (httpx.HTTPError, httpx.InvalidURL, httpx.StreamError, OSError, ValueError) as error:
            raise NotSent(f"{channel}: {_without_address(error)}") from None
        if 300 <= status < 400:
            raise NotSent(f"{channel}: answered {status}; redirects are not followed, so set the address it leads to")
        if not 200 <= status < 300:
            raise NotSent(f"{channel}: answered {status}")
        return status

    async def _status(self, target: httpx.URL, body: bytes, headers: Mapping[str, str]) -> int:
        seconds = self._settings.timeout_seconds
        verify = self._context if self._context is not None else True
        client = httpx.AsyncClient(timeout=seconds, follow_redirects=False, verify=verify)
        async with (
            asyncio.timeout(seconds),
            client,
            client.stream("POST", target, content=body, headers=headers) as answer,
        ):
            return answer.status_code


def signature(secret: str, delivery: str, timestamp: int, body: bytes) -> str:
    """What ``X-Tidegate-Signature`` has; whoever gets it computes the same, and compares in constant time."""
    text = f"{delivery}.{timestamp}.".encode() + body
    return f"{VERSION},{base64.b64encode(hmac.new(secret.encode(), text, hashlib.sha256).digest()).decode()}"


def _checked(channel: Channel, url: str) -> httpx.URL:
    try:
        target = httpx.URL(url)
    except (httpx.InvalidURL, ValueError):
        raise UserError(f"alerts.{channel} is no address") from None
    if target.scheme not in ("http", "https") or not target.host:
        raise UserError(f"alerts.{channel} must be http://host… or https://host…")
    return target


def _without_address(error: Exception) -> str:
    """Why, for people; the error's own words may have the address."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ssl.SSLCertVerificationError):
            return f"the certificate is not accepted: {cause.verify_message.partition(',')[0] or 'unknown'}"
        if isinstance(cause, ssl.SSLError):
            return f"no secure connection: {cause.reason or 'unknown'}"
        cause = cause.__cause__ or cause.__context__
    if isinstance(error, httpx.ConnectError):
        return "could not be reached"
    return f"was not taken: {type(error).__name__}"
