"""Takes the console's pictures for the documents: ``python -m tests.e2e.shots``."""

from __future__ import annotations

import shutil
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Literal

from playwright.sync_api import sync_playwright

from tests.e2e.conftest import ARGUMENTS, Visit
from tests.e2e.plane import plane

FOLDER = Path(__file__).resolve().parent.parent.parent / "docs" / "img"
SHOTS: tuple[tuple[str, str, int, int, Literal["light", "dark"]], ...] = (
    ("console-overview.png", "/", 1180, 700, "light"),
    ("console-release.png", "/releases/r-iris-4", 1180, 900, "dark"),
    ("console-phone.png", "/releases/r-iris-4", 390, 720, "light"),
    ("console-monitoring.png", "/monitoring/churn", 1180, 1120, "light"),
    ("console-retraining.png", "/retrainings/t-churn-1", 1180, 760, "light"),
)


def main() -> None:
    with (
        TemporaryDirectory() as folder,
        plane(Path(folder), watching=True, plain=True) as found,
        sync_playwright() as driver,
    ):
        browser = driver.chromium.launch(executable_path=shutil.which("chromium"), args=list(ARGUMENTS))
        for name, path, width, height, scheme in SHOTS:
            context = browser.new_context(viewport={"width": width, "height": height}, color_scheme=scheme)
            visit = Visit(context, found.url)
            visit.sign_in(found.keys["admin"])
            visit.open(path)
            visit.page.locator("h1").wait_for()
            visit.page.evaluate("document.fonts.ready.then(() => new Promise(requestAnimationFrame))")
            visit.page.screenshot(path=FOLDER / name)
            context.close()
        browser.close()


if __name__ == "__main__":
    main()
