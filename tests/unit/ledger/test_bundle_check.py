"""What a bundle proves, and every way of cheating with one: numbers are those of the threats."""

from __future__ import annotations

import io
import zipfile
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from airflow_mlgov.ledger import bundle
from airflow_mlgov.ledger.bundle_check import check_bundle
from airflow_mlgov.ledger.bundle_report import (
    GRAVEST_FIRST,
    MAX_LINES,
    BundleReport,
    Finding,
    Verdict,
)
from airflow_mlgov.ledger.merkle import MerkleTree, leaf_hash
from airflow_mlgov.ledger.proof import TlogProof
from airflow_mlgov.ledger.trust import TrustRoot
from airflow_mlgov.records.canonical import canonical_bytes
from airflow_mlgov.records.digest import Digest
from airflow_mlgov.records.people import Disclosure

YEAR = timedelta(days=365)
PROOF_3 = "proofs/3.tlog-proof"
HOSTILE = (
    b"",
    b"[" * 10_000,
    b'{"v":1,"v":1}',
    b'{"people.developer":null}',
    b'{"files":[1],"v":1}',
    b'{"files":[{"path":1,"sha256":1,"size":1}],"v":1}',
    b'{"a":1e400}',
    b'{"a":NaN}',
    b'"\xed\xa0\x80"',
    b"\xef\xbb\xbf{}",
    b"null",
)


ORIGIN = "airflow-mlgov/00000000-0000-4000-8000-000000000000"
SOUND = (
    f"the checkpoint of log {ORIGIN} over 6 entries, signed by the log's key, root hash ",
    "5 entries about retail_pd, the log's first and those that rotate keys: each stands in ",
    "1 names and texts are what was committed to; 0 are not disclosed",
    (
        "entry 5 of 2026-01-02T00:00:00.000Z, signed by the log's key, counts 3 entries about the "
        "model in the log's first 5; 1 in the bundle came after that count"
    ),
    "2 documents and manifests are those that entries name by digest; what was looked for is all",
)


def said(report) -> str:
    return "\n".join(report.lines())


def evidence_of(bundled) -> str:
    (name,) = (name for name in bundled.files if name.startswith("evidence/"))
    return name


def manifest_of(bundled) -> str:
    (name,) = (name for name in bundled.files if name.startswith("model/"))
    return name


def test_a_sound_bundle(bundled):
    report = bundled.check(max_age=timedelta(days=7))
    assert (report.verdict, report.findings) == (Verdict.FINE, ())
    for line, began in zip(report.checked, SOUND, strict=True):
        assert line.startswith(began)
    lines = report.lines()
    assert lines[:2] == ["The bundle verifies.", "Checked and found sound:"]
    assert [f"  {line}" for line in report.checked] == lines[2:7]
    assert lines[7] == "Not proven by this:"


def test_a_log_of_one_version_says_which_one_was_looked_for(bundled):
    bundled.header = replace(bundled.header, version=golden_version(bundled))
    assert (
        bundled.check()
        .checked[4]
        .endswith(f"; what was looked for is of {golden_version(bundled)}")
    )


def test_what_is_no_bundle_is_altered(golden, bundled):
    assert check_bundle(b"x", golden.trust, now=bundled.now).verdict is Verdict.ALTERED


@pytest.mark.attack(23)
def test_23_proofs_with_a_hash_too_many_or_few_or_of_another_entry(bundled):
    honest = TlogProof.parse(bundled.files[PROOF_3])
    for forged in (
        replace(honest, hashes=(*honest.hashes, b"\0" * 32)),
        replace(honest, hashes=honest.hashes[:-1]),
        replace(honest, hashes=(b"\0" * 32, *honest.hashes[1:])),
        replace(honest, index=4),
        replace(honest, checkpoint=honest.checkpoint + b"x"),
    ):
        bundled.files[PROOF_3] = forged.as_bytes()
        report = bundled.check()
        assert report.verdict is Verdict.ALTERED
        assert "Entry 3" in said(report)
    bundled.files[PROOF_3] = honest.as_bytes()
    assert bundled.check().verdict is Verdict.FINE


@pytest.mark.attack(14)
def test_14_an_entry_that_the_log_does_not_hold(bundled, golden):
    bundled.files["entries/3.dsse"] = golden.leaf("writer", key="sha256:" + "9" * 64)
    report = bundled.check()
    assert report.verdict is Verdict.ALTERED
    assert "Entry 3 is not in the tree" in said(report)


@pytest.mark.attack(25)
def test_25_a_checkpoint_of_another_log_or_malformed(bundled, golden):
    note = bundled.files["checkpoint"]
    other = golden.sign(bundled.leaves, origin="other/log")
    for forged in (other, note.replace(b"\n", b"\r\n"), note + b"x", note[:-1], note * 2):
        bundled.files["checkpoint"] = forged
        assert bundled.check().verdict is Verdict.ALTERED


@pytest.mark.attack(25)
def test_25_a_checkpoint_that_an_unknown_key_signed(bundled, golden):
    bundled.files["checkpoint"] = golden.sign(bundled.leaves, role="stranger")
    report = bundled.check()
    assert report.verdict is Verdict.UNKNOWN_KEY
    assert len(report.findings) == 1
    assert "found sound" not in said(report)


def test_without_a_checkpoint_nothing_is_proven(bundled):
    del bundled.files["checkpoint"]
    report = bundled.check()
    assert report.verdict is Verdict.INCOMPLETE
    assert report.checked == ()


@pytest.mark.parametrize(
    "change", [{"size": 5}, {"root_hash": "00" * 32}, {"origin": "other"}, {"model": "other_model"}]
)
def test_the_list_may_not_contradict_what_is_signed(bundled, change):
    bundled.header = replace(bundled.header, **change)
    assert bundled.check().verdict is Verdict.ALTERED


@pytest.mark.attack(26)
def test_26_trust_comes_from_the_trust_file_alone(bundled, golden):
    key = golden.trust.log_keys[0]
    stranger = TrustRoot(golden.origin, (replace(key, public_key=golden.public("stranger")),))
    report = check_bundle(bundled.data(), stranger, now=bundled.now)
    assert report.verdict is Verdict.UNKNOWN_KEY


def test_an_entry_of_an_unknown_key(bundled, golden):
    bundled.leaves[4] = golden.leaf("stranger")
    bundled.leaves.pop()
    bundled.append_count()
    bundled.seal()
    report = bundled.check()
    assert report.verdict is Verdict.UNKNOWN_KEY
    assert "unknown key: Entry 4: It is signed by a key" in said(report)


def test_what_an_entry_of_an_unknown_key_names_is_not_held_against_the_bundle(bundled, golden):
    trust = replace(golden.trust, writer_keys=())
    report = check_bundle(bundled.data(), trust, now=bundled.now)
    assert report.verdict is Verdict.UNKNOWN_KEY
    assert "0 documents and manifests" in said(report)


def test_a_key_that_may_not_sign_the_kind(bundled, golden):
    bundled.leaves.append(
        golden.leaf("writer", "model.indexed", version=None, body=bundled.count(6))
    )
    bundled.seal()
    report = bundled.check()
    assert report.verdict is Verdict.ALTERED
    assert "altered: Entry 6: A writer key may not sign model.indexed" in said(report)


@pytest.mark.attack(28)
@pytest.mark.parametrize("index", [1, 3, 4])
def test_28_an_entry_that_was_left_out_with_all_its_files(bundled, index):
    bundled.seal(leave_out={index})
    report = bundled.check()
    assert report.verdict in {Verdict.INCOMPLETE, Verdict.ALTERED}
    assert "the bundle holds 2 of them: 1 were left out" in said(report)


@pytest.mark.attack(28)
def test_28_an_entry_without_proof_and_a_proof_without_entry(bundled):
    proof = bundled.files.pop(PROOF_3)
    report = bundled.check()
    assert report.verdict is Verdict.INCOMPLETE
    assert "Entry 3 has no proof that the log holds it." in said(report)
    assert report.checked[1].startswith("4 entries about retail_pd")  # those after it were read
    bundled.files[PROOF_3] = proof
    del bundled.files["entries/3.dsse"]
    report = bundled.check()
    assert report.verdict is not Verdict.FINE
    assert "Entry 3 is not in the bundle" in said(report)


@pytest.mark.attack(28)
def test_28_the_first_entry_was_left_out(bundled):
    bundled.seal(leave_out={0})
    report = bundled.check()
    assert report.verdict is Verdict.INCOMPLETE
    assert "Entry 0" in said(report)


@pytest.mark.attack(28)
def test_28_without_a_count_the_bundle_is_incomplete(bundled):
    bundled.seal(leave_out={5})
    report = bundled.check()
    assert report.verdict is Verdict.INCOMPLETE
    assert "any may have been left out" in said(report)
    bundled.seal(leave_out={0, 5})
    assert "No entry is about version" not in said(bundled.check())  # none was asked for


@pytest.mark.parametrize(
    ("changes", "verdict"),
    [
        ({"count": 9}, Verdict.INCOMPLETE),
        ({"count": 2}, Verdict.ALTERED),
        ({"leaves_sha256": "sha256:" + "0" * 64}, Verdict.ALTERED),
        ({"size": 10**6}, Verdict.ALTERED),
    ],
)
def test_a_count_that_is_not_so(bundled, changes, verdict):
    bundled.append_count(**changes)
    bundled.seal()
    report = bundled.check()
    assert report.verdict is verdict
    assert "in the bundle came after that count" not in said(report)


def test_a_count_of_what_came_after_it(bundled):
    bundled.append_count(size=7)
    bundled.seal()
    assert "of which some came after it" in said(bundled.check())


def test_a_manifest_that_is_none(bundled, golden):
    version = Digest.of(b"{}")
    body = {"registry": "folder", "version": "2", "variant": "candidate"}
    bundled.leaves.append(golden.leaf("writer", "model.registered", version=version, body=body))
    bundled.seal()
    bundled.files[f"model/{version.hex}.json"] = b"{}"
    report = bundled.check()
    assert report.verdict is Verdict.ALTERED
    assert "Malformed manifest" in said(report)


@pytest.mark.attack(28)
def test_28_a_file_that_the_list_has_and_the_bundle_has_not(bundled):
    with zipfile.ZipFile(io.BytesIO(bundled.data())) as archive:
        files = {name: archive.read(name) for name in archive.namelist()}
    del files["disclosures/1.json"]  # what nothing else would miss
    report = check_bundle(bundle._pack(files), bundled.golden.trust, now=bundled.now)
    assert report.verdict is Verdict.INCOMPLETE
    assert "disclosures/1.json is in the bundle's list" in said(report)


def test_entries_after_the_count_are_said_to_be_after_it(bundled, golden):
    bundled.leaves.append(golden.leaf("writer", key="sha256:" + "8" * 64))
    bundled.seal()
    report = bundled.check()
    assert report.verdict is Verdict.FINE
    assert "2 in the bundle came after that count" in said(report)


def test_an_entry_of_another_model(bundled, golden):
    tree = MerkleTree(leaf_hash(leaf) for leaf in bundled.leaves)
    proof = TlogProof(2, tuple(tree.inclusion_proof(2)), bundled.files["checkpoint"])
    bundled.files["entries/2.dsse"] = bundled.leaves[2]
    bundled.files["proofs/2.tlog-proof"] = proof.as_bytes()
    report = bundled.check()
    assert report.verdict is Verdict.ALTERED
    assert "another model" in said(report)


def test_an_entry_twice(bundled):
    bundled.leaves.append(bundled.leaves[4])
    bundled.seal()
    assert "stands in the bundle twice" in said(bundled.check())


def test_a_second_genesis(bundled, golden):
    body = {"origin": golden.origin}
    bundled.leaves.append(golden.leaf("log", "genesis", version=None, body=body))
    bundled.seal()
    report = bundled.check()
    assert report.verdict is Verdict.ALTERED
    assert "Entry 6: the first entry" in said(report)


@pytest.mark.parametrize(
    "opened",
    [
        {"people.developer": {"salt": "05" * 32, "value": {"id": "7", "name": "Eve"}}},
        {"people.developer": {"salt": "06" * 32, "value": {"id": "7", "name": "Ada"}}},
        {"people.developer": {"salt": "05", "value": {"id": "7", "name": "Ada"}}},
        {"people.developer": {"salt": "zz" * 32, "value": {"id": "7", "name": "Ada"}}},
        {"people.developer": {"salt": 5, "value": {"id": "7", "name": "Ada"}}},
        {"people.developer": {"salt": "05" * 32}},
        {"people.nobody": {"salt": "05" * 32, "value": {"id": "7", "name": "Ada"}}},
        [],
    ],
)
def test_a_disclosure_that_is_not_what_was_committed_to(bundled, opened):
    bundled.files["disclosures/1.json"] = canonical_bytes(opened)
    report = bundled.check()
    assert report.verdict is Verdict.ALTERED
    assert "Entry 1" in said(report)


def test_a_text_that_is_not_what_was_committed_to(bundled, golden):
    honest = Disclosure(b"\x05" * 32, "fine")
    leaf = golden.leaf("writer", key="sha256:" + "5" * 64, texts={"comment": honest.commitment})
    bundled.leaves.append(leaf)
    bundled.seal()
    for text, verdict in (("fine", Verdict.FINE), ("bad", Verdict.ALTERED)):
        opened = {"texts.comment": {"salt": "05" * 32, "value": text}}
        bundled.files["disclosures/6.json"] = canonical_bytes(opened)
        assert bundled.check().verdict is verdict


@pytest.mark.attack(33)
def test_33_a_person_who_was_erased_leaves_a_sound_bundle(bundled):
    del bundled.files["disclosures/1.json"]
    report = bundled.check()
    assert report.verdict is Verdict.FINE
    assert "0 names and texts are what was committed to; 1 are not disclosed" in said(report)


def test_disclosures_of_no_entry(bundled):
    bundled.files["disclosures/2.json"] = b"{}"
    assert bundled.check().verdict is Verdict.INCOMPLETE


def test_altered_evidence_and_manifest(bundled):
    for name in (evidence_of(bundled), manifest_of(bundled)):
        honest = bundled.files[name]
        bundled.files[name] = honest + b" "
        report = bundled.check()
        assert report.verdict is Verdict.ALTERED
        assert name in said(report)
        bundled.files[name] = honest
    assert bundled.check().verdict is Verdict.FINE


def test_documents_that_lack(bundled):
    for name in (evidence_of(bundled), manifest_of(bundled)):
        honest = bundled.files.pop(name)
        report = bundled.check()
        assert report.verdict is Verdict.INCOMPLETE
        assert report.findings[0].text.startswith(f"{name}, which entry ")
        assert report.findings[0].text.endswith(" names, lacks.")
        bundled.header = replace(bundled.header, could_not_be_had=(name,))
        report = bundled.check()
        assert report.verdict is Verdict.INCOMPLETE
        assert "could not be had" in said(report)
        bundled.files[name] = honest


@pytest.mark.parametrize("folder", ["evidence/{}", "model/{}.json"])
def test_a_document_that_no_entry_names(bundled, folder):
    bundled.files[folder.format(Digest.of(b"{}").hex)] = b"{}"
    report = bundled.check()
    assert report.verdict is Verdict.ALTERED


def test_of_a_version_only_its_documents_are_due(bundled, golden):
    other = Digest("ab" * 32)
    body = {"evidence_sha256": "sha256:" + "cd" * 32, "inputs": []}
    bundled.leaves.append(golden.leaf("writer", "model.trained", version=other, body=body))
    opened = bundled.files["disclosures/1.json"]
    bundled.seal()
    bundled.files["disclosures/1.json"] = opened
    assert bundled.check().verdict is Verdict.INCOMPLETE
    bundled.header = replace(bundled.header, version=golden_version(bundled))
    report = bundled.check()
    assert report.verdict is Verdict.FINE
    assert str(bundled.header.version) in said(report)
    bundled.header = replace(bundled.header, version=Digest("ef" * 32))
    assert "No entry is about version" in said(bundled.check())


def golden_version(bundled) -> Digest:
    return Digest(manifest_of(bundled).removeprefix("model/").removesuffix(".json"))


def test_an_entry_that_no_checkpoint_covers(bundled, golden):
    key = "sha256:" + "7" * 64
    bundled.files[f"waiting/{'7' * 64}.dsse"] = golden.leaf("writer", key=key)
    report = bundled.check()
    assert report.verdict is Verdict.NOT_COVERED
    assert key in said(report)
    bundled.files[f"waiting/{'7' * 64}.dsse"] = golden.leaf("writer", key=key, model="other_model")
    assert bundled.check().verdict is Verdict.ALTERED
    bundled.files[f"waiting/{'7' * 64}.dsse"] = golden.leaf("writer")
    assert bundled.check().verdict is Verdict.ALTERED


NEWEST = datetime(2026, 1, 2, 3, 4, 5, 678_000, tzinfo=UTC)
"""When the log's key signed last in the sound bundle."""


def check_at(bundled, now, days):
    trust, max_age = bundled.golden.trust, timedelta(days=days)
    return check_bundle(bundled.data(), trust, now=now, max_age=max_age)


def test_age_is_that_of_the_newest_entry_of_the_logs_key(bundled, golden):
    bundled.leaves.append(golden.leaf("writer", key="sha256:" + "8" * 64, at=NEWEST + YEAR))
    bundled.seal()
    assert check_at(bundled, NEWEST + timedelta(days=3), 3).verdict is Verdict.FINE
    report = check_at(bundled, NEWEST + timedelta(days=3, milliseconds=1), 3)
    assert report.verdict is Verdict.STALE
    assert "The log's key signed last at 2026-01-02T03:04:05.678Z" in said(report)
    assert bundled.check(max_age=None).verdict is Verdict.FINE


def test_without_an_entry_of_the_logs_key_nobody_knows_the_age(bundled):
    bundled.seal(leave_out={0, 5})
    report = check_at(bundled, NEWEST, 3)
    assert Verdict.STALE in {finding.verdict for finding in report.findings}
    assert "No entry of the log's key says how old the bundle is." in said(report)


@pytest.mark.attack(20)
def test_20_a_clock_may_be_ahead_by_five_minutes(bundled):
    skew = timedelta(minutes=5)
    assert check_at(bundled, NEWEST - skew, 3).verdict is Verdict.FINE
    report = check_at(bundled, NEWEST - skew - timedelta(milliseconds=1), 3)
    assert report.verdict is Verdict.STALE
    assert "which is still to come by this machine's clock" in said(report)


@pytest.mark.attack(20)
def test_20_a_signed_time_that_is_still_to_come(bundled):
    now = bundled.now - timedelta(days=365)
    report = check_bundle(bundled.data(), bundled.golden.trust, now=now, max_age=timedelta(days=7))
    assert report.verdict is Verdict.STALE
    assert "clock" in said(report)


def test_the_gravest_decides():
    assert [int(verdict) for verdict in GRAVEST_FIRST] == [1, 3, 2, 5, 4]
    for number, verdict in enumerate(GRAVEST_FIRST):
        lesser = tuple(Finding(v, "x") for v in reversed(GRAVEST_FIRST[number:]))
        assert BundleReport(lesser).verdict is verdict


def test_not_more_lines_than_somebody_reads():
    report = BundleReport(tuple(Finding(Verdict.ALTERED, str(n)) for n in range(500)))
    assert f"  and {500 - MAX_LINES} more" in report.lines()
    assert len(report.lines()) < MAX_LINES + 20


@pytest.mark.attack(14)
def test_14_every_flipped_bit_of_every_file_is_found(bundled):
    for name, honest in sorted(bundled.files.items()):
        for at in range(0, len(honest), 11):
            broken = bytearray(honest)
            broken[at] ^= 1
            bundled.files[name] = bytes(broken)
            assert bundled.check().verdict is not Verdict.FINE, (name, at)
        bundled.files[name] = honest


@given(name=st.integers(0, 12), content=st.binary(max_size=200) | st.sampled_from(HOSTILE))
@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_any_content_of_any_file_ends_in_a_report(bundled, name, content):
    names = sorted(bundled.files)
    name = names[name % len(names)]
    honest = bundled.files[name]
    bundled.files[name] = content
    assert (bundled.check().verdict is Verdict.FINE) == (content == honest)
    bundled.files[name] = honest


@pytest.mark.attack(28)
@pytest.mark.parametrize("name", sorted(["checkpoint", PROOF_3, "entries/3.dsse"]))
def test_28_every_file_that_is_taken_away_lacks(bundled, name):
    del bundled.files[name]
    assert bundled.check().verdict is not Verdict.FINE
