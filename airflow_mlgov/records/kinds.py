"""The kinds of ledger entries, and which key may sign which.

Every reader checks an entry's key against this table: an entry signed by another role counts for
nothing.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType


class KeyRole(StrEnum):
    """Whose key signed an entry."""

    LOG = "log"
    ATTESTOR = "attestor"
    WRITER = "writer"


class Retention(StrEnum):
    """How long what an entry discloses is kept: a class that packs map to years."""

    APPROVAL = "approval"
    EVIDENCE = "evidence"
    OPERATION = "operation"


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of ledger entry.

    Attributes:
        name: As it stands in entries, ``subject.verb``.
        signers: Roles whose key may sign it.
        retention: Which class of record it is.
        required: Keys that its body must hold; `airflow_mlgov.records.shapes` says what under them.
        needs_version: Whether it is always about one version of a model.
        author: Field of the person who wrote its free texts: who is erased takes them along; empty
            if it has none, or if no person wrote them.
    """

    name: str
    signers: frozenset[KeyRole]
    retention: Retention
    required: frozenset[str] = frozenset()
    needs_version: bool = False
    author: str = ""


ROTATION = "key.rotated"
"""The kind that puts a new key in the place of an old one; the only one that two keys sign."""

_OF_A_VERSION = re.compile(
    r"(approval|batch|breakglass|exit)\..*|model\.(trained|registered|validated|promoted|admitted|scored|deployed)"
)


def _kind(
    name: str, signers: str, retention: Retention, required: str = "", author: str = ""
) -> Kind:
    roles = frozenset(KeyRole(role) for role in signers.split())
    of_version = _OF_A_VERSION.fullmatch(name) is not None
    return Kind(name, roles, retention, frozenset(required.split()), of_version, author)


KINDS = MappingProxyType(
    {
        kind.name: kind
        for kind in (
            _kind("genesis", "log", Retention.OPERATION, "origin"),
            _kind("append.refused", "writer attestor log", Retention.OPERATION, "key kind differs"),
            _kind("policy.changed", "writer", Retention.APPROVAL, "policy_sha256"),
            _kind(
                "data.validated",
                "writer",
                Retention.EVIDENCE,
                "dataset sha256 passed evidence_sha256",
            ),
            _kind("model.trained", "writer", Retention.EVIDENCE, "evidence_sha256 inputs"),
            _kind("model.registered", "writer", Retention.EVIDENCE, "registry version variant"),
            _kind(
                "model.validated",
                "writer",
                Retention.EVIDENCE,
                "evidence_sha256 plan policy_sha256 passed",
            ),
            _kind(
                "finding.opened",
                "writer attestor",
                Retention.APPROVAL,
                "finding severity test due_at",
            ),
            _kind("finding.closed", "attestor", Retention.APPROVAL, "finding", "closed_by"),
            _kind(
                "finding.accepted", "attestor", Retention.APPROVAL, "finding until", "accepted_by"
            ),
            _kind(
                "approval.requested",
                "writer",
                Retention.APPROVAL,
                "request policy_sha256 target evidence request_sha256",
            ),
            _kind(
                # From a task a vote is worth L0, from the api-server L1:
                # `airflow_mlgov.policy.tally` tells them apart.
                "approval.voted",
                "writer attestor",
                Retention.APPROVAL,
                "request_sha256 choice",
                "voter",
            ),
            _kind(
                "approval.vote_refused",
                "writer attestor",
                Retention.APPROVAL,
                "request_sha256 reasons",
                "voter",
            ),
            # What Airflow did not take after it was written down: only who wrote it can know.
            _kind(
                "approval.vote_voided", "attestor", Retention.APPROVAL, "request_sha256 vote reason"
            ),
            # Of an emergency: who opens a guard without an approval, who says afterwards that it
            # was right, and which promotion it let through.
            _kind(
                "breakglass.used",
                "attestor",
                Retention.APPROVAL,
                "target until quorum confirm_by",
                "used_by",
            ),
            _kind(
                "breakglass.confirmed",
                "attestor",
                Retention.APPROVAL,
                "breakglass place",
                "confirmed_by",
            ),
            _kind("breakglass.consumed", "writer", Retention.APPROVAL, "breakglass target use"),
            _kind("approval.granted", "writer", Retention.APPROVAL, "request_sha256 statement"),
            _kind("approval.denied", "writer", Retention.APPROVAL, "request_sha256 reason"),
            _kind(
                "approval.revoked", "attestor", Retention.APPROVAL, "request_sha256", "revoked_by"
            ),
            _kind("approval.consumed", "writer", Retention.APPROVAL, "request_sha256 target use"),
            _kind(
                "model.promoted",
                "writer",
                Retention.APPROVAL,
                "request_sha256 target registry alias",
            ),
            _kind("model.scored", "writer", Retention.EVIDENCE, "request_sha256 target"),
            # What a batch of scores was made of, by which job, and what came out.
            _kind(
                "batch.scored",
                "writer",
                Retention.EVIDENCE,
                "evidence_sha256 target platform data scores",
            ),
            # What a task is about to score, of an approval whose conditions are about rows.
            _kind("model.admitted", "writer", Retention.EVIDENCE, "request_sha256 target rows"),
            # Verified before a task that then loads the model by itself.
            _kind("model.deployed", "writer", Retention.EVIDENCE, "request_sha256 target"),
            # Before a job is submitted to a cloud: what the pack demands of it and what was found.
            _kind(
                "job.examined",
                "writer",
                Retention.EVIDENCE,
                "job platform passed request_sha256 policy_sha256 controls",
            ),
            # So that nobody pays for a second one before somebody has been told of the first.
            _kind("job.ended", "writer", Retention.EVIDENCE, "job platform native_id reason"),
            # The version's specification, trained again elsewhere, and whether it scores alike.
            _kind(
                "exit.rehearsed",
                "writer",
                Retention.EVIDENCE,
                "evidence_sha256 policy_sha256 rehearsed_sha256 platform to_platform passed",
            ),
            # By a task that is not ours, so that neither data nor version are known.
            _kind("model.trained_outside", "writer", Retention.EVIDENCE, "operator file"),
            _kind("model.indexed", "log", Retention.OPERATION, "size count leaves_sha256"),
            _kind("guard.refused", "writer attestor", Retention.APPROVAL, "check reason target"),
            # What the ledger cannot prove of itself, that nothing was left out, was looked for.
            _kind("reconciled", "writer", Retention.OPERATION, "since until counts unchecked"),
            _kind(
                "alias.repaired",
                "writer",
                Retention.APPROVAL,
                "request_sha256 target registry alias",
            ),
            _kind("state.changed_by_hand", "writer attestor", Retention.OPERATION, "task state"),
            # Anyone may keep things, as anyone may stop a model; to let go of them, as to resume
            # one, takes a key that no task holds.
            _kind("hold.placed", "writer attestor log", Retention.APPROVAL, "hold", "placed_by"),
            _kind("hold.lifted", "attestor", Retention.APPROVAL, "hold", "lifted_by"),
            _kind("model.stopped", "writer attestor log", Retention.APPROVAL, "", "stopped_by"),
            _kind("model.resumed", "attestor", Retention.APPROVAL, "stop", "resumed_by"),
            # Whoever may delete from the store stands where the log key is. A task that removes a
            # name some other way cannot explain that away.
            _kind("erased", "log", Retention.OPERATION, "because count fields"),
            _kind("heartbeat", "log", Retention.OPERATION, "interval_s"),
            # Each role hands on its own key: `airflow_mlgov.ledger.keyring` says when that counts.
            _kind(ROTATION, "writer attestor log", Retention.OPERATION, "role vkey"),
        )
    }
)
"""Every kind by name. A kind is added by the code that writes it, and never removed."""
