from __future__ import annotations

import contextlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidegate.config.document import parse_document, read_document
from tidegate.config.tree import plain
from tidegate.errors import ConfigError


def mistake(text: str) -> str:
    with pytest.raises(ConfigError) as caught:
        parse_document(text, "f.yaml")
    return str(caught.value)


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("no", "no"),
        ("on", "on"),
        ("True", True),
        ("1:30", "1:30"),
        ("010", 10),
        ("1e3", 1000.0),
        ("-1.5", -1.5),
        (".inf", float("inf")),
        ("2024-01-01", "2024-01-01"),
        ("'3'", "3"),
        ("~", None),
        ("", None),
        ("[1, a, {b: 2}]", [1, "a", {"b": 2}]),
        ("|\n  a\n  b\n", "a\nb\n"),
    ],
)
def test_plain_scalars_follow_yaml_1_2(written: str, meant: object) -> None:
    assert plain(parse_document(f"key: {written}\n", "f.yaml")) == {"key": meant}


def test_merge_keys_and_aliases_are_expanded() -> None:
    text = "base: &b {x: 1, y: 2}\nother: {<<: *b, y: 3}\nlist: [*b]\n"
    assert plain(parse_document(text, "f.yaml")) == {
        "base": {"x": 1, "y": 2},
        "other": {"x": 1, "y": 3},
        "list": [{"x": 1, "y": 2}],
    }


@pytest.mark.parametrize("text", ["", "# nothing\n", "---\n", "null\n"])
def test_an_empty_document_is_an_empty_table(text: str) -> None:
    assert plain(parse_document(text, "f.yaml")) == {}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a: 1\nb: 2\na: 3\n", 'f.yaml:3: the key "a" is here for the second time'),
        ("a:\n  - {b: 1, b: 2}\n", 'f.yaml:2: the key "b" is here for the second time'),
        ("a: [1\nb: 2\n", "f.yaml:2: not valid YAML"),
        ("a: 1\n---\nb: 2\n", "f.yaml:2: not valid YAML"),
        ("- 1\n", "f.yaml:1: expected keys and values"),
        ("a: *nowhere\n", "f.yaml:1: not valid YAML"),
        ("? [1]\n: 2\n", "f.yaml:1: a key must be text"),
        ("a: !!python/object/apply:os.system [ls]\n", "f.yaml:1: the tag python/object/apply:os.system"),
        ("a:\n  b: !secret x\n", "f.yaml:2: the tag !secret"),
        ("a: {<<: 3}\n", "f.yaml:1: `<<` needs a table"),
        ("a: &a [*a]\n", "f.yaml:1: nested deeper than 32"),
        ("\n".join(" " * depth + "a:" for depth in range(100)), "f.yaml:34: nested deeper than 32"),
        ("[" * 100_000, "f.yaml:1: nested too deeply"),
        ("- " * 1000, "f.yaml:1: nested too deeply"),
    ],
)
def test_a_broken_document_is_told_with_its_line(text: str, expected: str) -> None:
    assert mistake(text).startswith(expected)


def test_aliases_cannot_grow_without_bound() -> None:
    lines = ["a0: &a0 [1, 1, 1, 1, 1, 1, 1, 1, 1, 1]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 12)]
    assert "once aliases are expanded" in mistake("\n".join(lines))


@given(st.text(alphabet="ab:-[]{}*&!<>|'\"#,?~ \n\t%@`1.", max_size=60))
def test_any_text_is_read_or_refused(text: str) -> None:
    with contextlib.suppress(ConfigError):
        parse_document(text, "f.yaml")


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    latin = tmp_path / "latin.yaml"
    latin.write_bytes(b"a: 1\nb: \xe9\n")
    large = tmp_path / "large.yaml"
    large.write_bytes(b"#" * (5 << 20))
    for path, expected in (
        (tmp_path / "none.yaml", "no such file"),
        (tmp_path, "is a folder"),
        (latin, ":2: not UTF-8"),
        (large, "larger than"),
    ):
        with pytest.raises(ConfigError, match=expected):
            read_document(path)


def test_a_byte_order_mark_is_no_key(tmp_path: Path) -> None:
    path = tmp_path / "bom.yaml"
    path.write_bytes(b"\xef\xbb\xbfa: 1\n")
    assert plain(read_document(path)) == {"a": 1}
