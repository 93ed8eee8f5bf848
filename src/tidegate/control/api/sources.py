"""Where models may come from when a caller over the network names them."""

from __future__ import annotations

from pathlib import Path

from tidegate.errors import NotAllowed
from tidegate.registry_files import scheme_of
from tidegate.settings import Trust


def source_of(uri: str, trust: Trust, here: Path | None = None, *, never: Path | None = None) -> str:
    """The URI, with a path made absolute. Raises NotAllowed for a place that a caller over the network may not have read.

    A path must lie below the control plane's folder (``here``), unless that is the root of the disk, where services often
    start, or below one of ``trust.pickles``: else its digest, its size and whether it is there would be told to the caller.
    ``never``: the jobs' folder. What lies there was sent over the network, and a model may be code.
    """
    scheme, separator, rest = uri.partition(":")
    if separator and len(scheme) > 1 and scheme != "file":
        if scheme not in trust.schemes:
            raise NotAllowed(f"models may not come from {scheme[:30]}:; trust.schemes lists what may")
        return uri
    here = (here or Path.cwd()).resolve()
    path = Path(rest.removeprefix("//") if scheme == "file" else uri)
    try:
        path = (here / path).resolve()
    except (OSError, ValueError, RuntimeError):
        raise NotAllowed("this is not a path") from None
    if never is not None and path.is_relative_to(never.resolve()):
        raise NotAllowed("what was uploaded for a job is no model; bring the model to a folder of its own")
    folders = [Path(folder).resolve() for folder in trust.pickles]
    folders += [here] if here != Path(here.anchor) else []
    if not any(path == folder or folder in path.parents for folder in folders):
        raise NotAllowed("the path is not below the control plane's folder or one of trust.pickles")
    return str(path)


def served_from(uri: str, trust: Trust, never: Path | None = None) -> str:
    """The same for what is to be served: only paths are looked at here, the rest is for the registry to refuse."""
    is_path = uri.strip() and scheme_of(uri) in ("", "file") and "\0" not in uri
    return source_of(uri, trust, never=never) if is_path else uri
