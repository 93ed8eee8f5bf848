"""An instance's end of the bridge to the store."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from tidegate.apps.bridge import Bridge
from tidegate.apps.desired import Desired
from tidegate.apps.follower import News
from tidegate.apps.owner import Owner
from tidegate.config import Loaded
from tidegate.serving.snapshots.publication import Publication
from tidegate.settings import Settings, Store


def test_the_copy_on_disk_is_written_aside_and_in_order(tmp_path: Path) -> None:
    """A process that answers must not wait for its disk at each publication."""
    loaded = Loaded(Settings(store=Store(url="sqlite:///store.db")), {}, tmp_path)
    owner, writes = Owner(loaded, lambda: loaded), list[Callable[[], None]]()
    bridge = Bridge(owner, 8000, aside=writes.append)
    bridge.heard(News(keys=()))
    for number in (2, 3):
        owner.accept(Desired(loaded, published=Publication(number, {})))
        bridge.put_in_force({})
    assert not list(tmp_path.iterdir())
    for write in writes:
        write()
    later = Owner(loaded, lambda: loaded)
    again = Bridge(later, 8000)
    again.begin()
    assert again.told().keys == ()
    assert later.desired.published == Publication(3, {}, origin="disk")
