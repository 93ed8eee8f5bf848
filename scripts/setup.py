"""Makes .venv and installs the pinned requirements and Tidegate itself into it; does nothing when that is done.

    python3 scripts/setup.py run|dev [--venv FOLDER]
    python3 scripts/setup.py airflow                 # Airflow and its operators, into .venv-airflow

Needs nothing but Python's own library, and takes uv where that is there. `make` and scripts/setup.ps1 call it.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.util
import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
OLDEST = (3, 11)
FOLDERS = {"run": ".venv", "dev": ".venv", "airflow": ".venv-airflow"}


def stop(text: str) -> None:
    print(f"error: {text}", file=sys.stderr)
    raise SystemExit(2)


def check_python() -> None:
    if sys.version_info < OLDEST:
        stop(
            "Tidegate needs Python {}.{} or newer; this is {}.{} ({}). "
            "Name another with `make PYTHON=python3.12 ...`".format(*OLDEST, *sys.version_info[:2], sys.executable)
        )
    missing = [name for name in ("venv", "ensurepip") if importlib.util.find_spec(name) is None]
    if missing:
        version = "{}.{}".format(*sys.version_info[:2])
        stop(
            f"this Python lacks the module {missing[0]}, so that no virtual environment can be made; "
            f"on Debian and Ubuntu: sudo apt-get install python{version}-venv"
        )


def environment_python(venv: Path) -> Path:
    return venv / ("Scripts/python.exe" if sys.platform == "win32" else "bin/python")


def works(python: Path) -> bool:
    if not python.exists():
        return False
    probe = [str(python), "-c", f"import sys; sys.exit(sys.version_info < {OLDEST})"]
    return subprocess.run(probe, capture_output=True, check=False).returncode == 0


def fingerprint(*files: str) -> str:
    digest = hashlib.sha256()
    for name in files:
        digest.update((ROOT / name).read_bytes())
    return digest.hexdigest()


def installed(stamp: Path) -> dict[str, str]:
    try:
        found = json.loads(stamp.read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def installer(what: str, python: Path) -> list[str]:
    """uv needs seconds for what takes pip most of a minute; the first environment has to be made without it."""
    if what == "airflow" and importlib.util.find_spec("uv") is not None:
        return [sys.executable, "-m", "uv", "pip", "install", "--quiet", "--no-config", "--python", str(python)]
    return [str(python), "-m", "pip", "--disable-pip-version-check", "--quiet", "install"]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("what", choices=tuple(FOLDERS))
    parser.add_argument("--venv")
    arguments = parser.parse_args()
    venv = Path(arguments.venv or ROOT / FOLDERS[arguments.what])
    python, stamp = environment_python(venv), venv / "tidegate-installed.json"

    wanted = {name: fingerprint(f"requirements/{name}.txt", "pyproject.toml") for name in FOLDERS}
    here = installed(stamp) if works(python) else {}
    enough = {arguments.what} if arguments.what == "airflow" else {arguments.what, "dev"}
    if any(here.get(name) == wanted[name] for name in enough):
        return

    if not works(python):
        check_python()
        print(f"Making {venv.name} with Python {sys.version.split()[0]}", flush=True)
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(venv)], check=True)
    pip = [*installer(arguments.what, python), "--no-deps"]
    pins = f"requirements/{arguments.what}.txt"
    print(f"Installing {pins} into {venv.name} (once; a minute or two)", flush=True)
    try:
        subprocess.run([*pip, "--require-hashes", "-r", pins], cwd=ROOT, check=True)
        subprocess.run([*pip, "--no-build-isolation", "--editable", "."], cwd=ROOT, check=True)
    except subprocess.CalledProcessError:
        stop("the installation failed; pip's lines above say why. Running the same command again goes on from here")
    stamp.write_text(json.dumps({arguments.what: wanted[arguments.what]}), "utf-8")


if __name__ == "__main__":
    main()
