"""A bundle of a governed model on a real store, checked with nothing but a trust file."""

from __future__ import annotations

import hashlib
import sqlite3
from datetime import timedelta

import pytest

from airflow_mlgov.errors import (
    LedgerIntegrityError,
    RegistryUnavailableError,
    VersionNotFoundError,
)
from airflow_mlgov.ledger.bundle import manifest_file, read_bundle
from airflow_mlgov.ledger.bundle_check import check_bundle
from airflow_mlgov.ledger.bundle_report import Verdict
from airflow_mlgov.ledger.checkpoint import Vkey, sign_checkpoint
from airflow_mlgov.records.digest import Digest
from airflow_mlgov.records.kinds import KeyRole
from airflow_mlgov.records.manifest import Manifest
from airflow_mlgov.service.artefacts import hash_directory
from airflow_mlgov.service.bundle import COUNT_EVERY, make_bundle
from airflow_mlgov.service.ledger import EntryDraft, Ledger
from airflow_mlgov.service.ports import Anchored
from airflow_mlgov.stores.sqlite import SqliteStore


def make(world, version=None, *, registry=True):
    opened = (lambda: world.registry) if registry else None
    return make_bundle(world.gov, "retail_pd", version, registry=opened)


def check(world, data, **more):
    return check_bundle(data, world.gov.ledger.trust_root(), now=world.clock.now(), **more)


def names(made, folder: str) -> set[str]:
    return {name for name in read_bundle(made.data).files if name.startswith(f"{folder}/")}


def approved(world):
    world.approve(world.ask())
    return world


def other_model(world):
    draft = EntryDraft(
        kind="model.scored",
        model="other_model",
        version=Digest("a" * 64),
        body={"request_sha256": "sha256:" + "b" * 64, "target": "production"},
        identity=("1",),
    )
    world.gov.ledger.seal(world.gov.ledger.append(draft))


def test_an_approved_model_verifies(candidate):
    other_model(candidate)
    approved(candidate)
    made = make(candidate)
    report = check(candidate, made.data, max_age=timedelta(days=1))
    assert report.findings == ()
    assert (made.could_not_be_had, made.waiting) == ((), 0)
    assert made.counted.count == made.entries - 1
    held = read_bundle(made.data)
    assert f"entries/{made.size - 1}.dsse" in held.files
    assert len(names(made, "entries")) == made.entries + 1
    assert names(made, "disclosures")
    assert all(b"other_model" not in leaf for leaf in held.files.values())


def test_the_same_state_gives_the_same_bytes(candidate):
    first = make(candidate)
    assert make(candidate).data == first.data
    assert candidate.gov.ledger.view().checkpoint.size == first.size


def test_a_count_is_made_anew_when_something_came_after_it_or_it_is_old(candidate):
    make(candidate)
    make(candidate)
    assert len(candidate.kinds("model.indexed")) == 1
    candidate.validate_data("sha256:" + "5" * 64)
    make(candidate)
    assert len(candidate.kinds("model.indexed")) == 2
    candidate.clock.moment += COUNT_EVERY + timedelta(seconds=1)
    made = make(candidate)
    assert len(candidate.kinds("model.indexed")) == 3
    assert check(candidate, made.data, max_age=timedelta(hours=1)).verdict is Verdict.FINE
    assert candidate.gov.ledger.verify().is_fine


def test_of_one_version_there_are_all_entries_and_only_its_documents(candidate):
    first = candidate.version
    approved(candidate)
    second = candidate.train('{"points": [3]}', run_id="run-2")
    candidate.validate_model("of the second version")
    whole = make(candidate)
    by_number, by_digest = make(candidate, "1"), make(candidate, str(first))
    assert by_number.data == by_digest.data
    assert names(by_number, "entries") == names(whole, "entries")
    assert names(by_number, "model") == {manifest_file(first)}
    assert names(whole, "model") == {manifest_file(first), manifest_file(second)}
    assert names(by_number, "evidence") < names(whole, "evidence")
    assert check(candidate, by_number.data).verdict is Verdict.FINE
    assert read_bundle(by_number.data).header.version == first


def test_the_policy_in_force_is_there_before_anybody_asked_for_approval(candidate):
    pack = candidate.gov.packs["retail_credit"]
    assert read_bundle(make(candidate).data).files[f"evidence/{pack.digest.hex}"] == pack.source


def test_the_manifest_is_that_of_the_training_record_or_of_the_registry(candidate):
    name = manifest_file(candidate.version)
    manifest = hash_directory(candidate.model_dir).canonical()
    assert read_bundle(make(candidate).data).files[name] == manifest
    without = make(candidate, registry=False)
    assert without.could_not_be_had == (name,)
    assert check(candidate, without.data).verdict is Verdict.INCOMPLETE
    record = {"manifest": Manifest.from_json(hash_directory(candidate.model_dir).as_json())}
    candidate.entry(
        "model.trained",
        {
            "evidence_sha256": candidate.keep({"manifest": record["manifest"].as_json()}),
            "inputs": [],
        },
        version=candidate.version,
    )
    assert read_bundle(make(candidate, registry=False).data).files[name] == manifest


def test_a_registry_that_cannot_be_reached_or_holds_other_bytes_is_told(candidate):
    def refuses():
        raise RegistryUnavailableError("It is down.")

    name = manifest_file(candidate.version)
    assert make_bundle(candidate.gov, "retail_pd", registry=refuses).could_not_be_had == (name,)
    (candidate.registry.folder("retail_pd", "1") / "scorecard.json").write_text("altered")
    assert make(candidate).could_not_be_had == (name,)


def test_evidence_that_is_gone_is_told(candidate):
    (trained,) = candidate.kinds("model.trained")
    digest = Digest.parse(trained.body["evidence_sha256"])
    del candidate.gov.evidence.documents[digest]
    made = make(candidate)
    assert made.could_not_be_had == (f"evidence/{digest.hex}",)
    report = check(candidate, made.data)
    assert report.verdict is Verdict.INCOMPLETE
    assert "could not be had" in "\n".join(report.lines())


@pytest.mark.attack(33)
def test_33_who_was_erased_is_not_in_it(candidate, tmp_path):
    before = make(candidate)
    with sqlite3.connect(tmp_path / "ledger.db") as connection:
        connection.execute("DELETE FROM disclosures")
    after = make(candidate)
    assert names(before, "disclosures")
    assert not names(after, "disclosures")
    assert check(candidate, after.data).verdict is Verdict.FINE


@pytest.mark.parametrize("version", ["9", "sha256:" + "0" * 64, "sha256:x", ""])
def test_an_unknown_version(candidate, version):
    with pytest.raises(VersionNotFoundError):
        make(candidate, version)


def test_an_unknown_model(candidate):
    with pytest.raises(VersionNotFoundError, match="no entry about model"):
        make_bundle(candidate.gov, "nobody")
    assert candidate.kinds("model.indexed") == []


def test_a_number_that_two_registries_gave(candidate):
    body = {"registry": "other", "name": "x", "version": "1", "variant": "candidate"}
    candidate.entry("model.registered", body, version=Digest("c" * 64))
    with pytest.raises(VersionNotFoundError, match="more than one"):
        make(candidate, "1")


def without_log_key(world, tmp_path) -> Ledger:
    """The same ledger as a task elsewhere has it."""
    ledger = world.gov.ledger
    signers = {role: ledger._signers[role] for role in KeyRole if role is not KeyRole.LOG}
    store = SqliteStore.from_url(f"sqlite:///{tmp_path}/ledger.db")
    return Ledger(store, signers, world.clock, trust=ledger.trust_root())


def test_without_the_log_key_the_newest_count_is_taken_and_what_waits_is_told(candidate, tmp_path):
    trust = candidate.gov.ledger.trust_root()
    object.__setattr__(candidate.gov, "ledger", without_log_key(candidate, tmp_path))
    uncounted = make(candidate)
    assert uncounted.counted is None
    report = check_bundle(uncounted.data, trust, now=candidate.clock.now())
    assert report.verdict is Verdict.INCOMPLETE
    for model in ("retail_pd", "other_model"):
        body = {"request_sha256": "sha256:" + "b" * 64, "target": "production"}
        draft = EntryDraft("model.scored", model, candidate.version, body, (model,))
        candidate.gov.ledger.append(draft)
    made = make(candidate)
    assert made.waiting == 1
    report = check_bundle(made.data, trust, now=candidate.clock.now())
    assert {finding.verdict for finding in report.findings} == {
        Verdict.INCOMPLETE,
        Verdict.NOT_COVERED,
    }


def anchored(candidate, note, *, size, data=b"x", kind="timestamp", name="tsa"):
    row = Anchored(name, kind, size, note, data, candidate.clock.now())
    candidate.gov.ledger._store.keep_anchored(row)


def test_what_anchors_gave_is_put_in_with_a_proof(candidate):
    make(candidate)
    checkpoint = candidate.gov.ledger.checkpoint()
    note, size = checkpoint.note.encode(), checkpoint.size
    anchored(candidate, note, size=size)
    anchored(candidate, note, size=size, kind="directory", name="vault", data=b"")
    candidate.validate_data("sha256:" + "6" * 64)
    files = read_bundle(make(candidate).data).files
    named = {name for name in files if name.startswith(("anchored/", "timestamps/"))}
    assert named == {
        f"anchored/{size}.note",
        f"anchored/{size}.proof",
        f"timestamps/{hashlib.sha256(b'x').hexdigest()}.tsr",
    }
    assert files[f"anchored/{size}.note"] == note


def test_attack_10_no_bundle_is_made_of_a_ledger_that_contradicts_an_anchor(candidate):
    checkpoint = candidate.gov.ledger.checkpoint()
    signer = candidate.gov.ledger._signers[KeyRole.LOG]
    forged = sign_checkpoint(
        checkpoint.origin,
        checkpoint.size,
        b"\1" * 32,
        Vkey(checkpoint.origin, signer.public_key),
        signer.sign,
    )
    anchored(candidate, forged, size=checkpoint.size)
    with pytest.raises(LedgerIntegrityError, match="does not extend the checkpoint"):
        make(candidate)
