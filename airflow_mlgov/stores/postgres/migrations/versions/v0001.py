"""Inbox, entries, checkpoints and disclosures, and the row that a round of sequencing locks."""

from __future__ import annotations

revision = "v0001"
down_revision = None

# The length is MAX_LEAF_BYTES as it was when this revision was written; another needs another.
_TABLES = """
CREATE TABLE mlgov.inbox (
    n bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, key text NOT NULL UNIQUE,
    leaf bytea NOT NULL CHECK (octet_length(leaf) <= 16384),
    leaf_hash bytea NOT NULL, received_at text NOT NULL);
CREATE TABLE mlgov.entries (
    seq bigint PRIMARY KEY, key text NOT NULL UNIQUE, leaf bytea NOT NULL, leaf_hash bytea NOT NULL,
    received_at text NOT NULL);
CREATE TABLE mlgov.checkpoints (size bigint PRIMARY KEY, note bytea NOT NULL, peaks bytea NOT NULL);
CREATE TABLE mlgov.disclosures (
    key text NOT NULL, field text NOT NULL, salt bytea NOT NULL, value bytea NOT NULL,
    PRIMARY KEY (key, field));
CREATE TABLE mlgov.sequencing (only_row boolean PRIMARY KEY CHECK (only_row));
INSERT INTO mlgov.sequencing VALUES (true);
"""


def upgrade() -> None:
    """Make the tables; what fails leaves none of them."""
    from alembic import op

    op.execute(_TABLES)
