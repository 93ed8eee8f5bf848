from __future__ import annotations

import io
import struct
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tidegate.errors import InvalidInput, TooLarge
from tidegate.protocols.images import check_images, size_of
from tidegate.types import Signature, TensorSpec

IMAGE = Signature((TensorSpec("image", "BYTES", content="image"),))


def picture(kind: str, size: tuple[int, int] = (31, 17), mode: str = "RGB", **options: Any) -> bytes:
    sink = io.BytesIO()
    Image.new(mode, size).save(sink, kind, **options)
    return sink.getvalue()


def tensors(*blobs: bytes) -> dict[str, np.ndarray[tuple[int], np.dtype[np.object_]]]:
    array = np.empty(len(blobs), object)
    array[:] = blobs
    return {"image": array}


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WebP", "GIF", "BMP", "TIFF"])
def test_format_and_size_come_from_the_header(kind: str) -> None:
    assert size_of(picture(kind)) == (kind, 31, 17)


@pytest.mark.parametrize(
    ("kind", "mode", "options"),
    [
        ("JPEG", "CMYK", {}),
        ("JPEG", "L", {"progressive": True}),
        ("PNG", "I;16", {}),
        ("PNG", "P", {}),
        ("WebP", "RGB", {"lossless": True}),
        ("WebP", "RGBA", {"exif": b"Exif\0\0MM\0*\0\0\0\x08\0\0"}),
        ("JPEG", "RGB", {"exif": b"Exif\0\0MM\0*\0\0\0\x08\0\0"}),
    ],
)
def test_kinds_of_one_format(kind: str, mode: str, options: dict[str, Any]) -> None:
    assert size_of(picture(kind, mode=mode, **options)) == (kind, 31, 17)


def test_an_animation_counts_as_one_frame() -> None:
    sink = io.BytesIO()
    frames = [Image.new("RGB", (9, 9), color) for color in ("red", "blue")]
    frames[0].save(sink, "GIF", save_all=True, append_images=frames[1:])
    assert size_of(sink.getvalue()) == ("GIF", 9, 9)


def test_a_bomb_is_refused_by_its_header_alone() -> None:
    bomb = bytearray(picture("PNG"))
    bomb[16:24] = struct.pack(">II", 60_000, 60_000)
    with pytest.raises(TooLarge, match="row 1: the image has 60000 x 60000 pixels; the limit is 50000000"):
        check_images(tensors(picture("PNG"), bytes(bomb)), IMAGE, 50_000_000)


@pytest.mark.parametrize("limit", [31 * 17, 31 * 17 - 1])
def test_the_limit_is_exact(limit: int) -> None:
    if limit == 31 * 17:
        check_images(tensors(picture("JPEG")), IMAGE, limit)
    else:
        with pytest.raises(TooLarge):
            check_images(tensors(picture("JPEG")), IMAGE, limit)


@pytest.mark.parametrize(
    "blob",
    [
        b"",
        b"not an image",
        b"\x89PNG\r\n\x1a\n",
        b"\xff\xd8\xff",
        b"\xff\xd8\xff\xe0\x00\x00" * 10,
        b"\xff\xd8" + b"\xff" * 100,
        b"GIF89a",
        b"GIF89a\x00\x00\x01\x00",
        b"RIFF\x00\x00\x00\x00WEBPVP8 ",
        b"BM",
        b"II*\x00" + b"\xff" * 40,
        b"MM\x00*\x00\x00\x00\x08\x00\x00\x00\x00\x00\x00",
        b"%PDF-1.7\n" + b"\x89PNG\r\n\x1a\n",
        b"PK\x03\x04",
        b"<svg xmlns='http://www.w3.org/2000/svg'/>",
    ],
)
def test_what_is_no_image_is_named_by_row(blob: bytes) -> None:
    with pytest.raises(InvalidInput, match="row 0: not an image; send JPEG, PNG") as caught:
        check_images(tensors(blob), IMAGE, 100)
    assert caught.value.loc == ("image", 0)
