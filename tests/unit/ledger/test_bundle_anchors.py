"""What a bundle holds from anchors, and how one may cheat with it."""

from __future__ import annotations

import base64
import importlib.util
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.x509 import load_pem_x509_certificates

from airflow_mlgov.ledger.bundle import timestamp_file
from airflow_mlgov.ledger.bundle_anchors import Demands, proof_lines
from airflow_mlgov.ledger.bundle_check import check_bundle
from airflow_mlgov.ledger.bundle_report import Verdict
from airflow_mlgov.ledger.cosignature import WitnessKey
from airflow_mlgov.ledger.merkle import MerkleTree, leaf_hash
from airflow_mlgov.ledger.trust import TrustRoot

LEFT_OUT = {"entries", "proofs", "disclosures"}
FAKES = Path(__file__).parents[2] / "fakes"
KEYS = [Ed25519PrivateKey.from_private_bytes(bytes([number]) * 32) for number in (7, 8)]
NAMES = ("w1.example", "w2.example")


def load_fake(name: str):
    spec = importlib.util.spec_from_file_location(name, FAKES / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


cosign = load_fake("witness").cosign
Authority = load_fake("timestamp_authority").Authority
WITNESSES = [
    WitnessKey(name, key.public_key().public_bytes_raw())
    for name, key in zip(NAMES, KEYS, strict=True)
]


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    return Authority(tmp_path_factory.mktemp("tsa"))


def anchor(bundled, size: int, *, by=(0, 1), seconds: int = 1_750_000_000) -> bytes:
    """Put an anchored checkpoint into the bundle; return its note."""
    note = bundled.golden.sign(bundled.leaves[:size])
    body = note.decode().rpartition("\n\n")[0] + "\n"
    tree = MerkleTree(leaf_hash(leaf) for leaf in bundled.leaves)
    bundled.files[f"anchored/{size}.note"] = note
    bundled.files[f"anchored/{size}.proof"] = proof_lines(tree.consistency_proof(size))
    lines = b"".join(cosign(KEYS[i], NAMES[i], body, seconds) for i in by)
    if lines:
        bundled.files[f"anchored/{size}.cosignatures"] = lines
    return note


def stamp(bundled, authority, note: bytes) -> str:
    data = authority.stamp_data(note)
    bundled.files[timestamp_file(data)] = data
    return timestamp_file(data)


def check(bundled, *, trusted=(0, 1), **demands):
    trust: TrustRoot = bundled.golden.trust.with_witnesses([WITNESSES[i] for i in trusted])
    return check_bundle(bundled.data(), trust, now=bundled.now, demands=Demands(**demands))


def said(report) -> str:
    return "\n".join(report.lines())


def test_witnesses_are_named_with_what_they_saw(bundled) -> None:
    anchor(bundled, 4, by=(0,))
    anchor(bundled, 6, by=(1,))
    report = check(bundled)
    assert report.verdict is Verdict.FINE
    when = "entries at 2025-06-15T15:06:40.000Z by its clock"
    first, second = (line for line in report.checked if line.startswith("witness"))
    after = "; 2 entries in the bundle came after"
    assert first == f"witness w1.example cosigned the log's first 4 {when}{after}"
    assert second == f"witness w2.example cosigned the log's first 6 {when}"


def test_the_newest_that_a_witness_saw_counts_whatever_its_name(bundled) -> None:
    """As texts, 16 comes before 9."""
    for number in range(10):
        bundled.leaves.append(bundled.golden.leaf("writer", key=f"sha256:{number:064x}"))
    bundled.seal()
    anchor(bundled, 16, by=(0,))
    anchor(bundled, 9, by=(0,))
    report = check(bundled, witnesses=1)
    sizes = [line.split()[6] for line in report.checked if line.startswith("witness")]
    assert sizes == ["9", "16"]
    assert "1 witnesses were asked for" not in said(report)


def test_a_bundle_without_entries_is_no_error_of_ours(bundled) -> None:
    anchor(bundled, 6)
    bundled.files = {n: d for n, d in bundled.files.items() if n.split("/")[0] not in LEFT_OUT}
    report = check(bundled, witnesses=3)
    assert report.verdict is Verdict.ALTERED  # documents that no entry names
    assert "3 witnesses were asked for; 2 whom the trust file names" in said(report)


def test_so_many_witnesses_must_have_seen_every_entry(bundled) -> None:
    assert check(bundled, witnesses=1).verdict is Verdict.INCOMPLETE
    anchor(bundled, 5)
    assert check(bundled).verdict is Verdict.FINE
    report = check(bundled, witnesses=1)
    assert report.verdict is Verdict.INCOMPLETE
    assert "1 witnesses were asked for; 0 whom the trust file names cosigned" in said(report)
    assert "over all entries in the bundle, 2 any." in said(report)
    anchor(bundled, 6, by=(0,))
    assert check(bundled, witnesses=1).verdict is Verdict.FINE
    assert check(bundled, witnesses=2).verdict is Verdict.INCOMPLETE
    anchor(bundled, 6)
    assert check(bundled, witnesses=2).verdict is Verdict.FINE
    assert check(bundled, trusted=(0,), witnesses=2).verdict is Verdict.INCOMPLETE
    assert check(bundled, trusted=(), witnesses=1).verdict is Verdict.INCOMPLETE


def test_a_witness_of_other_bytes(bundled) -> None:
    note = anchor(bundled, 6)
    name = "anchored/6.cosignatures"
    good = bundled.files[name]
    body = bundled.golden.sign(bundled.leaves[:4]).decode().rpartition("\n\n")[0] + "\n"
    for lines in (
        cosign(KEYS[0], NAMES[0], body, 1),
        good * 2,
        b"\n" + good,
        note,
        good[:-1],
        b"x",
    ):
        bundled.files[name] = lines
        assert check(bundled).verdict is Verdict.ALTERED
    assert check(bundled, trusted=()).verdict is Verdict.ALTERED  # "x" is no line
    bundled.files[name] = good
    assert check(bundled).verdict is Verdict.FINE


@pytest.mark.parametrize("size", [3, 4, 6])
def test_attack_10_a_witness_saw_another_history(bundled, size) -> None:
    """With the log key: what was cosigned is not what the bundle's checkpoint is over."""
    honest = list(bundled.leaves)
    bundled.leaves[2] = bundled.golden.leaf("writer", model="third_model")
    anchor(bundled, size)
    bundled.leaves[:] = honest
    report = check(bundled, witnesses=2)
    assert report.verdict is Verdict.ALTERED
    assert "are not consistent" in said(report)
    assert "cosigned the log's first" not in said(report)


def test_proofs_that_prove_nothing(bundled) -> None:
    anchor(bundled, 3)
    good = bundled.files["anchored/3.proof"]
    for proof in (
        b"",
        good[:-1],
        good + b"\n",
        good + b"x",
        good + good,
        b"x\n",
        b"\xff\n",
        good * 40,
    ):
        bundled.files["anchored/3.proof"] = proof
        assert check(bundled).verdict is Verdict.ALTERED
    anchor(bundled, 6)
    bundled.files["anchored/6.proof"] = good
    bundled.files["anchored/3.proof"] = good
    assert check(bundled).verdict is Verdict.ALTERED


@pytest.mark.parametrize("kind", ["note", "proof"])
def test_what_lacks_a_part(bundled, kind) -> None:
    anchor(bundled, 4)
    del bundled.files[f"anchored/4.{kind}"]
    report = check(bundled)
    assert report.verdict is Verdict.INCOMPLETE
    assert "lacks its note or proof" in said(report)


def test_notes_of_another_size_log_or_key(bundled, golden) -> None:
    note = anchor(bundled, 4)
    bundled.files["anchored/4.note"] = golden.sign(bundled.leaves[:3])
    where = "altered: The anchored checkpoint over 4: "
    assert f"{where}It is over 3 entries" in said(check(bundled))
    bundled.files["anchored/4.note"] = golden.sign(bundled.leaves[:4], origin="other/log")
    assert check(bundled).verdict is Verdict.ALTERED
    bundled.files["anchored/4.note"] = golden.sign(bundled.leaves[:4], role="stranger")
    report = check(bundled)
    assert report.verdict is Verdict.UNKNOWN_KEY
    assert report.findings[0].text.startswith(
        "The anchored checkpoint over 4: The checkpoint is signed by airflow-mlgov/"
    )
    bundled.files["anchored/4.note"] = note
    assert check(bundled).verdict is Verdict.FINE


def test_more_entries_than_the_bundle_proves(bundled) -> None:
    anchor(bundled, 6)
    for kind in ("note", "proof", "cosignatures"):
        bundled.files[f"anchored/7.{kind}"] = bundled.files.pop(f"anchored/6.{kind}")
    longer = [*bundled.leaves, bundled.golden.leaf("writer", model="x")]
    bundled.files["anchored/7.note"] = bundled.golden.sign(longer)
    assert check(bundled).verdict is Verdict.ALTERED


def test_a_stamp_is_checked_against_the_readers_certificate(bundled, authority, tmp_path) -> None:
    name = stamp(bundled, authority, anchor(bundled, 4, by=()))
    bare = check(bundled)
    assert bare.verdict is Verdict.FINE
    assert f"openssl ts -verify -in {name} -data anchored/4.note -CAfile" in said(bare)
    ours = tuple(load_pem_x509_certificates(authority.signer.read_bytes()))
    report = check(bundled, authorities=ours)
    assert report.verdict is Verdict.FINE
    assert "authority CN=Test authority stamped the log's first 4 entries at 20" in said(report)
    assert "NOT CHECKED" not in said(report)
    stranger = tuple(load_pem_x509_certificates(Authority(tmp_path).signer.read_bytes()))
    report = check(bundled, authorities=stranger)
    assert report.verdict is Verdict.INCOMPLETE
    assert "No time-stamp is signed by a certificate that was given" in said(report)
    assert check(bundled, authorities=stranger + ours).verdict is Verdict.FINE


def test_stamps_that_do_not_fit(bundled, authority) -> None:
    note = anchor(bundled, 4, by=())
    ours = tuple(load_pem_x509_certificates(authority.signer.read_bytes()))
    name = stamp(bundled, authority, note)
    data = bundled.files.pop(name)
    for wrong in (data[:-9] + bytes([data[-9] ^ 1]) + data[-8:], data[:-1], b"x"):
        bundled.files[timestamp_file(wrong)] = wrong
        assert check(bundled, authorities=ours).verdict is Verdict.ALTERED
        del bundled.files[timestamp_file(wrong)]
    bundled.files["timestamps/" + "0" * 64 + ".tsr"] = data
    assert "not the time-stamp that its name says" in said(check(bundled))
    del bundled.files["timestamps/" + "0" * 64 + ".tsr"]
    other = stamp(bundled, authority, bundled.golden.sign(bundled.leaves[:3]))
    assert "It is of no checkpoint in anchored/ that is sound" in said(check(bundled))
    del bundled.files[other]
    assert check(bundled).verdict is Verdict.FINE


def test_attack_10_a_stamp_is_of_another_history(bundled, authority) -> None:
    """With the log key: the note that was stamped cannot be signed anew."""
    name = stamp(bundled, authority, anchor(bundled, 4, by=()))
    bundled.leaves[3] = bundled.golden.leaf("writer", model="other_model")
    bundled.append_count()
    bundled.files = {n: d for n, d in bundled.files.items() if n != name}
    kept = bundled.files | {}
    bundled.seal()
    for n in ("anchored/4.note", "anchored/4.proof"):
        bundled.files[n] = kept[n]
    assert check(bundled).verdict is Verdict.ALTERED  # the old note: no proof leads from it


def test_a_proof_is_written_as_lines() -> None:
    hashes = [b"\1" * 32, b"\2" * 32]
    assert [base64.b64decode(x) for x in proof_lines(hashes).split(b"\n")[:-1]] == hashes
    assert proof_lines([]) == b""
