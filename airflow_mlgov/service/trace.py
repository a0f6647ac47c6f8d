"""From a decision back to data and approvals: outbox, ledger and Marquez, and where they disagree.

The outbox says what was read and written, the ledger what was decided, Marquez what an auditor is
shown. The walk is over the outbox, and needs no Marquez.
"""

from __future__ import annotations

from airflow_mlgov.errors import UnknownSubjectError
from airflow_mlgov.lineage.marquez import MarquezClient
from airflow_mlgov.lineage.names import (
    NAMESPACE,
    approval_record,
    break_glass_record,
    denial_record,
    endpoint_revision,
    request_record,
    validation_report,
)
from airflow_mlgov.policy.tally import Decision
from airflow_mlgov.records.digest import Digest
from airflow_mlgov.records.trace import (
    Gap,
    Node,
    NodeKind,
    Trace,
    dataset_node_id,
    in_order,
    run_node_id,
)
from airflow_mlgov.service.approvals import standings
from airflow_mlgov.service.break_glass import break_glasses
from airflow_mlgov.service.delivery import number_what_came
from airflow_mlgov.service.governance import Governance
from airflow_mlgov.service.ledger import SealedEntry
from airflow_mlgov.service.outbox import Outbox
from airflow_mlgov.service.sent_runs import Place, SentRun
from airflow_mlgov.service.trace_ledger import USES, LedgerCheck, is_of, place_of
from airflow_mlgov.service.trace_marquez import MarquezCheck
from airflow_mlgov.service.trace_walk import Walk

_MOST_USES = 20
_UNSEEN = "the newest events are not numbered yet, and were not looked at"


class Tracer:
    """Makes traces.

    Args:
        gov: Governance: the ledger, and the rules to count votes with.
        outbox: Where lineage events are kept.
        marquez: What to compare the outbox with; None compares nothing.

    Raises:
        LedgerUnavailableError: The store cannot be reached; a retry may help.
        LedgerIntegrityError: The ledger does not verify; a retry does not help.
    """

    def __init__(self, gov: Governance, outbox: Outbox, marquez: MarquezClient | None) -> None:
        self._gov = gov
        self._outbox = outbox
        self._marquez = marquez
        self._view = gov.ledger.view()
        problem = number_what_came(outbox)
        self._unnumbered = [Gap("outbox", f"{_UNSEEN}: {problem}")] if problem else []

    def from_dataset(self, namespace: str, name: str) -> Trace:
        """Trace a dataset.

        Raises:
            UnknownSubjectError: The outbox has no event about it; a retry does not help.
            LedgerUnavailableError: The store cannot be reached; a retry may help.
        """
        if not self._outbox.of_dataset(namespace, name, limit=1):
            raise UnknownSubjectError(
                f"The outbox has no event about the dataset {name!r} in {namespace!r}.",
                remedy="A file is /its/absolute/path@ and 12 characters of its digest, in the "
                "namespace 'file'; a model version is NAME/NUMBER in its registry's.",
            )
        walk = Walk(self._outbox)
        walk.back_from([(namespace, name)])
        return self._compared(walk)

    def from_run(self, run_id: str) -> Trace:
        """Trace a run.

        Raises:
            UnknownSubjectError: The outbox has no event of it; a retry does not help.
            LedgerUnavailableError: The store cannot be reached; a retry may help.
        """
        walk = Walk(self._outbox)
        if walk.run(run_id) is None:
            raise UnknownSubjectError(
                f"The outbox has no event of the run {run_id!r}.",
                remedy="Give the id of a run in lineage, as Marquez shows it; not that of a DAG "
                "run in Airflow.",
            )
        walk.back_from_runs([run_id])
        return self._compared(walk)

    def from_model(self, model: str, version: str) -> Trace:
        """Trace a model version and all that was decided about it; its uses are not shown.

        Of the events that read the version, the first `trace_walk.READERS` are looked at; only if
        those are all, the ledger's uses of it are looked for among them.

        Args:
            model: Inventory id.
            version: The registry's number, or ``sha256:...`` of its manifest.

        Raises:
            UnknownSubjectError: Nobody knows the model or version; a retry does not help.
            LedgerUnavailableError: The store cannot be reached; a retry may help.
        """
        self._gov.model(model)
        registered = self._versions(model, version)
        on_record = {place_of(entry): entry.index for entry in registered}
        for entry in registered:
            on_record |= self._records(entry)
        walk = Walk(self._outbox, on_record)
        starts, deciding = dict.fromkeys(on_record), []
        for entry in registered:
            readers, is_all = walk.readers(place_of(entry))
            prefix = f"{model}/{entry.body['version']}/"
            written = [place for run in readers for place in run.outputs]
            found = [p for p in written if p[0] == NAMESPACE and p[1].startswith(prefix)]
            starts |= dict.fromkeys(found)
            if is_all:
                walk.gaps += self._uses_without_run(entry, readers)
        for place in list(starts):
            if walk.kind(place) is NodeKind.REQUEST:
                deciding += walk.readers(place)[0]
        starts |= dict.fromkeys(p for run in deciding for p in run.outputs if p[0] == NAMESPACE)
        walk.back_from(starts)
        walk.back_from_runs(run.run_id for run in deciding)
        return self._compared(walk)

    def _versions(self, model: str, version: str) -> list[SealedEntry]:
        registered = self._view.select("model.registered", model=model)
        found = [e for e in registered if version in {e.body["version"], str(e.version)}]
        if not found:
            known = ", ".join(dict.fromkeys(str(e.body["version"]) for e in registered)) or "none"
            raise UnknownSubjectError(
                f"The ledger has no version {version!r} of model {model!r}.",
                remedy=f"Registered are: {known}.",
            )
        return list({place_of(entry): entry for entry in found}.values())

    def _records(self, registered: SealedEntry) -> dict[Place, int]:
        """Return where lineage must show what the ledger has about a version, with the entries."""
        model, number = registered.model, str(registered.body["version"])
        manifest = registered.version
        found = {}
        for entry in self._view.select("model.validated", model=model, version=manifest):
            evidence = Digest.parse(entry.body["evidence_sha256"])
            found[validation_report(model, number, evidence)] = entry.index
        for standing in standings(self._gov, self._view, model=model, version=manifest):
            request, index = standing.request.digest, standing.entry.index
            found[request_record(model, number, request)] = index
            if standing.decision is Decision.GRANTED:
                found[approval_record(model, number, request)] = index
            elif standing.decision is Decision.DENIED:
                found[denial_record(model, number, request)] = index
        for glass in break_glasses(self._view, model):
            if glass.entry.version == manifest:
                found[break_glass_record(model, number, glass.key)] = glass.entry.index
        for entry in self._view.select("model.promoted", model=model, version=manifest):
            request = Digest.parse(entry.body["request_sha256"])
            found[endpoint_revision(model, number, entry.body["target"], request)] = entry.index
        return {(name.namespace, name.name): index for name, index in found.items()}

    def _uses_without_run(self, registered: SealedEntry, readers: list[SentRun]) -> list[Gap]:
        uses = self._view.select(*USES, model=registered.model, version=registered.version)
        missing = [entry for entry in uses if not any(is_of(run, entry.source) for run in readers)]
        gaps = [
            Gap(
                "outbox",
                f"no run in the outbox is the use that entry {entry.index} of the ledger has on "
                f"record ({entry.source.dag_id} {entry.source.run_id} {entry.source.task_id})",
                dataset_node_id(*place_of(registered)),
            )
            for entry in missing[:_MOST_USES]
        ]
        if len(missing) > _MOST_USES:
            more = len(missing) - _MOST_USES
            gaps.append(Gap("outbox", f"nor are {more} more uses on record in it"))
        return gaps

    def _compared(self, walk: Walk) -> Trace:
        check = LedgerCheck(self._gov, self._view, walk)
        check.compare()
        gaps = [*self._unnumbered, *walk.gaps, *check.gaps]
        if self._marquez is not None:
            gaps += MarquezCheck(self._marquez, walk).compare()
        return _assembled(walk, check, gaps)


def _assembled(walk: Walk, check: LedgerCheck, gaps: list[Gap]) -> Trace:
    nodes = {}
    for run in walk.runs.values():
        node = Node(run_node_id(run.run_id), NodeKind.RUN, run.job[1], "", run.state, run.at)
        nodes[node.id] = node
    for place in walk.places:
        written = [*walk.writers(place), *filter(None, [walk.source_of(place)])]
        node = Node(
            dataset_node_id(*place),
            walk.kind(place),
            place[1],
            walk.digest(place),
            check.states.get(place, ""),
            written[0].at if written else None,
        )
        nodes[node.id] = node
    edges: dict[tuple[str, str], None] = {}
    for run in walk.runs.values():
        own = run_node_id(run.run_id)
        read = [(dataset_node_id(*p), own) for p in run.inputs if p in walk.places]
        wrote = [(own, dataset_node_id(*p)) for p in run.outputs if p in walk.places]
        edges |= dict.fromkeys([*read, *wrote])
    in_walk = tuple(nodes[each] for each in walk.order)
    return Trace(in_walk, tuple(edges), in_order(gaps), tuple(check.answers))
