"""Scoring under guard: the verified bytes of the version in use, or a refusal."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from types import MappingProxyType

from airflow_mlgov.errors import GuardRefusedError
from airflow_mlgov.policy.inventory import InventoryEntry, Mode
from airflow_mlgov.records.conditions import Conditions
from airflow_mlgov.records.digest import Digest
from airflow_mlgov.service.allow_use import AnyClearance, allow_scoring, basis_of, rests_on
from airflow_mlgov.service.approvals import Use
from airflow_mlgov.service.conditions import (
    Rows,
    conditions_of,
    refuse_hidden_rows,
    refuse_rows,
    refuse_unchecked_data,
)
from airflow_mlgov.service.governance import Governance
from airflow_mlgov.service.ledger import EntryDraft, SealedReceipt
from airflow_mlgov.service.ports import Registry, RegistryVersion
from airflow_mlgov.service.verify_use import (
    STOPPED,
    refusals_on_record,
    refuse_stopped,
    verified_files,
)

_NONE: Mapping[str, str] = MappingProxyType({})
log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class ModelInUse:
    """A model that may be used now.

    Attributes:
        path: Private folder of the verified files; gone when the task ends.
        version: Manifest digest of those files; None in a mode below ``enforce`` if they did not
            verify.
        registered: The version as the registry knows it.
        clearance: What the use rests on; None in a mode below ``enforce`` if a check failed.
        receipt: Of ``model.scored``, under a signed checkpoint; None if a check failed.
    """

    path: Path
    version: Digest | None
    registered: RegistryVersion
    clearance: AnyClearance | None
    receipt: SealedReceipt | None = None


class Admission:
    """Hands out a model's files once the rows to be scored were held against the conditions.

    Args:
        gov: Governance.
        model: From `model_in_use`.
    """

    def __init__(self, gov: Governance, model: ModelInUse) -> None:
        self._gov = gov
        self._model = model
        self._is_admitted = not conditions_of(model.clearance).are_about_rows

    @property
    def conditions(self) -> Conditions:
        """What the approval is bound to."""
        return conditions_of(self._model.clearance)

    def admit(self, rows: Rows) -> None:
        """Note that rows are about to be scored, if the approval has conditions about rows.

        Raises:
            GuardRefusedError: They break a condition in mode ``enforce``, and the refusal is on
                record; a retry does not help.
            LedgerUnavailableError: The ledger cannot be read or written; a retry may help.
        """
        clearance = self._model.clearance
        if clearance is not None:
            with _on_trial(self._gov, clearance):
                refuse_rows(self._gov, clearance, rows)
        self._is_admitted = True

    def files(self, why: str = "The task asks for the files before it shows rows.") -> Path:
        """Return the private folder of the verified files.

        Args:
            why: What is said if nothing was admitted that had to be.

        Raises:
            GuardRefusedError: Nothing was admitted that had to be, in mode ``enforce``, and the
                refusal is on record; a retry does not help.
        """
        clearance = self._model.clearance
        if not self._is_admitted and clearance is not None:
            with _on_trial(self._gov, clearance):
                refuse_hidden_rows(clearance, why)
        return self._model.path


@contextmanager
def _on_trial(gov: Governance, clearance: AnyClearance) -> Iterator[None]:
    """Put a refusal on record, and let it pass in a mode below ``enforce``."""
    try:
        with refusals_on_record(gov, clearance.use, clearance.version):
            yield
    except GuardRefusedError as refusal:
        _refuse_unless_on_trial(gov.model(clearance.use.model), refusal)


@contextmanager
def model_in_use(gov: Governance, registry: Registry, use: Use) -> Iterator[ModelInUse]:
    """Note the use of the version in use and hand it out, if its approval verifies now.

    In the inventory's mode ``observe`` or ``warn`` a failed check is recorded (and warned of) but
    lets the task run, unless the model was stopped.

    Args:
        gov: Governance.
        registry: Where the version lives.
        use: Which model, for which environment, by which task, and the alias that names the
            version in use.

    Raises:
        GuardRefusedError: A check failed in mode ``enforce``, or the model was stopped, and the
            refusal is on record; a retry does not help.
        RegistryUnavailableError: The registry cannot be reached; a retry may help.
        LedgerUnavailableError: The ledger cannot be read or written; a retry may help.
    """
    with refusals_on_record(gov, use, None):
        entry = gov.model(use.model)
        registered = registry.by_alias(entry.registered_name, use.alias)
    with TemporaryDirectory(prefix="mlgov-score-") as private:
        try:
            model = _verified(gov, registry, use, registered, Path(private))
        except GuardRefusedError as refusal:
            _refuse_unless_on_trial(entry, refusal)
            with TemporaryDirectory(prefix="mlgov-score-") as unverified:
                yield ModelInUse(
                    registry.fetch(registered, Path(unverified)), None, registered, None
                )
            return
        yield replace(model, receipt=_record_use(gov, model))


def check_use(
    gov: Governance, open_registry: Callable[[], Registry], use: Use, kind: str
) -> ModelInUse | None:
    """Verify the version in use for a task that loads it by itself, and note that this was done.

    What the task loads then is not known: it may be another version, or changed since. Returned is
    what was verified, its files gone; None in a mode below ``enforce`` if a check failed.

    Args:
        gov: Governance.
        open_registry: Opens where the version lives; a model can be stopped whether or not that
            can be done.
        use: Which model, for which environment, by which task, and the alias that names the
            version in use.
        kind: ``model.scored`` or ``model.deployed``.

    Raises:
        GuardRefusedError: A check failed in mode ``enforce``, or the model was stopped, and the
            refusal is on record; a retry does not help.
        RegistryUnavailableError: The registry cannot be reached; a retry may help.
        LedgerUnavailableError: The ledger cannot be read or written; a retry may help.
    """
    with refusals_on_record(gov, use, None):
        entry = gov.model(use.model)
    try:
        with refusals_on_record(gov, use, None):
            refuse_stopped(gov.ledger.view(), use.model)
            registry = open_registry()
            registered = registry.by_alias(entry.registered_name, use.alias)
        with TemporaryDirectory(prefix="mlgov-check-") as private:
            model = _verified(gov, registry, use, registered, Path(private))
        with refusals_on_record(gov, use, model.version):
            refuse_hidden_rows(model.clearance, "The task loads the model by itself.")
    except GuardRefusedError as refusal:
        _refuse_unless_on_trial(entry, refusal)
        return None
    _record_use(gov, model, kind, {"loaded_by": "task"})
    return model


def _refuse_unless_on_trial(entry: InventoryEntry, refusal: GuardRefusedError) -> None:
    if entry.mode is Mode.ENFORCE or refusal.check == STOPPED:
        raise refusal
    if entry.mode is Mode.WARN:
        log.warning("Mode warn: %s", refusal.diagnostics())


def _verified(
    gov: Governance, registry: Registry, use: Use, registered: RegistryVersion, private: Path
) -> ModelInUse:
    with refusals_on_record(gov, use, registered.manifest):
        view = gov.ledger.view()
        # Before all else: no mode lets a stopped model run, whatever more is wrong with it.
        refuse_stopped(view, use.model)
        if registered.manifest is None:
            raise GuardRefusedError(
                "registration",
                f"{registered.uri} was not registered by TrainModelOperator: it has no manifest "
                "digest.",
                remedy="Train and register the model in a governed run.",
            )
        clearance = allow_scoring(gov, view, use, registered.manifest)
        refuse_unchecked_data(view, clearance)
        path = verified_files(registry, registered, registered.manifest, private)
    return ModelInUse(path, registered.manifest, registered, clearance)


def _record_use(
    gov: Governance, model: ModelInUse, kind: str = "model.scored", more: Mapping[str, str] = _NONE
) -> SealedReceipt | None:
    if model.clearance is None:
        return None
    use, source = model.clearance.use, model.clearance.use.source
    task = (*map(str, source.task), str(source.try_number))
    draft = EntryDraft(
        kind=kind,
        model=use.model,
        version=model.version,
        body={
            **basis_of(model.clearance),
            "target": use.target,
            "registry": model.registered.registry,
            "registry_version": model.registered.version,
            **more,
        },
        # With the approval: a task that was deferred meanwhile may go on under another one.
        identity=(str(model.version), use.target, str(rests_on(model.clearance)), *task),
        source=source,
    )
    return gov.ledger.seal(gov.ledger.append(draft))
