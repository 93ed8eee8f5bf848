"""How a PostgreSQL server is started for tests: its data folder is made first, with a password of its own.

The server refuses to run as root; then it runs as the user ``postgres`` of Debian's package, with its data in a temporary
folder that this user can reach.
"""

from __future__ import annotations

import os
import pwd
import secrets
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path

USER = "tidegate"
_SECONDS = 120


class NoPostgres(Exception):
    """There is no PostgreSQL on this machine."""


def binaries() -> Path:
    """The folder of initdb, of the newest version installed."""
    versions = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[-3]))
    found = versions[-1:] or [Path(name) for name in [shutil.which("initdb")] if name]
    if not found:
        raise NoPostgres("PostgreSQL is not installed: apt-get install postgresql")
    return found[0].resolve().parent


def command(folder: Path, port: int) -> tuple[list[str], Mapping[str, str]]:
    """Of a server in the foreground, which goes on with the data that ``folder`` had before."""
    home_file = folder / "home"
    if not home_file.exists():
        home_file.write_text(str(_make(folder)))
    home = Path(home_file.read_text())
    (home / "data" / "postmaster.pid").unlink(missing_ok=True)  # of one that was killed
    settings = {
        "listen_addresses": "127.0.0.1",
        "port": port,
        "unix_socket_directories": home,
        "max_connections": 200,
        "fsync": "off",  # what a killed process wrote is there all the same; only a machine that stops would lose it
    }
    options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
    return [*_as_server(), str(binaries() / "postgres"), "-D", str(home / "data"), *options], {"LC_ALL": "C"}


def answers(folder: Path, port: int) -> bool:
    """Whether it takes connections; ``pg_isready`` asks without signing in."""
    try:
        socket.create_connection(("127.0.0.1", port), 2).close()
    except OSError:
        return False
    asked = [str(binaries() / "pg_isready"), "-q", "-h", "127.0.0.1", "-p", str(port)]
    return subprocess.run(asked, timeout=30, check=False).returncode == 0


def url(folder: Path, port: int) -> str:
    password = (folder / "password").read_text()
    return f"postgresql://{USER}:{password}@127.0.0.1:{port}/postgres"


def clean(folder: Path) -> None:
    """Removes the data; the server has ended."""
    home_file = folder / "home"
    if home_file.exists():
        shutil.rmtree(home_file.read_text(), ignore_errors=True)
        home_file.unlink()


def _as_server() -> list[str]:
    if os.geteuid() != 0:
        return []
    return ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"]


def _make(folder: Path) -> Path:
    home = Path(tempfile.mkdtemp(prefix="tidegate-pg-"))
    password = secrets.token_urlsafe(18)
    kept = folder / "password"
    kept.touch(0o600)
    kept.write_text(password)
    shown = home / "password"
    shown.write_text(password)
    if os.geteuid() == 0:
        account = pwd.getpwnam("postgres")
        for path in (home, shown):
            os.chown(path, account.pw_uid, account.pw_gid)
    made = subprocess.run(
        [
            *_as_server(), str(binaries() / "initdb"), "-D", str(home / "data"), "-U", USER, "-A", "scram-sha-256",
            "--pwfile", str(shown), "-E", "UTF8", "--locale=C", "--no-sync",
        ],
        capture_output=True, text=True, cwd=home, timeout=_SECONDS, check=False, env={**os.environ, "LC_ALL": "C"},
    )  # fmt: skip
    shown.unlink()
    assert made.returncode == 0, f"initdb ended with {made.returncode}:\n{made.stdout}{made.stderr}"
    return home
