"""How each peer is installed, prepared and started; its best settings for one core, as far as its documents say.

A peer that cannot be installed or started is reported with the reason, never left out silently.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from benchmarks.harness.machine import SCRATCH
from benchmarks.harness.models import ROW
from benchmarks.harness.request import Request
from benchmarks.harness.server import Server, free_port

HERE = Path(__file__).resolve().parent
NATIVE = {"features": [ROW]}
NO_REPORTS = {
    "BENTOML_DO_NOT_TRACK": "True", "RAY_USAGE_STATS_ENABLED": "0", "MLFLOW_DISABLE_TELEMETRY": "true", "DO_NOT_TRACK": "1",
}  # fmt: skip


class PeerUnavailable(Exception):
    """The peer cannot be had here; the text says why."""


@dataclass(frozen=True)
class Launch:
    command: list[str]
    request: Request
    environment: Mapping[str, str] = field(default_factory=dict)
    folder: Path = HERE


@dataclass(frozen=True)
class Peer:
    name: str
    title: str
    launch: Callable[[Peer, str, int], Launch]
    """From the peer, the model ("rf" or "lr") and a port."""
    prepare: Callable[[Peer], None] | None = None
    models: tuple[str, ...] = ("rf", "lr")
    patience: float = 90.0
    settings: str = ""
    package: str = ""
    uses_pip: bool = False
    """Install with pip instead of uv."""
    variant_of: str = ""
    """Another peer whose environment and models this one uses."""

    @property
    def home(self) -> Path:
        return SCRATCH / (self.variant_of or self.name)

    @property
    def data(self) -> Path:
        return SCRATCH / f"{self.variant_of or self.name}-data"

    def version(self) -> str:
        script = "import sys; from importlib.metadata import version; print(version(sys.argv[1]))"
        done = subprocess.run(
            [self.tool("python"), "-c", script, self.package], capture_output=True, text=True, check=False
        )
        return done.stdout.strip()

    def tool(self, name: str) -> str:
        return str(self.home / "bin" / name)

    def model(self, which: str) -> str:
        return str(self.data / f"{which}.joblib")

    def install(self) -> None:
        """Environment and models, unless they are already there for these requirements. Raises PeerUnavailable."""
        requirements = HERE / (self.variant_of or self.name) / "requirements.txt"
        done = self.data / "installed"
        wanted = requirements.read_text(encoding="utf-8")
        if done.exists() and done.read_text(encoding="utf-8") == wanted:
            return
        self.data.mkdir(parents=True, exist_ok=True)
        uv = shutil.which("uv") or shutil.which("uv", path=str(Path(sys.executable).parent))
        if self.uses_pip or uv is None:
            self._do([sys.executable, "-m", "venv", str(self.home)])
            self._do([self.tool("python"), "-m", "pip", "install", "-q", "-r", str(requirements)])
        else:
            self._do([uv, "venv", "-q", "--allow-existing", "--python", sys.executable, str(self.home)])
            self._do([uv, "pip", "install", "-q", "--python", self.tool("python"), "-r", str(requirements)])
        trainer = sys.executable if "rf" not in self.models else self.tool("python")
        self._do([trainer, str(HERE / "train.py"), str(self.data)])
        if self.prepare is not None:
            self.prepare(self)
        done.write_text(wanted, encoding="utf-8")

    def _do(self, command: Sequence[str]) -> None:
        environment = {**os.environ, **NO_REPORTS}
        done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment, timeout=1200)
        if done.returncode:
            raise PeerUnavailable(f"{' '.join(command[:4])} … failed: {(done.stderr or done.stdout).strip()[-600:]}")

    def server(self, which: str) -> Server:
        port = free_port()
        launch = self.launch(self, which, port)
        environment = {**NO_REPORTS, "PATH": f"{self.home / 'bin'}:{os.environ['PATH']}", **launch.environment}
        environment |= {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
        return Server(
            self.title, launch.command, port, launch.request,
            environment=environment, folder=launch.folder, patience=self.patience,
        )  # fmt: skip


def _fastapi(peer: Peer, which: str, port: int) -> Launch:
    script = str(HERE / "fastapi" / "server.py")
    return Launch([peer.tool("python"), script, str(port), peer.model(which)], Request.json("/predict", NATIVE))


def _mlserver(peer: Peer, which: str, port: int) -> Launch:
    folder = peer.data / f"served-{which}"
    folder.mkdir(exist_ok=True)
    settings = {
        "debug": False, "host": "127.0.0.1", "http_port": port, "grpc_port": free_port(), "metrics_port": free_port(),
        "parallel_workers": 0, "access_log_enabled": False,
    }  # fmt: skip
    (folder / "settings.json").write_text(json.dumps(settings), encoding="utf-8")
    model = {
        "name": "iris", "implementation": "mlserver_sklearn.SKLearnModel", "parameters": {"uri": peer.model(which)},
        "max_batch_size": 32 if which == "rf" else 0, "max_batch_time": 0.002 if which == "rf" else 0,
    }  # fmt: skip
    (folder / "model-settings.json").write_text(json.dumps(model), encoding="utf-8")
    tensor = {"name": "predict", "shape": [1, 4], "datatype": "FP32", "data": ROW}
    return Launch(
        [peer.tool("mlserver"), "start", str(folder)], Request.json("/v2/models/iris/infer", {"inputs": [tensor]})
    )


def _litserve(peer: Peer, which: str, port: int) -> Launch:
    command = [peer.tool("python"), str(HERE / "litserve" / "server.py"), str(port), peer.model(which), "32"]
    return Launch(command, Request.json("/predict", {"features": ROW}))


def _bentoml(peer: Peer, which: str, port: int) -> Launch:
    command = [peer.tool("bentoml"), "serve", "service:Iris", "--host", "127.0.0.1", "--port", str(port)]
    home = {"MODEL": peer.model(which), "BENTOML_HOME": str(peer.data / "home")}
    return Launch(command, Request.json("/predict", NATIVE), home, HERE / "bentoml")


def _ray(peer: Peer, which: str, port: int) -> Launch:
    script = str(HERE / "ray" / "server.py")
    return Launch([peer.tool("python"), script, str(port), peer.model(which)], Request.json("/predict", NATIVE))


def _save_for_mlflow(peer: Peer) -> None:
    for which in peer.models:
        folder = peer.data / which
        shutil.rmtree(folder, ignore_errors=True)
        peer._do([peer.tool("python"), str(HERE / "mlflow" / "save.py"), peer.model(which), str(folder)])


def _mlflow(peer: Peer, which: str, port: int) -> Launch:
    command = [
        peer.tool("mlflow"), "models", "serve", "-m", str(peer.data / which), "--env-manager", "local",
        "--host", "127.0.0.1", "--port", str(port), "--workers", "1",
    ]  # fmt: skip
    return Launch(command, Request.json("/invocations", {"inputs": [ROW]}), folder=peer.data)


def _archive_for_torchserve(peer: Peer) -> None:
    if shutil.which("java") is None:
        raise PeerUnavailable("TorchServe needs a Java runtime (11 or later), and there is none")
    store = peer.data / "store"
    store.mkdir(exist_ok=True)
    peer._do([
        peer.tool("torch-model-archiver"), "--model-name", "iris", "--version", "1.0", "--force",
        "--handler", str(HERE / "torchserve" / "handler.py"), "--extra-files", str(peer.data / "lr.json"),
        "--export-path", str(store),
    ])  # fmt: skip


def _torchserve(peer: Peer, which: str, port: int) -> Launch:
    entry = {"1.0": {"defaultVersion": True, "marName": "iris.mar", "minWorkers": 1, "maxWorkers": 1,
                     "batchSize": 32, "maxBatchDelay": 1, "responseTimeout": 60}}  # fmt: skip
    lines = {
        "inference_address": f"http://127.0.0.1:{port}",
        "management_address": f"http://127.0.0.1:{free_port()}",
        "metrics_address": f"http://127.0.0.1:{free_port()}",
        "grpc_inference_port": free_port(),
        "grpc_management_port": free_port(),
        "disable_token_authorization": "true",
        "enable_envvars_config": "false",
        "models": json.dumps({"iris": entry}),
        "job_queue_size": 1000,
        "default_workers_per_model": 1,
        "model_store": str(peer.data / "store"),
        "load_models": "iris.mar",
    }
    if peer.variant_of:
        lines["vmargs"] = f"-Dlog4j2.configurationFile={HERE / 'torchserve' / 'log4j2.xml'}"
    config = peer.data / "config.properties"
    config.write_text("".join(f"{key}={value}\n" for key, value in lines.items()), encoding="utf-8")
    command = [
        peer.tool("torchserve"), "--start", "--foreground", "--ncs", "--ts-config", str(config),
        "--model-store", str(peer.data / "store"), "--models", "iris=iris.mar", "--disable-token-auth",
    ]  # fmt: skip
    environment = {"LOG_LOCATION": str(peer.data / "logs"), "METRICS_LOCATION": str(peer.data / "logs")}
    return Launch(command, Request.json("/predictions/iris", NATIVE), environment, peer.data)


TORCHSERVE = Peer(
    "torchserve", "TorchServe", _torchserve, _archive_for_torchserve, ("lr",),
    settings="batches of 32, logs as shipped", package="torchserve", uses_pip=True,
)  # fmt: skip

PEERS = (
    Peer("fastapi", "FastAPI + scikit-learn", _fastapi, settings="the route runs inline", package="fastapi"),
    Peer("mlserver", "MLServer", _mlserver, package="mlserver",
         settings="no worker processes; batches of 32 for the forest, none for the regression"),
    Peer("litserve", "LitServe", _litserve, settings="batches of 32", package="litserve"),
    Peer("bentoml", "BentoML", _bentoml, settings="adaptive batches of up to 32", package="bentoml"),
    Peer("ray", "Ray Serve", _ray, package="ray", patience=120,
         settings="batches of 32; its many processes share the one core"),
    Peer("mlflow", "MLflow models serve", _mlflow, _save_for_mlflow, package="mlflow",
         settings="1 worker, local environment"),
    TORCHSERVE,
    replace(TORCHSERVE, name="torchserve-quiet", title="TorchServe, logs off", variant_of="torchserve",
            settings="batches of 32, log level warn"),
)  # fmt: skip
