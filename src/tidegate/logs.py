"""Log lines: JSON for machines, text for people. Only declared fields are written, so no payload slips in."""

from __future__ import annotations

import json
import logging
import sys
import time
from contextvars import ContextVar
from typing import Any, TextIO

import msgspec

from tidegate.settings import Logs
from tidegate.telemetry import LOG_FIELDS

CORRELATION: ContextVar[str] = ContextVar("correlation_id", default="")
NO_TRACE = ("", "")
TRACE: ContextVar[tuple[str, str]] = ContextVar("trace", default=NO_TRACE)
"""Trace id and span id of the request, in hexadecimal."""

_ESCAPED = {code: f"\\x{code:02x}" for code in (*range(0x20), 0x7F)}
"""One record is one line, whatever a client put into a path."""

_OURS = tuple(name for name in LOG_FIELDS if name not in ("timestamp", "level", "logger", "message", "exception"))


class JsonFormatter(logging.Formatter):
    """One object a line, with the fields of ``telemetry.LOG_FIELDS``."""

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "timestamp": _timestamp(record.created),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        line.update(_context(record))
        if record.exc_info and record.exc_info[0]:
            line["exception"] = self.formatException(record.exc_info)
        try:
            return msgspec.json.encode(line, enc_hook=str).decode()
        except UnicodeEncodeError:  # half a surrogate pair, from a file name or a model's own words
            return json.dumps(line, default=str)


class TextFormatter(logging.Formatter):
    """Time, level and message, then the fields as ``name=value``."""

    def format(self, record: logging.LogRecord) -> str:
        fields = " ".join(f"{name}={value}" for name, value in _context(record).items())
        clock = time.strftime("%H:%M:%S", time.localtime(record.created))
        text = f"{clock} {record.levelname.lower():7} {record.getMessage()}" + (f"  [{fields}]" if fields else "")
        text = text.translate(_ESCAPED)
        if record.exc_info and record.exc_info[0]:
            text += "\n" + self.formatException(record.exc_info)
        return text


def _context(record: logging.LogRecord) -> dict[str, Any]:
    fields = {name: getattr(record, name) for name in _OURS if hasattr(record, name)}
    correlation = CORRELATION.get()
    if correlation:
        fields.setdefault("correlation_id", correlation)
    trace, span = TRACE.get()
    if trace:
        fields.setdefault("trace_id", trace)
        fields.setdefault("span_id", span)
    return fields


def _timestamp(created: float) -> str:
    whole = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(created))
    return f"{whole}.{int(created % 1 * 1000):03d}Z"


def configure(settings: Logs, stream: TextIO | None = None) -> None:
    """Sends everything that is logged in this process to one stream, standard error by default."""
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(JsonFormatter() if settings.format == "json" else TextFormatter())
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(settings.level.upper())
    for name in ("uvicorn", "uvicorn.error", "uvicorn.access", "asyncio", "httpx", "httpcore"):
        logging.getLogger(name).setLevel(max(logging.WARNING, root.level))
