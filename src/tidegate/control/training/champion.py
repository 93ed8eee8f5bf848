"""The champion of a training: which version it is, what it was not trained on, and what it says about the hold-out."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from tidegate.control.registry.base import CHAMPION, Registry
from tidegate.control.training.config import TrainingConfig
from tidegate.control.training.fit import told
from tidegate.control.training.gate import Comparison, compare
from tidegate.control.training.rows import Checked
from tidegate.control.training.scores import METRICS, Answers
from tidegate.control.training.serving import Opening, ask
from tidegate.errors import MissingExtra, ModelFailed, NotFound, RequestError, UserError
from tidegate.types import ModelRef

if TYPE_CHECKING:
    import pandas

logger = logging.getLogger("tidegate.training")

HELD_SINCE = "held_since"
"""Metadata of a version: production from then on was not trained on."""


def champion_of(registry: Registry, name: str) -> ModelRef | None:
    """The version that the champion alias points to; None where there is none. Raises RegistryAway."""
    try:
        version = registry.get(name, CHAMPION).version
    except NotFound:
        return None
    return registry.ref(f"models:/{name}/{version}")


def unseen_by(registry: Registry, champion: ModelRef | None) -> float:
    """The champion was trained on no production from this time on; 0 where nothing says so."""
    if champion is None or not champion.name:
        return 0.0
    try:
        return float(registry.get(champion.name, champion.version).metadata.get(HELD_SINCE, "") or 0.0)
    except (NotFound, ValueError):
        return 0.0


def compared(
    answers: Answers,
    test: pandas.DataFrame,
    checked: Checked,
    classes: list[Any],
    config: TrainingConfig,
    opening: Opening,
    champion: ModelRef | None,
) -> Comparison:
    """A champion that cannot be asked about these rows is no reason to accept."""
    if champion is None:
        return compare(answers, None, config.gate, config.metric, config.seed)
    said = f"{champion.name} version {champion.version}" if champion.name else champion.uri
    try:
        given = ask(opening(champion), test, checked.features)
        other = _answers(answers, given.predictions, given.scores, given.labels, test, classes, config)
    except (UserError, RequestError, ModelFailed, ValueError, TypeError) as error:
        if isinstance(error, MissingExtra):
            raise
        logger.warning("the champion %s could not be asked: %s", said, error)
        text = (
            " ".join(str(error).split())[:300] if isinstance(error, UserError | RequestError) else type(error).__name__
        )
        return Comparison(
            accepted=False,
            reason=f"the champion {said} cannot be asked about these rows: {text}",
            metric=config.metric,
            test="none",
            rows=len(test),
            alpha=config.gate.alpha,
            challenger=METRICS[config.metric](answers),
            champion_version=champion.version,
        )
    return compare(answers, other, config.gate, config.metric, config.seed, champion.version)


def _answers(
    answers: Answers,
    predictions: list[Any],
    scores: Any,
    labels: tuple[str, ...],
    test: pandas.DataFrame,
    classes: list[Any],
    config: TrainingConfig,
) -> Answers:
    import numpy as np

    from tidegate.observations import label_of

    if config.task == "regression":
        return Answers(answers.truth, np.array(predictions, float).reshape(-1))
    names = answers.classes
    said = [label_of(value, labels) for value in predictions]
    order = labels or names
    if scores is not None and scores.shape[1] == len(order):
        placed = np.zeros((len(said), len(names)))
        for column, name in enumerate(order):
            if name in names:
                placed[:, names.index(name)] = scores[:, column]
        scores = placed
    else:
        scores = None
    return told(test[config.target].tolist(), said, scores, classes, config)
