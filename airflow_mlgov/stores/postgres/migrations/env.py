"""Run by Alembic, on the connection that `schema.migrate` hands over."""

from __future__ import annotations


def _run() -> None:
    from alembic import context

    context.configure(
        connection=context.config.attributes["connection"],
        version_table="schema_version",
        version_table_schema="mlgov",
    )
    context.run_migrations()


_run()
