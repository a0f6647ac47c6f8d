"""What holds for every test."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest


@pytest.fixture(scope="session", autouse=True)
def seen_dir(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keep tests from remembering their ledgers in the home of who runs them."""
    before = os.environ.get("AIRFLOW__MLGOV__SEEN_DIR")
    os.environ["AIRFLOW__MLGOV__SEEN_DIR"] = str(tmp_path_factory.mktemp("seen"))
    yield
    if before is None:
        del os.environ["AIRFLOW__MLGOV__SEEN_DIR"]
    else:
        os.environ["AIRFLOW__MLGOV__SEEN_DIR"] = before


def pytest_itemcollected(item: pytest.Item) -> None:
    """Let ``-k attack_07`` select the tests that play attack 7, and ``-k bypass_07`` likewise."""
    for marker, word in (("attack", "attack"), ("bypass", "bypass"), ("stock", "bypass")):
        for mark in item.iter_markers(marker):
            item.extra_keyword_matches.update(f"{word}_{number:02}" for number in mark.args)
