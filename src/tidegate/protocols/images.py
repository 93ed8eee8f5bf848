"""Images before they are decoded: the format from the first bytes, the size from the header, the pixel limit."""

from __future__ import annotations

import io
from collections.abc import Sequence
from struct import error as StructError  # noqa: N812 - a class under a lower-case name
from struct import unpack_from

from tidegate.errors import InvalidInput, MissingExtra, TooLarge
from tidegate.types import Signature, Tensors

FORMATS = ("JPEG", "PNG", "WebP", "GIF", "BMP", "TIFF")

_SOF = frozenset({*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC})
_ALONE = frozenset({0x01, *range(0xD0, 0xD8)})


def check_images(inputs: Tensors, signature: Signature, max_pixels: int) -> None:
    """Refuses every blob of an image input that is no image or has too many pixels; the pixels stay undecoded."""
    for spec in signature.inputs:
        if spec.content == "image" and spec.name in inputs:
            for row, blob in enumerate(inputs[spec.name].ravel().tolist()):
                if blob is not None:
                    _check(blob, f"row {row}", (spec.name, row), max_pixels)


def size_of(blob: bytes) -> tuple[str, int, int] | None:
    """Format, width and height as the header states them; None for anything that is not a known image."""
    try:
        if blob.startswith(b"\x89PNG\r\n\x1a\n") and blob[12:16] == b"IHDR":
            return ("PNG", *unpack_from(">II", blob, 16))
        if blob.startswith(b"\xff\xd8\xff"):
            return _jpeg(blob)
        if blob[:6] in (b"GIF87a", b"GIF89a"):
            return ("GIF", *unpack_from("<HH", blob, 6))
        if blob[:4] == b"RIFF" and blob[8:12] == b"WEBP":
            return _webp(blob)
        if blob[:2] == b"BM":
            width, height = unpack_from("<ii", blob, 18)
            return "BMP", width, abs(height)
        if blob[:4] in (b"II*\x00", b"MM\x00*"):
            return _with_pillow(blob)
    except (StructError, IndexError):
        return None
    return None


def _check(blob: bytes, words: str, loc: Sequence[str | int], max_pixels: int) -> None:
    found = size_of(blob)
    if found is None or min(found[1:]) <= 0:
        raise InvalidInput(f"{words}: not an image; send {', '.join(FORMATS[:-1])} or {FORMATS[-1]}", loc)
    _, width, height = found
    if width * height > max_pixels:
        raise TooLarge(f"{words}: the image has {width} x {height} pixels; the limit is {max_pixels}", loc)


def _jpeg(blob: bytes) -> tuple[str, int, int] | None:
    """Walks the segments to the frame header."""
    position = 2
    while position + 4 <= len(blob):
        if blob[position] != 0xFF:
            return None
        marker = blob[position + 1]
        if marker == 0xFF or marker in _ALONE:
            position += 1 if marker == 0xFF else 2
            continue
        (length,) = unpack_from(">H", blob, position + 2)
        if marker in _SOF:
            height, width = unpack_from(">HH", blob, position + 5)
            return "JPEG", width, height
        if marker in (0xD9, 0xDA) or length < 2:
            return None
        position += 2 + length
    return None


def _webp(blob: bytes) -> tuple[str, int, int] | None:
    kind = blob[12:16]
    if kind == b"VP8X":
        return "WebP", int.from_bytes(blob[24:27], "little") + 1, int.from_bytes(blob[27:30], "little") + 1
    if kind == b"VP8L" and blob[20] == 0x2F:
        (bits,) = unpack_from("<I", blob, 21)
        return "WebP", (bits & 0x3FFF) + 1, ((bits >> 14) & 0x3FFF) + 1
    if kind == b"VP8 " and blob[23:26] == b"\x9d\x01\x2a":
        width, height = unpack_from("<HH", blob, 26)
        return "WebP", width & 0x3FFF, height & 0x3FFF
    return None


def _with_pillow(blob: bytes) -> tuple[str, int, int] | None:
    try:
        from PIL import Image
    except ImportError:
        raise MissingExtra("vision", "TIFF images") from None
    try:
        with Image.open(io.BytesIO(blob), formats=("TIFF",)) as image:
            return "TIFF", image.width, image.height
    except Exception:  # noqa: BLE001 - Pillow's plugins raise many kinds for a broken header
        return None
