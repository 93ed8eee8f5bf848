"""What the documents show is what happens."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.integration.pages import Page, blocks, matches

ROOT = Path(__file__).resolve().parent.parent.parent
PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").rglob("*.md")])
RUN = [page for page in PAGES if any(block.language == "console" for block in blocks(page.read_text("utf-8")))]


def named(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("page", RUN, ids=named)
def test_the_blocks_of_a_page_run_as_shown(page: Path, tmp_path: Path) -> None:
    Page(page, tmp_path).run()


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", page.read_text("utf-8")):
        if "://" not in target and not target.startswith("mailto:"):
            assert (page.parent / target).exists(), target


@pytest.mark.parametrize("page", sorted((ROOT / "docs" / "design").glob("*.md")), ids=named)
def test_the_modules_that_a_design_page_names_exist(page: Path) -> None:
    for name in re.findall(r"`([a-z_/0-9]+(?:\.py|/))`", page.read_text("utf-8")):
        assert (ROOT / "src" / "tidegate" / name).exists() or (ROOT / name).exists(), name


def test_generated_pages_are_fresh() -> None:
    command = [sys.executable, str(ROOT / "scripts" / "reference.py"), "--check"]
    result = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (result.returncode, result.stdout.strip()) == (0, ""), result.stderr


def test_shown_output_may_leave_parts_out() -> None:
    assert matches("a\n...\nc ... e\n", "a\nb\nb\nc d e\n")
    assert matches("a\n...\n", "a\n")
    assert not matches("a\nb\n", "a\nc\n")
    assert not matches("", "a\n")
    assert matches("", "")
