from __future__ import annotations

import re
from pathlib import Path

from tidegate.storage.tables import metadata

PAGE = Path(__file__).parents[3] / "docs" / "reference" / "store.md"


def test_the_page_lists_every_table() -> None:
    rows = re.findall(r"^\| `([a-z_]+)` \|", PAGE.read_text("utf-8"), re.MULTILINE)
    assert sorted(rows) == sorted(metadata.tables)
