"""The pictures of docs/design/statistics.md, from simulations of their own."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.harness.machine import ROOT
from benchmarks.statistics import failures, latencies, releases
from tidegate.control.analysis import means, ramp
from tidegate.control.analysis.bins import UPPER
from tidegate.control.analysis.quantile import Comparison
from tidegate.serving.events.windows import bins_of
from tidegate.types import Verdict

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

FOLDER = ROOT / "docs" / "img"
OURS, THEIRS, QUIET, BAD = "#0b6e8f", "#d3a03c", "#9aa5ab", "#b3423a"


def write(rng: np.random.Generator) -> None:
    peeking(rng)
    growing(rng)
    delays(rng)
    tail(rng)
    interval(rng)


def peeking(rng: np.random.Generator, most: int = 2000) -> None:
    """Share of runs without any difference that have alarmed so far."""
    figure, axis = _figure()
    found: dict[str, list[Any]] = {"z": [], "ours": []}
    share = np.full(most, 0.5)
    for _ in range(failures.RUNS // failures.CHUNK):
        mine = failures.arrivals(rng, share, 1.0)
        found["z"].append(failures.stops(failures.z_test(mine, 0.5)))
        found["ours"].append(failures.stops(failures.one_sided(mine, share, 0.0, ramp.ROLL_BACK)))
    looks = np.arange(1, most + 1)
    for name, colour, label in (
        ("z", THEIRS, "z-test, repeated after each failure"),
        ("ours", OURS, "ramp-safe test, after each failure"),
    ):
        stops = np.sort(np.concatenate(found[name]))
        alarmed = np.searchsorted(stops, looks, side="right") / len(stops)
        axis.plot(looks, 100 * alarmed, color=colour, linewidth=2)
        axis.annotate(label, (most, 100 * alarmed[-1]), (-4, 6), textcoords="offset points", ha="right", color=colour)
    axis.axhline(5, color=QUIET, linestyle="--", linewidth=1)
    axis.annotate("what was promised: 5 %", (1, 5), (4, 4), textcoords="offset points", color="#5d686e", fontsize=9)
    axis.set(xlabel="failures looked at", ylabel="false alarms so far, %", xlim=(1, most), xscale="log", ylim=(0, None))
    axis.set_title("Both variants fail equally often: how many of 2 000 releases are rolled back?")
    _save(figure, "statistics-peeking")


def growing(rng: np.random.Generator) -> None:
    """Evidence of two releases over time."""
    figure, axes = _figure(2, height=3.6)
    cases = ((releases.Candidate("fails 2.5 times as often", failing=2.5), "errors"), (releases.GOOD, "latency"))
    for axis, (candidate, guardrail) in zip(axes, cases, strict=True):
        looks: list[tuple[int, int, Verdict]] = []

        def watch(
            second: int,
            step: int,
            found: Sequence[Verdict],
            guardrail: str = guardrail,
            looks: list[tuple[int, int, Verdict]] = looks,
        ) -> None:
            looks.append((second, step, next(verdict for verdict in found if verdict.guardrail == guardrail)))

        ended = releases.release(rng, candidate, watch)
        seconds = [second for second, _, _ in looks]
        for values, colour, label in (
            ([verdict.evidence for _, _, verdict in looks], BAD, "against the candidate"),
            ([verdict.support for _, _, verdict in looks], OURS, "for it"),
        ):
            axis.plot(seconds, np.clip(values, -8, 12), color=colour, linewidth=2, label=label)
        axis.axhline(looks[0][2].threshold, color=QUIET, linestyle="--", linewidth=1)
        for (_, before, _), (second, step, _) in pairwise(looks):
            if step != before:
                axis.axvline(second, color="#e3e7e9", linewidth=1, zorder=0)
        axis.set(xlabel="seconds", ylim=(-8.5, 12.5))
        axis.set_title(f"{guardrail}: a candidate that is {candidate.name}" if candidate is releases.GOOD
                       else f"{guardrail}: a candidate that {candidate.name}")  # fmt: skip
        axis.annotate(
            ended.how.replace("_", " "), (seconds[-1], 12), (-2, 0), textcoords="offset points", ha="right", va="top"
        )
    axes[0].set_ylabel("log of the e-value")
    axes[0].annotate("1/α", (0, looks[0][2].threshold), (4, 3), textcoords="offset points", color="#5d686e", fontsize=9)
    axes[0].legend(frameon=False, loc="lower left")
    _save(figure, "statistics-evidence")


def delays(rng: np.random.Generator) -> None:
    """Failures until a roll-back, by how much more often the candidate fails."""
    figure, axis = _figure()
    effects = (1.5, 2.0, 3.0, 5.0, 10.0)
    for share, colour in ((0.5, OURS), (0.1, THEIRS), (0.01, BAD)):
        middle, late = [], []
        for times in effects:
            shares = np.full(4000 if share < 0.1 or times < 2 else 1500, share)
            stops = np.concatenate(
                [
                    failures.stops(
                        failures.one_sided(failures.arrivals(rng, shares, times), shares, 0.0, ramp.ROLL_BACK)
                    )
                    for _ in range(2)
                ]
            )
            middle.append(np.quantile(stops, 0.5, method="inverted_cdf"))
            late.append(np.quantile(stops, 0.9, method="inverted_cdf"))
        axis.plot(effects, middle, color=colour, marker="o", linewidth=2, label=f"{100 * share:g} % of the traffic")
        axis.fill_between(effects, middle, late, color=colour, alpha=0.15, linewidth=0)
    axis.set(
        xscale="log", yscale="log", xlabel="times as often as the baseline", ylabel="failures of both until rolled back"
    )
    axis.set_xticks(effects, [f"×{times:g}" for times in effects], minor=False)
    axis.minorticks_off()
    axis.legend(frameon=False, title="the candidate has", alignment="left")
    axis.set_title("Failures that it takes: the median, and up to nine of ten releases (α = 0.05)")
    _save(figure, "statistics-delays")


def tail(rng: np.random.Generator) -> None:
    """A slow tail: what it looks like, and how the evidence of each quantile grows."""
    figure, (left, right) = _figure(2, height=3.6)
    for draw, colour, label in ((latencies.usual, QUIET, "baseline"), (latencies.slow_tail, BAD, "candidate")):
        counts = np.bincount(bins_of(draw(rng, 200_000)), minlength=len(UPPER))
        left.plot(1000 * UPPER[:-1], 1 - counts.cumsum()[:-1] / counts.sum(), color=colour, linewidth=2, label=label)
    left.set(
        xscale="log", yscale="log", xlim=(30, 1500), ylim=(3e-4, 1.3), xlabel="ms", ylabel="share that takes longer"
    )
    left.axhline(0.01, color="#e3e7e9", linewidth=1, zorder=0)
    left.annotate("p99", (32, 0.01), (0, 3), textcoords="offset points", color="#5d686e", fontsize=9)
    left.legend(frameon=False)
    left.set_title("+500 ms on 2 % of the requests")
    counts = np.zeros((2, len(UPPER) + 1), dtype=np.int64)
    sizes = np.arange(50, 2501, 50)
    grown: dict[float, list[float]] = {p: [] for p in latencies.QUANTILES}
    for _ in sizes:
        for arm, draw in enumerate((latencies.usual, latencies.slow_tail)):
            counts[arm, 1:] += np.bincount(bins_of(draw(rng, 50)), minlength=len(UPPER))
        comparison = Comparison(counts[0].cumsum(), counts[1].cumsum())
        for p in latencies.QUANTILES:
            grown[p].append(comparison.slower(p, latencies.SLACK))
    for p, colour in zip(latencies.QUANTILES, (QUIET, THEIRS, BAD), strict=True):
        right.plot(sizes, grown[p], color=colour, linewidth=2, label=f"p{100 * p:g}")
    threshold = math.log(len(latencies.QUANTILES) / latencies.ALPHA)
    right.axhline(threshold, color=QUIET, linestyle="--", linewidth=1)
    right.set(xlabel="requests per variant", ylabel="log of the e-value", ylim=(-8, None))
    right.legend(frameon=False)
    right.set_title("Evidence that the candidate is more than 10 % slower")
    _save(figure, "statistics-latency")


def interval(rng: np.random.Generator) -> None:
    """A difference of means over time, with the interval for one look and the one for all."""
    figure, axis = _figure()
    n = np.arange(100, 10_001, 20)
    rows = rng.standard_normal((2, 10_000)).cumsum(axis=1)
    effect = 0.05 + (rows[1] - rows[0])[n - 1] / n
    error = np.sqrt(2 / n)
    always = np.array([means.half_width(1.0, 2 * int(size)) for size in n]) * error
    axis.fill_between(
        n, effect - always, effect + always, color=OURS, alpha=0.18, linewidth=0, label="valid at any time"
    )
    axis.fill_between(n, effect - 1.96 * error, effect + 1.96 * error, color=THEIRS, alpha=0.4, linewidth=0,
                      label="valid for one look")  # fmt: skip
    axis.plot(n, effect, color="#333", linewidth=1)
    axis.axhline(0.05, color=BAD, linestyle="--", linewidth=1, label="the truth")
    axis.axhline(0, color=QUIET, linewidth=1)
    axis.set(
        xscale="log",
        xlabel="rows per variant",
        ylabel="difference of the means",
        xlim=(100, 10_000),
        ylim=(-0.5, 0.6),
    )
    axis.legend(frameon=False)
    axis.set_title("95 % intervals of a difference, over time")
    _save(figure, "statistics-interval")


def _figure(panels: int = 1, height: float = 4.0) -> tuple[Figure, Any]:
    import matplotlib as mpl

    mpl.use("Agg")
    mpl.rcParams.update({"svg.hashsalt": "tidegate", "font.size": 9, "axes.titlesize": 10, "figure.facecolor": "white"})
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, panels, figsize=(9, height), sharey=False)
    for axis in [axes] if panels == 1 else axes:
        _plain(axis)
    return figure, axes


def _plain(axis: Axes) -> None:
    axis.spines[["top", "right"]].set_visible(False)
    axis.grid(axis="y", color="#eef0f1", linewidth=0.8)
    axis.set_axisbelow(True)


def _save(figure: Figure, name: str) -> None:
    from matplotlib import pyplot

    figure.tight_layout()
    FOLDER.mkdir(parents=True, exist_ok=True)
    figure.savefig(FOLDER / f"{name}.svg", metadata={"Date": None})
    pyplot.close(figure)
