"""Reading and verifying: what is fine, and every way to alter a ledger that must be found."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from airflow_mlgov.errors import LedgerIntegrityError
from airflow_mlgov.ledger.checkpoint import Checkpoint, open_checkpoint
from airflow_mlgov.ledger.dsse import seal_envelope
from airflow_mlgov.ledger.entry import decode_leaf
from airflow_mlgov.ledger.keyring import Keyring
from airflow_mlgov.ledger.merkle import MerkleTree, leaf_hash
from airflow_mlgov.ledger.model_index import ModelIndex
from airflow_mlgov.ledger.verify import Report, _Reading, verify_ledger
from airflow_mlgov.ledger.view import ROTATIONS, LedgerView, claims_of, label, label_of
from airflow_mlgov.records.canonical import canonical_bytes
from airflow_mlgov.records.digest import Digest
from airflow_mlgov.records.kinds import KeyRole
from airflow_mlgov.records.people import Disclosure, Person

NO_DIGEST = "sha256:" + "0" * 64


def check(
    golden: Any, leaves: list[bytes], note: bytes, *earlier: Checkpoint, disclose: Any = None
) -> Report:
    return verify_ledger(
        iter(leaves), note, golden.trust, disclose=disclose or golden.disclose, earlier=earlier
    )


def view_of(golden: Any, leaves: list[bytes], note: bytes | None = None) -> LedgerView:
    checkpoint = open_checkpoint(
        note or golden.sign(leaves), golden.trust.log_keys, origin=golden.origin
    )
    return LedgerView(leaves, checkpoint, golden.trust, golden.disclose)


def must_fail(golden: Any, leaves: list[bytes], note: bytes, match: str = "") -> None:
    report = check(golden, leaves, note)
    assert not report.is_fine
    assert report.exit_code == 1
    assert report.lines()[0] == "THE LEDGER DOES NOT VERIFY."
    with pytest.raises(LedgerIntegrityError, match=match):
        view_of(golden, leaves, note)


def forge(leaf: bytes, **changes: Any) -> bytes:
    """Change the payload and keep the signature."""
    value = json.loads(leaf)
    payload = {**json.loads(base64.b64decode(value["payload"])), **changes}
    text = json.dumps(payload, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    value["payload"] = base64.b64encode(text.encode()).decode()
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()


def test_the_golden_ledger_verifies(golden: Any) -> None:
    report = check(golden, golden.leaves, golden.note)
    assert (report.is_fine, report.exit_code, report.problems, report.unknown_keys) == (
        True,
        0,
        (),
        (),
    )
    assert report.kinds == {"approval.voted": 1, "data.validated": 1, "genesis": 1}
    assert (report.size, report.opened, report.closed) == (3, 2, 0)
    assert "The ledger verifies." in report.lines()
    assert any("left out" in line for line in report.lines())
    assert report.as_json()["root_hash"] == leaf_root(golden)


def leaf_root(golden: Any) -> str:
    return open_checkpoint(golden.note, golden.trust.log_keys, origin=golden.origin).root_hash


def test_entries_are_selected_in_order_by_kind_model_and_version(golden: Any) -> None:
    leaves = [*golden.leaves, golden.leaf("writer"), golden.leaf("writer", model="other")]
    view = view_of(golden, leaves)
    assert [entry.index for entry in view.select()] == [0, 1, 2, 3, 4]
    assert [entry.index for entry in view.select("model.scored", "approval.voted")] == [2, 3, 4]
    assert [entry.index for entry in view.select(model="other")] == [4]
    assert [entry.index for entry in view.select(version=Digest("01" * 32))] == [2]
    assert view.select("model.scored", model="nobody") == []
    vote = view.select("approval.voted")[0]
    assert vote.signed_by is KeyRole.ATTESTOR
    assert vote.person("voter") == Person("7", "Zoë \U0001f600")
    assert vote.text("comment").startswith("Grüße")
    assert vote.person("nobody") is None
    assert vote.text("nothing") is None
    assert vote.leaf_hash == leaf_hash(golden.leaves[2]).hex()
    assert view.violations == []


def test_entries_are_found_by_what_they_claim_and_count_only_if_it_checks_out(golden: Any) -> None:
    mine, other = golden.leaf("writer", model="mine"), golden.leaf("writer", model="other")
    unsigned = golden.leaf("mallory", model="mine")
    view = view_of(golden, [*golden.leaves, mine, other, unsigned])
    asked: list[str] = []

    def is_mine(said: Any) -> bool:
        asked.append(said["model"])
        return bool(said["model"] == "mine")

    assert [entry.index for entry in view.find("model.scored", claims=is_mine)] == [3]
    assert asked == ["mine", "other", "mine"]
    assert view.find("model.scored", claims=lambda said: said["none"]["such"]) == []
    assert view.find("model.scored", claims=lambda said: said["kind"]["such"]) == []
    assert view.find("model.scored", claims=lambda said: said["kind"].such) == []
    assert view.find("approval.voted", claims=is_mine) == []


@pytest.mark.attack(1, 2)
def test_threat_1_and_2_an_edited_payload(golden: Any) -> None:
    forged = forge(golden.leaves[2], model="other")
    must_fail(golden, [*golden.leaves[:2], forged], golden.note, "root hash")


@pytest.mark.attack(3)
def test_threat_3_payload_hash_and_nodes_changed_without_the_key(golden: Any) -> None:
    leaves = [*golden.leaves[:2], golden.leaf("writer")]
    honest = golden.note.decode().split("\n")
    forged = golden.sign(leaves, role="mallory").decode().split("\n")
    note = "\n".join([*forged[:3], *honest[3:]]).encode()
    report = check(golden, leaves, note)
    assert report.exit_code == 1
    assert any("does not fit" in problem for problem in report.problems)


@pytest.mark.attack(3)
def test_threat_3_signed_with_another_key_is_an_unknown_key(golden: Any) -> None:
    report = check(golden, golden.leaves, golden.sign(golden.leaves, role="mallory"))
    assert report.exit_code == 3
    assert not report.is_fine


@pytest.mark.attack(4)
@pytest.mark.parametrize("index", [0, 1, 2])
def test_threat_4_one_entry_deleted(golden: Any, index: int) -> None:
    leaves = golden.leaves[:index] + golden.leaves[index + 1 :]
    must_fail(golden, leaves, golden.note, "removed")


@pytest.mark.attack(5)
def test_threat_5_and_12_a_shorter_ledger_is_found_by_a_checkpoint_kept_elsewhere(
    golden: Any,
) -> None:
    shorter = golden.leaves[:2]
    note = golden.sign(shorter)
    assert check(golden, shorter, note).is_fine  # by itself it is a sound ledger
    kept = open_checkpoint(golden.note, golden.trust.log_keys, origin=golden.origin)
    report = check(golden, shorter, note, kept)
    assert report.exit_code == 1
    assert any(
        "kept elsewhere says 3 entries, the ledger holds 2" in line for line in report.lines()[1:2]
    )


@pytest.mark.attack(10)
def test_threat_10_and_11_a_rewritten_ledger_is_found_by_a_checkpoint_kept_elsewhere(
    golden: Any,
) -> None:
    kept = open_checkpoint(golden.note, golden.trust.log_keys, origin=golden.origin)
    extended = [*golden.leaves, golden.leaf("writer")]
    assert check(golden, extended, golden.sign(extended), kept).is_fine
    rewritten = [*golden.leaves[:2], golden.leaf("writer", model="other"), golden.leaf("writer")]
    note = golden.sign(rewritten)
    assert check(golden, rewritten, note).is_fine
    assert check(golden, rewritten, note, kept).exit_code == 1


def test_a_checkpoint_kept_elsewhere_of_another_log_is_refused(golden: Any) -> None:
    kept = open_checkpoint(golden.note, golden.trust.log_keys, origin=golden.origin)
    other = replace(kept, origin="other/log")
    report = check(golden, golden.leaves, golden.note, other)
    assert report.problems == ("A checkpoint kept elsewhere is of another log, other/log.",)


def test_a_checkpoint_over_the_empty_ledger_fits_every_ledger(golden: Any) -> None:
    empty = open_checkpoint(golden.sign([]), golden.trust.log_keys, origin=golden.origin)
    assert check(golden, golden.leaves, golden.note, empty).is_fine


@pytest.mark.attack(6)
@pytest.mark.parametrize(("i", "j"), [(0, 1), (1, 2), (0, 2)])
def test_threat_6_two_entries_swapped(golden: Any, i: int, j: int) -> None:
    leaves = list(golden.leaves)
    leaves[i], leaves[j] = leaves[j], leaves[i]
    must_fail(golden, leaves, golden.note, "moved")


@pytest.mark.attack(7)
def test_threat_7_an_entry_twice(golden: Any) -> None:
    must_fail(golden, [*golden.leaves, golden.leaves[2]], golden.note, "added")
    leaves = [*golden.leaves, golden.leaves[2]]
    report = check(golden, leaves, golden.sign(leaves))  # even under the log's own signature
    assert report.problems == ("Entry 3 counts for nothing: It stands in the ledger twice.",)


@pytest.mark.attack(9)
def test_threat_9_a_back_dated_entry(golden: Any) -> None:
    leaves = [golden.leaves[0], golden.leaf("writer"), *golden.leaves[1:]]
    must_fail(golden, leaves, golden.note, "added")


@pytest.mark.attack(14)
@pytest.mark.parametrize("index", [0, 1, 2])
def test_threat_14_one_bit_in_any_byte_of_an_entry(golden: Any, index: int) -> None:
    for position in range(0, len(golden.leaves[index]), 37):
        leaves = [bytearray(leaf) for leaf in golden.leaves]
        leaves[index][position] ^= 1 << (position % 8)
        report = check(golden, [bytes(leaf) for leaf in leaves], golden.note)
        assert report.exit_code == 1, position


@pytest.mark.attack(14)
def test_threat_14_one_bit_in_any_byte_of_the_note(golden: Any) -> None:
    for position in range(len(golden.note)):
        for bit in (0, 5):
            note = bytearray(golden.note)
            note[position] ^= 1 << bit
            assert check(golden, golden.leaves, bytes(note)).exit_code in {1, 3}, position


@pytest.mark.attack(14)
def test_threat_14_one_bit_in_a_disclosure(golden: Any) -> None:
    vote = decode_leaf(golden.leaves[2])[0]
    fields = golden.disclosures[vote.key]
    comment = fields["texts.comment"]
    for forged in (
        Disclosure(comment.salt, comment.value + "!"),
        Disclosure(b"x" * 32, comment.value),
    ):
        disclosed = {**fields, "texts.comment": forged}
        report = check(golden, golden.leaves, golden.note, disclose=lambda key, d=disclosed: d)
        assert report.exit_code == 1


@pytest.mark.attack(3)
def test_threat_33_erased_people_leave_a_ledger_that_verifies(golden: Any) -> None:
    report = check(golden, golden.leaves, golden.note, disclose=lambda key: {})
    assert report.is_fine
    assert (report.opened, report.closed) == (0, 2)


def test_disclosures_of_the_wrong_shape_name_nobody(golden: Any) -> None:
    for value in (
        "Ada",
        {"id": "7"},
        {"id": "7", "name": "Ada", "role": "x"},
        {"id": 5, "name": "Ada"},
        {"id": "7", "name": None},
        {"id": ["7"], "name": "Ada"},
        None,
        7,
    ):
        disclosure = Disclosure.of(value)
        leaf = golden.leaf(
            "writer",
            people={"owner": disclosure.commitment},
            texts={"summary": Disclosure.of(1).commitment},
        )
        checkpoint = open_checkpoint(
            golden.sign([leaf]), golden.trust.log_keys, origin=golden.origin
        )
        view = LedgerView(
            [leaf], checkpoint, golden.trust, lambda key, d=disclosure: {"people.owner": d}
        )
        entry = view.select()[0]
        if value is None:
            continue
        with pytest.raises(LedgerIntegrityError, match="not a person"):
            entry.person("owner")


def test_what_was_erased_differs_from_what_never_was(golden: Any) -> None:
    checkpoint = open_checkpoint(golden.note, golden.trust.log_keys, origin=golden.origin)
    disclosed = golden.disclosures[decode_leaf(golden.leaves[2])[0].key]
    for gone in ("people.voter", "texts.comment"):
        left = {name: opening for name, opening in disclosed.items() if name != gone}
        view = LedgerView(golden.leaves, checkpoint, golden.trust, lambda key, d=left: d)
        (vote,) = view.select("approval.voted")
        closed = [field for field in ("voter", "comment", "requester") if vote.is_closed(field)]
        assert closed == [gone.partition(".")[2]]
    vote = view_of(golden, golden.leaves).select("approval.voted")[0]
    assert not vote.is_closed("voter")
    assert not vote.is_closed("comment")


def test_a_field_of_both_a_person_and_a_text_is_closed_if_one_of_them_is(golden: Any) -> None:
    person, text = Disclosure.of({"id": "7", "name": "Ada"}), Disclosure.of("Ada wrote it")
    leaf = golden.leaf(
        "writer", people={"author": person.commitment}, texts={"author": text.commitment}
    )
    checkpoint = open_checkpoint(golden.sign([leaf]), golden.trust.log_keys, origin=golden.origin)
    both = {"people.author": person, "texts.author": text}
    for opened, closed in (({}, True), ({"people.author": person}, True), (both, False)):
        view = LedgerView([leaf], checkpoint, golden.trust, lambda key, d=opened: d)
        assert view.select()[0].is_closed("author") is closed


VIOLATIONS = {
    "a writer's vote on a finding": (
        "writer",
        {"kind": "finding.closed", "body": {"finding": "F-00000001"}},
        "may not sign",
    ),
    "an attestor's promotion": ("attestor", {}, "may not sign"),
    "the log key on a vote": ("log", {}, "may not sign"),
    "another log's entry": ("writer", {"origin": "airflow-mlgov/other"}, "another log"),
    "a second genesis": ("log", {"kind": "genesis", "body": {"origin": "airflow-mlgov/other"}}, ""),
}


@pytest.mark.attack(3)
@pytest.mark.parametrize("name", VIOLATIONS)
def test_threat_32_an_entry_with_the_wrong_key_counts_for_nothing(golden: Any, name: str) -> None:
    role, changes, reason = VIOLATIONS[name]
    leaves = [*golden.leaves, golden.leaf(role, **changes), golden.leaf("writer")]
    report = check(golden, leaves, golden.sign(leaves))
    assert report.exit_code == 1
    assert len(report.problems) == 1
    assert reason in report.problems[0]
    if reason:
        view = view_of(golden, leaves)
        assert [entry.index for entry in view.select()] == [0, 1, 2, 4]
        assert [(violation.index, violation.is_unknown_key) for violation in view.violations] == [
            (3, False)
        ]


def test_an_entry_of_an_unknown_key_counts_for_nothing(golden: Any) -> None:
    leaves = [*golden.leaves, golden.leaf("mallory")]
    view = view_of(golden, leaves)
    assert view.select("model.scored") == []
    assert [(violation.index, violation.is_unknown_key) for violation in view.violations] == [
        (3, True)
    ]
    assert check(golden, leaves, golden.sign(leaves)).exit_code == 3


@pytest.mark.attack(3)
def test_threat_32_an_entry_whose_signature_does_not_fit_counts_for_nothing_though_the_log_holds_it(
    golden: Any,
) -> None:
    leaves = [*golden.leaves, forge(golden.leaf("writer"), model="other"), golden.leaf("writer")]
    view = view_of(golden, leaves)
    assert [entry.index for entry in view.select("model.scored")] == [4]
    assert ["altered" in violation.reason for violation in view.violations] == [True]
    assert check(golden, leaves, golden.sign(leaves)).exit_code == 1


@pytest.mark.parametrize("junk", [b"", b"{}", b"\xff" * 10, b"[" * 9000, b"x" * 20_000])
def test_junk_that_was_sequenced_is_reported_and_stops_nobody(golden: Any, junk: bytes) -> None:
    leaves = [*golden.leaves, junk, golden.leaf("writer")]
    view = view_of(golden, leaves)
    assert [entry.index for entry in view.select()] == [0, 1, 2, 4]
    assert [entry.index for entry in view.select("model.scored")] == [4]
    assert check(golden, leaves, golden.sign(leaves)).exit_code == 1


@pytest.mark.attack(29)
def test_threat_29_a_payload_with_two_kinds_is_neither(golden: Any) -> None:
    payload = (
        decode_leaf(golden.leaf("writer"))[0]
        .encode()
        .replace(b'"kind":', b'"kind":"approval.voted","kind":', 1)
    )
    leaf = seal_envelope(payload, golden.public("writer"), golden.key("writer").sign)
    view = view_of(golden, [*golden.leaves, leaf])
    assert [entry.index for entry in view.select("approval.voted", "model.scored")] == [2]
    assert [violation.index for violation in view.violations] == [3]


POISONED: dict[str, dict[str, Any]] = {
    "a digest that is a number": {"body": {"request_sha256": 5, "target": "production"}},
    "a target that is a list": {"body": {"request_sha256": NO_DIGEST, "target": ["production"]}},
    "no version": {"version": None},
    "a year of which no deadline can be reckoned": {"at": "9999-12-31T23:59:59.999Z"},
    "a choice nobody has": {
        "kind": "approval.voted",
        "body": {"request_sha256": NO_DIGEST, "choice": "perhaps"},
    },
    "a use by nobody": {
        "kind": "approval.consumed",
        "body": {"request_sha256": NO_DIGEST, "target": "production", "use": []},
    },
}


@pytest.mark.parametrize("name", POISONED)
def test_an_entry_of_the_wrong_shape_counts_for_nothing_though_it_is_signed(
    golden: Any, name: str
) -> None:
    payload = json.loads(decode_leaf(golden.leaf("writer"))[0].encode())
    leaf = seal_envelope(
        canonical_bytes({**payload, **POISONED[name]}),
        golden.public("writer"),
        golden.key("writer").sign,
    )
    leaves = [*golden.leaves, leaf, golden.leaf("writer", model="other")]
    view = view_of(golden, leaves)
    assert [entry.index for entry in view.select()] == [0, 1, 2, 4]
    assert [violation.index for violation in view.violations] == [3]
    report = check(golden, leaves, golden.sign(leaves))
    assert (report.exit_code, len(report.problems)) == (1, 1)
    assert "Entry 3 counts for nothing" in report.problems[0]


def later_view(golden: Any, leaves: list[bytes], earlier: LedgerView, **other: Any) -> LedgerView:
    given = {"note": golden.sign(leaves), "trust": golden.trust} | other
    checkpoint = open_checkpoint(given["note"], golden.trust.log_keys, origin=golden.origin)
    return LedgerView(leaves, checkpoint, given["trust"], golden.disclose, earlier=earlier)


def test_a_later_view_reads_only_what_is_new(golden: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    first = view_of(golden, [*golden.leaves, b"junk"])
    assert [entry.index for entry in first.select()] == [0, 1, 2]
    read = []
    monkeypatch.setattr(
        "airflow_mlgov.ledger.view.decode_leaf", lambda leaf: read.append(leaf) or decode_leaf(leaf)
    )
    new = golden.leaf("writer")
    leaves = [*[bytes(bytearray(leaf)) for leaf in golden.leaves], b"junk", new]
    later = later_view(golden, leaves, first)
    assert [entry.index for entry in later.select()] == [0, 1, 2, 4]
    assert [violation.index for violation in later.violations] == [3]
    assert [entry.index for entry in later.select("model.scored", model="retail_pd")] == [4]
    assert read == [new]
    assert [entry.index for entry in first.select()] == [0, 1, 2]
    assert first.select("model.scored") == []


@pytest.mark.parametrize("alter", ["replaced", "removed", "moved", "one byte"])
def test_a_later_view_finds_what_was_altered_since(golden: Any, alter: str) -> None:
    first = view_of(golden, golden.leaves)
    assert len(first.select()) == 3
    genesis, data, vote = golden.leaves
    leaves = {
        "replaced": [genesis, golden.leaf("writer"), vote],
        "removed": [genesis, data],
        "moved": [genesis, vote, data],
        "one byte": [genesis, data, vote[:-9] + bytes([vote[-9] ^ 1]) + vote[-8:]],
    }[alter]
    with pytest.raises(LedgerIntegrityError):
        later_view(golden, leaves, first, note=golden.note)


def test_a_later_view_of_a_rewritten_ledger_takes_nothing_over(golden: Any) -> None:
    first = view_of(golden, golden.leaves)
    assert [entry.model for entry in first.select("approval.voted")] == ["retail_pd"]
    leaves = [*golden.leaves[:2], golden.leaf("writer", model="other"), golden.leaf("writer")]
    later = later_view(golden, leaves, first)
    assert [(entry.index, entry.model) for entry in later.select("model.scored")] == [
        (2, "other"),
        (3, "retail_pd"),
    ]
    assert later.select("approval.voted") == []


def test_a_later_view_with_other_keys_believes_only_those(golden: Any) -> None:
    first = view_of(golden, golden.leaves)
    assert len(first.select()) == 3
    later = later_view(golden, golden.leaves, first, trust=replace(golden.trust, attestor_keys=()))
    assert [entry.index for entry in later.select()] == [0, 1]
    assert [violation.is_unknown_key for violation in later.violations] == [True]


def test_a_ledger_that_does_not_begin_with_genesis(golden: Any) -> None:
    leaves = golden.leaves[1:]
    assert check(golden, leaves, golden.sign(leaves)).exit_code == 1


@pytest.mark.attack(21)
def test_threat_21_the_empty_ledger(golden: Any) -> None:
    assert check(golden, [], golden.sign([])).is_fine
    assert view_of(golden, []).select() == []


def test_only_checkpoints_that_fit_are_said_to_be_extended(golden: Any) -> None:
    root = MerkleTree(leaf_hash(leaf) for leaf in golden.leaves[:2]).root().hex()
    fits = Checkpoint(golden.origin, 2, root, "")
    longer = Checkpoint(golden.origin, 9, root, "")
    altered = Checkpoint(golden.origin, 2, "0" * 64, "")
    report = check(golden, golden.leaves, golden.note, fits, longer, altered)
    assert (report.earlier, len(report.problems)) == (1, 2)
    assert "extends 1 checkpoint(s)" in "\n".join(report.lines())


def test_the_report_as_json_says_all_of_it(golden: Any) -> None:
    leaves = [*golden.leaves, golden.leaf("mallory"), b"junk"]
    report = check(golden, leaves, golden.sign(leaves), disclose=lambda key: {})
    report = replace(report, waiting=2, remembered=3, anchors=("seen",), remarks=("silence",))
    assert report.as_json() == {
        "fine": False,
        "origin": golden.origin,
        "entries": 5,
        "root_hash": MerkleTree(leaf_hash(leaf) for leaf in leaves).root().hex(),
        "kinds": {"approval.voted": 1, "data.validated": 1, "genesis": 1},
        "opened": 0,
        "closed": 2,
        "unaccounted": [[2, "people.voter"], [2, "texts.comment"]],
        "waiting": 2,
        "earlier_checkpoints": 0,
        "remembered": 3,
        "alive_at": "2026-01-02T03:04:05.678Z",
        "anchors": ["seen"],
        "remarks": ["silence"],
        "problems": list(report.problems),
        "unknown_keys": list(report.unknown_keys),
    }
    assert [line[:31] for line in report.problems] == ["Entry 4 counts for nothing: Not"]
    assert [line[:30] for line in report.unknown_keys] == ["Entry 3 counts for nothing: It"]
    plain = check(golden, [], golden.sign([])).as_json()
    assert (plain["fine"], plain["waiting"], plain["remembered"]) == (True, 0, 0)
    assert (plain["alive_at"], plain["anchors"], plain["remarks"]) == (None, [], [])


def test_the_report_in_lines_says_what_there_is_to_say(golden: Any) -> None:
    report = check(golden, golden.leaves, golden.note)
    lines = report.lines()
    assert lines[:3] == ["The ledger verifies.", "Checked:", f"  log {golden.origin}"]
    assert lines[3].startswith("  3 entries, ")
    assert lines[3].endswith(f" root {report.root_hash}")
    assert lines[4].startswith("  3 of them are well-formed")
    assert lines[5:7] == [
        "  2 names and texts are what was committed to; 0 are closed",
        "  newest heartbeat, or other entry of the log key: 2026-01-02 03:04:05 UTC by its clock",
    ]
    assert lines[7] == "Not proven by this:"
    more = replace(report, alive_at=None, remembered=2, anchors=("seen",), waiting=4, earlier=1)
    more = replace(more, unknown_keys=("stranger",), remarks=("silence",))
    found = more.with_problems(["altered"]).lines()
    assert found[:4] == ["THE LEDGER DOES NOT VERIFY.", "  ! altered", "  ! stranger", "Checked:"]
    assert found[8:14] == [
        "  the ledger extends 1 checkpoint(s) kept elsewhere",
        "  it extends the 2 entries that this machine remembers",
        "  seen",
        "  4 acknowledged entries wait for the next checkpoint",
        "Remarks:",
        "  silence",
    ]
    assert found[14:] == lines[7:]


def test_not_more_problems_are_listed_than_somebody_reads(golden: Any) -> None:
    report = check(golden, golden.leaves, golden.note)
    for number, last in ((100, "  ! 99"), (101, "  ! and 1 more"), (500, "  ! and 400 more")):
        lines = report.with_problems(map(str, range(number))).lines()
        assert lines[100] == "  ! 99"
        assert sum(line.startswith("  ! ") for line in lines) == min(number, 101)
        assert lines[lines.index("Checked:") - 1] == last


def test_a_ledger_that_breaks_off_is_reported_with_what_was_read(golden: Any) -> None:
    def broken() -> Iterator[bytes]:
        yield from golden.leaves
        raise LedgerIntegrityError("The file ends in the middle of an entry.")

    report = verify_ledger(broken(), golden.note, golden.trust, disclose=golden.disclose)
    assert report.problems == ("The file ends in the middle of an entry.",)
    assert report.size == len(golden.leaves)


def test_kinds_are_reported_by_name(golden: Any) -> None:
    leaves = [*golden.leaves, golden.leaf("writer"), golden.leaf("writer", "model.deployed")]
    kinds = list(check(golden, leaves, golden.sign(leaves)).kinds)
    assert len(kinds) > 3
    assert kinds == sorted(kinds)


def indexed(golden: Any, leaves: list[bytes], size: int, **changes: Any) -> bytes:
    """Return a true count of a model's entries in the first so many, but for the changes."""
    index = ModelIndex()
    for number, leaf in enumerate(leaves):
        if decode_leaf(leaf)[0].model == "retail_pd":
            index.add(number, leaf_hash(leaf))
    body = index.count(size).as_body() | changes
    return golden.leaf("log", "model.indexed", body=body, version=None)


def test_counts_of_a_model_are_held_against_what_was_read(golden: Any) -> None:
    leaves = [*golden.leaves, golden.leaf("writer")]
    for size in range(len(leaves) + 1):
        whole = [*leaves, indexed(golden, leaves, size)]
        assert check(golden, whole, golden.sign(whole)).is_fine
    for size in (len(leaves) + 1, 100):
        whole = [*leaves, indexed(golden, leaves, size)]
        report = check(golden, whole, golden.sign(whole))
        assert "which is not so" in report.problems[0]
    whole = [*leaves, indexed(golden, leaves, 4, count=2)]
    assert "It says 2 of the first 4" in check(golden, whole, golden.sign(whole)).problems[0]


def test_nothing_is_read_for_names_that_nobody_misses(golden: Any) -> None:
    def later() -> Iterator[bytes]:
        raise AssertionError("read without need")
        yield b""

    report = check(golden, golden.leaves, golden.note)
    assert report.unaccounted == ()
    assert report.with_erasures(later(), Keyring(golden.trust)) == report


def test_of_a_long_ledger_no_more_than_a_subtree_is_held(golden: Any) -> None:
    reading = _Reading(golden.trust, golden.disclose, ())
    for _ in range(600):
        reading.add(b"junk")
        assert len(reading._pending) < 256
    assert reading._size == 600


def test_a_view_gives_its_leaves(golden: Any) -> None:
    view = view_of(golden, golden.leaves)
    assert view.leaves == golden.leaves
    assert [view.leaves_from(start) for start in (0, 2, 3)] == [
        golden.leaves,
        golden.leaves[2:],
        [],
    ]


@pytest.mark.parametrize(
    "leaf", [b"junk", b"[]", b"7", b"{}", b'{"payload":1}', b'{"payload":"W10="}', b"[" * 200_000]
)
def test_what_is_no_entry_claims_nothing(leaf: bytes) -> None:
    assert claims_of(leaf) == ("", "", "")
    assert label_of(leaf) == ""


def test_rotations_are_listed_under_the_id_of_no_model() -> None:
    assert label("key.rotated", "retail_pd") == ROTATIONS == "*key.rotated"
    assert label("model.scored", "retail_pd") == "retail_pd"
    assert label("model.scored", "no id") == label("model.scored", ROTATIONS) == ""


def test_what_opens_a_field_that_the_entry_does_not_have_opens_nothing(golden: Any) -> None:
    more = {"people.voter": Disclosure.of({"id": "7", "name": "Ada"}), "texts.x": Disclosure.of("")}
    leaf = golden.leaf("writer")
    checkpoint = open_checkpoint(golden.sign([leaf]), golden.trust.log_keys, origin=golden.origin)
    (entry,) = LedgerView([leaf], checkpoint, golden.trust, lambda key: more).select()
    assert (entry.person("voter"), entry.text("x")) == (None, None)


def test_a_text_is_a_text(golden: Any) -> None:
    disclosure = Disclosure.of({"id": "7", "name": "Ada"})
    leaf = golden.leaf("writer", texts={"comment": disclosure.commitment})
    checkpoint = open_checkpoint(golden.sign([leaf]), golden.trust.log_keys, origin=golden.origin)
    opens = {"texts.comment": disclosure}
    (entry,) = LedgerView([leaf], checkpoint, golden.trust, lambda key: opens).select()
    with pytest.raises(LedgerIntegrityError, match="comment is not a text"):
        entry.text("comment")
