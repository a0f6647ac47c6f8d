"""The table of kinds, and other small records."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest

from airflow_mlgov.errors import ArtefactError
from airflow_mlgov.records.clock import from_text, to_text
from airflow_mlgov.records.digest import Digest
from airflow_mlgov.records.kinds import KINDS, KeyRole
from airflow_mlgov.records.source import Source


def test_what_a_task_may_never_sign() -> None:
    only_attestor = {name for name, kind in KINDS.items() if kind.signers == {KeyRole.ATTESTOR}}
    assert "finding.closed" in only_attestor
    assert {"hold.lifted", "model.resumed", "approval.revoked"} <= only_attestor
    assert {"finding.accepted", "breakglass.used", "breakglass.confirmed"} <= only_attestor
    assert KINDS["genesis"].signers == {KeyRole.LOG}
    assert KINDS["erased"].signers == {KeyRole.LOG}
    assert KINDS["hold.placed"].signers == KINDS["model.stopped"].signers == set(KeyRole)
    assert all(kind.signers for kind in KINDS.values())
    assert all(name == kind.name for name, kind in KINDS.items())


@pytest.mark.parametrize(
    "text", ["", "abc", "A" * 64, "sha256:" + "0" * 63, "sha1:" + "0" * 64, "0" * 64 + "\n"]
)
def test_what_is_no_digest(text: str) -> None:
    with pytest.raises(ArtefactError):
        Digest.parse(text)


@pytest.mark.parametrize("value", [None, 5, True, ["0" * 64], {"hex": "0" * 64}, b"0" * 64])
def test_what_is_no_text_is_no_digest(value: Any) -> None:
    with pytest.raises(ArtefactError, match="not a SHA-256 digest"):
        Digest.parse(value)
    with pytest.raises(ArtefactError, match="not a SHA-256 digest"):
        Digest(value)


def test_times_are_written_in_utc_with_milliseconds() -> None:
    moment = datetime(2026, 3, 1, 1, 30, 0, 123_999, tzinfo=timezone(timedelta(hours=2)))
    assert to_text(moment) == "2026-02-28T23:30:00.123Z"
    assert from_text(to_text(moment)) == datetime(2026, 2, 28, 23, 30, 0, 123_000, tzinfo=UTC)


def test_sources_survive_with_any_characters() -> None:
    source = Source("grüße", "manual__2026-01-01T00:00:00+00:00", "a%b\r\n|c", 3, 2)
    written = source.as_json()
    assert all(str(value).isascii() and str(value).isprintable() for value in written.values())
    assert Source.from_json(written) == source
