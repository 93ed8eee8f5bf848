from __future__ import annotations

import pytest

from tests.unit.control.registry.contract import RegistryContract
from tidegate.control.registry.base import Registry, RegistryAway
from tidegate.testing.registry import MemoryRegistry


@pytest.fixture
def registry() -> Registry:
    return MemoryRegistry()


class TestMemoryRegistry(RegistryContract):
    def test_it_can_be_away(self) -> None:
        registry = MemoryRegistry()
        registry.away = True
        with pytest.raises(RegistryAway) as caught:
            registry.versions("")
        assert caught.value.reason == "registry_away"
