"""Examples are the same in every run, unless ``--hypothesis-profile=long`` or TIDEGATE_FUZZ_EXAMPLES asks for more."""

from __future__ import annotations

import os

from hypothesis import HealthCheck, settings

_COMMON = {"deadline": None, "database": None, "suppress_health_check": list(HealthCheck)}
_EXAMPLES = int(os.environ.get("TIDEGATE_FUZZ_EXAMPLES", "0"))

settings.register_profile("short", derandomize=not _EXAMPLES, max_examples=_EXAMPLES or 150, **_COMMON)  # type: ignore[arg-type]
settings.register_profile("long", max_examples=_EXAMPLES or 20_000, **_COMMON)  # type: ignore[arg-type]
settings.load_profile("short")
