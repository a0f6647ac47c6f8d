"""Putting everything about one model into a bundle that an outsider can check."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from airflow_mlgov.errors import (
    ArtefactError,
    EvidenceError,
    LedgerIntegrityError,
    MlgovError,
    VersionNotFoundError,
)
from airflow_mlgov.ledger.bundle import (
    CHECKPOINT_FILE,
    BundleHeader,
    anchored_file,
    disclosures_file,
    entry_file,
    evidence_file,
    files_due,
    manifest_file,
    proof_file,
    timestamp_file,
    waiting_file,
    write_bundle,
)
from airflow_mlgov.ledger.bundle_anchors import proof_lines
from airflow_mlgov.ledger.cosignature import joined
from airflow_mlgov.ledger.merkle import Tree
from airflow_mlgov.ledger.model_index import ModelCount
from airflow_mlgov.ledger.proof import TlogProof
from airflow_mlgov.ledger.view import SealedEntry, label_of
from airflow_mlgov.records.canonical import canonical_bytes
from airflow_mlgov.records.digest import Digest
from airflow_mlgov.records.kinds import KeyRole
from airflow_mlgov.records.manifest import Manifest
from airflow_mlgov.service.artefacts import hash_directory
from airflow_mlgov.service.governance import Governance
from airflow_mlgov.service.ledger import EntryDraft, Ledger
from airflow_mlgov.service.model_view import ModelView
from airflow_mlgov.service.ports import Anchored, InboxItem, Registry

COUNT_EVERY = timedelta(days=1)
"""A count on record that is older is made anew, so that its time tells how fresh a bundle is."""


@dataclass(frozen=True)
class MadeBundle:
    """A bundle and what is in it.

    Attributes:
        data: The bundle's bytes; the same for the same state of ledger and evidence.
        size: Entries under its checkpoint.
        entries: How many of them are about the model.
        counted: What the newest count on record says; None if there is none.
        could_not_be_had: Names of files that belong into it and could not be got.
        waiting: Acknowledged entries about the model that no checkpoint covers yet.
    """

    data: bytes
    size: int
    entries: int
    counted: ModelCount | None
    could_not_be_had: tuple[str, ...]
    waiting: int


def make_bundle(
    gov: Governance,
    model: str,
    version: str | None = None,
    *,
    registry: Callable[[], Registry] | None = None,
) -> MadeBundle:
    """Return a bundle of all entries about a model, with what they name and what proves them.

    A process that holds the log key first puts a count of the model's entries on record, unless
    the newest one counts all there is and is not a day old. The first bundle of a model reads the
    whole ledger; a later one reads what came since the model's newest count.

    Args:
        gov: Ledger, evidence and rules.
        model: Inventory id; it may have left the inventory since.
        version: The registry's version number, or ``sha256:<manifest digest>``, whose documents
            are put in; None for those of all versions.
        registry: Opens the registry, for manifests that no training record holds; None for none.

    Raises:
        VersionNotFoundError: The ledger has no such model or version; a retry does not help.
        LedgerIntegrityError: The ledger does not verify, or the bundle would be too large.
        LedgerUnavailableError: The ledger cannot be reached; a retry may help.
    """
    view = gov.ledger.model_view(model)
    if not view.select():
        raise VersionNotFoundError(
            f"The ledger has no entry about model {model!r}.",
            remedy="`airflow mlgov ledger show` lists what it is about.",
        )
    asked = None if version is None else _version_of(view, version)
    if gov.ledger.is_embedded and not _is_counted(gov, view):
        _count(gov, view)
        view = gov.ledger.model_view(model)
    files = _entries(view) | _anchored(gov.ledger, view.tree)
    waiting = _waiting(gov.ledger.inbox(), view)
    due = files_due(view.select(), asked)
    held = _documents(gov, due) | _manifests(gov, view, due, registry)
    missing = tuple(sorted(due.keys() - held.keys()))
    checkpoint = view.checkpoint
    header = BundleHeader(
        checkpoint.origin, model, asked, checkpoint.size, checkpoint.root_hash, missing
    )
    return MadeBundle(
        data=write_bundle(header, {**files, **waiting, **held}),
        size=checkpoint.size,
        entries=len(view.indices),
        counted=ModelCount.of_body(view.counts[-1].body) if view.counts else None,
        could_not_be_had=missing,
        waiting=len(waiting),
    )


def _version_of(view: ModelView, text: str) -> Digest:
    if text.startswith("sha256:"):
        try:
            digest = Digest.parse(text)
        except ArtefactError as error:
            raise VersionNotFoundError(f"{text!r} is not a manifest digest.") from error
        found = {digest} if view.select(version=digest) else set()
    else:
        registered = view.select("model.registered")
        found = {e.version for e in registered if e.version and e.body["version"] == text}
    if len(found) != 1:
        what = "more than one version" if found else "no version"
        raise VersionNotFoundError(
            f"The ledger has {what} {text!r} of model {view.model!r}.",
            remedy="Name it by its manifest digest, sha256:..., as `airflow mlgov ledger show "
            "--output json` lists it.",
        )
    return found.pop()


def _is_counted(gov: Governance, view: ModelView) -> bool:
    if not view.counts or gov.clock.now() - view.counts[-1].at > COUNT_EVERY:
        return False
    newest = view.counts[-1]
    held = view.indices + view.rotations
    after = [index for index in held if index >= newest.body["size"]]
    return after == [newest.index]


def _count(gov: Governance, view: ModelView) -> None:
    said = view.count()
    draft = EntryDraft(
        "model.indexed", view.model, None, said.as_body(), (view.model, str(said.size))
    )
    gov.ledger.seal(gov.ledger.append(draft, role=KeyRole.LOG))


def _entries(view: ModelView) -> dict[str, bytes]:
    note = view.checkpoint.note.encode("utf-8")
    files = {CHECKPOINT_FILE: note}
    for index in sorted({0, *view.indices, *view.rotations}):
        leaf, proof = view.proven(index)
        files[entry_file(index)] = leaf
        files[proof_file(index)] = TlogProof(index, proof, note).as_bytes()
    for entry in view.select():
        opened = entry.disclose(entry.key)
        value = {
            name: {"salt": disclosure.salt.hex(), "value": disclosure.value}
            for name, disclosure in opened.items()
        }
        if value:
            files[disclosures_file(entry.index)] = canonical_bytes(value)
    return files


def _anchored(ledger: Ledger, tree: Tree) -> dict[str, bytes]:
    """Return what the anchors gave last, with proofs that the bundle's checkpoint extends it."""
    by_size: dict[int, list[Anchored]] = {}
    keyring = ledger.keyring()
    for row in ledger.anchored():
        # What a folder was given proves nothing in a bundle; what is newer comes into the next.
        if row.data and row.size <= tree.size:
            by_size.setdefault(row.size, []).append(row)
    files = {}
    for size, given in by_size.items():
        note = given[0].note
        opened = keyring.open(note)
        is_ours = (opened.size, opened.root_hash) == (size, tree.root(size).hex())
        if not is_ours or any(row.note != note for row in given):
            raise LedgerIntegrityError(
                f"The ledger does not extend the checkpoint over {size} entries that anchor "
                f"{given[0].anchor} took.",
                remedy="`airflow mlgov ledger verify` says more.",
            )
        files[anchored_file(size, "note")] = note
        files[anchored_file(size, "proof")] = proof_lines(tree.consistency_proof(size))
        lines = joined(note, (row.data for row in given if row.kind == "witness"))
        if lines:
            files[anchored_file(size, "cosignatures")] = lines
        stamps = (row.data for row in given if row.kind == "timestamp")
        files |= {timestamp_file(data): data for data in stamps}
    return files


def _waiting(inbox: list[InboxItem], view: ModelView) -> dict[str, bytes]:
    # What was sequenced between the two readings is covered, by a later checkpoint than this one.
    sealed = {entry.key for entry in view.select()}
    return {
        waiting_file(item.key): item.leaf
        for item in inbox
        if label_of(item.leaf) == view.model and item.key not in sealed
    }


def _documents(gov: Governance, due: Mapping[str, int]) -> dict[str, bytes]:
    # A pack is kept as evidence when approval is first asked for under it; until then it is here.
    packs = {evidence_file(pack.digest): pack.source for pack in gov.packs.values()}
    held = {}
    for name in due:
        folder, _, hexed = name.partition("/")
        if folder != "evidence":
            continue
        try:
            held[name] = gov.evidence.get(Digest(hexed))
        except EvidenceError:
            if name in packs:
                held[name] = packs[name]
    return held


def _manifests(
    gov: Governance,
    view: ModelView,
    due: Mapping[str, int],
    registry: Callable[[], Registry] | None,
) -> dict[str, bytes]:
    held = {}
    for entry in view.select("model.registered"):
        if entry.version is None or manifest_file(entry.version) not in due:
            continue
        manifest = _trained_manifest(gov, view, entry) or _registry_manifest(entry, registry)
        if manifest is not None and manifest.digest == entry.version:
            held[manifest_file(entry.version)] = manifest.canonical()
    return held


def _trained_manifest(gov: Governance, view: ModelView, entry: SealedEntry) -> Manifest | None:
    for trained in view.select("model.trained", version=entry.version):
        try:
            record = json.loads(gov.evidence.get(Digest.parse(trained.body["evidence_sha256"])))
            return Manifest.from_json(record["manifest"])
        except (EvidenceError, ArtefactError, ValueError, KeyError, TypeError):
            continue
    return None


def _registry_manifest(
    entry: SealedEntry, registry: Callable[[], Registry] | None
) -> Manifest | None:
    if registry is None or entry.version is None or "name" not in entry.body:
        return None
    try:
        opened = registry()
        found = opened.find(entry.body["name"], entry.version)
        with tempfile.TemporaryDirectory(prefix="mlgov-bundle-") as folder:
            return hash_directory(opened.fetch(found, Path(folder)))
    except MlgovError:
        return None
