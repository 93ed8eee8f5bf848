"""From named columns to numbers: the preprocessing that travels inside the model."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from tidegate.control.training.config import Categories, ColumnType, Numbers, TrainingConfig
from tidegate.errors import MissingExtra, UserError
from tidegate.observations import label_of

if TYPE_CHECKING:
    import pandas

FEWEST_ROWS = 50
MOST_DISTINCT = 0.9
"""Values for each row; a category of more names rows."""
OWN = "missing"
"""The category of what has none."""


def refuse_names(frame: pandas.DataFrame, texts: Sequence[str]) -> None:
    """Raises UserError for a column among ``texts``, whose type was found and not said, that names rows: numbers of customers
    teach nothing about other customers, and whoever asks for a prediction would have to send one."""
    for name in texts:
        there = frame[name].dropna()
        if len(there) >= FEWEST_ROWS and there.nunique() > MOST_DISTINCT * len(there):
            raise UserError(
                f"data: column {name!r} has {there.nunique():,} different texts in {len(there):,} rows, such as "
                f"{str(there.iloc[0])[:40]!r}: it names rows rather than tells about them; leave it out with features.drop, or "
                "say in schema what it is"
            )


def preprocessing(
    features: Sequence[str], types: Mapping[str, ColumnType], may_miss: Collection[str], config: TrainingConfig
) -> list[tuple[str, Any]]:
    """Steps of a pipeline. Numbers alone need no transformer of columns, so that such a model takes a plain matrix too."""
    texts = [name for name in features if types[name] == "category"]
    numbers = [name for name in features if name not in texts]
    scaled = _numbers(config.features.numbers)
    if not texts:
        return scaled
    from sklearn.compose import ColumnTransformer
    from sklearn.pipeline import Pipeline

    parts: list[tuple[str, Any, list[str]]] = []
    if numbers:
        parts.append(("numbers", Pipeline(scaled) if scaled else "passthrough", numbers))
    complete = [name for name in texts if name not in may_miss]
    gaps = [name for name in texts if name in may_miss]
    if complete:
        parts.append(("categories", _encoder(config.features.categories), complete))
    if gaps:
        steps = [("impute", _imputer(config.features.categories)), ("encode", _encoder(config.features.categories))]
        parts.append(("categories_with_gaps", Pipeline(steps), gaps))
    return [("columns", ColumnTransformer(parts, sparse_threshold=0.0))]


def _numbers(plan: Numbers) -> list[tuple[str, Any]]:
    from sklearn.impute import SimpleImputer
    from sklearn.preprocessing import MinMaxScaler, RobustScaler, StandardScaler

    steps: list[tuple[str, Any]] = []
    if plan.impute == "zero":
        steps.append(("impute", SimpleImputer(strategy="constant", fill_value=0.0)))
    elif plan.impute != "none":
        steps.append(("impute", SimpleImputer(strategy=plan.impute)))
    scalers = {"standard": StandardScaler, "minmax": MinMaxScaler, "robust": RobustScaler}
    if plan.scale != "none":
        steps.append(("scale", scalers[plan.scale]()))
    return steps


def _imputer(plan: Categories) -> Any:
    from sklearn.impute import SimpleImputer

    if plan.impute == "own":
        return SimpleImputer(strategy="constant", fill_value=OWN, missing_values=None)
    return SimpleImputer(strategy="most_frequent", missing_values=None)


def _encoder(plan: Categories) -> Any:
    from sklearn.preprocessing import OneHotEncoder, OrdinalEncoder

    if plan.encode == "ordinal":
        return OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1)
    if plan.min_share > 0:
        return OneHotEncoder(handle_unknown="infrequent_if_exist", min_frequency=plan.min_share, sparse_output=False)
    return OneHotEncoder(handle_unknown="ignore", sparse_output=False)


def sampler(classes: pandas.Series[Any], config: TrainingConfig) -> Any:
    """SMOTE for the training rows of each fold; None where it is not asked for. Raises UserError for too few rows."""
    if not config.features.smote:
        return None
    try:
        from imblearn.over_sampling import SMOTE
    except ImportError as error:
        raise MissingExtra("train", "features.smote") from error
    counts = classes.value_counts()
    fewest = int(counts.min() * (config.cross_validation.folds - 1) / config.cross_validation.folds)
    if fewest < 2:
        raise UserError(
            f"features.smote: class {label_of(counts.idxmin())} has {int(counts.min())} rows to train on, too few to make up more"
        )
    return SMOTE(random_state=config.seed, k_neighbors=min(5, fewest - 1))
