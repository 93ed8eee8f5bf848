from __future__ import annotations

import pytest

from tidegate.errors import NotAllowed, NotAuthenticated
from tidegate.protocols.access import Keys
from tidegate.settings import Access

OPEN = Keys(Access())
LOCKED = Keys(Access(predict_key="p", operate_key="o", metrics_open=False))


def test_without_keys_predicting_is_open_and_changes_are_off() -> None:
    OPEN.admit("none", {}, {})
    OPEN.admit("predict", {}, {})
    OPEN.admit("metrics", {}, {})
    with pytest.raises(NotAllowed, match=r"set access.operate_key"):
        OPEN.admit("operate", {b"x-api-key": b""}, {})


@pytest.mark.parametrize("role", ["predict", "operate", "metrics"])
def test_a_key_is_needed_and_must_be_right(role: str) -> None:
    for headers in ({}, {b"authorization": b"Basic o"}, {b"x-api-key": b""}, {b"x-api-key": b"op"}):
        with pytest.raises(NotAuthenticated):
            LOCKED.admit(role, headers, {})  # type: ignore[arg-type]
    LOCKED.admit(role, {b"authorization": b"bearer  o"}, {})  # type: ignore[arg-type]
    LOCKED.admit(role, {b"x-api-key": b"o"}, {})  # type: ignore[arg-type]


def test_a_predict_key_may_not_operate() -> None:
    LOCKED.admit("predict", {b"x-api-key": b"p"}, {})
    with pytest.raises(NotAllowed, match="may predict"):
        LOCKED.admit("operate", {b"x-api-key": b"p"}, {})
