from __future__ import annotations

from collections.abc import Iterator

from tidegate.config.fields import Field, fields_of
from tidegate.section import Section
from tidegate.settings import ALIASES, SECRETS, Settings


def walk(section: type[Section] = Settings, prefix: str = "") -> Iterator[tuple[str, Field]]:
    for field in fields_of(section).values():
        yield prefix + field.name, field
        if field.section is not None:
            yield from walk(field.section, f"{prefix}{field.name}.")


def test_every_setting_has_a_help_text() -> None:
    assert [key for key, field in walk() if not field.help.endswith(".")] == []


def test_aliases_and_secrets_name_settings() -> None:
    known = {key for key, _ in walk()}
    assert set(ALIASES.values()) <= known
    assert set(SECRETS) <= known


def test_every_key_is_a_secret() -> None:
    named = {key for key, _ in walk() if key.endswith(("_key", "password", "secret", "token"))}
    addresses = {"store.url", "alerts.webhook", "alerts.slack"}  # an address may carry a password
    assert named | addresses == set(SECRETS)


def test_allowed_values_are_told_in_words() -> None:
    allowed = {key: field.allowed for key, field in walk()}
    assert allowed["server.grpc_port"] == "a whole number from 0 to 65535, or empty"
    assert allowed["server.shutdown_seconds"] == "a number greater than 0"
    assert allowed["server.watch"] == "true or false"
    assert allowed["trust.pickles"] == "a list of texts"
    assert allowed["profile"] == "one of: local, development, staging, production"
