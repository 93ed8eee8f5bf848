"""The question before something is done, in a dialog or as a page of its own, and the reason that the audit log keeps."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from starlette.datastructures import FormData
from starlette.requests import Request
from starlette.responses import Response

from tidegate.console.site import Site
from tidegate.control.access.caller import Caller

LONGEST_REASON = 500
WRONG = f"Say why, in at most {LONGEST_REASON} characters: it goes into the audit log."


class Choices(NamedTuple):
    """What else is asked: ``offered`` are values and their words."""

    field: str
    asks: str
    offered: Sequence[tuple[int, str]]
    usual: float


class Question(NamedTuple):
    """``target`` is where the answer goes, ``verb`` and ``glyph`` are on the button that sends it."""

    section: str
    heading: str
    warning: str
    target: str
    back: str
    verb: str
    glyph: str
    danger: bool = False
    choices: Choices | None = None
    optional: bool = False
    """Whether it needs no reason."""


def ask(
    site: Site, request: Request, visitor: Caller, question: Question, wrong: str = "", status: int = 422
) -> Response:
    """``wrong``: what was not right with the answer before; ``status`` is for then."""
    return site.render(
        request,
        "confirm.html",
        visitor,
        status=status if wrong else 200,
        section=question.section,
        question=question,
        wrong=wrong,
    )


def reason_in(form: FormData) -> str:
    """Empty for one that is too long as well."""
    reason = str(form.get("reason", "")).strip()
    return reason if len(reason) <= LONGEST_REASON else ""
