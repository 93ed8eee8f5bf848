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
COLUMN_RESULT: dict[str, Any] = {
    "column": "petal length",
    "kind": "number",
    "method": "psi",
    "statistic": 0.41,
    "floor": 0.1,
    "threshold": 0.1,
    "p_value": 1e-9,
    "q_value": 4e-9,
    "drifted": True,
    "reference_rows": 12000,
    "rows": 4180,
}
DRIFT_REPORT: dict[str, Any] = {
    "id": "d-9c2ab7714f1e09aa",
    "endpoint": "iris",
    "variant": "baseline",
    "version": "3",
    "baseline": "iris@3",
    "start": 1795262400.0,
    "seconds": 3600.0,
    "created": 1795266003.2,
    "rows": 4180,
    "complete": True,
    "drifted": True,
    "columns": [COLUMN_RESULT],
    "findings": [
        {
            "check": "missing", "column": "sepal width", "value": 0.12, "reference": 0.001, "bound": 0.051,
            "count": 502, "rows": 4180, "broken": True,
        }
    ],
}  # fmt: skip
PERFORMANCE: dict[str, Any] = {
    "endpoint": "iris",
    "variant": "baseline",
    "version": "3",
    "basis": "prediction",
    "start": 1795258800.0,
    "seconds": 3600.0,
    "labels": 512,
    "predictions": 4110,
    "task": "classification",
    "metrics": {"accuracy": {"value": 0.94, "low": 0.92, "high": 0.96}},
}
MONITOR: dict[str, Any] = {
    "endpoint": "iris",
    "reference": "training",
    "window_seconds": 3600.0,
    "every_seconds": 30.0,
    "window": 1795266000.0,
    "looked": 1795267190.4,
    "lag_seconds": 2.1,
    "cursor": 88213,
    "newest": 1795267189.9,
    "read": 90001,
    "firing": 1,
    "variants": [
        {
            "variant": "baseline",
            "version": "3",
            "baseline": "iris@3",
            "digest": "sha256:77aa",
            "rows": 1402,
            "report": "d-9c2ab7714f1e09aa",
            "start": 1795262400.0,
            "complete": True,
            "drifted": ["petal length"],
            "broken": ["missing: sepal width"],
            "performance": PERFORMANCE,
        }
    ],
}
HEAT: dict[str, Any] = {
    "endpoint": "iris",
    "variant": "baseline",
    "seconds": 3600.0,
    "starts": [1795258800.0, 1795262400.0],
    "reports": ["d-71c2ab9714f1e09b", "d-9c2ab7714f1e09aa"],
    "versions": ["3", "3"],
    "rows": [3990, 4180],
    "notes": ["", ""],
    "columns": [
        {
            "column": "petal length",
            "method": ["psi", "psi"],
            "statistic": [0.02, 0.41],
            "threshold": [0.1, 0.1],
            "ratio": [0.2, 4.1],
            "drifted": [False, True],
        }
    ],
}
DISTRIBUTION: dict[str, Any] = {
    "endpoint": "iris",
    "variant": "baseline",
    "version": "3",
    "baseline": "iris@3",
    "column": "petal length",
    "start": 1795262400.0,
    "seconds": 3600.0,
    "rows": 4180,
    "reference_rows": 12000,
    "bars": [{"label": "1 to 1.5", "low": 1.0, "high": 1.5, "then": 0.32, "now": 0.11}],
    "result": COLUMN_RESULT,
}
COLUMN_FACTS: dict[str, Any] = {
    "name": "petal length", "kind": "number", "rows": 12000, "missing": 3, "mean": 3.76, "low": 1.0, "high": 6.9,
}  # fmt: skip
WINDOW_VIEW: dict[str, Any] = {
    "endpoint": "iris",
    "variant": "baseline",
    "version": "3",
    "baseline": "iris@3",
    "start": 1795262400.0,
    "seconds": 3600.0,
    "rows": 4180,
    "reference_rows": 12000,
    "complete": True,
    "drifted": True,
    "note": "",
    "columns": [{"then": COLUMN_FACTS, "now": COLUMN_FACTS | {"rows": 4180, "mean": 4.91}, "result": COLUMN_RESULT}],
    "findings": [],
}
ALERT: dict[str, Any] = {
    "id": "a-714f1e09aa9c2ab7",
    "endpoint": "iris",
    "rule": "drift:baseline:petal length",
    "source": "drift",
    "variant": "baseline",
    "version": "3",
    "column": "petal length",
    "state": "firing",
    "statistic": "psi",
    "value": 0.41,
    "threshold": 0.1,
    "rows": 4180,
    "reference_rows": 12000,
    "window": 1795262400.0,
    "window_seconds": 3600.0,
    "broken": 1,
    "right": 0,
    "created": 1795266003.2,
    "changed": 1795266003.2,
    "fired": 1795266003.2,
    "notified": 1795266003.2,
    "told": "firing",
    "report": "d-9c2ab7714f1e09aa",
    "text": "petal length of iris (baseline, version 3): psi 0.41, more than 0.1, in 4,180 rows; 12,000 in the baseline iris@3",
    "command": "tidegate monitor show iris --column 'petal length'",
}
ALERT_LINE: dict[str, Any] = {
    "revision": 0,
    "time": 1795266003.2,
    "state": "firing",
    "change": {"event": "fired", "before": "ok", "after": "firing", "value": 0.41, "threshold": 0.1, "notified": True},
}
SILENCE: dict[str, Any] = {"seconds": 3600, "reason": "the campaign of November; it is known"}
UNSILENCE: dict[str, Any] = {"reason": "the campaign is over"}
BASELINE: dict[str, Any] = {
    "name": "november",
    "endpoint": "iris",
    "model": "iris",
    "version": "3",
    "digest": "sha256:77aa",
    "created": 1795260000.0,
    "rows": 12000,
    "columns": [COLUMN_FACTS],
}
CREATE_BASELINE: dict[str, Any] = {
    "name": "november",
    "endpoint": "iris",
    "production": {"since": 1794662400.0, "until": 1795267200.0},
    "reason": "a quiet week",
}
BATCH: dict[str, Any] = {
    "endpoint": "iris",
    "source": "upload:u-2f9f7c0f3fd24c1c8a53d1f4c0e2b6aa",
    "format": "csv",
    "keep": ["flower"],
    "reason": "the November list",
}
MOVE_DATA: dict[str, Any] = {
    "kind": "dvc-push",
    "targets": ["data/production.csv"],
    "commit": "Surveys of November",
}
UPLOAD: dict[str, Any] = {"source": "upload:u-2f9f7c0f3fd24c1c8a53d1f4c0e2b6aa", "bytes": 48213}
