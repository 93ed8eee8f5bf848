"""What is measured of an image, in a fixed and small cost: its size, its shape, how bright it is and in which colours."""

from __future__ import annotations

import io
from typing import Any

MEASURES = ("bytes", "width", "height", "aspect", "brightness", "red", "green", "blue")
MOST_PIXELS = 4_000_000
"""Of an image that is decoded as a whole; a JPEG may have ``_SMALLER`` times as many, as it is decoded at an eighth."""
MOST_BYTES = 32 * 2**20
_FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF")
_SMALLER = 8
_SIDE = 64
"""The means are of a picture of at most so many pixels a side."""


def measure(blob: bytes, most_pixels: int = MOST_PIXELS) -> dict[str, Any]:
    """``bytes`` always; the rest where Pillow is there and the blob is an image. Brightness and colours are means from 0 to
    1, and left out above ``most_pixels``. What EXIF says is not followed: a turned image is as wide as its pixels are."""
    found: dict[str, Any] = {"bytes": len(blob)}
    if len(blob) > MOST_BYTES:
        return found
    try:
        from PIL import Image
    except ImportError:
        return found
    try:
        with Image.open(io.BytesIO(blob), formats=_FORMATS) as image:
            width, height = image.size
            found |= {"width": width, "height": height, "aspect": round(width / height, 4)}
            if width * height <= most_pixels * (_SMALLER if image.format == "JPEG" else 1):
                found |= _colours(image)
    except Exception:  # noqa: BLE001 - Pillow's plugins raise many kinds for broken or hostile files
        return found
    return found


def _colours(image: Any) -> dict[str, float]:
    image.draft("RGB", (_SIDE, _SIDE))  # a JPEG is decoded at an eighth of its size
    image.thumbnail((_SIDE, _SIDE), resample=4, reducing_gap=None)  # 4 is BOX: the mean of what a pixel covers
    pixels = image.convert("RGB").tobytes()
    count = len(pixels) // 3
    red, green, blue = (sum(pixels[start::3]) / (255 * count) for start in range(3))
    brightness = 0.299 * red + 0.587 * green + 0.114 * blue
    named = {"brightness": brightness, "red": red, "green": green, "blue": blue}
    return {name: round(value, 4) for name, value in named.items()}
