"""What anchors gave for checkpoints."""

from __future__ import annotations

revision = "v0003"
down_revision = "v0002"

_TABLE = """
CREATE TABLE mlgov.anchored (
    anchor text NOT NULL, kind text NOT NULL, size bigint NOT NULL, note bytea NOT NULL,
    data bytea NOT NULL, at text NOT NULL, PRIMARY KEY (size, anchor))
"""


def upgrade() -> None:
    """Make the table; roles need `airflow mlgov db grant` again to see it."""
    from alembic import op

    op.execute(_TABLE)
