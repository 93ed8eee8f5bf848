"""Notifications to real servers: what they get, and what is said when they do not take it."""

from __future__ import annotations

import email
import logging
from collections.abc import Iterator
from email.message import EmailMessage
from pathlib import Path
from typing import Any

import msgspec
import pytest
from msgspec.structs import replace

from tests.process import free_port
from tests.stores import sqlite_store
from tests.unit.control.monitoring.observed import HOUR, START, an_observation
from tests.unit.control.monitoring.receivers import Receiver, certificate, dripping, smtp
from tidegate.clock import ManualClock
from tidegate.control.jobs.claims import Claims
from tidegate.control.jobs.perform import perform
from tidegate.control.jobs.queue import Queue
from tidegate.control.jobs.task import Task
from tidegate.control.monitoring import alerts, notify
from tidegate.control.monitoring.mail import NotSent, message_of
from tidegate.control.monitoring.notification import (
    LONGEST_TITLE,
    MOST_ALERTS,
    Notification,
    notification_of,
    plain_text,
    slack_body,
)
from tidegate.control.monitoring.notify import Sender, channels_of, outbox
from tidegate.control.monitoring.records import Alert
from tidegate.control.registry import webhooks
from tidegate.errors import NotAuthenticated, UserError
from tidegate.monitor_plan import MonitorPlan
from tidegate.settings import Alerts, Jobs, Mail, Settings
from tidegate.storage.store import Store
from tidegate.testing.registry import MemoryRegistry

KEY = "shared between the receiver and us"


def fired(number: int = 0, **fields: Any) -> tuple[Alert, alerts.Transition]:
    alert, transition = alerts.observe(
        None, an_observation(rule=f"drift:baseline:c{number:02}", **fields), MonitorPlan()
    )
    assert alert is not None
    assert transition is not None
    return alert, transition


def resolved() -> tuple[Alert, alerts.Transition]:
    alert, _ = fired(99)
    after, transition = alerts.observe(
        alert, an_observation(2, broken=False, rule=alert.rule, text="age is as it was"), MonitorPlan()
    )
    assert after is not None
    assert transition is not None
    return after, transition


def a_notification(*told: tuple[Alert, alerts.Transition]) -> Notification:
    found = notification_of(told or [fired()])
    assert found is not None
    return found


def sender(**settings: Any) -> Sender:
    values: dict[str, Any] = {"timeout_seconds": 5.0}
    return Sender(Alerts(**values | settings), ManualClock(START))


# The record and its words


def test_the_alerts_of_one_look_are_one_notification() -> None:
    found = a_notification(resolved(), fired(2), fired(1))
    assert [(one.rule, one.state, one.event) for one in found.alerts] == [
        ("drift:baseline:c01", "firing", "fired"),
        ("drift:baseline:c02", "firing", "fired"),
        ("drift:baseline:c99", "resolved", "resolved"),
    ]
    assert found.title == "churn: 2 firing, 1 resolved (age)"
    assert (found.endpoint, found.more, found.time) == ("churn", 0, START + 3 * HOUR + 5)
    text = plain_text(found)
    assert "firing: churn baseline: age drifted" in text
    assert "  next: tidegate monitor show churn --column age" in text
    assert "2023-11-14 22:00:00 to 2023-11-14 23:00:00 UTC" in text


def test_the_title_of_several_names_some_of_them() -> None:
    columns = ["age", "plan", "fee", "region", "tenure"]
    found = a_notification(*[fired(place, column=column) for place, column in enumerate(columns)])
    assert found.title == "churn: 5 firing (age, plan, fee and 2 more)"


def test_what_nobody_is_to_be_told_is_in_no_notification() -> None:
    alert, transition = fired()
    assert notification_of([(alert, replace(transition, notify=False))]) is None
    assert notification_of([]) is None


def test_the_same_news_have_the_same_id() -> None:
    assert a_notification(fired(1), fired(2)).id == a_notification(fired(2), fired(1)).id
    assert a_notification(fired(1)).id != a_notification(fired(2)).id
    assert a_notification(fired(1)).id != a_notification(fired(1, time=START + 99)).id


def test_very_many_alerts_are_counted_and_long_or_broken_words_are_cut() -> None:
    found = a_notification(*(fired(number, text="x\r\nBcc: all\x00" + "y" * 5000) for number in range(MOST_ALERTS + 5)))
    assert (len(found.alerts), found.more) == (MOST_ALERTS, 5)
    assert found.alerts[0].text.startswith("x Bcc: all yyy")
    assert "and 5 more" in plain_text(found)
    one = a_notification(fired(column="a\nb" * 200))
    assert "\n" not in one.title
    assert len(one.title) == LONGEST_TITLE
    blocks = msgspec.json.decode(slack_body(a_notification(fired(text="<" * 4000))))["blocks"]
    assert len(blocks[1]["text"]["text"]) <= 3000


def test_slack_sees_text_and_no_markup() -> None:
    said = msgspec.json.decode(slack_body(a_notification(fired(text="<!channel> a & b"))))
    assert said["text"] == "firing: &lt;!channel&gt; a &amp; b"
    assert said["blocks"][0]["text"]["text"] == "churn: drift fires (psi of age)"
    assert "`tidegate monitor show churn --column age`" in said["blocks"][1]["text"]["text"]
    many = msgspec.json.decode(slack_body(a_notification(*(fired(number) for number in range(MOST_ALERTS + 1)))))
    assert many["text"] == f"churn: {MOST_ALERTS + 1} firing (age)"
    assert len(many["blocks"]) == MOST_ALERTS + 2


# Webhooks


def test_a_webhook_gets_signed_json() -> None:
    told = a_notification()
    with Receiver(204) as receiver:
        result = sender(webhook=receiver.url, webhook_secret=KEY).send("webhook", told)
    [request] = receiver.requests
    assert result == {"channel": "webhook", "notification": told.id, "sent": START, "status": 204}
    said = msgspec.json.decode(request.body)
    assert said["alerts"][0]["statistic"] == "psi"
    assert said["text"] == plain_text(told)
    assert msgspec.convert(said, Notification) == told
    assert request.headers["content-type"] == "application/json"
    as_registries_sign = {
        name.replace("x-tidegate", "x-mlflow"): value for name, value in request.headers.items() if "tidegate" in name
    }
    assert webhooks.verify(as_registries_sign, request.body, KEY, START + 9).id == f"mlflow:{told.id}"
    with pytest.raises(NotAuthenticated):
        webhooks.verify(as_registries_sign, request.body + b" ", KEY, START + 9)
    headers = {name.title(): value for name, value in request.headers.items()}
    is_ours = shown_check()
    assert is_ours(headers, request.body, KEY, START + 9)
    assert not is_ours(headers, request.body, KEY, START + 301)
    assert not is_ours(headers, request.body + b" ", KEY, START + 9)


def shown_check() -> Any:
    """The function that docs/how-to/alerts.md gives to receivers."""
    page = Path(__file__).parents[4] / "docs" / "how-to" / "alerts.md"
    names: dict[str, Any] = {}
    exec(page.read_text("utf-8").split("```python\n")[1].split("```")[0], names)
    return names["is_ours"]


def test_without_a_secret_nothing_is_signed() -> None:
    with Receiver() as receiver:
        sender(webhook=receiver.url).send("webhook", a_notification())
        sender(slack=receiver.url, webhook_secret=KEY).send("slack", a_notification())
    assert len(receiver.requests) == 2
    assert not any("x-tidegate-signature" in request.headers for request in receiver.requests)


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (500, "answered 500"),
        (404, "answered 404"),
        (302, "redirects are not followed"),
        (307, "redirects are not followed"),
    ],
)
def test_what_is_not_taken_may_be_sent_again(status: int, words: str) -> None:
    with Receiver(status) as receiver, pytest.raises(NotSent, match=words) as caught:
        sender(slack=receiver.url).send("slack", a_notification())
    assert len(receiver.requests) == 1, "and no redirect was followed"
    assert "127.0.0.1" not in str(caught.value)
    assert "SECRET" not in str(caught.value)


@pytest.mark.slow
def test_a_server_that_is_away_or_silent() -> None:
    url = f"http://127.0.0.1:{free_port()}/SECRET"
    with pytest.raises(NotSent, match=r"^webhook: could not be reached$"):
        sender(webhook=url).send("webhook", a_notification())
    with Receiver(silent=True) as receiver, pytest.raises(NotSent, match=r"^webhook: no answer within 0.2 s$"):
        sender(webhook=receiver.url, timeout_seconds=0.2).send("webhook", a_notification())


@pytest.mark.parametrize("words", [b"HTTP/1.1 200 OK\r\nX-Words: ", b"HTTP/1.1 "])
def test_an_answer_that_goes_on_and_on_is_not_waited_for(words: bytes) -> None:
    with dripping(words) as port, pytest.raises(NotSent, match=r"^webhook: (no answer within 0.1 s|was not taken)"):
        sender(webhook=f"http://127.0.0.1:{port}/", timeout_seconds=0.1).send("webhook", a_notification())


def test_what_follows_the_status_is_not_read() -> None:
    with dripping(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n") as port:
        told = sender(webhook=f"http://127.0.0.1:{port}/", timeout_seconds=5).send("webhook", a_notification())
    assert told["status"] == 200


def test_certificates_are_checked(tmp_path: Path) -> None:
    server, client = certificate(tmp_path)
    told = a_notification()
    with Receiver(context=server) as receiver:
        settings = Alerts(webhook=receiver.url, timeout_seconds=5)
        Sender(settings, ManualClock(START), client).send("webhook", told)
        with pytest.raises(NotSent, match=r"^webhook: the certificate is not accepted: self-signed certificate$"):
            Sender(settings, ManualClock(START)).send("webhook", told)
    assert len(receiver.requests) == 1
    server, client = certificate(tmp_path, "elsewhere.example")
    with Receiver(context=server) as receiver, pytest.raises(NotSent, match=r"IP address mismatch$"):
        Sender(replace(settings, webhook=receiver.url), ManualClock(START), client).send("webhook", told)


@pytest.mark.parametrize(
    "url",
    [
        "file:///SECRET",
        "ftp://host/SECRET",
        "hooks.example/SECRET",
        "http://",
        "https:///SECRET",
        "\x00",
    ],
)
def test_only_web_addresses_are_called(url: str) -> None:
    with pytest.raises(UserError, match=r"^alerts\.webhook (must be http|is no address)") as caught:
        sender(webhook=url).send("webhook", a_notification())
    assert "SECRET" not in str(caught.value)


def test_a_channel_that_is_not_set_is_no_channel() -> None:
    assert channels_of(Alerts()) == ()
    assert channels_of(Alerts(slack="https://x", mail=Mail(host="localhost"))) == ("slack", "mail")
    with pytest.raises(UserError, match=r"alerts\.mail is not set"):
        sender().send("mail", a_notification())


# Mail


def parsed(content: Any) -> EmailMessage:
    found = email.message_from_bytes(content, policy=email.policy.default)
    assert isinstance(found, EmailMessage)
    return found


@pytest.mark.parametrize("security", ["none", "starttls", "tls"])
def test_mail_is_delivered(security: Any, tmp_path: Path) -> None:
    server, client = certificate(tmp_path)
    told = a_notification()
    with smtp(security, server, sign_in=security != "none") as (mailbox, port):
        user, word = ("ann", "right") if security != "none" else ("", "")
        mail = Mail(
            host="127.0.0.1", port=port, security=security, user=user, password=word, sender="ml@example.org",
            to=("a@example.org", "b@example.org"),
        )  # fmt: skip
        result = Sender(Alerts(mail=mail, timeout_seconds=5), ManualClock(START), client).send("mail", told)
    assert result["refused_recipients"] == 0
    [envelope] = mailbox.mails
    assert (envelope.mail_from, envelope.rcpt_tos) == ("ml@example.org", ["a@example.org", "b@example.org"])
    message = parsed(envelope.content)
    assert message["Subject"] == "[tidegate] churn: drift fires (psi of age)"
    assert message["Message-ID"] == f"<{told.id}@tidegate>"
    assert message.get_content().replace("\r\n", "\n") == plain_text(told)
    assert mailbox.users == ([user] if user else [])


@pytest.mark.slow
def test_mail_that_is_not_taken(tmp_path: Path) -> None:
    server, client = certificate(tmp_path)
    told = a_notification()

    def attempt(context: Any = client, seconds: float = 5.0, **mail: Any) -> Any:
        settings = Alerts(mail=Mail(host="127.0.0.1", **{"to": ("a@example.org",)} | mail), timeout_seconds=seconds)
        return Sender(settings, ManualClock(START), context).send("mail", told)

    with smtp("starttls", server, sign_in=True) as (mailbox, port):
        signed: dict[str, Any] = {"port": port, "security": "starttls", "user": "ann", "password": "right"}
        with pytest.raises(NotSent, match=r"refuses the name or the password") as caught:
            attempt(**signed | {"password": "wrong-SECRET"})
        assert "SECRET" not in str(caught.value)
        with pytest.raises(NotSent, match=r"certificate is not accepted: self-signed certificate$"):
            attempt(None, **signed)
        with pytest.raises(NotSent, match="answered 530"):
            attempt(port=port)
        with pytest.raises(NotSent, match="refuses all recipients"):
            attempt(**signed, to=("x@refused.example",))
        assert mailbox.mails == []
        assert attempt(**signed, to=("x@refused.example", "a@example.org"))["refused_recipients"] == 1
        assert mailbox.mails[0].rcpt_tos == ["a@example.org"]
    with smtp() as (_, port), pytest.raises(NotSent, match="does not offer STARTTLS"):
        attempt(port=port, security="starttls")
    with pytest.raises(NotSent, match="could not be reached"):
        attempt(port=free_port())
    with Receiver(silent=True) as receiver, pytest.raises(NotSent, match=r"within 0.2 s|not taken"):
        attempt(port=int(receiver.url.split(":")[2].split("/")[0]), seconds=0.2)


@pytest.mark.parametrize(
    "mail", [Mail(to=()), Mail(to=("a@b\r\nBcc: c@d",)), Mail(to=("",)), Mail(sender="", to=("a@b",))]
)
def test_addresses_that_are_none_are_refused(mail: Mail) -> None:
    with pytest.raises(UserError, match=r"alerts\.mail"):
        message_of(a_notification(), mail)


def test_a_bad_good_bye_is_no_reason_to_send_again() -> None:
    with smtp() as (mailbox, port):
        mailbox.handle_QUIT = _refuse  # type: ignore[attr-defined]
        settings = Alerts(mail=Mail(host="127.0.0.1", port=port, to=("a@b.example",)), timeout_seconds=5)
        Sender(settings, ManualClock(START)).send("mail", a_notification())
    assert len(mailbox.mails) == 1


@pytest.mark.parametrize("words", [b"220 a talk about ", b"220 hello\r\n250-a.example\r\n250 HELP\r\n250 of "])
def test_a_mail_server_that_talks_on_and_on_is_left(words: bytes) -> None:
    """No step of it is late; it would hold the worker's thread for ever."""
    with dripping(words) as port:
        settings = Alerts(mail=Mail(host="127.0.0.1", port=port, to=("a@b.example",)), timeout_seconds=0.05)
        with pytest.raises(NotSent, match=r"^the mail server did not come to an end within 0\.25 s$"):
            Sender(settings, ManualClock(START)).send("mail", a_notification())


def test_an_endless_good_bye_is_no_reason_to_send_again() -> None:
    taken = b"220 hello\r\n250 a.example\r\n250 from\r\n250 to\r\n354 go on\r\n250 taken\r\n221 good"
    with dripping(taken) as port:
        settings = Alerts(mail=Mail(host="127.0.0.1", port=port, to=("a@b.example",)), timeout_seconds=0.05)
        assert Sender(settings, ManualClock(START)).send("mail", a_notification())["refused_recipients"] == 0


async def _refuse(*_: object) -> str:
    return "421 no"


# On their way


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(START)


@pytest.fixture
def store(tmp_path: Path, clock: ManualClock) -> Iterator[Store]:
    opened = sqlite_store(tmp_path, clock)
    yield opened
    opened.close()


def deliver(store: Store, clock: ManualClock, settings: Settings, folder: Path) -> list[tuple[str, str]]:
    """Runs what is due; kinds of channel and the state of the job afterwards."""
    claims = Claims(store, settings.jobs, clock, "w", share=lambda: 1.0)
    ended = []
    while (claim := claims.take(["notify"])) is not None:
        task = Task(claim, claims, settings, store, MemoryRegistry(), clock, folder)
        perform(task, claim, claims, "tidegate.control.monitoring.notify:run")
        job = Queue(store, settings.jobs, clock).get(claim.job.id)
        ended.append((job.payload["channel"], job.state))
    return sorted(ended)


def test_each_channel_is_tried_until_it_takes_the_news_and_the_others_are_not_sent_twice(
    store: Store, clock: ManualClock, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    told = a_notification(fired(1), fired(2))
    with Receiver() as webhook, Receiver(500, 503, 200) as slack:
        settings = Settings(alerts=Alerts(webhook=webhook.url, slack=slack.url), jobs=Jobs(backoff_seconds=10))
        queue = Queue(store, settings.jobs, clock)
        with store.begin() as unit:
            first = outbox(unit, queue, told, settings.alerts)
            again = outbox(unit, queue, told, settings.alerts)
            assert [job.id for job in again] == [job.id for job in first], "found twice, told once"
            assert outbox(unit, queue, None, settings.alerts) == []
        assert deliver(store, clock, settings, tmp_path) == [("slack", "queued"), ("webhook", "done")]
        clock.advance(9)
        assert deliver(store, clock, settings, tmp_path) == []
        clock.advance(1)
        assert deliver(store, clock, settings, tmp_path) == [("slack", "queued")]
        clock.advance(20)
        assert deliver(store, clock, settings, tmp_path) == [("slack", "done")]
    assert (len(webhook.requests), len(slack.requests)) == (1, 3)
    assert "slack: answered 500" in caplog.text
    assert "SECRET" not in caplog.text
    [done, _] = queue.list()[0]
    assert "SECRET" not in msgspec.json.encode(done).decode()


def test_news_go_out_if_and_only_if_their_transaction_is_kept(store: Store, clock: ManualClock) -> None:
    settings = Alerts(slack="https://hooks.example/SECRET")
    queue = Queue(store, Jobs(), clock)

    def fail() -> None:
        with store.begin() as unit:
            assert len(outbox(unit, queue, a_notification(), settings)) == 1
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert queue.list()[0] == []


def test_a_full_queue_keeps_no_alert_from_being_stored(
    store: Store, clock: ManualClock, caplog: pytest.LogCaptureFixture
) -> None:
    queue = Queue(store, Jobs(max_open=1), clock)
    settings = Alerts(slack="https://hooks.example/SECRET")
    with store.begin() as unit:
        for number in range(2):
            assert outbox(unit, queue, a_notification(fired(number)), settings)
        assert outbox(unit, queue, a_notification(fired(3)), settings) == []
    assert len(queue.list()[0]) == 2
    assert "is not sent by slack" in caplog.text


@pytest.mark.parametrize("payload", [{}, {"channel": "fax"}, {"channel": "slack", "notification": {"id": 1}}])
def test_what_is_no_notification_fails_at_once(store: Store, clock: ManualClock, tmp_path: Path, payload: Any) -> None:
    queue = Queue(store, Jobs(), clock)
    job = queue.submit("notify", payload, who="ann")
    claims = Claims(store, Jobs(), clock, "w")
    claim = claims.take(["notify"])
    assert claim is not None
    task = Task(claim, claims, Settings(), store, MemoryRegistry(), clock, tmp_path)
    perform(task, claim, claims, "tidegate.control.monitoring.notify:run")
    assert (queue.get(job.id).state, "this is no notification" in queue.get(job.id).error) == ("failed", True)


def test_the_log_has_a_line_an_alert(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "tidegate.alerts"):
        notify.log(a_notification(fired(), resolved()))
        notify.log(None)
    assert [(record.levelname, record.endpoint, record.outcome) for record in caplog.records] == [  # type: ignore[attr-defined]
        ("WARNING", "churn", "firing"),
        ("INFO", "churn", "resolved"),
    ]
    assert caplog.messages[0] == (
        "alert firing: churn baseline: age drifted; next: tidegate monitor show churn --column age"
    )
