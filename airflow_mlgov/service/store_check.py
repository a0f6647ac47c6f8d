"""What only the store shows: entries that nothing covers, and an index that fits the entries."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import suppress

from airflow_mlgov.errors import LedgerIntegrityError
from airflow_mlgov.ledger.merkle import SUBTREE_LEAVES, append_leaves, leaf_hash
from airflow_mlgov.ledger.view import label_of
from airflow_mlgov.service.ports import LedgerStore


def store_problems(store: LedgerStore, size: int) -> list[str]:
    """Return what is wrong with a store beside what its leaves and its checkpoint say themselves.

    Args:
        store: Read from beginning to end, in little memory.
        size: Entries under its newest checkpoint.

    Raises:
        LedgerUnavailableError: The store cannot be reached; a retry may help.
    """
    problems = []
    with suppress(LedgerIntegrityError):  # of a damaged entry: who reads the leaves says so
        problems += _index_problems(store, size)
    has_more = any(store.leaves(size, size + 1))
    if has_more and store.head().size == size:
        problems.append("The store holds entries after those that the newest checkpoint covers.")
    return problems


def _index_problems(store: LedgerStore, size: int) -> list[str]:
    wrong: list[int] = []
    hashes = _compared(store.leaves(0, size), store.indexed(size), wrong)
    grown = append_leaves((), 0, hashes)
    problems = []
    if wrong:
        problems.append(
            f"The store's index lists {len(wrong)} entries under no or another model than they "
            f"say, first entry {wrong[0]}."
        )
    try:
        kept = store.subtrees(size // SUBTREE_LEAVES)
    except LedgerIntegrityError as error:
        return [*problems, error.problem]
    if kept != [root for _, root in grown.subtrees]:
        problems.append("The store's index has other subtrees than the entries give.")
    return problems


def _compared(
    leaves: Iterable[bytes], rows: Iterator[tuple[int, str]], wrong: list[int]
) -> Iterator[bytes]:
    row = next(rows, None)
    for index, leaf in enumerate(leaves):
        is_listed = row is not None and row[0] == index
        if not is_listed or row != (index, label_of(leaf)):
            wrong.append(index)
        if is_listed:
            row = next(rows, None)
        yield leaf_hash(leaf)
