"""What holds for every test."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest


@pytest.fixture(scope="session", autouse=True)
def folders_of_this_machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keep tests from remembering ledgers, and keeping events, in the home of who runs them."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("seen_dir", "lineage_spool_dir"):
            variable = f"AIRFLOW__MLGOV__{name.upper()}"
            patch.setenv(variable, str(tmp_path_factory.mktemp(name)))
        yield


@pytest.fixture(scope="session")
def marquez_url() -> str:
    """The address of a real Marquez, for tests marked ``marquez``."""
    if found := os.environ.get("MARQUEZ_URL"):
        return found
    pytest.skip("left out: no MARQUEZ_URL")


def pytest_itemcollected(item: pytest.Item) -> None:
    """Let ``-k attack_07`` select the tests that play attack 7, and ``-k bypass_07`` likewise."""
    for marker, word in (("attack", "attack"), ("bypass", "bypass"), ("stock", "bypass")):
        for mark in item.iter_markers(marker):
            item.extra_keyword_matches.update(f"{word}_{number:02}" for number in mark.args)
