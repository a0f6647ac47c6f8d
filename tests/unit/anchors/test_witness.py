"""Asking a witness over HTTP, and what it may try."""

from __future__ import annotations

import base64
import json

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from airflow_mlgov.errors import AnchorError, AnchorUnavailableError, LedgerIntegrityError
from airflow_mlgov.ledger.cosignature import cosignatures_of


def body_of(checkpoint) -> str:
    return checkpoint.note.rpartition("\n\n")[0] + "\n"


def test_it_cosigns_what_grows(place, witness, watched) -> None:
    since = 0
    for count in (1, 1, 2, 5):
        checkpoint = place.grow(count)
        data = watched.take(checkpoint, place.tree, since)
        note = checkpoint.note.encode()
        (said,) = cosignatures_of(note, data, [watched.key])
        assert said.line == data
        assert watched.check(note, data) == said.at
        since = checkpoint.size
    assert len(witness.requests) == 4  # none was refused
    assert witness.requests[0].startswith(b"old 0\n\n")
    assert witness.requests[1].startswith(b"old 2\n")


def test_the_same_checkpoint_again_gets_a_newer_time(place, watched) -> None:
    checkpoint = place.grow()
    watched.take(checkpoint, place.tree, 0)
    assert watched.take(checkpoint, place.tree, checkpoint.size)


@pytest.mark.parametrize("since", [0, 1, 99])
def test_it_starts_again_from_what_the_witness_saw(place, witness, watched, since) -> None:
    watched.take(place.grow(3), place.tree, 0)
    later = place.grow(3)
    assert watched.take(later, place.tree, since)
    assert len(witness.requests) == 3


@pytest.mark.parametrize(("keep", "then"), [(2, 0), (2, 1), (2, 2), (2, 5)])
@pytest.mark.parametrize("since", [0, 4])
def test_attacks_5_and_10_a_rewritten_ledger_is_refused(
    place, watched, witness, keep, then, since
) -> None:
    watched.take(place.grow(3), place.tree, 0)
    forged = place.rewrite(keep=keep, then=then)
    assert place.ledger.verify().is_fine
    with pytest.raises(LedgerIntegrityError, match="is not the beginning of"):
        watched.take(forged, place.tree, since)


def test_a_log_that_it_does_not_know_or_trust(place, witness, watched) -> None:
    checkpoint = place.grow()
    witness._logs[place.origin] = Ed25519PrivateKey.generate().public_key().public_bytes_raw()
    with pytest.raises(AnchorError, match="does not trust the log's key"):
        watched.take(checkpoint, place.tree, 0)
    witness._logs.clear()
    with pytest.raises(AnchorError, match="does not know the log") as caught:
        watched.take(checkpoint, place.tree, 0)
    assert "trust --vkey" in caught.value.remedy
    witness.lie = lambda _: (400, "text/plain", b"")
    with pytest.raises(AnchorError, match="finds the request malformed"):
        watched.take(checkpoint, place.tree, 0)
    witness.lie = lambda _: (500, "text/plain", b"")
    with pytest.raises(AnchorUnavailableError, match="HTTP 500"):
        watched.take(checkpoint, place.tree, 0)


def test_it_lies_about_its_size_for_ever(place, witness, watched) -> None:
    checkpoint = place.grow(3)
    witness.lie = lambda _: (409, "text/x.tlog.size", b"2\n")
    with pytest.raises(AnchorUnavailableError, match="changed its mind twice"):
        watched.take(checkpoint, place.tree, 0)
    assert len(witness.requests) == 2


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("text/plain", b"2\n"),
        ("text/x.tlog.size", b"2"),
        ("text/x.tlog.size", b"02\n"),
        ("text/x.tlog.size", b"-1\n"),
        ("text/x.tlog.size", b"9" * 30 + b"\n"),
    ],
)
def test_a_refusal_without_a_size(place, witness, watched, kind, said) -> None:
    witness.lie = lambda _: (409, kind, said)
    with pytest.raises(AnchorError, match="does not say which size"):
        watched.take(place.grow(3), place.tree, 0)


def lies(place, witness):
    """Answers that must not be kept."""
    cosign = type(witness)._add_checkpoint.__globals__["cosign"]
    checkpoint = place.ledger.checkpoint()
    body, own = body_of(checkpoint), cosign(witness.key, witness.name, body_of(checkpoint), 1)
    other = Ed25519PrivateKey.generate()
    mark, name, encoded = own.decode().strip().split(" ")
    raw = bytearray(base64.b64decode(encoded))
    raw[11] ^= 1  # the time that is signed
    bad = f"{mark} {name} {base64.b64encode(raw).decode()}\n".encode()
    older = cosign(witness.key, witness.name, body.replace("\n4\n", "\n3\n"), 1)
    late = cosign(witness.key, witness.name, body, 2**63)
    return {
        "nothing": b"",
        "another key": cosign(other, witness.name, body, 1),
        "another name": cosign(witness.key, "witness.example/w2", body, 1),
        "a bad signature": bad,
        "another checkpoint": older,
        "no time that there is": late,
        "twice": own + own,
        "a page": b"<html></html>\n",
        "a body before it": b"\nmore\n\n"
        + cosign(witness.key, witness.name, checkpoint.note + "\nmore\n", 1),
        "an empty line": b"\n" + cosign(witness.key, witness.name, checkpoint.note, 1),
        "cut off": own[:-10],
        "not text": b"\xff" * 50,
    }


@pytest.mark.parametrize(
    "lie",
    [
        *("nothing", "another key", "another name", "a bad signature", "another checkpoint"),
        *("no time that there is", "twice", "a page", "a body before it", "an empty line"),
        *("cut off", "not text"),
    ],
)
def test_what_does_not_verify_is_not_kept(place, witness, watched, lie) -> None:
    checkpoint = place.grow(3)
    answer = lies(place, witness)[lie]
    witness.lie = lambda _: (200, "text/plain", answer)
    with pytest.raises(AnchorError, match=r"does not verify|gave no cosignature"):
        watched.take(checkpoint, place.tree, 0)


def test_lines_of_others_are_left_out(place, witness, watched) -> None:
    checkpoint = place.grow()
    other = type(witness)._add_checkpoint.__globals__["cosign"](
        Ed25519PrivateKey.generate(), "other.example", body_of(checkpoint), 1
    )
    witness.lie = lambda honest: (200, "text/plain", other + honest[2])
    data = watched.take(checkpoint, place.tree, 0)
    assert b"other.example" not in data
    assert data.count(b"\n") == 1


def test_the_witness_itself_checks_and_remembers(place, witness, watched, tmp_path) -> None:
    watched.take(place.grow(), place.tree, 0)
    (kept,) = (json.loads(path.read_text()) for path in tmp_path.glob("*.json"))
    assert kept[place.origin][0] == 2
    note = place.ledger.checkpoint().note.encode()
    for request, status in (
        (b"old 3\n\n" + note, 400),
        (b"new 2\n\n" + note, 400),
        (b"old 0\n\n" + note, 409),
        (b"old 2\n" + base64.b64encode(b"x" * 32) + b"\n\n" + note, 422),
    ):
        assert witness.answer("/prefix/add-checkpoint", request)[0] == status
