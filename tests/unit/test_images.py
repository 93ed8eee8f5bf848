"""What is measured of an image, and that hostile ones cost little."""

from __future__ import annotations

import io
import zlib
from struct import pack
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as some
from PIL import Image

from tidegate.images import MEASURES, measure


def drawn(colour: tuple[int, int, int], size: tuple[int, int] = (40, 20), kind: str = "PNG", **options: Any) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", size, colour).save(file, kind, **options)
    return file.getvalue()


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "BMP", "GIF", "TIFF", "WEBP"])
def test_size_and_colours(kind: str) -> None:
    blob = drawn((255, 0, 0), kind=kind)
    found = measure(blob)
    assert tuple(found) == MEASURES
    assert (found["bytes"], found["width"], found["height"], found["aspect"]) == (len(blob), 40, 20, 2.0)
    assert found["red"] == pytest.approx(1, abs=0.02)
    assert found["green"] == pytest.approx(0, abs=0.02)
    assert found["brightness"] == pytest.approx(0.299, abs=0.02)


def test_a_large_jpeg_is_measured_from_a_small_one() -> None:
    found = measure(drawn((10, 200, 30), size=(4000, 3000), kind="JPEG"))
    assert (found["width"], found["height"]) == (4000, 3000)
    assert found["green"] == pytest.approx(200 / 255, abs=0.02)


def test_exif_does_not_turn_it() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    assert measure(drawn((1, 2, 3), kind="JPEG", exif=exif.tobytes()))["width"] == 40


def test_an_image_of_too_many_pixels_is_not_decoded() -> None:
    def chunk(kind: bytes, body: bytes) -> bytes:
        return pack(">I", len(body)) + kind + body + pack(">I", zlib.crc32(kind + body))

    bomb = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", pack(">IIBBBBB", 8000, 8000, 8, 2, 0, 0, 0)) + chunk(b"IDAT", b"")
    found = measure(bomb)
    assert (found["width"], found["height"]) == (8000, 8000)
    assert "red" not in found
    assert "red" not in measure(drawn((0, 0, 0)), most_pixels=799)


@settings(max_examples=40, deadline=None)
@given(some.binary(max_size=200), some.integers(0, 60))
def test_any_bytes_have_at_least_a_length(blob: bytes, cut: int) -> None:
    image = drawn((9, 9, 9))
    for one in (blob, image[:cut] + blob, image[:-cut] if cut else image):
        assert measure(one)["bytes"] == len(one)
