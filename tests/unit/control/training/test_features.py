from __future__ import annotations

import pytest

from tests.unit.control.training.tables import churn
from tidegate.control.training.features import FEWEST_ROWS, refuse_names
from tidegate.errors import UserError


def test_a_column_that_names_rows_is_refused_where_nobody_said_what_it_is() -> None:
    frame = churn(100).assign(customer=[f"C-{place}" for place in range(100)])
    refuse_names(frame, ["plan"])
    refuse_names(frame.head(FEWEST_ROWS - 1), ["customer"])
    with pytest.raises(
        UserError, match=r"'customer' has 100 different texts in 100 rows, such as 'C-0'.*features\.drop"
    ):
        refuse_names(frame, ["plan", "customer"])
