"""Rotation of keys: what counts from where on, for everybody who reads a log."""

from __future__ import annotations

import base64
import json
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from securesystemslib.dsse import Envelope as TheirEnvelope
from securesystemslib.signer import Signature, SSlibKey

from airflow_mlgov.errors import LedgerIntegrityError, UnknownKeyError
from airflow_mlgov.ledger.bundle_report import Verdict
from airflow_mlgov.ledger.checkpoint import Vkey, open_checkpoint
from airflow_mlgov.ledger.dsse import open_envelope, pae
from airflow_mlgov.ledger.entry import decode_leaf, encode_leaf, entry_key
from airflow_mlgov.ledger.keyring import Keyring
from airflow_mlgov.ledger.signatures import keyid
from airflow_mlgov.ledger.trust import TrustRoot
from airflow_mlgov.ledger.verify import verify_ledger
from airflow_mlgov.ledger.view import LedgerView
from airflow_mlgov.records.digest import Digest
from airflow_mlgov.records.kinds import KeyRole

ASSETS = Path(__file__).parents[2] / "assets" / "ledger"
ROTATED = [(ASSETS / f"rotated-v1-{index}.dsse").read_bytes() for index in (3, 4, 5)]
NOTE = (ASSETS / "rotated-v1.note").read_bytes()


def rotation(golden: Any, old: str, new: str, role: str = "", **more: Any) -> bytes:
    """Return a leaf that rotates a key of the golden log, sound unless `more` says otherwise."""
    role = role or old.partition(" ")[0]
    name = more.get("name", golden.origin if role == "log" else f"airflow-mlgov-{role}")
    entry, _ = decode_leaf(golden.leaf("writer"))
    changed = replace(
        entry,
        kind=more.get("kind", "key.rotated"),
        key=entry_key(golden.origin, "key.rotated", role, old, new, str(more)),
        model=more.get("model", ""),
        version=None,
        origin=more.get("origin", golden.origin),
        body={"role": role, "vkey": str(Vkey(name, golden.public(new)))} | more.get("body", {}),
    )
    cosigner = more.get("cosigner", new)
    second = None if cosigner is None else (golden.public(cosigner), golden.key(cosigner).sign)
    return encode_leaf(
        changed, golden.public(old), golden.key(more.get("hand", old)).sign, cosigner=second
    )


def write(golden: Any, key: str, number: int) -> bytes:
    request = {"request_sha256": "sha256:" + f"{number:064x}", "target": "production"}
    return golden.leaf(key, body=request, version=Digest("02" * 32))


def verify(golden: Any, leaves: list[bytes], note: bytes, trust: TrustRoot | None = None) -> Any:
    return verify_ledger(leaves, note, trust or golden.trust, disclose=golden.disclose)


def view(golden: Any, leaves: list[bytes], signer: str, trust: TrustRoot | None = None) -> Any:
    keyring = Keyring(trust or golden.trust)
    for index, leaf in enumerate(leaves):
        keyring = keyring.after(index, leaf)
    note = golden.sign(leaves, role=signer)
    return LedgerView(leaves, keyring.open(note), keyring.trust, golden.disclose)


def test_the_golden_log_that_went_over_to_p256_verifies_with_the_old_trust_file(
    golden: Any,
) -> None:
    leaves = [*golden.leaves, *ROTATED]
    report = verify(golden, leaves, NOTE)
    assert report.is_fine, report.lines()
    assert report.kinds["key.rotated"] == 2
    assert report.remarks == ()
    keyring = Keyring(golden.trust)
    for index, leaf in enumerate(leaves):
        keyring = keyring.after(index, leaf)
    assert [(r.index, r.role) for r in keyring.rotations] == [(3, "log"), (4, "writer")]
    new_trust = golden.trust
    for each in keyring.rotations:
        new_trust = new_trust.with_keys(each.role, [each.new])
    assert TrustRoot.parse(new_trust.as_bytes()) == new_trust  # both keys, in format version 1
    assert verify(golden, leaves, NOTE, new_trust).is_fine
    assert verify(golden, golden.leaves, golden.note, new_trust).remarks[0].startswith("2 log keys")


def openssl(public: bytes, signature: bytes, message: bytes, folder: Path) -> str:
    for name, data in (("key", public), ("sig", signature), ("data", message)):
        (folder / name).write_bytes(data)
    key = ["-verify", "key", "-keyform", "DER", "-signature", "sig", "data"]
    run = ["openssl", "dgst", "-sha256", *key]
    return subprocess.run(
        run, cwd=folder, capture_output=True, text=True, check=False
    ).stdout.strip()


def test_openssl_accepts_the_golden_files(golden: Any, tmp_path: Path) -> None:
    text, _, lines = NOTE.decode().rpartition("\n\n")
    signature = base64.b64decode(lines.split(" ")[-1].strip())
    vkey = Vkey.parse(decode_leaf(ROTATED[0])[0].body["vkey"])
    assert signature[:4] == vkey.key_hash
    body = f"{text}\n".encode()
    assert openssl(vkey.public_key, signature[4:], body, tmp_path) == "Verified OK"
    assert openssl(vkey.public_key, signature[4:], body + b"x", tmp_path) != "Verified OK"
    envelope = json.loads(ROTATED[1])
    new = Vkey.parse(decode_leaf(ROTATED[1])[0].body["vkey"]).public_key
    signed = base64.b64decode(envelope["signatures"][1]["sig"])
    message = pae(base64.b64decode(envelope["payload"]))
    assert openssl(new, signed, message, tmp_path) == "Verified OK"


def test_securesystemslib_accepts_the_golden_envelopes(golden: Any) -> None:
    def key(public: bytes) -> SSlibKey:
        if len(public) == 32:
            return SSlibKey(keyid(public), "ed25519", "ed25519", {"public": public.hex()})
        pem = serialization.load_der_public_key(public).public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )
        value = {"public": pem.decode()}
        return SSlibKey(keyid(public), "ecdsa", "ecdsa-sha2-nistp256", value)

    new = {
        role: Vkey.parse(decode_leaf(leaf)[0].body["vkey"]).public_key
        for role, leaf in zip(("log", "writer"), ROTATED, strict=False)
    }
    signers = [("log", 2), ("writer", 2), ("writer", 1)]
    for leaf, (role, count) in zip(ROTATED, signers, strict=True):
        value = json.loads(leaf)
        theirs = TheirEnvelope(
            base64.b64decode(value["payload"]),
            value["payloadType"],
            {
                s["keyid"]: Signature(s["keyid"], base64.b64decode(s["sig"]).hex())
                for s in value["signatures"]
            },
        )
        keys = [key(new[role]), *([key(golden.public(role))] if count == 2 else [])]
        assert len(theirs.verify(keys, count)) == count


def test_the_new_key_counts_from_the_next_entry_on_and_the_old_one_no_longer(golden: Any) -> None:
    leaves = [
        *golden.leaves,
        write(golden, "writer 2", 1),  # too early
        rotation(golden, "writer", "writer 2"),
        write(golden, "writer 2", 2),
        write(golden, "writer", 3),  # too late
    ]
    report = verify(golden, leaves, golden.sign(leaves))
    (problem,), (unknown,) = report.problems, report.unknown_keys
    assert problem.startswith("Entry 6 counts for nothing")
    assert "entry 4 rotated out" in problem
    assert unknown.startswith("Entry 3 counts for nothing")
    found = view(golden, leaves, "log")
    assert [entry.index for entry in found.select()] == [0, 1, 2, 4, 5]
    assert [(v.index, v.is_unknown_key) for v in found.violations] == [(3, True), (6, False)]


def test_a_trust_file_from_after_the_rotation_believes_both_until_then(golden: Any) -> None:
    new = Vkey("airflow-mlgov-writer", golden.public("writer 2"))
    trust = golden.trust.with_keys(KeyRole.WRITER, [new])
    leaves = [
        *golden.leaves,
        rotation(golden, "writer", "writer 2"),
        write(golden, "writer 2", 2),
        write(golden, "writer", 3),
    ]
    report = verify(golden, leaves, golden.sign(leaves), trust)
    assert [problem[:7] for problem in report.problems] == ["Entry 5"]
    assert report.unknown_keys == ()


def test_another_key_of_the_role_is_not_touched(golden: Any) -> None:
    other = Vkey("other-host", golden.public("other writer"))
    trust = golden.trust.with_keys(KeyRole.WRITER, [other])
    leaves = [
        *golden.leaves,
        rotation(golden, "writer", "writer 2"),
        write(golden, "other writer", 1),
    ]
    assert verify(golden, leaves, golden.sign(leaves), trust).is_fine


def test_keys_are_handed_on_and_on(golden: Any) -> None:
    leaves = [
        *golden.leaves,
        rotation(golden, "writer", "writer 2"),
        rotation(golden, "writer 2", "writer 3", role="writer"),
        write(golden, "writer 3", 1),
        rotation(golden, "writer 3", "writer", role="writer"),  # what went does not come back
        rotation(golden, "writer 2", "writer 4", role="writer"),  # by a key that went
        write(golden, "writer 3", 2),
    ]
    report = verify(golden, leaves, golden.sign(leaves))
    assert [p.split(" ")[1] for p in report.problems] == ["6", "7"]
    assert "does not come back" in report.problems[0]
    assert "entry 4 rotated out" in report.problems[1]


def test_a_checkpoint_is_signed_by_the_log_key_of_its_time(golden: Any) -> None:
    before = [*golden.leaves, write(golden, "writer", 1)]
    leaves = [*before, rotation(golden, "log", "log 2"), write(golden, "writer", 2)]
    assert verify(golden, leaves[:5], golden.sign(leaves[:5], role="log 2")).is_fine
    assert verify(golden, leaves, golden.sign(leaves, role="log 2")).is_fine
    for size in (5, 6):
        report = verify(golden, leaves[:size], golden.sign(leaves[:size]))
        assert "did not count there" in report.problems[0]
        assert report.exit_code == 1
    # The new key signs nothing that ends before its rotation; a checkpoint of then stays good.
    keyring = Keyring(golden.trust).after(4, leaves[4])
    assert keyring.open(golden.sign(before)).size == 4
    with pytest.raises(LedgerIntegrityError, match="did not count there"):
        keyring.open(golden.sign(before, role="log 2"))
    with pytest.raises(UnknownKeyError):
        keyring.open(golden.sign(leaves, role="log 3"))
    kept = open_checkpoint(golden.sign(before), golden.trust.log_keys, origin=golden.origin)
    report = verify_ledger(
        leaves,
        golden.sign(leaves, role="log 2"),
        golden.trust,
        disclose=golden.disclose,
        earlier=[kept],
    )
    assert (report.is_fine, report.earlier) == (True, 1)


def tampered(leaf: bytes, which: int) -> bytes:
    value = json.loads(leaf)
    signed = bytearray(base64.b64decode(value["signatures"][which]["sig"]))
    signed[5] ^= 1
    value["signatures"][which]["sig"] = base64.b64encode(bytes(signed)).decode()
    return json.dumps(value, separators=(",", ":")).encode()


def swapped(leaf: bytes) -> bytes:
    value = json.loads(leaf)
    value["signatures"].reverse()
    return json.dumps(value, separators=(",", ":")).encode()


def without(leaf: bytes, which: int) -> bytes:
    value = json.loads(leaf)
    del value["signatures"][which]
    return json.dumps(value, separators=(",", ":")).encode()


FORGERIES: dict[str, Any] = {
    "a writer rotates the log key": lambda g: rotation(g, "writer", "log 2", role="log"),
    "a writer rotates the attestor's": lambda g: rotation(g, "writer", "a 2", role="attestor"),
    "a stranger rotates the log key": lambda g: rotation(g, "stranger", "log 2", role="log"),
    "signed by the new key only": lambda g: without(rotation(g, "log", "log 2"), 0),
    "signed by the old key only": lambda g: without(rotation(g, "log", "log 2"), 1),
    "with a forged old signature": lambda g: tampered(rotation(g, "log", "log 2"), 0),
    "with a forged new signature": lambda g: tampered(rotation(g, "log", "log 2"), 1),
    "in the old key's name": lambda g: rotation(g, "log", "log 2", hand="writer"),
    "cosigned by a third key": lambda g: rotation(g, "log", "log 2", cosigner="log 3"),
    "new first": lambda g: swapped(rotation(g, "log", "log 2")),
    "of another log": lambda g: rotation(g, "log", "log 2", origin="airflow-mlgov/other"),
    "under another name": lambda g: rotation(g, "log", "log 2", name="log-2"),
    "to the key of another role": lambda g: rotation(g, "log", "attestor"),
    "to the writer's key": lambda g: rotation(g, "log", "writer"),
    "to no key": lambda g: rotation(g, "log", "log 2", body={"vkey": "log+00000000+AQ=="}),
    "another kind": lambda g: rotation(
        g, "log", "log 2", kind="heartbeat", body={"interval_s": 60}
    ),
}


@pytest.mark.parametrize("name", FORGERIES)
def test_what_only_looks_like_a_rotation_changes_nothing_and_is_told(
    golden: Any, name: str
) -> None:
    leaves = [*golden.leaves, FORGERIES[name](golden), golden.leaf("log", "heartbeat", **BEAT)]
    report = verify(golden, leaves, golden.sign(leaves))
    (said,) = [*report.problems, *report.unknown_keys]
    assert said.startswith("Entry 3 counts for nothing")
    assert report.kinds["heartbeat"] == 1
    found = view(golden, leaves, "log")
    assert [v.index for v in found.violations] == [3]
    with pytest.raises((UnknownKeyError, LedgerIntegrityError)):
        view(golden, leaves, "log 2")


BEAT = {"model": "", "version": None, "body": {"interval_s": 60}}


def test_an_envelope_has_one_key_once(golden: Any) -> None:
    leaf = rotation(golden, "writer", "writer 2", cosigner="writer")
    with pytest.raises(LedgerIntegrityError, match="two signatures of one key"):
        open_envelope(leaf)


def test_a_view_that_grows_knows_the_rotation(golden: Any) -> None:
    leaves = [*golden.leaves, rotation(golden, "writer", "writer 2")]
    first = view(golden, leaves, "log")
    assert len(first.select()) == 4
    leaves += [write(golden, "writer 2", 1), write(golden, "writer", 2)]
    checkpoint = Keyring(golden.trust).open(golden.sign(leaves))
    later = LedgerView(leaves, checkpoint, golden.trust, golden.disclose, earlier=first)
    assert [v.index for v in later.violations] == [5]


def with_rotation(bundled: Any, **more: Any) -> list[int]:
    """Put two rotations before the count of a bundle; return where they are."""
    del bundled.leaves[5:]
    bundled.leaves.insert(2, rotation(bundled.golden, "attestor", "attestor 2"))
    bundled.leaves.append(rotation(bundled.golden, "writer", "writer 2", role="writer"))
    bundled.append_count(**({"rotations": 2} | more))
    return [2, 6]


def sealed_with(bundled: Any, rotations: list[int]) -> Any:
    bundled.seal(rotations=set(rotations))
    report = bundled.check()
    return [(finding.verdict, finding.text) for finding in report.findings]


def test_a_bundle_carries_rotations_and_their_count(bundled: Any) -> None:
    where = with_rotation(bundled)
    assert sealed_with(bundled, where) == []
    report = bundled.check()
    assert "and 2 rotations of keys" in "\n".join(report.lines())


def test_a_rotation_after_the_count_is_no_entry_about_the_model(bundled: Any) -> None:
    bundled.leaves.append(rotation(bundled.golden, "writer", "writer 2"))
    assert sealed_with(bundled, [6]) == []
    assert "; 1 in the bundle came after that count" in bundled.check().checked[3]


def test_a_rotation_that_was_left_out_of_a_bundle_is_missed(bundled: Any) -> None:
    where = with_rotation(bundled)
    findings = sealed_with(bundled, where[:1])
    assert [verdict for verdict, _ in findings] == [Verdict.INCOMPLETE]
    assert "1 of them were left out" in findings[0][1]


@pytest.mark.parametrize("said", [0, 1])
def test_a_count_of_rotations_that_is_wrong_is_told(bundled: Any, said: int) -> None:
    where = with_rotation(bundled, rotations=said)
    ((verdict, text),) = sealed_with(bundled, where)
    assert verdict is Verdict.ALTERED
    assert f"counts {said} rotations" in text
    assert text.endswith("the bundle holds 2.")
    report = verify(bundled.golden, bundled.leaves, bundled.golden.sign(bundled.leaves))
    assert "rotate keys, which is not so" in report.problems[0]


def test_a_bundle_from_after_a_rotation_of_the_log_key(bundled: Any) -> None:
    golden = bundled.golden
    bundled.leaves.append(rotation(golden, "log", "log 2"))
    body = {**bundled.count(len(bundled.leaves)), "rotations": 1}
    bundled.leaves.append(golden.leaf("log 2", "model.indexed", version=None, body=body))
    bundled.seal(rotations={6}, role="log 2")
    assert bundled.check().findings == ()
    bundled.seal(role="log 2")  # without the rotation nobody knows the key
    assert bundled.check().findings[0].verdict is Verdict.UNKNOWN_KEY


def test_a_keyring_says_who_signed_and_since_when_a_key_is_out(golden: Any) -> None:
    first = rotation(golden, "writer", "writer 2", name=golden.origin)
    second = rotation(golden, "writer 2", "writer 3", role="writer")
    keyring = Keyring(golden.trust).after(3, first).after(5, second)
    assert [(r.index, r.role) for r in keyring.rotations] == [(3, "writer"), (5, "writer")]
    for index, key in ((3, "writer"), (4, "writer 2"), (5, "writer 2"), (6, "writer 3")):
        assert keyring.signer_of(index, *decode_leaf(write(golden, key, 1))) is KeyRole.WRITER
    with pytest.raises(UnknownKeyError):  # too early is not too late
        keyring.signer_of(3, *decode_leaf(write(golden, "writer 2", 1)))
    for key, out in (("writer", 3), ("writer 2", 5)):
        retired = [keyring.retired_at(golden.public(key), index) for index in (2, out, out + 1, 9)]
        assert retired == [None, None, out, out]
        with pytest.raises(LedgerIntegrityError, match=f"that entry {out} rotated"):
            keyring.signer_of(out + 1, *decode_leaf(write(golden, key, 1)))
    assert keyring.retired_at(golden.public("writer 3"), 9) is None
    beat = golden.leaf("writer", "heartbeat", **BEAT)
    with pytest.raises(LedgerIntegrityError, match="A writer key may not sign heartbeat"):
        Keyring(golden.trust).signer_of(0, *decode_leaf(beat))
    assert keyring.log_keys == [*golden.trust.log_keys]
