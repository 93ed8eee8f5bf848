"""Where the processes of one configuration keep what is theirs."""

from __future__ import annotations

from pathlib import Path

from tidegate.config import Loaded

FOLDER = "run"
JOBS = "jobs"


def folder_of(loaded: Loaded) -> Path:
    """``store.folder``, from the configuration's folder."""
    return loaded.base / (loaded.settings.store.folder or FOLDER)


def jobs_folder(loaded: Loaded) -> Path:
    """``jobs.folder``; beside the store's files when empty."""
    own = loaded.settings.jobs.folder
    return loaded.base / own if own else folder_of(loaded) / JOBS
