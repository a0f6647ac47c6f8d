"""The keys of a ledger's entries, a million of them in some 45 megabytes."""

from __future__ import annotations

from array import array

_KEY_BYTES = 32
_FREE = 0


class KeySet:
    """A set of idempotency keys: 32 bytes each, and a hash table of their numbers.

    A `set` of their texts takes four times that.
    """

    def __init__(self) -> None:
        self._keys = bytearray()
        self._count = 0
        self._table = array("I", [_FREE]) * 1024  # one more than the number of a key

    def add(self, key: str) -> bool:
        """Add a key; return whether it is new.

        Args:
            key: ``sha256:<64 hexadecimal characters>``.
        """
        raw = bytes.fromhex(key.removeprefix("sha256:"))
        place = self._place(raw)
        if self._table[place] != _FREE:
            return False
        self._keys += raw
        self._count += 1
        self._table[place] = self._count
        if self._count * 3 > len(self._table) * 2:
            self._double()
        return True

    def _place(self, raw: bytes) -> int:
        mask = len(self._table) - 1
        # Python's hash is salted for each process: nobody can write keys that collide.
        place = hash(raw) & mask
        while (number := self._table[place]) != _FREE and self._key(number - 1) != raw:
            place = (place + 1) & mask
        return place

    def _key(self, number: int) -> bytes | bytearray:
        return self._keys[number * _KEY_BYTES : (number + 1) * _KEY_BYTES]

    def _double(self) -> None:
        self._table = array("I", [_FREE]) * (2 * len(self._table))
        for number in range(self._count):
            self._table[self._place(bytes(self._key(number)))] = number + 1
