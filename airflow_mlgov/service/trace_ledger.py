"""What lineage shows, held against the ledger: an approval is one if its votes say so."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from airflow_mlgov.errors import MlgovError
from airflow_mlgov.lineage.names import (
    NAMESPACE,
    approval_record,
    approval_run_id,
    break_glass_record,
    denial_record,
    endpoint_revision,
    request_record,
)
from airflow_mlgov.policy.tally import Decision
from airflow_mlgov.records.clock import to_text
from airflow_mlgov.records.digest import Digest
from airflow_mlgov.records.source import Source
from airflow_mlgov.records.trace import Answer, Gap, NodeKind, dataset_node_id, run_node_id
from airflow_mlgov.service.approvals import Standing, standing_of
from airflow_mlgov.service.break_glass import break_glasses
from airflow_mlgov.service.describe import registry_number
from airflow_mlgov.service.findings import ERASED
from airflow_mlgov.service.governance import Governance
from airflow_mlgov.service.ledger import LedgerView, SealedEntry
from airflow_mlgov.service.request_state import state_of
from airflow_mlgov.service.sent_runs import Place, SentRun, moment_of
from airflow_mlgov.service.trace_walk import Walk

USES = ("model.scored", "model.deployed", "model.admitted")
"""Kinds of entry in which a task says that it uses a version."""

_CLEARANCES = frozenset({NodeKind.APPROVAL, NodeKind.BREAK_GLASS, NodeKind.ENDPOINT})


class LedgerCheck:
    """Compares what a walk reached with the ledger.

    Args:
        gov: Governance to count votes with.
        view: Verified ledger.
        walk: What lineage shows.

    Attributes:
        gaps: Where they disagree.
        states: Where requests stand by their votes, by the place of the record.
        answers: Who filled the seats of approvals.
    """

    def __init__(self, gov: Governance, view: LedgerView, walk: Walk) -> None:
        self._gov = gov
        self._view = view
        self._walk = walk
        self.gaps: list[Gap] = []
        self.states: dict[Place, str] = {}
        self.answers: list[Answer] = []
        self._registered: dict[Place, list[SealedEntry]] = defaultdict(list)
        for entry in view.select("model.registered"):
            self._registered[place_of(entry)].append(entry)

    def compare(self) -> None:
        """Look at everything that the walk reached.

        Raises:
            LedgerUnavailableError: The store went away meanwhile; a retry may help.
        """
        checks = {
            NodeKind.APPROVAL: self._check_decision,
            NodeKind.BREAK_GLASS: self._check_emergency,
            NodeKind.DENIAL: self._check_decision,
            NodeKind.ENDPOINT: self._check_endpoint,
            NodeKind.MODEL: self._check_model,
            NodeKind.REPORT: self._check_report,
            NodeKind.REQUEST: self._check_request,
        }
        for place in self._walk.places:
            check = checks.get(self._walk.kind(place))
            if check is not None:
                check(place)
        for run in self._walk.runs.values():
            self._check_use(run)

    def tell(self, problem: str, node: str, field: str = "") -> None:
        """Note something that the ledger lacks or says differently."""
        self.gaps.append(Gap("ledger", problem, node, field))

    def _check_request(self, place: Place) -> None:
        standing = self._standing(place)
        if standing is None:
            return
        request = standing.request
        self._check_name(place, request_record(*self._version(standing), request.digest).name)
        for run in self._own_writers(place, request.digest, "request"):
            read = self._digests(run.inputs)
            if str(request.version) not in read:
                self.tell(
                    f"{place[1]} asks about {request.version} by the ledger, which run "
                    f"{run.run_id} did not read",
                    dataset_node_id(*place),
                    "version",
                )
            for kind, digest in request.evidence:
                # The training record is no dataset: the training run stands for it.
                if kind != "model.trained" and str(digest) not in read:
                    self.tell(
                        f"{place[1]} rests on {kind} {digest} by the ledger, which run "
                        f"{run.run_id} did not read",
                        dataset_node_id(*place),
                        "evidence",
                    )

    def _check_decision(self, place: Place) -> None:
        standing = self._standing(place)
        if standing is None:
            return
        is_approval = self._walk.kind(place) is NodeKind.APPROVAL
        shown = Decision.GRANTED if is_approval else Decision.DENIED
        record = approval_record if is_approval else denial_record
        self._check_name(place, record(*self._version(standing), standing.request.digest).name)
        if standing.decision is not shown:
            self.tell(
                f"{place[1]}: lineage shows {shown.value}, the votes in the ledger come to "
                f"{standing.decision.value}",
                dataset_node_id(*place),
                "decision",
            )
        for run in self._own_writers(place, standing.request.digest, "decide"):
            self._check_facts(run, standing)
        for tallied in standing.count.seats if is_approval else ():
            for vote in tallied.votes:
                who = vote.voter.name if vote.voter else ERASED
                assured = vote.assurance.value
                self.answers.append(Answer(place[1], tallied.seat.role, who, assured, vote.cast_at))

    def _check_facts(self, run: SentRun, standing: Standing) -> None:
        decided_at = standing.decided_at
        said = run.facts.get("decision"), run.facts.get("decided_at")
        if said[0] not in {None, standing.decision.value}:
            self.tell(
                f"run {run.run_id}: decision is {said[0]} in lineage, {standing.decision.value} by "
                "the ledger",
                run_node_id(run.run_id),
                "decision",
            )
        if said[1] is not None and moment_of(said[1]) != decided_at:
            self.tell(
                f"run {run.run_id}: decided_at is {said[1]} in lineage, "
                f"{to_text(decided_at) if decided_at else 'not yet'} by the ledger",
                run_node_id(run.run_id),
                "decided_at",
            )

    def _check_emergency(self, place: Place) -> None:
        for glass in break_glasses(self._view):
            number = registry_number(
                self._view, glass.entry.model, glass.entry.version or glass.key
            )
            if place[1] == break_glass_record(glass.entry.model, number, glass.key).name:
                self.states[place] = "confirmed" if glass.is_confirmed else "unconfirmed"
                return
        self._unknown(place, "emergency")

    def _check_endpoint(self, place: Place) -> None:
        short = _in_name(place)
        for entry in self._view.find(
            "model.promoted",
            claims=lambda said: said["body"]["request_sha256"].startswith(short),
        ):
            if entry.version is None:
                continue
            number = registry_number(self._view, entry.model, entry.version)
            request = Digest.parse(entry.body["request_sha256"])
            name = endpoint_revision(entry.model, number, entry.body["target"], request).name
            if name == place[1]:
                self._check_digest(place, {str(entry.version)})
                return
        self._unknown(place, "promotion")

    def _check_model(self, place: Place) -> None:
        entries = self._registered.get(place)
        if not entries:
            self._unknown(place, "registered version")
            return
        self._check_digest(place, {str(entry.version) for entry in entries})
        for run in self._walk.writers(place):
            self._check_training(run, entries)

    def _check_training(self, run: SentRun, registered: Sequence[SealedEntry]) -> None:
        """Name inputs of the training on record that lineage does not show."""
        trained = [
            entry
            for each in registered
            for entry in self._view.select("model.trained", model=each.model, version=each.version)
        ]
        read = self._digests(run.inputs)
        missing = [
            [
                (item["name"], item["sha256"])
                for item in entry.body["inputs"]
                if item["sha256"] not in read
            ]
            for entry in trained
        ]
        if not all(missing):  # the same version may have been trained twice
            return
        for name, digest in missing[-1] if missing else ():
            self.tell(
                f"run {run.run_id} learnt from {name} ({digest}) by the ledger, which lineage does "
                "not show",
                run_node_id(run.run_id),
                "inputs",
            )

    def _check_report(self, place: Place) -> None:
        digest = self._claimed(place)
        if not self._view.find(
            "model.validated",
            "data.validated",
            claims=lambda said: said["body"]["evidence_sha256"].startswith(digest),
        ):
            self._unknown(place, "validation")

    def _check_use(self, run: SentRun) -> None:
        """Name a run that used a version, if no task of the ledger did."""
        cleared = [place for place in run.inputs if self._walk.kind(place) in _CLEARANCES]
        is_own = any(namespace == NAMESPACE for namespace, _ in run.outputs)
        if not cleared or is_own or run.state != "COMPLETE":
            return
        entries = self._view.find(*USES, claims=_claims_of_task(run))
        used = [place for place in run.inputs if self._walk.kind(place) is NodeKind.MODEL]
        digests = self._digests(used)
        if not any(str(entry.version) in digests for entry in entries):
            names = ", ".join(name for _, name in used)
            self.tell(
                f"run {run.run_id} ({run.job[1]}) used {names} by lineage, and the ledger has no "
                "such use",
                run_node_id(run.run_id),
            )
            return
        rests_on = {Digest.parse(entry.body["request_sha256"]).short for entry in entries}
        for _, name in cleared:
            if name.rpartition("/")[2] not in rests_on:
                self.tell(
                    f"run {run.run_id} ({run.job[1]}) rests on {name} by lineage, on "
                    f"{', '.join(sorted(rests_on))} by the ledger",
                    run_node_id(run.run_id),
                    "inputs",
                )

    def _standing(self, place: Place) -> Standing | None:
        wanted = self._claimed(place)
        for entry in self._view.find(
            "approval.requested",
            claims=lambda said: said["body"]["request_sha256"].startswith(wanted),
        ):
            asked = Digest.parse(entry.body["request_sha256"])
            try:
                standing = standing_of(self._gov, self._view, asked)
            except MlgovError as error:
                if error.retryable:
                    raise
                self.tell(
                    f"the votes on {place[1]} cannot be counted again: {error.problem}",
                    dataset_node_id(*place),
                )
                return None
            if standing is not None:
                self.states[place] = state_of(self._view, standing).value
            return standing
        self._unknown(place, "request")
        return None

    def _version(self, standing: Standing) -> tuple[str, str]:
        request = standing.request
        return request.model, registry_number(self._view, request.model, request.version)

    def _own_writers(self, place: Place, request: Digest, part: str) -> Iterable[SentRun]:
        """Yield the run in which the gate writes a record, and name every other that did."""
        own = approval_run_id(request, part)
        for run in self._walk.writers(place):
            if run.run_id == own:
                yield run
            else:
                self.tell(
                    f"run {run.run_id} ({run.job[1]}) wrote {place[1]}, which only the gate's run "
                    f"{own} writes",
                    run_node_id(run.run_id),
                )

    def _check_name(self, place: Place, name: str) -> None:
        if place[1] != name:
            self.tell(f"{place[1]} is {name} by the ledger", dataset_node_id(*place), "name")

    def _check_digest(self, place: Place, known: set[str]) -> None:
        digest = self._walk.digest(place)
        if digest and digest not in known:
            self.tell(
                f"{place[1]} is {digest} in lineage, {', '.join(sorted(known))} by the ledger",
                dataset_node_id(*place),
                "digest",
            )

    def _unknown(self, place: Place, what: str) -> None:
        self.tell(
            f"the ledger holds no {what} {place[1]}: it is forged, or of another ledger",
            dataset_node_id(*place),
        )

    def _claimed(self, place: Place) -> str:
        """Return how the digest of a record begins, by its writer or else by its name."""
        return self._walk.digest(place) or _in_name(place)

    def _digests(self, places: Iterable[Place]) -> set[str]:
        return {digest for place in places if (digest := self._walk.digest(place))}


def place_of(registered: SealedEntry) -> Place:
    """Return where lineage shows a version, by its ``model.registered`` entry."""
    body = registered.body
    return str(body.get("namespace", "")), f"{body.get('name', '')}/{body['version']}"


def is_of(run: SentRun, task: Source) -> bool:
    """Tell whether a run is of a task; without Airflow's facet, whether it is of the task's job."""
    if run.task is not None:
        return run.task == task.task
    return run.job[1] == f"{task.dag_id}.{task.task_id}"


def _claims_of_task(run: SentRun) -> Callable[[Mapping[str, Any]], bool]:
    """Return `is_of` for unchecked entries, of which there may be a hundred thousand."""
    task = run.task
    if task is None:
        return lambda said: is_of(run, Source.from_json(said["source"]))
    wanted = Source(*task).as_json()
    del wanted["try_number"]
    return lambda said: wanted.items() <= said["source"].items()


def _in_name(place: Place) -> str:
    """Return how the digest begins that a record's name ends with; of none, what no digest is."""
    short = place[1].rpartition("/")[2]
    return f"sha256:{short or '?'}"
