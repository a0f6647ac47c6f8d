"""The text form of one entry's proof: written and read as C2SP has it."""

from __future__ import annotations

import base64

import pytest

from airflow_mlgov.errors import LedgerIntegrityError
from airflow_mlgov.ledger.proof import MAX_PROOF_BYTES, TlogProof

HASHES = (b"\x01" * 32, b"\x02" * 32)
LINES = [base64.b64encode(hashed).decode() for hashed in HASHES]
NOTE = "log\n9\nroot\n\n\u2014 log sig\n"
TEXT = f"c2sp.org/tlog-proof@v1\nindex 5\n{LINES[0]}\n{LINES[1]}\n\n{NOTE}"


def test_it_is_written_and_read_in_the_published_form():
    proof = TlogProof(5, HASHES, NOTE.encode())
    assert proof.as_bytes() == TEXT.encode()
    assert TlogProof.parse(TEXT.encode()) == proof


def test_the_only_leaf_of_a_tree_has_no_hashes():
    proof = TlogProof(0, (), NOTE.encode())
    assert proof.as_bytes() == f"c2sp.org/tlog-proof@v1\nindex 0\n\n{NOTE}".encode()
    assert TlogProof.parse(proof.as_bytes()) == proof


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("proof@v1", "proof@v2"),
        ("c2sp", "\ufeffc2sp"),
        ("index 5", "index 05"),
        ("index 5", "index -5"),
        ("index 5", "index 9223372036854775808"),
        ("index 5", "index  5"),
        ("index 5", "extra AAAA\nindex 5"),
        ("index 5\n", ""),
        ("\n", "\r\n"),
        (LINES[0], LINES[0][:-1]),
        (LINES[0], base64.b64encode(b"short").decode()),
        (LINES[0], f" {LINES[0]}"),
        (f"{LINES[0]}\n", f"{LINES[0]}\n" * 63),
        ("\n\n", "\n"),
        (TEXT, f"c2sp.org/tlog-proof@v1\n\n{NOTE}"),
        (TEXT, f"c2sp.org/tlog-proof@v1\nindex 5\n{LINES[0]}"),
    ],
)
def test_anything_else_is_refused(old, new):
    text = TEXT.replace(old, new)
    assert text != TEXT
    with pytest.raises(LedgerIntegrityError):
        TlogProof.parse(text.encode())


def test_an_extra_line_is_refused_as_nothing_signs_it():
    with pytest.raises(LedgerIntegrityError, match="which nothing signs"):
        TlogProof.parse(TEXT.replace("index 5", "extra AAAA\nindex 5").encode())


def test_the_largest_tree_there_can_be_has_a_proof():
    proof = TlogProof(2**63 - 1, HASHES[:1] * 63, NOTE.encode())
    assert TlogProof.parse(proof.as_bytes()) == proof


def test_a_huge_proof_is_refused_unread():
    head = len(TEXT) - len(NOTE)
    longest = TlogProof(5, HASHES, b"x" * (68 * 1024 - head))
    assert len(longest.as_bytes()) == MAX_PROOF_BYTES
    assert TlogProof.parse(longest.as_bytes()) == longest
    with pytest.raises(LedgerIntegrityError, match="longer than"):
        TlogProof.parse(longest.as_bytes() + b"x")
