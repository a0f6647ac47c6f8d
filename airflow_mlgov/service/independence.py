"""Who may judge a version: nobody who built it, and nobody who asked for it.

Source:
    SR 26-2 (effective challenge) and PRA SS1/23 principle 4 (independent validation): whoever
    challenges a model has not built it.
"""

from __future__ import annotations

from collections.abc import Iterator

from airflow_mlgov.errors import NotEntitledError
from airflow_mlgov.policy.pack import PolicyPack
from airflow_mlgov.records.digest import Digest
from airflow_mlgov.records.people import Person
from airflow_mlgov.service.approvals import person_of
from airflow_mlgov.service.governance import Governance
from airflow_mlgov.service.ledger import LedgerView


def check_independent(
    gov: Governance, view: LedgerView, model: str, version: Digest | None, person: Person
) -> None:
    """Refuse whoever developed the model, triggered a training of the version, or asked for it.

    To ask for it is to trigger a run that asks for its approval; that keeps somebody out where the
    pack in force keeps requesters apart. Without a version, those of every version of the
    model.

    Raises:
        UnknownSubjectError: The inventory has no such model; a retry does not help.
        NotEntitledError: The person is one of them, or nobody can tell; a retry does not help.
    """
    entry = gov.model(model)
    pack = gov.pack_for(entry)
    people = list(_barred(view, pack, model, version))
    if None in people:
        raise NotEntitledError(
            "The name of who trained this version, or asked for it, was erased: nobody can be "
            "shown to be somebody else.",
            remedy="Train a new version.",
        )
    if pack.names(person) & pack.names(*entry.developers, *people):
        raise NotEntitledError(
            "You built this version, or asked for its approval: another person must do this.",
            remedy="Ask somebody who did not.",
        )


def _barred(
    view: LedgerView, pack: PolicyPack, model: str, version: Digest | None
) -> Iterator[Person | None]:
    """Yield whom entries name that keep somebody out; None if that name was erased."""
    fields = {"model.trained": "developer"}
    if pack.segregation.requester:
        fields["approval.requested"] = "requester"
    for entry in view.select(*fields, model=model, version=version):
        field = fields[entry.kind]
        if field in entry.people:
            yield person_of(entry, field)
