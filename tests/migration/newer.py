"""A migration as a later version may bring it: it only adds."""

from __future__ import annotations

import textwrap
from pathlib import Path

from tidegate.storage import schema

VERSION = "9001"


def folders(tmp: Path) -> list[Path]:
    """Where this version's migrations are, and then the later one's."""
    later = tmp / "later"
    later.mkdir(exist_ok=True)
    (later / "v9001.py").write_text(
        textwrap.dedent(
            f'''
            import sqlalchemy as sa
            from alembic import op

            revision = "{VERSION}"
            down_revision = "{schema.HEAD}"


            def upgrade():
                for table in ("releases", "windows", "events", "feedback", "audit_events", "leases", "exposures"):
                    op.add_column(table, sa.Column("added", sa.Text(), nullable=True))
                for table in ("snapshots", "instances", "experiments", "api_keys", "sessions", "idempotency"):
                    op.add_column(table, sa.Column("added", sa.Text(), nullable=False, server_default="x"))
                op.create_table("later_things", sa.Column("id", sa.Text(), primary_key=True))
                op.create_index("ix_releases_state", "releases", ["state"])
            '''
        )
    )
    return [schema.FOLDER / "versions", later]
