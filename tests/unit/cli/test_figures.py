from __future__ import annotations

import math

from tidegate.cli.demo import line
from tidegate.cli.figures import Figures, figures, quantile

TEXT = """\
# HELP tidegate_requests_total Requests.
# TYPE tidegate_requests_total counter
tidegate_requests_total{endpoint="iris",variant="baseline",protocol="native",outcome="ok"} 90.0
tidegate_requests_total{endpoint="iris",variant="baseline",protocol="v2",outcome="ok"} 10.0
tidegate_requests_total{endpoint="iris",variant="baseline",protocol="native",outcome="failed"} 2.0
tidegate_requests_total{endpoint="iris",variant="baseline",protocol="native",outcome="invalid"} 3.0
tidegate_requests_total{endpoint="iris",variant="candidate",protocol="native",outcome="ok"} 1.0
tidegate_request_seconds_bucket{endpoint="iris",variant="baseline",le="0.001"} 50.0
tidegate_request_seconds_bucket{endpoint="iris",variant="baseline",le="0.01"} 100.0
tidegate_request_seconds_bucket{endpoint="iris",variant="baseline",le="+Inf"} 100.0
tidegate_build_info{version="1 \\" }"} 1.0
"""


def test_figures_are_summed_over_protocols() -> None:
    baseline, candidate = figures(TEXT)
    assert (baseline.requests, baseline.errors) == (105, 2)
    assert baseline.p50_ms == 1.0
    assert math.isclose(baseline.p99_ms, 9.82)
    assert (candidate.requests, candidate.errors) == (1, 0)
    assert math.isnan(candidate.p50_ms)


def test_a_quantile_beyond_the_last_bound_is_that_bound() -> None:
    assert quantile([(1.0, 1.0), (math.inf, 10.0)], 0.99) == 1.0
    assert math.isnan(quantile([(1.0, 0.0)], 0.5))


def test_a_line_for_logs() -> None:
    row = Figures("iris", "baseline", 3, 1, 0.5, math.nan)
    assert line([row]) == "baseline: 3 requests, 1 errors, p50 0.50 ms, p99 - ms"
    assert line([]) == "no requests yet"
