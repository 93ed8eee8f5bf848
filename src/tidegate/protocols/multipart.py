"""Image uploads: ``multipart/form-data`` with the files in ``images``, and texts beside them for models that take both."""

from __future__ import annotations

import logging
from typing import Any

from tidegate.errors import InvalidInput, MalformedBody, TooLarge
from tidegate.protocols import examples, forms, tensors
from tidegate.protocols.arrays import show
from tidegate.types import Signature, Tensors

_BESIDE_ROWS = 16

logging.getLogger("python_multipart").setLevel(logging.ERROR)


def read_multipart(
    body: bytes, content_type: bytes, signature: Signature, max_rows: int
) -> tuple[Tensors, tuple[str, ...]]:
    """Tensors and units of a form. Each image is one row, in the order of the parts."""
    fields: dict[str, list[bytes]] = {}
    for name, data in _parts(body, content_type, len(signature.inputs) * max_rows + max_rows + _BESIDE_ROWS):
        fields.setdefault(name, []).append(data)
    units = [_decoded(unit, "units") for unit in fields.pop("units", [])]
    inputs = _inputs(fields, signature, max_rows)
    return inputs, forms.read_units(units or None, tensors.rows_of(inputs))


def _inputs(fields: dict[str, list[bytes]], signature: Signature, max_rows: int) -> Tensors:
    image = next((spec.name for spec in signature.inputs if spec.content == "image"), "")
    text = next((spec.name for spec in signature.inputs if spec.content == "text"), "")
    if not image:
        raise InvalidInput(f"this model takes no images. {examples.accepted(signature)}")
    names = {"images": image, "text": text, "texts": text} | {spec.name: spec.name for spec in signature.inputs}
    given: dict[str, list[Any]] = {}
    for field, parts in fields.items():
        name = names.get(field, "")
        if not name:
            raise InvalidInput(f'unknown form field {show(field)}; send the files as "images"', (field[:60],))
        if name in given:
            raise InvalidInput(f'the form gives "{name}" under two names', (field[:60],))
        blobs = next(spec for spec in signature.inputs if spec.name == name).content in ("image", "binary")
        given[name] = list(parts) if blobs else [_decoded(part, field) for part in parts]
    if image not in given:
        raise InvalidInput('the form has no files; send them as "images"', ("images",))
    if len(signature.inputs) == 1:
        return tensors.from_images(given[image], signature, max_rows=max_rows)
    return tensors.from_columns(given, signature, form="form", max_rows=max_rows)


def _decoded(part: bytes, field: str) -> str:
    try:
        return part.decode()
    except UnicodeDecodeError:
        raise InvalidInput(f"form field {show(field)}: the text is not UTF-8", (field[:60],)) from None


def _parts(body: bytes, content_type: bytes, max_parts: int) -> list[tuple[str, bytes]]:
    """Names and contents of all parts, already complete in memory and bounded in number."""
    from python_multipart.exceptions import FormParserError
    from python_multipart.multipart import MultipartParser, parse_options_header

    boundary = parse_options_header(content_type)[1].get(b"boundary")
    if not boundary:
        raise MalformedBody("multipart/form-data without a boundary in the content type")
    parts = _Parts(max_parts)
    try:
        parser = MultipartParser(boundary, parts.callbacks())  # type: ignore[arg-type]
        parser.write(body)
        parser.finalize()
    except FormParserError as error:
        raise MalformedBody("the body is not multipart/form-data as its boundary says") from error
    if not parts.ended:
        raise MalformedBody("the multipart body is cut off")
    return parts.found


class _Parts:
    """Collects what the parser reports."""

    def __init__(self, max_parts: int) -> None:
        self.found: list[tuple[str, bytes]] = []
        self.ended = False
        self._max_parts = max_parts
        self._header = b""
        self._value = b""
        self._disposition = b""
        self._data: list[bytes] = []

    def callbacks(self) -> dict[str, Any]:
        return {
            "on_part_begin": self._begin,
            "on_header_field": self._add_header,
            "on_header_value": self._add_value,
            "on_header_end": self._end_header,
            "on_part_data": lambda data, start, end: self._data.append(data[start:end]),
            "on_part_end": self._end,
            "on_end": self._finish,
        }

    def _begin(self) -> None:
        if len(self.found) >= self._max_parts:
            raise TooLarge(f"the form has more than {self._max_parts} parts")
        self._disposition = b""
        self._data = []

    def _add_header(self, data: bytes, start: int, end: int) -> None:
        self._header += data[start:end]

    def _add_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _end_header(self) -> None:
        if self._header.lower() == b"content-disposition":
            self._disposition = self._value
        elif self._header.lower() == b"content-transfer-encoding" and self._value.lower() not in (
            b"binary",
            b"8bit",
            b"7bit",
        ):
            raise MalformedBody("form parts must be sent as they are, without a transfer encoding")
        self._header = self._value = b""

    def _end(self) -> None:
        from python_multipart.multipart import parse_options_header

        name = parse_options_header(self._disposition)[1].get(b"name")
        if not name:
            raise MalformedBody("a form part has no name")
        self.found.append((name.decode("utf-8", "replace"), b"".join(self._data)))

    def _finish(self) -> None:
        self.ended = True
