"""An input behind an address that the operator allowed, brought into the job's folder."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from tidegate.errors import InvalidInput, NotReady

SILENT_SECONDS = 60.0
MOST_BYTES = 100 << 30


def fetch(uri: str, path: Path, progress: Callable[..., None]) -> int:
    """Bytes. Follows no redirects: they would lead away from what was allowed. Raises InvalidInput, or NotReady where
    another try may go better."""
    import httpx

    fresh = path.with_name(f"{path.name}.{os.getpid()}.new")
    size = 0
    try:
        with httpx.stream("GET", uri, timeout=SILENT_SECONDS, follow_redirects=False) as answer:
            if answer.status_code >= 500:
                raise NotReady(f"the input's server answered {answer.status_code}")
            if answer.status_code != 200:
                raise InvalidInput(f"the input cannot be fetched: its server answered {answer.status_code}")
            with fresh.open("wb") as file:
                for data in answer.iter_bytes(1 << 20):
                    size += file.write(data)
                    if size > MOST_BYTES:
                        raise InvalidInput(f"the input is larger than {MOST_BYTES >> 30} GiB")
                    progress(text=f"fetching the input: {size >> 20} MiB")
        fresh.replace(path)
    except httpx.HTTPError as error:
        raise NotReady(f"the input cannot be fetched: {type(error).__name__}") from None
    finally:
        fresh.unlink(missing_ok=True)
    return size
