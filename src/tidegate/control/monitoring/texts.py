"""Free text as numbers that can drift: length, words, share of different words, of other alphabets, of unknown words."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from typing import Any
from zlib import crc32

LONGEST = 20_000
"""Characters of a text that are looked at; its length is the whole."""
MOST_WORDS = 4096
"""Words of the vocabulary, those that are in most texts."""
MOST_COUNTED = 200_000
MEASURES = ("length", "words", "unique", "non_ascii", "unknown")

_WORD = re.compile(r"\w+")


def is_text(values: Iterable[Any]) -> bool:
    """Whether strings are free text rather than categories: several words each, and hardly one twice."""
    found = [value for value in values if isinstance(value, str)]
    words = sum(1 + value.count(" ", 0, LONGEST) for value in found)
    return len(found) >= 2 and words >= 4 * len(found) and 2 * len(set(found)) > len(found)


def words_of(text: str) -> list[int]:
    """Hashes of the words, in small letters: a vocabulary names nobody."""
    return [crc32(word.encode("utf-8", "replace")) for word in _WORD.findall(text[:LONGEST].lower())]


def count_words(texts: Iterable[Any]) -> Counter[int]:
    """In how many texts each word is."""
    counted: Counter[int] = Counter()
    for text in texts:
        if isinstance(text, str):
            counted.update(set(words_of(text)))
        if len(counted) > MOST_COUNTED:
            counted = Counter(dict(counted.most_common(MOST_COUNTED // 2)))
    return counted


def vocabulary_of(counted: Counter[int]) -> tuple[int, ...]:
    ordered = sorted(counted, key=lambda word: (-counted[word], word))
    return tuple(sorted(ordered[:MOST_WORDS]))


def measured(values: Sequence[Any], known: Collection[int]) -> dict[str, list[Any]]:
    """A list for each of MEASURES; a value that is no text is passed on as it is, to be counted as missing or wrong."""
    found: dict[str, list[Any]] = {name: [] for name in MEASURES}
    for value in values:
        one: tuple[Any, ...] = _measure(value, known) if isinstance(value, str) else (_no_text(value),) * len(MEASURES)
        for name, measure in zip(MEASURES, one, strict=True):
            found[name].append(measure)
    return found


def _measure(text: str, known: Collection[int]) -> tuple[Any, ...]:
    words = words_of(text)
    seen = text[:LONGEST]
    foreign = 0 if seen.isascii() else sum(1 for character in seen if character > "\x7f")
    if not words:
        return len(text), 0, None, foreign / len(seen) if seen else None, None
    unknown = sum(1 for word in words if word not in known)
    return len(text), len(words), len(set(words)) / len(words), foreign / len(seen), unknown / len(words)


def _no_text(value: Any) -> Any:
    """A number instead of a text is of the wrong type, though its measures would be numbers."""
    return value if value is None or value != value else "no text"
