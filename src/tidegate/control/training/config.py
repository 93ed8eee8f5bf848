"""What is trained, on what, and when it is good enough: a training configuration, as ``tidegate train`` reads it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal

from msgspec import Meta

from tidegate.section import Alpha, Excess, Fraction, Positive, Section, help_text

Task = Literal["classification", "regression"]
ColumnType = Literal["number", "integer", "category", "boolean", "time"]

CLASSIFICATION = ("accuracy", "balanced_accuracy", "precision", "recall", "f1", "roc_auc", "log_loss", "brier")
REGRESSION = ("mae", "rmse", "r2")
MOST_FITS = 500
"""Fits of all families together, folds included: a typing error in a grid must not run for a week."""


class SqlData(Section, frozen=True, kw_only=True):
    url: Annotated[
        str, help_text("SQLAlchemy address of the database; $NAME takes it from the environment. Never shown.")
    ]
    query: Annotated[str, help_text("SELECT whose rows are the table.")]


class DvcData(Section, frozen=True, kw_only=True):
    path: Annotated[str, help_text("File in the repository, .csv or .parquet, as DVC tracks it.")]
    repo: Annotated[str, help_text("Folder or address of the Git repository.")] = "."
    rev: Annotated[str, help_text("Git revision; what is checked out when empty.")] = ""


class Data(Section, frozen=True, kw_only=True):
    """Exactly one of these."""

    csv: Annotated[str, help_text("CSV file, relative to the configuration.")] = ""
    parquet: Annotated[str, help_text("Parquet file, relative to the configuration.")] = ""
    sql: Annotated[SqlData | None, help_text("A query to a database.")] = None
    dvc: Annotated[DvcData | None, help_text("A file that DVC tracks.")] = None

    @property
    def kind(self) -> str:
        return next(name for name in self.__struct_fields__ if getattr(self, name))


class Column(Section, frozen=True, kw_only=True):
    type: Annotated[
        ColumnType, help_text("What it holds; categories are text when the model is served, booleans numbers 0 and 1.")
    ] = "number"
    min: Annotated[float | None, help_text("Least value that a row may have.")] = None
    max: Annotated[float | None, help_text("Greatest value that a row may have.")] = None
    categories: Annotated[tuple[str, ...], help_text("Values that a row may have; any when empty.")] = ()
    missing: Annotated[
        Fraction, help_text("Largest share of rows without a value; at 0 such rows are set aside one by one.")
    ] = 0.0
    required: Annotated[bool, help_text("Whether the data must have this column at all.")] = True


class Checks(Section, frozen=True, kw_only=True):
    max_bad: Annotated[
        Fraction,
        help_text("Largest share of rows that may break the schema; they are set aside, more end the training."),
    ] = 0.05
    max_duplicates: Annotated[Fraction, help_text("Largest share of rows that are there twice.")] = 1.0


class Split(Section, frozen=True, kw_only=True):
    test: Annotated[float, Meta(gt=0, lt=1), help_text("Share of the rows that are held out.")] = 0.2
    by: Annotated[
        Literal["random", "time"],
        help_text("random: by a digest of each row's features, so that a row stays on its side; time: the newest."),
    ] = "random"
    time: Annotated[str, help_text("Column of the time, for by: time; it is no feature.")] = ""
    unit: Annotated[
        str, help_text("Column that names the unit (customer); its rows are all on one side. It is no feature.")
    ] = ""


class Numbers(Section, frozen=True, kw_only=True):
    impute: Annotated[
        Literal["median", "mean", "most_frequent", "zero", "none"], help_text("What a missing number becomes.")
    ] = "median"
    scale: Annotated[Literal["standard", "minmax", "robust", "none"], help_text("How numbers are scaled.")] = "standard"


class Categories(Section, frozen=True, kw_only=True):
    impute: Annotated[
        Literal["own", "most_frequent"], help_text("What a missing category becomes: one of its own, or the usual one.")
    ] = "own"
    encode: Annotated[Literal["one_hot", "ordinal"], help_text("How categories become numbers.")] = "one_hot"
    min_share: Annotated[Fraction, help_text("Rarer categories become one (one_hot only).")] = 0.0


class Features(Section, frozen=True, kw_only=True):
    numbers: Annotated[Numbers, help_text("Columns of numbers.")] = Numbers()
    categories: Annotated[Categories, help_text("Columns of categories.")] = Categories()
    drop: Annotated[tuple[str, ...], help_text("Columns that are no features, such as ids.")] = ()
    smote: Annotated[
        bool, help_text("Make up rows of rare classes (SMOTE), in the training rows of each fold alone.")
    ] = False


class CrossValidation(Section, frozen=True, kw_only=True):
    folds: Annotated[int, Meta(ge=2, le=20), help_text("Parts of the training rows; each is predicted once.")] = 5
    scoring: Annotated[str, help_text("Metric that chooses among families and grids; the gate's when empty.")] = ""


class Gate(Section, frozen=True, kw_only=True):
    metric: Annotated[str, help_text("Metric on the hold-out; accuracy, or r2 for regression, when empty.")] = ""
    margin: Annotated[
        float, Meta(ge=0), help_text("By how much the challenger may be worse: it is shown to be no worse than that.")
    ] = 0.01
    min_gain: Annotated[
        Excess | None, help_text("By how much it must be shown to be better; takes the place of margin.")
    ] = None
    test: Annotated[
        Literal["bootstrap", "mcnemar"],
        help_text(
            "Paired bootstrap of the difference; or McNemar's exact test that more rows are right, without margin."
        ),
    ] = "bootstrap"
    alpha: Annotated[Alpha, help_text("Chance of accepting one that is just not good enough.")] = 0.05
    min_rows: Annotated[Positive, help_text("Fewest rows in the hold-out.")] = 30
    floor: Annotated[
        float | None,
        help_text("The metric must be shown to be at least this, or for losses at most; also of a first model."),
    ] = None


class Profile(Section, frozen=True, kw_only=True):
    """The reference that production is compared with."""

    sample: Annotated[int, Meta(ge=0, le=1000), help_text("Rows that are kept in it, for reports.")] = 1000
    kinds: Annotated[
        Mapping[str, Any], help_text("number or category, for columns that should be looked at as such.")
    ] = {}


class TrainingConfig(Section, frozen=True, kw_only=True):
    name: Annotated[str, help_text("Name of the model in the registry.")]
    data: Annotated[Data, help_text("Where the table comes from.")]
    target: Annotated[str, help_text("Column to predict.")]
    task: Annotated[Task, help_text("What is predicted: a class or a number.")] = "classification"
    positive: Annotated[str, help_text("The positive class of two; the last by name when empty.")] = ""
    schema: Annotated[
        Mapping[str, Column], help_text("Columns that are features or the target; all, by their content, when empty.")
    ] = {}
    checks: Annotated[Checks, help_text("How much of the data may be bad.")] = Checks()
    split: Annotated[Split, help_text("Which rows are held out.")] = Split()
    features: Annotated[Features, help_text("From columns to numbers.")] = Features()
    families: Annotated[
        Mapping[str, Any],
        help_text("Families that are tried, each with its parameters; a list of values is a grid."),
    ]
    cross_validation: Annotated[CrossValidation, help_text("How a family is chosen.")] = CrossValidation()
    gate: Annotated[Gate, help_text("When the best one becomes the challenger.")] = Gate()
    endpoint: Annotated[
        str, help_text("Endpoint whose production it is for; its model is the champion it is compared with.")
    ] = ""
    alias: Annotated[str, help_text("Alias that an accepted version gets.")] = "challenger"
    first_alias: Annotated[str, help_text("Alias that the very first version gets too; none when empty.")] = "champion"
    experiment: Annotated[
        str, help_text("MLflow's experiment; MLFLOW_EXPERIMENT_NAME or the model's name when empty.")
    ] = ""
    profile: Annotated[Profile, help_text("The reference that production is compared with.")] = Profile()
    seed: Annotated[int, Meta(ge=0, le=2**31 - 1), help_text("Of everything random.")] = 0

    @property
    def metric(self) -> str:
        return self.gate.metric or ("accuracy" if self.task == "classification" else "r2")

    @property
    def scoring(self) -> str:
        return self.cross_validation.scoring or self.metric

    @property
    def aside(self) -> frozenset[str]:
        """Columns that are no features."""
        return frozenset({self.target, self.split.time, self.split.unit, *self.features.drop} - {""})


def broken_rules(config: TrainingConfig) -> Iterator[tuple[str, str]]:
    """Key and mistake of what types cannot say."""
    from tidegate.control.training.families import broken_families

    given = [name for name in config.data.__struct_fields__ if getattr(config.data, name)]
    if len(given) != 1:
        yield "data", "give exactly one of csv, parquet, sql, dvc"
    if not config.target:
        yield "target", "names the column to predict"
    known = CLASSIFICATION if config.task == "classification" else REGRESSION
    for key, metric in (("gate.metric", config.metric), ("cross_validation.scoring", config.scoring)):
        if metric not in known:
            yield key, f"{metric} is no metric of {config.task}; one of: {', '.join(known)}"
    if config.schema and config.target not in config.schema:
        yield "schema", f"the target {config.target} is missing"
    for name, column in config.schema.items():
        yield from _broken_column(name, column)
    if config.split.by == "time" and not config.split.time:
        yield "split.time", "names the column for by: time"
    if config.target in (config.split.time, config.split.unit, *config.features.drop):
        yield "target", f"{config.target} is set aside elsewhere; the target cannot be"
    yield from _broken_gate(config)
    if config.features.smote and config.task != "classification":
        yield "features.smote", "makes up rows of rare classes; regression has none"
    for name, kind in config.profile.kinds.items():
        if kind not in ("number", "category"):
            yield f"profile.kinds.{name}", "one of: number, category"
    yield from broken_families(config)


def _broken_column(name: str, column: Column) -> Iterator[tuple[str, str]]:
    key = f"schema.{name}"
    if column.categories and column.type != "category":
        yield f"{key}.categories", f"a {column.type} has none; type: category has"
    if column.type in ("category", "boolean", "time") and (column.min is not None or column.max is not None):
        yield key, f"min and max bound numbers, not a {column.type}"
    if column.min is not None and column.max is not None and column.min > column.max:
        yield f"{key}.min", "greater than max"


def _broken_gate(config: TrainingConfig) -> Iterator[tuple[str, str]]:
    gate = config.gate
    if gate.test == "mcnemar" and (config.task != "classification" or config.metric != "accuracy"):
        yield "gate.test", "mcnemar compares accuracies; use bootstrap for other metrics"
    if gate.test == "mcnemar" and gate.min_gain is not None:
        yield "gate.min_gain", "mcnemar shows that one is better, not by how much; use bootstrap"
