"""The index over the entries: the model that each is about, and the roots of full subtrees."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

if TYPE_CHECKING:
    from airflow_mlgov.stores.postgres.connections import Connection

revision = "v0002"
down_revision = "v0001"

_TABLES = """
CREATE TABLE mlgov.models (seq bigint PRIMARY KEY, model text NOT NULL);
CREATE INDEX models_by_model ON mlgov.models (model, seq);
CREATE TABLE mlgov.subtrees (n bigint PRIMARY KEY, hash bytea NOT NULL);
"""


def upgrade() -> None:
    """Make the index, and fill it from the entries that are there."""
    from alembic import op

    from airflow_mlgov.stores.postgres.index import fill_index

    op.execute(_TABLES)
    fill_index(cast("Connection", op.get_bind().connection.driver_connection))
