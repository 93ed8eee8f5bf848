from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator
from typing import Any, Literal

import pytest

from tidegate.logs import CORRELATION, TRACE, JsonFormatter, TextFormatter, configure
from tidegate.settings import Logs
from tidegate.telemetry import LOG_FIELDS


@pytest.fixture
def stream() -> Iterator[io.StringIO]:
    """Takes what is logged, and gives the process its own logging back."""
    root = logging.getLogger()
    handlers, level = root.handlers, root.level
    levels = {
        name: logging.getLogger(name).level
        for name in ("uvicorn", "uvicorn.error", "uvicorn.access", "asyncio", "httpx", "httpcore")
    }
    correlation, trace = CORRELATION.set(""), TRACE.set(("", ""))
    yield io.StringIO()
    CORRELATION.reset(correlation)
    TRACE.reset(trace)
    root.handlers = handlers
    root.setLevel(level)
    for name, before in levels.items():
        logging.getLogger(name).setLevel(before)


def lines(stream: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def start(
    stream: io.StringIO, form: Literal["json", "text"] = "json", level: Literal["info", "warning"] = "info"
) -> logging.Logger:
    configure(Logs(format=form, level=level), stream)
    return logging.getLogger("tidegate.test")


def test_one_json_object_a_line(stream: io.StringIO) -> None:
    start(stream).warning("two\nlines %d", 7, extra={"endpoint": "iris", "seconds": 0.5})
    (line,) = lines(stream)
    assert line.pop("timestamp").endswith("Z")
    assert line == {
        "level": "warning", "logger": "tidegate.test", "message": "two\nlines 7", "endpoint": "iris", "seconds": 0.5,
    }  # fmt: skip


def test_only_declared_fields_are_written(stream: io.StringIO) -> None:
    """No payload, key or personal data slips into a log through an extra."""
    start(stream).info("x", extra={"features": [1, 2], "api_key": "secret", "body": b"x", "variant": "canary"})
    (line,) = lines(stream)
    assert line.keys() <= LOG_FIELDS.keys()
    assert line["variant"] == "canary"
    assert "secret" not in stream.getvalue()


def test_every_field_can_be_written(stream: io.StringIO) -> None:
    given = {name: "v" for name in LOG_FIELDS if name not in ("timestamp", "level", "logger", "message", "exception")}
    log = start(stream)
    try:
        raise ValueError("inside")
    except ValueError:
        log.exception("x", extra=given)
    (line,) = lines(stream)
    assert line.keys() == LOG_FIELDS.keys()
    assert "ValueError: inside" in line["exception"]


def test_a_requests_lines_carry_its_ids(stream: io.StringIO) -> None:
    log = start(stream)
    CORRELATION.set("id-7")
    TRACE.set(("t" * 32, "s" * 16))
    log.info("within")
    log.info("named", extra={"correlation_id": "other"})
    within, named = lines(stream)
    assert (within["correlation_id"], within["trace_id"], within["span_id"]) == ("id-7", "t" * 32, "s" * 16)
    assert named["correlation_id"] == "other"


@pytest.mark.parametrize("message", ["\ud800 half a pair", "nul \0 bell \a", "ünï ☃", "\u2028"])
def test_any_text_can_be_logged(stream: io.StringIO, message: str) -> None:
    start(stream).info("%s", message, extra={"reason": message})
    (line,) = [json.loads(line) for line in stream.getvalue().rstrip("\n").split("\n")]
    assert line["message"] == line["reason"] == message


def test_text_is_one_line_for_people(stream: io.StringIO) -> None:
    """A path with %0A in it must not write a line of its own."""
    start(stream, "text").warning("GET %s", "/x\nERROR all is lost \x1b[31m", extra={"status": 404, "secret": 1})
    (line,) = stream.getvalue().splitlines()
    assert line.endswith(r"warning GET /x\x0aERROR all is lost \x1b[31m  [status=404]")


def test_text_shows_the_trace_of_an_error(stream: io.StringIO) -> None:
    log = start(stream, "text")
    try:
        raise ValueError("inside")
    except ValueError:
        log.exception("failed")
    assert "ValueError: inside" in stream.getvalue()
    assert "Traceback" in stream.getvalue()


def test_levels(stream: io.StringIO) -> None:
    log = start(stream, level="warning")
    log.info("hidden")
    logging.getLogger("uvicorn.error").info("hidden")
    log.warning("shown")
    assert [line["message"] for line in lines(stream)] == ["shown"]


def test_libraries_are_quiet_below_warning(stream: io.StringIO) -> None:
    start(stream)
    logging.getLogger("uvicorn.access").info("hidden")
    logging.getLogger("httpx").warning("shown")
    assert [line["logger"] for line in lines(stream)] == ["httpx"]


def test_the_timestamp_is_rfc_3339_in_utc() -> None:
    record = logging.LogRecord("x", logging.INFO, "", 0, "m", (), None)
    record.created = 86_400.0625
    assert json.loads(JsonFormatter().format(record))["timestamp"] == "1970-01-02T00:00:00.062Z"
    assert "info" in TextFormatter().format(record)
