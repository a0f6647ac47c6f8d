"""Scoring files in a process beside the task, with the verified bytes of the version in use."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from airflow_mlgov.errors import ConfigurationError, DataError, GuardRefusedError, ScoringError
from airflow_mlgov.records.digest import Digest
from airflow_mlgov.service.artefacts import fingerprint_file, hash_directory
from airflow_mlgov.service.container_scoring import SCORES_FILE, scores_name
from airflow_mlgov.service.governance import Governance
from airflow_mlgov.service.ports import Registry
from airflow_mlgov.service.score import model_in_use
from airflow_mlgov.service.scored import (
    ScoredBatch,
    Scores,
    Shown,
    admitted_files,
    conclude_batch,
    place_scores,
)
from airflow_mlgov.service.scoring_order import ScoredData, ScoringOrder, read_data
from airflow_mlgov.service.training_platform import Platform, ScriptJob
from airflow_mlgov.service.verify_use import refusals_on_record


@dataclass(frozen=True, slots=True)
class LocalBatch:
    """An order, on a platform whose scripts end with the task.

    Attributes:
        order: What to score.
        gov: Ledger, evidence, inventory and packs.
        platform: Runs the script.
        shown: Looks at rows for an approval that is bound to them.
        log: Told each line of the script's output as it comes.
    """

    order: ScoringOrder
    gov: Governance
    platform: Platform
    shown: Shown
    log: Callable[[str], None]

    def score(self, registry: Registry) -> ScoredBatch:
        """Verify, note the use, score each file, put the scores in place and on record; or refuse.

        Raises:
            ConfigurationError: The order asks for what cannot be; a retry does not help.
            DataError: A file is missing, or changed meanwhile; a retry does not help.
            GuardRefusedError: A check failed in mode ``enforce``, or the model's files changed
                while they were used; on record. A retry does not help.
            ScoringError: The script failed or broke its contract; a retry does not help.
            EvidenceError: The evidence cannot be kept.
            RegistryUnavailableError: The registry cannot be reached; a retry may help.
            LedgerUnavailableError: The ledger cannot be reached; a retry may help.
        """
        order = self.order
        if order.output is None:
            raise ConfigurationError(
                f"Platform {self.platform.name} leaves scores nowhere: 'output_dir' is missing.",
                remedy="Name the folder that gets them.",
            )
        data = read_data(order, None)
        with model_in_use(self.gov, registry, order.use) as model:
            files = admitted_files(self.gov, model, data, self.shown)
            version = model.version or hash_directory(files).digest
            try:
                with TemporaryDirectory(prefix="mlgov-scores-") as folder:
                    scores = [self._scored(files, each, Path(folder)) for each in data]
                    self._refuse_other_model(files, version)
                    placed = place_scores(scores, Path(folder), order.output)
            except OSError as error:
                raise ScoringError(f"The scores cannot be kept: {error}.") from error
        said = {"platform": self.platform.name, "environment": self.platform.environment()}
        return conclude_batch(order, self.gov, version, data, placed, **said)

    def _scored(self, model: Path, data: ScoredData, folder: Path) -> Scores:
        assert data.path is not None  # noqa: S101 - there is no store to look into
        with TemporaryDirectory(prefix="mlgov-score-") as private:
            output = Path(private)
            self.platform.run(self._job(model, data.path, output), self.log)
            if fingerprint_file(data.path)[0] != data.sha256:
                raise DataError(
                    f"{data.path} changed while it was scored.",
                    remedy="Give each run files of its own.",
                )
            scores = Scores.read(data.name, output / SCORES_FILE, "")
            (output / SCORES_FILE).rename(folder / scores_name(data.name))
        self.log(f"{data.name}: {scores.rows} rows are scored.")
        return scores

    def _job(self, model: Path, data: Path, output: Path) -> ScriptJob:
        return ScriptJob(
            script=self.order.script,
            inputs={"model": str(model), "data": str(data)},
            parameters=self.order.parameters,
            seed=0,
            output_dir=output,
            timeout_s=self.order.timeout_s,
            memory_mb=self.order.memory_mb,
            what="Scoring script",
            failure=ScoringError,
        )

    def _refuse_other_model(self, files: Path, version: Digest) -> None:
        with refusals_on_record(self.gov, self.order.use, version):
            refuse_other_files(files, version)


def refuse_other_files(files: Path, version: Digest) -> None:
    """Refuse scores if the files that made them are not the ones that were verified.

    Raises:
        GuardRefusedError: They are not; a retry does not help.
    """
    found = hash_directory(files).digest
    if found != version:
        raise GuardRefusedError(
            "digest",
            f"The model's files are {found} after scoring, and {version} was verified.",
            remedy="Look what can write to them; then clear this task.",
        )
