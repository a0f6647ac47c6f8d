"""Asking a real authority (openssl's), and what it may try."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from airflow_mlgov.errors import AnchorError, AnchorUnavailableError, ConfigurationError

REPLY = "application/timestamp-reply"


def answering(authority, make) -> None:
    authority.lie = lambda query: (200, REPLY, make(query))


@pytest.mark.parametrize("key", ["rsa:2048", "ec"])
def test_a_checkpoint_is_stamped(place, new_authority, key) -> None:
    authority = new_authority(key=key)
    checkpoint = place.grow()
    data = authority.anchor.take(checkpoint, place.tree, 0)
    at = authority.anchor.check(checkpoint.note.encode(), data)
    assert abs(at - datetime.now(UTC)) < timedelta(minutes=1)
    assert authority.anchor.notes(place.origin) == []


def test_a_stamp_of_other_bytes_does_not_fit(place, authority) -> None:
    checkpoint = place.grow()
    data = authority.anchor.take(checkpoint, place.tree, 0)
    with pytest.raises(AnchorError, match="Mismatch between messages"):
        authority.anchor.check(checkpoint.note.encode() + b"x", data)


def test_hostile_answers(place, authority, new_authority) -> None:
    checkpoint = place.grow()
    note = checkpoint.note.encode()
    stranger = new_authority("stranger")
    expected = {
        "Nonce mismatch": lambda query: authority.stamp_data(note),
        "Mismatch between messages|Nonce": lambda query: authority.stamp_data(b"other"),
        "another kind of digest": lambda query: authority.stamp_data(note, "-sha512"),
        "local issuer certificate|verify": stranger.stamp,
        "parse": lambda query: authority.stamp(query)[:-7],
        "parse|trailing|extra": lambda query: authority.stamp(query) + b"x",
        "does not verify": lambda query: b"",
        "verify|certificates": lambda query: flipped(authority.stamp(query)),
        "refused: status 2": lambda query: authority.stamp(query[:-3] + b"xyz"),
    }
    for message, make in expected.items():
        answering(authority, make)
        with pytest.raises(AnchorError, match=message):
            authority.anchor.take(checkpoint, place.tree, 0)


def flipped(data: bytes) -> bytes:
    return data[:-20] + bytes([data[-20] ^ 1]) + data[-19:]


@pytest.mark.parametrize(
    ("usage", "message"),
    [("stamps", ""), ("none", "unsuitable certificate"), ("lax", "unsuitable certificate")],
)
def test_a_certificate_that_is_not_for_time_stamps(place, new_authority, usage, message) -> None:
    checkpoint = place.grow()
    honest, wrong = new_authority("honest"), new_authority("wrong", usage=usage)
    answering(wrong, lambda query: wrong.sign_anyway(honest.stamp(query)))
    if not message:  # what is refused below is refused for the certificate alone
        assert wrong.anchor.take(checkpoint, place.tree, 0)
        return
    with pytest.raises(AnchorError, match=message):
        wrong.anchor.take(checkpoint, place.tree, 0)


def test_an_expired_certificate(place, new_authority, monkeypatch) -> None:
    authority = new_authority()
    authority._run(
        *("x509", "-req", "-in", "tsa.csr", "-CA", "root.pem", "-CAkey", "root.key"),
        *("-CAcreateserial", "-out", "tsa.pem", "-days", "-1", "-extfile", "c.cnf"),
        *("-extensions", "stamps"),
    )
    with pytest.raises(AnchorError, match="expired"):
        authority.anchor.take(place.grow(), place.tree, 0)


def test_two_certificates_in_no_order(place, authority) -> None:
    checkpoint = place.grow()
    authority.send_root_too()
    with pytest.raises(AnchorError, match="InvalidSetOrdering") as caught:
        authority.anchor.take(checkpoint, place.tree, 0)
    assert "no DER order" in caught.value.remedy


def test_other_answers(place, authority) -> None:
    checkpoint = place.grow()
    authority.lie = lambda query: (200, "text/html", authority.stamp(query))
    with pytest.raises(AnchorError, match="sent no time-stamp"):
        authority.anchor.take(checkpoint, place.tree, 0)
    authority.lie = lambda query: (503, REPLY, b"")
    with pytest.raises(AnchorUnavailableError, match="HTTP 503"):
        authority.anchor.take(checkpoint, place.tree, 0)
    authority.stop()
    with pytest.raises(AnchorUnavailableError, match="cannot be used"):
        authority.anchor.take(checkpoint, place.tree, 0)
    authority.start()


def test_certificates_that_cannot_be_read(place, authority, tmp_path) -> None:
    checkpoint = place.grow()
    empty = tmp_path / "empty.pem"
    for content in (None, b"", b"no certificate"):
        if content is not None:
            empty.write_bytes(content)
        with pytest.raises(ConfigurationError, match="no certificates that can be read"):
            replace(authority.anchor, certificates=empty).take(checkpoint, place.tree, 0)
