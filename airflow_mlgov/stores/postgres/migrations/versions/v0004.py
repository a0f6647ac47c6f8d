"""The outbox of lineage events, and the row that whoever numbers them locks."""

from __future__ import annotations

revision = "v0004"
down_revision = "v0003"

_TABLES = """
CREATE TABLE mlgov.lineage_inbox (
    n bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, key text NOT NULL UNIQUE,
    event bytea NOT NULL, received_at text NOT NULL);
CREATE TABLE mlgov.lineage_events (
    seq bigint PRIMARY KEY, key text NOT NULL UNIQUE, run_id text NOT NULL,
    received_at text NOT NULL, event bytea NOT NULL);
CREATE INDEX lineage_events_by_run ON mlgov.lineage_events (run_id, seq);
CREATE TABLE mlgov.lineage_datasets (
    dataset bytea NOT NULL, seq bigint NOT NULL, PRIMARY KEY (dataset, seq));
CREATE TABLE mlgov.lineage_deliveries (
    target text NOT NULL, seq bigint NOT NULL, state text NOT NULL, reason text NOT NULL,
    at text NOT NULL, PRIMARY KEY (target, seq));
CREATE INDEX lineage_deliveries_not_sent ON mlgov.lineage_deliveries (target, state, seq)
    WHERE state <> 'delivered';
CREATE TABLE mlgov.lineage_targets (target text PRIMARY KEY, settled_to bigint NOT NULL);
CREATE TABLE mlgov.lineage_numbering (only_row boolean PRIMARY KEY CHECK (only_row));
INSERT INTO mlgov.lineage_numbering VALUES (true);
"""


def upgrade() -> None:
    """Make the tables; roles need `airflow mlgov db grant` again to use them."""
    from alembic import op

    op.execute(_TABLES)
