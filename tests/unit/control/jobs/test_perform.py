"""What a try that failed says about it."""

from __future__ import annotations

import pytest

from tidegate.control.jobs.perform import explained
from tidegate.errors import UserError


@pytest.mark.parametrize("kind", [UserError, OSError])
@pytest.mark.parametrize("secret", ["ada:s3cret@", "s3cret@", "ada:s3@cret@"])
def test_credentials_of_an_address_are_not_said(kind: type[Exception], secret: str) -> None:
    """Whoever sees the job would see them: libraries quote the address that they cannot reach."""
    text, _ = explained(kind(f"Failed to clone repo 'https://{secret}git.example/data.git' for ada@example.org"))
    assert "cret" not in text
    assert text.endswith("'https://…@git.example/data.git' for ada@example.org")
