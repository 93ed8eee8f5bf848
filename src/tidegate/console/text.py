"""How numbers, times and words are written on the pages. Pure; used as filters of the templates."""

from __future__ import annotations

import datetime
import json
from typing import Any

from markupsafe import Markup, escape

THIN = "\u2009"
"""Between groups of digits and before units."""
MINUS = "\u2212"
DASH = "–"
"""Where there is nothing to show."""


def number(value: float | None) -> str:
    """1 234 567 with thin spaces; small fractions with three significant digits."""
    if value is None:
        return DASH
    if value == int(value) and abs(value) < 1e15:
        written = f"{int(value):,}"
    else:
        written = f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"
    return written.replace(",", THIN).replace("-", MINUS, 1) if value < 0 else written.replace(",", THIN)


def short(value: float) -> str:
    """1.2 k, 3.4 M: where a count has little room."""
    for limit, unit in ((1e9, "G"), (1e6, "M"), (1e4, "k")):
        if abs(value) >= limit:
            scaled = value / (1e3 if unit == "k" else limit)
            return f"{scaled:.3g}{THIN}{unit}" if scaled < 1000 else f"{scaled:.0f}{THIN}{unit}"
    return number(value)


def percent(fraction: float | None) -> str:
    """0.0123 -> 1.23 %; never rounds something to nothing or to all."""
    if fraction is None:
        return DASH
    value = fraction * 100
    if value == 0 or value == 100:
        return f"{value:.0f}{THIN}%"
    if 0 < value < 0.01:
        return f"<{THIN}0.01{THIN}%"
    if 99.99 < value < 100:
        return f">{THIN}99.99{THIN}%"
    digits = 2 if value < 1 or value > 99 else 1 if value < 10 or value % 1 else 0
    written = f"{value:.{digits}f}"
    return f"{written.rstrip('0').rstrip('.') if '.' in written else written}{THIN}%"


def signed(fraction: float | None) -> str:
    """A relative change as a percentage with its sign: +3.4 %, −12 %."""
    if fraction is None:
        return DASH
    return ("+" if fraction > 0 else MINUS if fraction < 0 else "") + percent(abs(fraction))


def share(basis_points: int) -> str:
    """Basis points as a percentage: 525 -> 5.25 %."""
    return f"{basis_points / 100:g}{THIN}%"


def rate(value: float) -> str:
    """Requests a second."""
    if value == 0:
        return "0"
    if value < 0.1:
        return f"<{THIN}0.1"
    return short(round(value, 1) if value < 100 else round(value))


def seconds(value: float | None) -> str:
    """A latency with its unit: 870 µs, 3.2 ms, 1.45 s."""
    if not value:
        return DASH
    if value < 0.001:
        return f"{value * 1e6:.0f}{THIN}µs"
    if value < 1:
        milliseconds = value * 1e3
        return f"{milliseconds:.3g}{THIN}ms" if milliseconds < 100 else f"{milliseconds:.0f}{THIN}ms"
    return f"{value:.3g}{THIN}s"


def duration(value: float | None) -> str:
    """A length of time in its two largest units: 45 s, 3 min 20 s, 2 h 5 min, 3 d 4 h."""
    if value is None:
        return DASH
    if 0 < value < 1:
        return f"{value * 1000:.0f}{THIN}ms"
    if 0 < value < 10 and value != int(value):
        return f"{value:.1f}{THIN}s"
    whole = round(value)
    if whole < 60:
        return f"{whole}{THIN}s"
    for size, unit, lesser, name in ((86_400, "d", 3600, "h"), (3600, "h", 60, "min"), (60, "min", 1, "s")):
        if whole >= size:
            rest = whole % size // lesser
            return f"{whole // size}{THIN}{unit}" + (f" {rest}{THIN}{name}" if rest else "")
    return DASH


def ago(then: float, now: float) -> str:
    """A time relative to now: just now, 40 s ago, in 2 h."""
    passed = now - then
    if abs(passed) < 2:
        return "just now"
    largest = duration(abs(passed)).split(" ")[0]
    return f"{largest} ago" if passed > 0 else f"in {largest}"


def absolute(then: float) -> str:
    """21 Nov 2026, 13:28:18 UTC."""
    return f"{datetime.datetime.fromtimestamp(then, datetime.UTC):%d %b %Y, %H:%M:%S} UTC"


def time(then: float | None, now: float) -> Markup:
    """A <time> element: relative for reading, absolute in its title; the page's script keeps it current."""
    if not then:
        return escape(DASH)
    stamp = datetime.datetime.fromtimestamp(then, datetime.UTC).isoformat(timespec="seconds")
    return Markup('<time datetime="{}" title="{}" data-then="{}">{}</time>').format(
        stamp, absolute(then), f"{then:.3f}", ago(then, now)
    )


def version(value: str) -> str:
    """Versions that are plain numbers are written v3; digests are cut."""
    if not value:
        return "?"
    if value[0].isdigit() and len(value) <= 12:
        return f"v{value}"
    if value.startswith("sha256:"):
        return value[7:19]
    return value


def words(value: str) -> str:
    """Names of states and kinds as words: rolled_back -> rolled back."""
    return value.replace("_", " ").replace("-", " ")


def sentence(value: str) -> str:
    """Begins with a capital and ends with a full stop."""
    if not value:
        return ""
    first = value.split(" ", 1)[0].rstrip(":,.;")
    text = value[0].upper() + value[1:] if first.isalpha() else value
    return text if text[-1] in ".!?…" else f"{text}."


def stop(value: str) -> str:
    """Ends with a full stop; its first word, which may be a name, stays as it is."""
    return value if not value or value[-1] in ".!?…" else f"{value}."


def pretty(body: str) -> str:
    """JSON for people; anything else as it is."""
    try:
        return json.dumps(json.loads(body), indent=2, ensure_ascii=False)
    except ValueError:
        return body


def data(value: Any) -> Markup:
    """JSON inside a <script type=application/json>: nothing in it can end the element."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return Markup(text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026"))  # noqa: S704


def person(who: str) -> Markup:
    """Who did it: the name, with the key's id in the title."""
    name, key = name_and_id(who)
    return Markup('<span title="{}">{}</span>').format(who, name) if key else escape(who)


def name_and_id(who: str) -> tuple[str, str]:
    """``Ada (31ea140670df)`` as Ada and 31ea140670df; the second is empty for who has no key."""
    name, bracket, key = who.rpartition(" (")
    return (name, key.removesuffix(")")) if bracket else (who, "")


def plural(count: float, noun: str, many: str = "") -> str:
    """1 request, 2 requests, with thin separators."""
    return f"{number(count)} {noun if count == 1 else many or noun + 's'}"
