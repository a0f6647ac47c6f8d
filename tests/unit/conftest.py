"""One PostgreSQL server for each test process, and a database of its own for each test."""

from __future__ import annotations

import importlib.util
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

FAKES = Path(__file__).parents[1] / "fakes"


def _load(name: str):
    spec = importlib.util.spec_from_file_location(name, FAKES / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def postgres() -> Iterator[Any]:
    server = _load("postgres_server").PostgresServer()
    try:
        server.start()
        yield server
    finally:
        server.remove()


@pytest.fixture
def least_assurance() -> str:
    """What the pack in force accepts; tests of what tasks report ask for L0."""
    return "L1"


@pytest.fixture
def postgres_database(postgres) -> Iterator[str]:
    """Name of a new database without tables.

    It is dropped again: a server that was stopped at once syncs each file of each database first.
    """
    name = f"ledger_{uuid.uuid4().hex}"
    postgres.execute("postgres", f"CREATE DATABASE {name}")
    yield name
    postgres.execute("postgres", f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
def postgres_url(postgres, postgres_database: str) -> str:
    """URL of a new, migrated database, for its owner."""
    from airflow_mlgov.stores.postgres import schema

    url = postgres.url(postgres_database)
    schema.migrate(url)
    return url


@pytest.fixture
def new_memory_ledger():
    return _load("memory_ledger").MemoryLedger


@pytest.fixture
def new_memory_outbox():
    return _load("memory_outbox").MemoryOutbox
