from __future__ import annotations

from tidegate.serving.store_name import store_name


def test_a_store_is_the_same_whoever_signs_in() -> None:
    """Or what waits on disk for a store would wait for ever once its password is another one."""
    same = ("ann:secret@", "ann:n%40w@", "bob@", "")
    assert len({store_name(f"postgresql://{who}db:5432/tidegate?sslmode=require") for who in same}) == 1


def test_other_stores_have_other_names() -> None:
    urls = (
        "postgresql://db/one", "postgresql://db/two", "postgresql://other/one", "postgresql:///one?host=/a",
        "postgresql:///one?host=/b", "sqlite:///one", "sqlite:////one", "sqlite:///a@b/one", "sqlite:///b/one",
    )  # fmt: skip
    assert len({store_name(url) for url in urls}) == len(urls)
    assert store_name(urls[0]).isalnum()
