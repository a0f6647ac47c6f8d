"""The set of keys that a verification keeps."""

from __future__ import annotations

import hashlib
import tracemalloc

from airflow_mlgov.ledger.key_set import KeySet


def key(number: int) -> str:
    return f"sha256:{hashlib.sha256(b'%d' % number).hexdigest()}"


def test_each_key_is_new_once_whatever_the_size() -> None:
    keys = KeySet()
    for number in range(5_000):
        assert keys.add(key(number))
        assert keys.add(key(number // 2)) is False
    assert not any(keys.add(key(number)) for number in range(5_000))
    assert keys.add("sha256:" + "0" * 64)
    assert not keys.add("sha256:" + "0" * 64)


def test_keys_that_meet_in_the_table_are_told_apart(monkeypatch) -> None:
    monkeypatch.setattr("airflow_mlgov.ledger.key_set.hash", lambda raw: 1023, raising=False)
    keys = KeySet()
    assert all(keys.add(key(number)) for number in range(1_000))
    assert not any(keys.add(key(number)) for number in range(1_000))


def test_it_takes_little_memory() -> None:
    tracemalloc.start()
    keys = KeySet()
    for number in range(43_000):
        keys.add(key(number))
    taken, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert taken / 43_000 < 45
