"""Commitments to people: they open only for what was committed to."""

from __future__ import annotations

import hashlib

import pytest
import rfc8785

from airflow_mlgov.errors import LedgerIntegrityError
from airflow_mlgov.records.people import Disclosure, Person


def test_a_commitment_is_sha256_over_prefix_salt_and_canonical_value() -> None:
    disclosure = Disclosure(b"s" * 32, {"id": "1", "name": "Zoë"})
    expected = hashlib.sha256(b"\x02" + b"s" * 32 + rfc8785.dumps(disclosure.value)).hexdigest()
    assert disclosure.commitment == expected
    assert disclosure.check(expected) == disclosure.value


def test_another_salt_or_value_does_not_open_it() -> None:
    disclosure = Disclosure.of("a comment")
    for other in (Disclosure(disclosure.salt, "a comment."), Disclosure.of("a comment")):
        with pytest.raises(LedgerIntegrityError):
            other.check(disclosure.commitment)


@pytest.mark.attack(34)
def test_threat_34_the_same_person_is_unlinkable_and_not_guessable_without_the_salt() -> None:
    guess = {"id": "ada@bank.example", "name": "ada@bank.example"}
    first, second = Disclosure.of(guess), Disclosure.of(guess)
    assert first.commitment != second.commitment
    assert len(first.salt) == 32
    bare = hashlib.sha256(b"\x02" + rfc8785.dumps(guess)).hexdigest()
    assert bare not in {first.commitment, second.commitment}


def test_a_person_is_known_by_id_or_name_whatever_the_case() -> None:
    person = Person("7", "Ada")
    assert person.is_same_as("ADA")
    assert person.is_same_as("7")
    assert not person.is_same_as("Ad")
