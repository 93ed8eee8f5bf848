"""Every key of a training configuration is in its page, with its help and its default."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

import tidegate
from tidegate.config.fields import fields_of
from tidegate.control.training.config import TrainingConfig
from tidegate.control.training.families import CLASSIFIERS, REGRESSORS
from tidegate.section import Section

PAGE = Path(tidegate.__file__).parents[2] / "docs" / "how-to" / "train.md"


def lines(section: type[Section] = TrainingConfig, above: str = "") -> Iterator[str]:
    for field in fields_of(section).values():
        key = f"{above}{field.name}"
        inner = f"{key}.<column>." if field.kind == "sections" else f"{key}."
        default = "" if field.required or field.section is not None else shown(field.default)
        needed = " Must be given." if field.required else ""
        yield f"| `{key}` | {default} | {field.help}{needed} |"
        if field.section is not None:
            yield from lines(field.section, inner)


def shown(default: object) -> str:
    text = msgspec.json.encode(default).decode()
    return "" if text in ('""', "null", "{}", "[]") else f"`{text}`"


@pytest.mark.parametrize("line", list(lines()))
def test_the_page_has_the_key(line: str) -> None:
    assert line in PAGE.read_text("utf-8").splitlines()


@pytest.mark.parametrize("family", [*CLASSIFIERS, *REGRESSORS])
def test_the_page_names_the_family(family: str) -> None:
    assert f"`{family}`" in PAGE.read_text("utf-8")
