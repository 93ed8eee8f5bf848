"""The whole way of a model in one command: train, register in MLflow, serve, release by a registry event, promote.

python run.py [--port 8000] [--folder run] [--once]
"""

from __future__ import annotations

import argparse
import contextlib
import csv
import json
import os
import secrets
import shutil
import signal
import threading
import time
from pathlib import Path
from typing import Any

import httpx
from parts import check_free, mlflow_server, planes, tidegate
from visitors import Visitors

HERE = Path(__file__).resolve().parent
MARK = "made-by-iris-cicd"
RELEASE_SECONDS = 300.0
ENDED = ("promoted", "rolled_back", "failed", "inconclusive")
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def write_flowers(path: Path) -> list[tuple[list[float], str]]:
    """Fisher's measurements, as a file to train from; also what the visitors ask about."""
    from sklearn.datasets import load_iris

    iris = load_iris()
    names = [name.removesuffix(" (cm)").replace(" ", "_") for name in iris.feature_names]
    flowers = [(row.tolist(), str(iris.target_names[kind])) for row, kind in zip(iris.data, iris.target, strict=True)]
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow([*names, "species"])
        writer.writerows([*features, species] for features, species in flowers)
    return flowers


def subscribe(mlflow: str, control: str, secret: str) -> None:
    """From now on MLflow tells Tidegate of every alias that is set."""
    from mlflow import MlflowClient

    MlflowClient(mlflow).create_webhook(
        "tidegate", f"{control}/api/v1/webhooks/mlflow", ["model_version_alias.created"], secret=secret
    )


def follow(control: str, key: str) -> dict[str, Any]:
    """Tells how the newest release goes on, until it has ended."""
    told, end = "", time.monotonic() + RELEASE_SECONDS
    with httpx.Client(base_url=f"{control}/api/v1", headers={"X-API-Key": key}, timeout=30.0) as client:
        while time.monotonic() < end:
            found = client.get("/releases", params={"limit": 1}).json()["items"]
            if found:
                release: dict[str, Any] = found[0]
                news = f"{release['state']} at {release['share'] / 100:g} %"
                if news != told:
                    print(f"   {news}")
                    told = news
                if release["state"] in ENDED:
                    return release
            time.sleep(0.2)
    raise SystemExit("the release did not end in time; its evidence is in the console")


def run(folder: Path, port: int, once: bool) -> None:
    for number in range(port, port + 3):
        check_free(number)
    if folder.exists() and any(folder.iterdir()) and not (folder / MARK).exists():
        raise SystemExit(f"error: {folder} has files that this example did not make; empty it, or name another folder")
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    (folder / MARK).write_text("This folder is emptied when the example begins.\n", "utf-8")
    for name in ("tidegate.yaml", "training.yaml", "training-next.yaml"):
        shutil.copy(HERE / name, folder / name)
    flowers = write_flowers(folder / "iris.csv")
    control, secret = f"http://127.0.0.1:{port + 1}", secrets.token_urlsafe(32)
    with mlflow_server(folder, port + 2) as mlflow:
        environment = {
            "MLFLOW_TRACKING_URI": mlflow,
            "MLFLOW_HTTP_REQUEST_TIMEOUT": "60",
            "TIDEGATE_REGISTRY__WEBHOOK_SECRET": secret,
        }

        print("1. Train, and register in MLflow what it gives.")
        print(tidegate("train", "training.yaml", environment=environment, folder=folder))

        print("2. Serve what the alias champion names.")
        with planes(folder / "tidegate.yaml", folder, port, environment) as address:
            subscribe(mlflow, control, secret)
            example = {"features": [flowers[0][0], flowers[149][0]]}
            print(f"   curl {address}/predict/ -d '{json.dumps(example)}' -H 'Content-Type: application/json'")
            print(f"   {httpx.post(f'{address}/predict/', json=example).text}\n")

            with Visitors(address, flowers) as visitors:
                print(
                    "3. Train again, with a better family. MLflow's webhook tells of the challenger, and its release begins."
                )
                print(tidegate("train", "training-next.yaml", environment=environment, folder=folder))
                release = follow(control, (folder / "admin.key").read_text("utf-8").split()[0])
            print(f"   {release['reason']}")
            print(f"   {visitors.asked} visitors asked meanwhile, {visitors.failed} got no answer.\n")

            from mlflow import MlflowClient

            champion = MlflowClient(mlflow).get_model_version_by_alias("iris", "champion").version
            served = httpx.post(f"{address}/predict/", json=example).json()["model"]
            print(f"4. The alias champion names version {champion}, and version {served['version']} answers.")
            print(f"   MLflow: {mlflow}   console: {control}   predictions: {address}/docs")
            if release["state"] != "promoted":
                raise SystemExit(f"expected a promotion, and the release is {release['state']}")
            if not once:
                print("   Ctrl-C ends.")
                threading.Event().wait()


def end(*_: object) -> None:
    """Once: whoever is impatient would leave servers behind that run on."""
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    with contextlib.suppress(OSError):  # the terminal may be gone
        os.write(1, b"ending ...\n")
    raise KeyboardInterrupt


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--port", type=int, default=8000, help="of the predictions; the next two are the console's and MLflow's"
    )
    parser.add_argument("--folder", type=Path, default=HERE / "run", help="emptied at the beginning")
    parser.add_argument("--once", action="store_true", help="end after the promotion")
    arguments = parser.parse_args()
    for number in SIGNALS:  # whoever ends this program ends its servers
        if signal.getsignal(number) is not signal.SIG_IGN:  # as nohup wants it
            signal.signal(number, end)
    try:
        run(arguments.folder.resolve(), arguments.port, arguments.once)
    except KeyboardInterrupt:
        print("stopped")


if __name__ == "__main__":
    main()
