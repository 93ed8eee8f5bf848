"""API keys: their form, their hash, what they allow."""

from __future__ import annotations

import pytest

from tidegate.keys import KeyFacts, KnownKey, compose, decode_facts, digest, encode_facts, matches, new_key, parse


def test_a_key_is_read_as_it_was_made_whatever_its_secret_holds() -> None:
    for _ in range(200):  # secrets may contain underscores and hyphens
        id_, secret, _ = new_key()
        assert parse(compose(id_, secret)) == (id_, secret)


@pytest.mark.parametrize(
    "text", ["", "tg_", "tg_abc_def", "xx_0123456789ab_" + "s" * 43, "tg_0123456789AB_" + "s" * 43, "tg_0123456789ab_é"]
)
def test_what_is_no_key_is_told_from_one(text: str) -> None:
    assert parse(text) is None


def test_only_the_right_secret_matches_under_its_own_salt() -> None:
    _, secret, salt = new_key()
    kept = digest(salt, secret)
    assert len(kept) == 64
    assert matches(salt, kept, secret)
    assert not matches(salt, kept, secret[:-1])
    assert not matches(new_key()[2], kept, secret)


def test_a_role_includes_the_lesser_ones() -> None:
    operator = KeyFacts(name="ci", roles=("operate",))
    assert [operator.allows(role) for role in ("predict", "operate", "admin")] == [True, True, False]
    assert not KeyFacts(name="nothing", roles=()).allows("predict")


def test_a_key_reaches_the_endpoints_it_names_or_all() -> None:
    assert KeyFacts(name="all").reaches("iris")
    assert not KeyFacts(name="one", endpoints=("churn",)).reaches("iris")


def test_facts_are_kept_as_json_and_a_broken_body_is_an_error() -> None:
    facts = KeyFacts(name="ci", roles=("admin",), endpoints=("iris",), requests_per_minute=60, rows=100)
    assert decode_facts(encode_facts(facts)) == facts
    with pytest.raises(ValueError, match="role"):
        decode_facts('{"name": "x", "roles": ["root"]}'.replace("root", "role-less"))


def test_a_key_expires_at_its_time() -> None:
    key = KnownKey(id="a", salt="s", digest="d", facts=KeyFacts(name="x"), expires=10.0)
    assert not key.expired(9.9)
    assert key.expired(10.0)
    assert not KnownKey(id="a", salt="s", digest="d", facts=KeyFacts(name="x")).expired(1e12)
