from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tidegate.serving.cost import CostModel


@settings(derandomize=True, max_examples=60, deadline=None, database=None)
@given(st.floats(1e-5, 0.1), st.floats(1e-7, 0.01), st.integers(0, 1000))
def test_base_and_slope_are_recovered(base: float, per_row: float, seed: int) -> None:
    cost, draw = CostModel(), random.Random(seed)
    for _ in range(300):
        rows = draw.randint(1, 256)
        cost.observe(rows, base + per_row * rows)
    assert cost.estimate(64) == pytest.approx(base + per_row * 64, rel=1e-3)
    assert cost.base == pytest.approx(base, rel=0.01, abs=per_row * 0.05)
    assert cost.per_row == pytest.approx(per_row, rel=0.01)


def test_noise_averages_out() -> None:
    cost, draw = CostModel(), random.Random(3)
    for _ in range(2000):
        rows = draw.randint(1, 128)
        cost.observe(rows, (0.002 + 0.0001 * rows) * draw.uniform(0.8, 1.2))
    assert cost.estimate(100) == pytest.approx(0.012, rel=0.1)


def test_one_size_only_gives_its_mean() -> None:
    cost = CostModel()
    for seconds in (0.1, 0.2, 0.3):
        cost.observe(4, seconds)
    assert cost.estimate(4) == pytest.approx(0.2, rel=0.02)
    assert cost.per_row == 0


def test_nobody_is_refused_on_the_word_of_a_few_batches() -> None:
    cost = CostModel()
    assert cost.estimate(10) == 0
    for number in range(8):
        assert not cost.known
        cost.observe(1 + number, 0.1)
    assert cost.known


@settings(derandomize=True, max_examples=100, deadline=None, database=None)
@given(st.lists(st.tuples(st.integers(1, 256), st.floats(0, 10)), min_size=1, max_size=100))
def test_estimates_are_never_negative_and_grow_with_rows(seen: list[tuple[int, float]]) -> None:
    cost = CostModel()
    for rows, seconds in seen:
        cost.observe(rows, seconds)
    assert 0 <= cost.estimate(1) <= cost.estimate(256)


def test_a_model_that_became_slow_is_noticed() -> None:
    cost = CostModel()
    for _ in range(500):
        cost.observe(8, 0.001)
    for _ in range(200):
        cost.observe(8, 0.1)
    assert cost.estimate(8) > 0.09
