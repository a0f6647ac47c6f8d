"""Entries: golden payloads, limits, and strict reading (threats 29 and 30)."""

from __future__ import annotations

import json
from contextlib import nullcontext
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from airflow_mlgov.errors import LedgerIntegrityError
from airflow_mlgov.ledger.dsse import open_envelope, seal_envelope
from airflow_mlgov.ledger.entry import MAX_LEAF_BYTES, Entry, decode_leaf, encode_leaf, entry_key
from airflow_mlgov.records.canonical import canonical_bytes
from airflow_mlgov.records.digest import Digest
from airflow_mlgov.records.kinds import KINDS
from airflow_mlgov.records.shapes import SHAPES, shape_of
from airflow_mlgov.records.source import Source

DIGEST = "sha256:" + "0" * 64
GOOD = {
    "v": 1,
    "origin": "airflow-mlgov/test",
    "kind": "model.scored",
    "key": DIGEST,
    "at": "2026-01-02T03:04:05.678Z",
    "model": "retail_pd",
    "version": DIGEST,
    "body": {"request_sha256": DIGEST, "target": "production"},
    "people": {"owner": "0" * 64},
    "texts": {},
    "source": {"dag_id": "d", "run_id": "r", "task_id": "t", "map_index": -1, "try_number": 1},
}
BODY: dict[str, Any] = {
    "origin": "airflow-mlgov/test",
    "key": DIGEST,
    "kind": "model.scored",
    "differs": ["body.rows"],
    "policy_sha256": DIGEST,
    "evidence_sha256": DIGEST,
    "request_sha256": DIGEST,
    "code_sha256": DIGEST,
    "leaves_sha256": DIGEST,
    "size": 3,
    "count": 2,
    "sha256": DIGEST,
    "dataset": "development",
    "rows": 0,
    "columns": 25,
    "vote_index": 3,
    "vote": "sha256:" + "9" * 64,
    "stop": "sha256:" + "9" * 64,
    "seat": "model_owner",
    "roles": ["Op", "Risk"],
    "refused": False,
    "hold": "H-00c0ffee",
    "because": "request",
    "role": "writer",
    "vkey": "airflow-mlgov-writer+00000000+AQ==",
    "loaded_by": "task",
    "operator": "BashOperator",
    "file": "legacy.py",
    "bundle": "dags",
    "bundle_version": "abc123",
    "rotations": 1,
    "fields": [[7, "people.voter"], [7, "texts.comment"]],
    "passed": False,
    "inputs": [{"name": "train", "uri": "file:///d.csv", "sha256": DIGEST, "more": None}],
    "registry": "mlflow",
    "job": "mlgov-0123456789abcdef0123",
    "data": [{"name": "june.csv", "uri": "s3://bank/june.csv", "version": "7"}],
    "scores": [{"data": "june.csv", "sha256": DIGEST, "rows": 2}],
    "platform": "frankfurt",
    "to_platform": "house",
    "rehearsed_sha256": DIGEST,
    "native_id": "arn:aws:sagemaker:eu-central-1:1:training-job/x",
    "controls": [dict.fromkeys(("rule", "subject", "field", "verdict", "found"), "x")],
    "name": "retail_pd",
    "registered_name": "retail_pd",
    "version": "3",
    "registry_version": "3",
    "variant": "candidate",
    "uri": "file:///d.csv",
    "namespace": "file",
    "plan": "binary_classifier",
    "pack": "retail_credit",
    "results": {"pass": 1, "warn": 0, "fail": 0},
    "finding": "F-00c0ffee",
    "severity": "high",
    "test": "discrimination.auc",
    "segment": "",
    "due_at": "2026-07-01T00:00:00.000Z",
    "until": "2026-07-01T00:00:00.000Z",
    "confirm_by": "2026-07-01T00:00:00.000Z",
    "breakglass": DIGEST,
    "quorum": 2,
    "place": 0,
    "answered_at": "2999-12-31T23:59:59.999Z",
    "request": {"v": 1},
    "target": "production",
    "evidence": [["model.trained", DIGEST]],
    "choice": "reject",
    "reasons": ["the form was old"],
    "statement": {},
    "reason": "rejected",
    "use": {"dag_id": "d", "run_id": "r", "task_id": "t", "map_index": -1},
    "alias": "champion",
    "check": "digest",
    "task": "gate",
    "state": "success",
    "interval_s": 3600,
    "since": "2026-06-01T00:00:00.000Z",
    "counts": {"runs": 3, "unchecked": 0},
    "unchecked": ["the registry"],
    "airflow": "3.3.2",
    "instead_of": "2",
    "mode": "observe",
    "conditions": {"max_rows_per_run": 10},
}
SOURCE: dict[str, Any] = GOOD["source"]  # type: ignore[assignment]


def test_golden_entries_mean_what_they_say(golden: Any) -> None:
    genesis, data, vote = (decode_leaf(leaf)[0] for leaf in golden.leaves)
    assert genesis.kind == "genesis"
    assert genesis.body == {"origin": golden.origin}
    assert data.body["passed"] is True
    assert data.body["big"] == 2**53 - 1
    assert data.body["uri"] == "file:///data/café.csv"
    assert vote.version == Digest("01" * 32)
    assert vote.source == Source(
        "retail_pd", "manual__2026-01-02T03:04:05+00:00", "grüße.gate", -1, 2
    )
    assert vote.at == datetime(2026, 1, 2, 3, 4, 5, 678_000, tzinfo=UTC)
    assert vote.key == entry_key(golden.origin, "approval.voted", "sha256:" + "ab" * 32, "7")


def test_golden_entries_are_written_byte_for_byte(golden: Any) -> None:
    for leaf, role in zip(golden.leaves, ("log", "writer", "attestor"), strict=True):
        entry, envelope = decode_leaf(leaf)
        assert entry.encode() == envelope.payload
        assert encode_leaf(entry, golden.public(role), golden.key(role).sign) == leaf


def test_what_is_read_is_written_the_same() -> None:
    assert Entry.decode(canonical_bytes(GOOD)).encode() == canonical_bytes(GOOD)


@pytest.mark.attack(29)
@pytest.mark.parametrize(
    "changes",
    [
        {"v": 2},
        {"v": True},
        {"v": "1"},
        {"v": None},
        {"origin": ""},
        {"origin": "a b"},
        {"origin": None},
        {"origin": "x" * 257},
        {"kind": "model.invented"},
        {"kind": ""},
        {"kind": ["model.scored"]},
        {"kind": "MODEL.SCORED"},
        {"key": "0" * 64},
        {"key": "sha256:" + "A" * 64},
        {"key": DIGEST + "\n"},
        {"key": None},
        {"at": "2026-01-02T03:04:05.678+00:00"},
        {"at": "2026-01-02T03:04:05Z"},
        {"at": "2026-01-02 03:04:05.678Z"},
        {"at": "2026-13-02T03:04:05.678Z"},
        {"at": "0000-01-02T03:04:05.678Z"},
        {"at": "1999-12-31T23:59:59.999Z"},
        {"at": "3000-01-01T00:00:00.000Z"},
        {"at": 1},
        {"at": ""},
        {"at": "0001-01-01T00:00:00.000+23:59"},
        {"at": "9999-12-31T23:59:59.999-23:59"},
        {"model": "rétail"},
        {"model": "a\u200bb"},
        {"model": "a\u202eb"},
        {"model": "a|b"},
        {"model": "<b>"},
        {"model": "a\r\nb"},
        {"model": None},
        {"model": 1},
        {"version": "0" * 64},
        {"version": ""},
        {"version": "sha256:"},
        {"version": 0},
        {"body": None},
        {"body": []},
        {"body": {}},
        {"body": {"target": "production"}},
        {"body": {"request_sha256": DIGEST, "target": "p", "a b": 1}},
        {"people": None},
        {"people": {"owner": "Ada"}},
        {"people": {"owner": "0" * 63}},
        {"people": {"a b": "0" * 64}},
        {"people": {"owner": None}},
        {"texts": []},
        {"texts": {"comment": "free text"}},
        {"source": None},
        {"source": {}},
        {"source": {**SOURCE, "extra": 1}},
        {"source": {**SOURCE, "map_index": "0"}},
        {"source": {**SOURCE, "try_number": True}},
        {"source": {**SOURCE, "dag_id": None}},
        {"source": {**SOURCE, "dag_id": "ä"}},
        {"source": {**SOURCE, "dag_id": "%41"}},
        {"source": {**SOURCE, "task_id": "a\nb"}},
        {"source": {**SOURCE, "task_id": "%FF"}},
        {"extra": 1},
    ],
)
def test_threat_29_anything_else_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(LedgerIntegrityError):
        Entry.decode(canonical_bytes({**GOOD, **changes}))


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"origin": "a b"}, "origin 'a b'"),
        ({"model": "a b"}, "model 'a b'"),
        ({"people": {"a b": "0" * 64}}, "people field 'a b'"),
        ({"texts": {"a b": "0" * 64}}, "texts field 'a b'"),
    ],
)
def test_a_refusal_names_the_field(changes: dict[str, Any], named: str) -> None:
    with pytest.raises(LedgerIntegrityError, match=f"^{named} is not an identifier"):
        Entry.decode(canonical_bytes({**GOOD, **changes}))


@pytest.mark.parametrize("missing", sorted(GOOD))
def test_every_field_is_needed(missing: str) -> None:
    with pytest.raises(LedgerIntegrityError):
        Entry.decode(canonical_bytes({key: value for key, value in GOOD.items() if key != missing}))


@pytest.mark.parametrize("value", [b"[]", b"null", b"1", b'"x"'])
def test_a_payload_that_is_no_object_is_refused(value: bytes) -> None:
    with pytest.raises(LedgerIntegrityError):
        Entry.decode(value)


@pytest.mark.parametrize("kind", sorted(name for name, kind in KINDS.items() if kind.required))
def test_each_kind_needs_its_fields(kind: str) -> None:
    complete = {name: BODY[name] for name in KINDS[kind].required}
    Entry.decode(canonical_bytes({**GOOD, "kind": kind, "body": complete}))
    for name in complete:
        body = {key: value for key, value in complete.items() if key != name}
        with pytest.raises(LedgerIntegrityError, match=name):
            Entry.decode(canonical_bytes({**GOOD, "kind": kind, "body": body}))


def poisoned(key: str, value: Any, kind: str = "policy.changed") -> Any:
    body = {"policy_sha256": DIGEST, key: value}
    return canonical_bytes({**GOOD, "kind": kind, "body": body, "version": None})


@pytest.mark.parametrize("key", sorted(BODY))
def test_one_key_has_one_shape_in_every_kind(key: str) -> None:
    entry = Entry.decode(poisoned(key, BODY[key]))
    assert entry.body[key] == BODY[key]
    for value in (None, -1, [1], [{}]):  # fit nothing that has a shape
        with pytest.raises(LedgerIntegrityError, match=rf"body\.{key} is not "):
            Entry.decode(poisoned(key, value))
        changed = replace(entry, body={**entry.body, key: value})
        with pytest.raises(LedgerIntegrityError, match=rf"body\.{key} is not "):
            changed.encode()


def test_every_key_that_a_kind_needs_has_a_shape() -> None:
    needed = {name for kind in KINDS.values() for name in kind.required}
    assert {name for name in needed if shape_of(name) is None} == set()
    assert needed <= BODY.keys()
    assert SHAPES.keys() <= BODY.keys()


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("sha256", "0" * 64),
        ("hold", "H-00C0FFEE"),
        ("because", "spite"),
        ("role", "witness"),
        ("rotations", True),
        ("count", True),
        ("fields", [["7", "people.voter"]]),
        ("fields", [[7, "voter"]]),
        ("fields", [[7, "people.voter", 1]]),
        ("evidence_sha256", DIGEST.upper()),
        ("policy_sha256", DIGEST + "\n"),
        ("new_sha256", "sha256:"),
        ("choice", "Approve"),
        ("choice", "approve, reject"),
        ("choice", ["approve"]),
        ("severity", "dire"),
        ("finding", "F-0000000"),
        ("finding", "F-0000000G"),
        ("finding", "F-00000000 "),
        ("due_at", "2026-07-01"),
        ("due_at", "2026-02-30T00:00:00.000Z"),
        ("due_at", "1999-12-31T23:59:59.999Z"),
        ("due_at", "3000-01-01T00:00:00.000Z"),
        ("due_at", "2026-07-01T00:00:00.000+00:00"),
        ("answered_at", "2026-W01-1T00:00:00.000Z"),
        ("passed", 1),
        ("rows", True),
        ("columns", -1),
        ("inputs", {}),
        ("inputs", [{"name": "train", "uri": "file:///d.csv"}]),
        ("inputs", [{"name": "train", "uri": "file:///d.csv", "sha256": "x"}]),
        ("inputs", [{"name": ["train"], "uri": "file:///d.csv", "sha256": DIGEST}]),
        ("use", {"dag_id": "d", "run_id": "r", "task_id": "t"}),
        ("use", {"dag_id": "d", "run_id": "r", "task_id": "t", "map_index": True}),
        ("use", {"dag_id": ["d"], "run_id": "r", "task_id": "t", "map_index": 0}),
        ("reasons", "old"),
        ("reasons", ["old", None]),
        ("request", [["v", 1]]),
        ("evidence", [["model.trained"]]),
        ("evidence", [["model.trained", "x"]]),
        ("evidence", [DIGEST]),
        ("results", {"pass": 1, "warn": 0}),
        ("counts", {"runs": -1}),
        ("counts", [1]),
        ("mode", "enforced"),
        ("conditions", {}),
        ("conditions", {"max_rows_per_run": 0}),
        ("results", {"pass": 1, "warn": 0, "fail": "0"}),
    ],
)
def test_a_body_of_another_shape_is_refused(key: str, value: Any) -> None:
    with pytest.raises(LedgerIntegrityError, match=rf"In a policy\.changed entry, body\.{key} is"):
        Entry.decode(poisoned(key, value))


OF_A_VERSION = {
    *("approval.requested", "approval.voted", "approval.vote_refused", "approval.granted"),
    *("approval.denied", "approval.consumed", "approval.vote_voided", "approval.revoked"),
    *("model.trained", "model.registered", "model.validated", "model.promoted", "model.scored"),
    *("model.admitted", "model.deployed"),
    *("breakglass.used", "breakglass.confirmed", "breakglass.consumed", "exit.rehearsed"),
    "batch.scored",
}


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_what_is_about_a_version_names_it(kind: str) -> None:
    body = {name: BODY[name] for name in KINDS[kind].required}
    value = canonical_bytes({**GOOD, "kind": kind, "body": body, "version": None})
    if kind not in OF_A_VERSION:
        assert Entry.decode(value).version is None
        return
    with pytest.raises(LedgerIntegrityError, match=f"{kind} entry names no version"):
        Entry.decode(value)
    entry = Entry.decode(canonical_bytes({**GOOD, "kind": kind, "body": body}))
    with pytest.raises(LedgerIntegrityError, match=f"{kind} entry names no version"):
        replace(entry, version=None).encode()


@pytest.mark.parametrize(
    "value", [0.5, 1.0, float("nan"), 2**53, "e\u0301", b"x", datetime(2026, 1, 1, tzinfo=UTC)]
)
def test_a_body_that_cannot_be_signed_is_refused(value: Any) -> None:
    entry = Entry.decode(canonical_bytes(GOOD))
    with pytest.raises(LedgerIntegrityError):
        replace(entry, body={**entry.body, "more": value}).encode()


@pytest.mark.attack(30)
def test_threat_30_the_envelope_may_have_16_kib_and_no_byte_more(golden: Any) -> None:
    def leaf(length: int) -> bytes:
        value = {**GOOD, "body": {**GOOD["body"], "pad": "x" * length}}  # type: ignore[dict-item]
        entry = Entry.decode(canonical_bytes(value))
        return encode_leaf(entry, golden.public("writer"), golden.key("writer").sign)

    fits = next(n for n in range(12_000, 10_000, -1) if len(_sealed(golden, n)) <= MAX_LEAF_BYTES)
    assert decode_leaf(leaf(fits))[0].body["pad"] == "x" * fits
    with pytest.raises(LedgerIntegrityError, match="longer than 16384"):
        leaf(fits + 3)
    for length in (fits + 3, 65_536):
        with pytest.raises(LedgerIntegrityError, match="longer than 16384"):
            decode_leaf(_sealed(golden, length))


def test_the_longest_leaf_is_written_and_read(golden: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    leaf = golden.leaf("writer")
    for longest, is_refused in ((len(leaf), False), (len(leaf) - 1, True)):
        monkeypatch.setattr("airflow_mlgov.ledger.entry.MAX_LEAF_BYTES", longest)
        refused = (
            pytest.raises(LedgerIntegrityError, match="longer") if is_refused else nullcontext()
        )
        with refused:
            assert golden.leaf("writer") == leaf
        with refused:
            assert decode_leaf(leaf)[0].people == {}


def _sealed(golden: Any, length: int) -> bytes:
    payload = canonical_bytes({**GOOD, "body": {**GOOD["body"], "pad": "x" * length}})  # type: ignore[dict-item]
    return seal_envelope(payload, golden.public("writer"), golden.key("writer").sign)


def test_a_payload_in_another_layout_is_refused_though_it_is_signed(golden: Any) -> None:
    for payload in (
        json.dumps(GOOD).encode(),
        canonical_bytes(GOOD) + b" ",
        b"\xef\xbb\xbf" + canonical_bytes(GOOD),
    ):
        leaf = seal_envelope(payload, golden.public("writer"), golden.key("writer").sign)
        open_envelope(leaf).check(golden.public("writer"))
        with pytest.raises(LedgerIntegrityError):
            decode_leaf(leaf)


def test_keys_depend_on_every_part() -> None:
    keys = {
        entry_key("o", "k", "a", "b"),
        entry_key("o", "k", "ab"),
        entry_key("o", "k", "a", "b", ""),
        entry_key("p", "k", "a", "b"),
        entry_key("o", "l", "a", "b"),
        entry_key("o", "k", "b", "a"),
    }
    assert len(keys) == 6
