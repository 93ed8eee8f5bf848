"""What is watched of an endpoint: the section ``endpoints.<name>.monitor``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal

from msgspec import Meta

from tidegate.section import Alpha, Duration, Excess, Fraction, Positive, Section, help_text

BOUNDED = {
    "classification": ("accuracy", "precision", "recall", "f1", "roc_auc", "log_loss", "brier"),
    "regression": ("mae", "rmse", "r2"),
}
"""Metrics of quality that may have a bound, by task."""

DriftMethod = Literal["auto", "psi", "ks", "js", "wasserstein", "chi2", "linf", "off"]


class ColumnDrift(Section, frozen=True):
    method: Annotated[DriftMethod, help_text("Measure of this column; auto: by its kind and the number of rows.")] = (
        "auto"
    )
    floor: Annotated[Excess | None, help_text("Effect below which nothing is said; the method's own when empty.")] = (
        None
    )


class DriftPlan(Section, frozen=True):
    method: Annotated[DriftMethod, help_text("Measure of columns that have none of their own.")] = "auto"
    alpha: Annotated[Alpha, help_text("False discoveries per check, over all columns.")] = 0.01
    floor: Annotated[Excess | None, help_text("Effect below which nothing is said; the method's own when empty.")] = (
        None
    )
    columns: Annotated[Mapping[str, ColumnDrift], help_text("What differs for single columns.")] = {}
    share: Annotated[
        Fraction, help_text("The window counts as drifted when more than this share of the columns drifted; 0: any.")
    ] = 0.0


class QualityPlan(Section, frozen=True):
    max_missing: Annotated[
        Fraction, help_text("By how much the share of missing values may exceed the reference's.")
    ] = 0.05
    max_new_categories: Annotated[Fraction, help_text("Largest share of values that the reference never had.")] = 0.01
    max_out_of_range: Annotated[Fraction, help_text("Largest share of numbers outside of the reference's range.")] = (
        0.01
    )
    max_wrong_type: Annotated[Fraction, help_text("Largest share of values of another type than the reference's.")] = (
        0.0
    )
    max_duplicates: Annotated[
        Fraction, help_text("By how much the share of repeated rows may exceed the reference's.")
    ] = 0.2
    min_rows: Annotated[int, Meta(ge=0), help_text("Fewest rows in a window; 0: silence is fine.")] = 0


class QualityBound(Section, frozen=True):
    """A bound on a metric of quality; each that is set holds."""

    min: Annotated[float | None, help_text("Below this it is an alert.")] = None
    max: Annotated[float | None, help_text("Above this it is an alert.")] = None
    max_drop: Annotated[
        Excess | None, help_text("By how much it may be worse than in the reference or the first windows.")
    ] = None


class PerformancePlan(Section, frozen=True):
    metric: Annotated[
        str, help_text("Name under which feedback sends the true label or value, as for the guardrail outcome.")
    ] = "accuracy"
    task: Annotated[
        Literal["auto", "classification", "regression"], help_text("What is predicted; auto: labels or numbers.")
    ] = "auto"
    positive: Annotated[str, help_text("The positive class of two; the last by name when empty.")] = ""
    bounds: Annotated[
        Mapping[str, QualityBound],
        help_text(
            "Bounds by metric: accuracy, f1, roc_auc, log_loss, brier, mae, rmse, r2 …; when empty, accuracy (or r2) may be "
            "0.05 worse than the reference."
        ),
    ] = {}
    min_labels: Annotated[Positive, help_text("Fewest labels in a window before anything is concluded.")] = 100
    late: Annotated[Duration, help_text("How long after a window labels still count for it.")] = "7d"
    estimate: Annotated[bool, help_text("Estimate the accuracy from the scores where labels are not there yet.")] = True
    alpha: Annotated[Alpha, help_text("Of the intervals; a bound is broken when the whole interval is beyond it.")] = (
        0.05
    )


class RetrainPlan(Section, frozen=True):
    config: Annotated[str, help_text("Training configuration, as for tidegate train.")]
    mode: Annotated[Literal["features", "combined"], help_text("Features alone, or with labelled production rows.")] = (
        "combined"
    )
    on: Annotated[tuple[Literal["drift", "performance", "quality"], ...], help_text("Alerts that start it.")] = (
        "drift",
        "performance",
    )
    every: Annotated[Duration | None, help_text("Also after so long, whatever happened.")] = None
    cooldown: Annotated[Duration, help_text("Least time between two.")] = "6h"
    max_per_week: Annotated[Positive, help_text("Most that start by themselves in seven days.")] = 7
    min_labels: Annotated[int, Meta(ge=0), help_text("Fewest labelled production rows since the last one.")] = 200
    release: Annotated[bool, help_text("Start a release when the challenger is accepted.")] = True


class MonitorPlan(Section, frozen=True):
    window: Annotated[Duration, help_text("Length of a window; windows start at its multiples.")] = "1h"
    reference: Annotated[
        str, help_text("training: the profile of the model version; else the name of a baseline, or a file.")
    ] = "training"
    min_rows: Annotated[Positive, help_text("Fewest rows in a window before drift is looked for.")] = 50
    every: Annotated[Duration, help_text("How often the monitor looks.")] = "30s"
    drift: Annotated[DriftPlan, help_text("Whether inputs and outputs still look as they did.")] = DriftPlan()
    quality: Annotated[QualityPlan, help_text("Whether the rows are as they should be.")] = QualityPlan()
    performance: Annotated[PerformancePlan, help_text("Whether the predictions are right, from late labels.")] = (
        PerformancePlan()
    )
    pending: Annotated[
        int, Meta(ge=0), help_text("Further windows in a row that must confirm it before an alert fires.")
    ] = 0
    resolve: Annotated[Positive, help_text("Windows in a row without it before an alert is resolved.")] = 1
    cooldown: Annotated[Duration, help_text("Least time between two notifications of one alert.")] = "1h"
    retrain: Annotated[RetrainPlan | None, help_text("Training that alerts start; none when absent.")] = None
