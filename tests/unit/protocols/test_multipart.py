from __future__ import annotations

import pytest

from tests.unit.protocols.test_native import PAIR, TEXT
from tidegate.errors import InvalidInput, MalformedBody, RequestError, TooLarge
from tidegate.protocols.multipart import read_multipart
from tidegate.types import Signature, TensorSpec

IMAGE = Signature((TensorSpec("image", "BYTES", content="image"),))
TYPE = b"multipart/form-data; boundary=XyZ"


def form(*parts: tuple[str, bytes], extra: str = "") -> bytes:
    body = b""
    for name, data in parts:
        body += f'--XyZ\r\nContent-Disposition: form-data; name="{name}"; filename="f"\r\n{extra}\r\n'.encode()
        body += data + b"\r\n"
    return body + b"--XyZ--\r\n"


def test_each_file_is_a_row() -> None:
    blobs = [b"\x00\x01\r\n--Xy", b"", b"\r\n"]
    inputs, units = read_multipart(form(*(("images", blob) for blob in blobs)), TYPE, IMAGE, 10)
    assert inputs["image"].tolist() == blobs
    assert units == ()


def test_texts_and_units_beside_the_files() -> None:
    body = form(("images", b"1"), ("texts", "Köln".encode()), ("units", b"u"))
    inputs, units = read_multipart(body, TYPE, PAIR, 10)
    assert inputs["image"].tolist() == [b"1"]
    assert inputs["caption"].tolist() == ["Köln"]
    assert units == ("u",)


@pytest.mark.parametrize(
    ("body", "signature", "words"),
    [
        (form(), IMAGE, "no files"),
        (form(("pictures", b"1")), IMAGE, 'unknown form field "pictures"'),
        (form(("images", b"1"), ("image", b"1")), IMAGE, 'gives "image" under two names'),
        (form(("images", b"1")), TEXT, "takes no images"),
        (form(("images", b"1"), ("images", b"1"), ("text", b"x")), PAIR, 'column "caption" has 1 rows, but column "image" has 2|column "image" has 2 rows, but column "caption" has 1'),
        (form(("images", b"1"), ("text", b"\xff")), PAIR, "not UTF-8"),
        (form(("images", b"1"), ("units", b"a"), ("units", b"b")), IMAGE, "one text per row"),
    ],
)  # fmt: skip
def test_forms_that_do_not_fit(body: bytes, signature: Signature, words: str) -> None:
    with pytest.raises(InvalidInput, match=words):
        read_multipart(body, TYPE, signature, 10)


@pytest.mark.parametrize(
    ("body", "content_type"),
    [
        (form(("images", b"1")), b"multipart/form-data"),
        (form(("images", b"1")), b"multipart/form-data; boundary=other"),
        (form(("images", b"1")), b"multipart/form-data; boundary=" + b"x" * 300),
        (form(("images", b"1"))[:-4], TYPE),
        (form(("images", b"1"))[:40], TYPE),
        (b"", TYPE),
        (form(("", b"1")), TYPE),
        (form(("images", b"MQ=="), extra="Content-Transfer-Encoding: base64\r\n"), TYPE),
        (form(("images", b"1"), extra="X: " + "y" * 20_000 + "\r\n"), TYPE),
        (b"--XyZ\r\n\r\n1\r\n--XyZ--\r\n", TYPE),
    ],
)
def test_broken_forms(body: bytes, content_type: bytes) -> None:
    with pytest.raises(MalformedBody):
        read_multipart(body, content_type, IMAGE, 10)


def test_too_many_files() -> None:
    with pytest.raises(TooLarge, match="4 rows"):
        read_multipart(form(*[("images", b"1")] * 4), TYPE, IMAGE, 3)
    with pytest.raises(TooLarge, match="parts"):
        read_multipart(form(*[("images", b"1")] * 400), TYPE, IMAGE, 3)


def test_every_cut_is_refused() -> None:
    body = form(("images", b"12345"), ("images", b"6"))
    for end in range(len(body) - 4):
        with pytest.raises(RequestError):
            read_multipart(body[:end], TYPE, IMAGE, 10)
