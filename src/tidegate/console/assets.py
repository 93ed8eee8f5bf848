"""Files that browsers load: read once, compressed once, under a path that changes with their contents."""

from __future__ import annotations

import gzip
from hashlib import sha256
from pathlib import Path

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

FOLDER = Path(__file__).parent / "static"
TYPES = {
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
    ".woff2": "font/woff2",
}
"""What is served; licences and notes beside them are not."""
FOREVER = "public, max-age=31536000, immutable"


class Assets:
    """``version`` is of all files together, so that paths inside a sheet stay relative."""

    def __init__(self, folder: Path = FOLDER) -> None:
        self._files: dict[str, tuple[bytes, bytes, str]] = {}
        digest = sha256()
        for path in sorted(folder.rglob("*")):
            kind = TYPES.get(path.suffix)
            if kind is None:
                continue
            name = path.relative_to(folder).as_posix()
            body = path.read_bytes()
            digest.update(f"{name}\0{len(body)}\0".encode() + body)
            small = b"" if path.suffix == ".woff2" else gzip.compress(body, 6, mtime=0)
            self._files[name] = (body, small, kind)
        self.version = digest.hexdigest()[:12]

    def path(self, name: str) -> str:
        """Where a file is found below the console's root. Raises KeyError for one that is not there."""
        if name not in self._files:
            raise KeyError(f"no static file {name}")
        return f"/static/{self.version}/{name}"

    def answer(self, request: Request) -> Response:
        """A file by its path; one of another version is answered as it is now, and not kept."""
        found = self._files.get(request.path_params["name"])
        if found is None:
            return PlainTextResponse("no such file", 404)
        body, small, kind = found
        fresh = request.path_params["version"] == self.version
        headers = {"Cache-Control": FOREVER if fresh else "no-cache", "X-Content-Type-Options": "nosniff"}
        if small:
            headers["Vary"] = "Accept-Encoding"
            if "gzip" in request.headers.get("accept-encoding", ""):
                headers["Content-Encoding"] = "gzip"
                body = small
        return Response(body, media_type=kind, headers=headers)

    def icon(self, request: Request) -> Response:
        """For browsers that ask for it where no page says where it is."""
        body, _, kind = self._files["icon.svg"]
        return Response(body, media_type=kind, headers={"Cache-Control": "max-age=86400"})
