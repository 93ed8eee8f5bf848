"""Examples of the OpenAPI document. A test decodes each as the type that it stands for."""

from __future__ import annotations

from typing import Any

RELEASE: dict[str, Any] = {
    "id": "r7k2m9",
    "endpoint": "iris",
    "baseline": {
        "uri": "models:/iris/3",
        "name": "iris",
        "version": "3",
        "digest": "sha256:1f0c",
        "runtime": "auto",
        "options": {},
    },
    "candidate": {
        "uri": "models:/iris/4",
        "name": "iris",
        "version": "4",
        "digest": "sha256:9ab2",
        "runtime": "auto",
        "options": {},
    },
    "plan": {"steps": [5, 25, 100]},
    "author": "ada (3f9c2a7b1d5e)",
    "created": 1795267200.0,
    "changed": 1795267230.0,
    "state": "ramping",
    "step": 1,
    "share": 2500,
    "since": 1795267228.0,
    "snapshot": 12,
    "published": 1795267227.6,
    "effect_seconds": 0.31,
    "waiting": "58 of 200 requests in this step",
    "revision": 4,
}
START_RELEASE: dict[str, Any] = {"endpoint": "iris", "model": "models:/iris/4", "reason": "retrained on November"}
ACT: dict[str, Any] = {"reason": "the on-call engineer wants to look first"}
LINE: dict[str, Any] = {
    "revision": 4,
    "time": 1795267228.0,
    "kind": "stepped",
    "text": "25 % of the traffic",
    "who": "releases",
    "state": "ramping",
    "step": 1,
    "share": 2500,
    "snapshot": 12,
}
POINT: dict[str, Any] = {
    "tick": 31,
    "time": 1795267229.5,
    "state": "ramping",
    "step": 1,
    "share": 2500,
    "requests": 58,
    "verdicts": [
        {
            "guardrail": "errors",
            "test": "ratio of failure rates",
            "outcome": "undecided",
            "reason": "0 of 58 requests failed",
            "evidence": -0.2,
            "threshold": 4.6,
        }
    ],
}
SPLIT: dict[str, Any] = {
    "variant": "baseline",
    "version": "3",
    "uri": "models:/iris/3",
    "share": 7500,
    "role": "baseline",
}
FIGURES: dict[str, Any] = {
    "variant": "baseline",
    "version": "3",
    "requests": 5400,
    "rate": 90.0,
    "p50": 0.0021,
    "p99": 0.0093,
}
ENDPOINT: dict[str, Any] = {
    "name": "iris",
    "is_default": True,
    "health": "healthy",
    "why": "",
    "plan": [SPLIT],
    "snapshot": 12,
    "published": 1795267227.6,
    "effect_seconds": 0.31,
    "total": FIGURES,
    "variants": {"baseline": FIGURES},
    "instances": [
        {
            "instance": "web-1:8000",
            "state": "live",
            "snapshot": 12,
            "acknowledged": 1795267227.9,
            "effect_seconds": 0.31,
            "error": "",
            "models": {"baseline": "3", "candidate": "4"},
        }
    ],
    "release": "r7k2m9",
    "experiment": None,
}
INSTANCE: dict[str, Any] = {
    "beat": {
        "instance": "web-1:8000", "host": "web-1", "port": 8000, "pid": 71, "workers": 4, "started": 1795260000.0,
        "time": 1795267229.0, "snapshot": 12,
    },
    "age": 0.4,
    "state": "live",
}  # fmt: skip
SNAPSHOT: dict[str, Any] = {
    "number": 12,
    "published": 1795267227.6,
    "reason": "release r7k2m9: step 2, 25 %",
    "author": "tidegate",
    "release": "r7k2m9",
    "snapshot": {"number": 12, "endpoints": {}, "default_endpoint": "iris"},
    "acknowledgements": [{"number": 12, "instance": "web-1:8000", "time": 1795267227.9, "error": ""}],
}
KEY: dict[str, Any] = {
    "id": "3f9c2a7b1d5e",
    "name": "ada",
    "roles": ["operate"],
    "endpoints": ["iris"],
    "requests_per_minute": 300,
    "concurrency": 0,
    "rows": 0,
    "state": "active",
    "created": 1795260000.0,
    "expires": 1803036000.0,
    "revoked": None,
    "used": 1795267200.0,
}
CREATE_KEY: dict[str, Any] = {"name": "ada", "roles": ["operate"], "endpoints": ["iris"], "expires_seconds": 7776000}
CREATED_KEY: dict[str, Any] = {"view": KEY, "key": "tg_3f9c2a7b1d5e_(shown once)"}
ROTATE: dict[str, Any] = {"grace_seconds": 3600, "reason": "quarterly"}
AUDIT: dict[str, Any] = {
    "sequence": 42,
    "time": 1795267200.0,
    "who": "ada (3f9c2a7b1d5e)",
    "action": "release.pause",
    "target": "release:r7k2m9",
    "change": {"before": "ramping", "after": "paused", "reason": "looking", "origin": {"address": "10.0.0.7"}},
    "previous": "5b1f",
    "hash": "c04d",
}
VERIFICATION: dict[str, Any] = {
    "whole": True,
    "rows": 42,
    "newest": {"sequence": 42, "hash": "c04d"},
    "heads": 3,
    "faults": [],
}
MODEL: dict[str, Any] = {
    "name": "iris",
    "version": "4",
    "uri": "models:/iris/4",
    "digest": "sha256:9ab2",
    "created": 1795260000.0,
    "aliases": ["challenger"],
}
REGISTER: dict[str, Any] = {
    "name": "iris",
    "uri": "file:models/iris-4",
    "aliases": ["challenger"],
    "metadata": {"run": "71"},
}
ALIAS: dict[str, Any] = {"alias": "champion", "version": "4"}
SPEC: dict[str, Any] = {
    "name": "new-ranking",
    "endpoint": "iris",
    "arms": [{"name": "b", "model": "models:/iris/4", "share": 50}],
    "metrics": [{"name": "bought", "kind": "binary"}],
}
SESSION: dict[str, Any] = {
    "name": "ada", "key": "3f9c2a7b1d5e", "roles": ["operate"], "endpoints": [], "csrf": "k3J…", "expires": 1795270800.0,
}  # fmt: skip
FEEDBACK: dict[str, Any] = {"request_id": "6d2f0c5f", "metric": "accuracy", "label": "setosa"}
MAKE_REPORT: dict[str, Any] = {"kind": "summary", "endpoint": "iris", "since": "24h"}
REPORT_JOB: dict[str, Any] = {
    "id": "j-4f1e09c2ab77", "kind": "report", "endpoint": "iris", "state": "queued", "author": "ada (3f9c2a7b1d5e)",
    "created": 1795267200.0, "run_at": 1795267200.0,
}  # fmt: skip
REPORT: dict[str, Any] = {
    "id": "doc-4f1e09c2ab77",
    "kind": "drift",
    "title": "iris: drift",
    "endpoint": "iris",
    "variant": "baseline",
    "version": "3",
    "baseline": "iris@3",
    "start": 1795180800.0,
    "end": 1795267200.0,
    "created": 1795267203.5,
    "reference_rows": 12000,
    "rows": 4180,
    "columns": [
        {
            "column": "petal length",
            "tidegate": {"method": "psi", "statistic": 0.41, "threshold": 0.1, "drifted": True},
            "evidently": {
                "method": "Wasserstein distance (normed)", "statistic": 0.62, "threshold": 0.1, "drifted": True,
            },
        }
    ],
    "drifted": ["petal length"],
}  # fmt: skip
