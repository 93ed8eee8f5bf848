"""What people are told: the alerts of one look at one endpoint, as a record and in the words of each channel. Pure."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Sequence

import msgspec

from tidegate.control.monitoring.alerts import Event, Transition
from tidegate.control.monitoring.records import Alert, AlertState, Source

MOST_ALERTS = 20
"""Told one by one; of more the number."""
MOST_NAMED = 3
"""In the title of several."""
LONGEST_TITLE = 150
LONGEST_TEXT = 1000
LONGEST_BLOCK = 3000
"""Of Slack."""
_WORDS: dict[AlertState, str] = {"firing": "fires", "resolved": "is resolved", "pending": "is pending", "ok": "is ok"}


class Told(msgspec.Struct, frozen=True, kw_only=True):
    """One alert of a notification, without what only the store needs."""

    id: str
    rule: str
    source: Source
    variant: str
    version: str
    column: str
    state: AlertState
    event: Event
    statistic: str
    value: float
    threshold: float
    rows: int
    reference_rows: int
    window: float
    window_seconds: float
    fired: float
    report: str
    text: str
    command: str


class Notification(msgspec.Struct, frozen=True, kw_only=True):
    """``id`` is the same for the same news, so that it is sent once however often it is found."""

    id: str
    endpoint: str
    time: float
    title: str
    alerts: tuple[Told, ...]
    more: int = 0
    """Alerts that are not in ``alerts``."""


def notification_of(told: Sequence[tuple[Alert, Transition]]) -> Notification | None:
    """Of the alerts of one endpoint that one look is to tell, those that fire first; None when there are none."""
    news = [(alert, transition) for alert, transition in told if transition.notify]
    if not news:
        return None
    news.sort(key=lambda one: (one[0].state != "firing", one[0].rule))
    endpoint = news[0][0].endpoint
    when = max(transition.time for _, transition in news)
    facts = [(alert.id, alert.state, alert.fired, transition.time) for alert, transition in news]
    digest = hashlib.sha256(msgspec.json.encode(facts)).hexdigest()
    return Notification(
        id=f"n-{digest[:24]}",
        endpoint=endpoint,
        time=when,
        title=_title(endpoint, [alert for alert, _ in news]),
        alerts=tuple(_told(alert, transition) for alert, transition in news[:MOST_ALERTS]),
        more=max(len(news) - MOST_ALERTS, 0),
    )


def plain_text(told: Notification) -> str:
    """For mail, and for whatever shows no more than text."""
    parts = [told.title, ""]
    for one in told.alerts:
        parts += [f"{one.state}: {one.text}", f"  window: {_window(one)}", f"  next: {one.command}", ""]
    if told.more:
        parts.append(f"and {told.more} more: tidegate alert list --endpoint {told.endpoint}")
    return "\n".join(parts).rstrip() + "\n"


def webhook_body(told: Notification) -> bytes:
    """JSON: the notification, and the same as one text."""
    return msgspec.json.encode({**msgspec.to_builtins(told), "text": plain_text(told)})


def slack_body(told: Notification) -> bytes:
    """A message of an incoming webhook of Slack; others that take the same read ``text``."""
    blocks: list[dict[str, object]] = [{"type": "header", "text": {"type": "plain_text", "text": told.title}}]
    for one in told.alerts:
        said = f"*{one.state}*: {_slack(one.text)}\n{_window(one)}\n`{_slack(one.command)}`"
        blocks.append({"type": "section", "text": {"type": "mrkdwn", "text": said[:LONGEST_BLOCK]}})
    if told.more:
        blocks.append({"type": "context", "elements": [{"type": "plain_text", "text": f"and {told.more} more"}]})
    text = _slack(told.title) if len(told.alerts) > 1 else _slack(f"{told.alerts[0].state}: {told.alerts[0].text}")
    return msgspec.json.encode({"text": text, "blocks": blocks})


def _title(endpoint: str, alerts: Sequence[Alert]) -> str:
    if len(alerts) == 1:
        one = alerts[0]
        what = " of ".join(filter(None, (one.statistic, one.column)))
        return _short(f"{endpoint}: {one.source} {_WORDS[one.state]} ({what})", LONGEST_TITLE)
    states = [alert.state for alert in alerts]
    counts = [f"{states.count(state)} {state}" for state in ("firing", "resolved") if state in states]
    names = list(dict.fromkeys(alert.column or alert.statistic for alert in alerts))
    left = len(names) - MOST_NAMED
    named = ", ".join(names[:MOST_NAMED]) + (f" and {left} more" if left > 0 else "")
    return _short(f"{endpoint}: {', '.join(counts)} ({named})", LONGEST_TITLE)


def _told(alert: Alert, transition: Transition) -> Told:
    return Told(
        id=alert.id,
        rule=alert.rule,
        source=alert.source,
        variant=alert.variant,
        version=alert.version,
        column=alert.column,
        state=alert.state,
        event=transition.event,
        statistic=alert.statistic,
        value=alert.value,
        threshold=alert.threshold,
        rows=alert.rows,
        reference_rows=alert.reference_rows,
        window=alert.window,
        window_seconds=alert.window_seconds,
        fired=alert.fired,
        report=alert.report,
        text=_short(alert.text, LONGEST_TEXT),
        command=_short(alert.command, LONGEST_TEXT),
    )


def _window(one: Told) -> str:
    start, end = time.gmtime(one.window), time.gmtime(one.window + one.window_seconds)
    return f"{time.strftime('%Y-%m-%d %H:%M:%S', start)} to {time.strftime('%Y-%m-%d %H:%M:%S', end)} UTC"


def _short(text: str, most: int) -> str:
    """One line, so that a name of a column makes no header of a mail."""
    line = " ".join("".join(letter if letter.isprintable() else " " for letter in text).split())
    return line if len(line) <= most else f"{line[: most - 1]}…"


def _slack(text: str) -> str:
    """What Slack would take for a link, a mention or markup is text."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;").replace("`", "ʼ")
