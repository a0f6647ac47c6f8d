"""An exit rehearsal from end to end, for the operator and the command line."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from airflow_mlgov.operators.scoring import Scorer, fetched, load_scorer, read_table, score_table

if TYPE_CHECKING:
    from airflow_mlgov.service.exit_plan import ExitQuestion, RehearsalPlan
    from airflow_mlgov.service.exit_rehearsal import Rehearsed
    from airflow_mlgov.service.governance import Governance
    from airflow_mlgov.service.trained import Trained


@dataclass(frozen=True)
class Stage:
    """What a rehearsal is played on, besides the platforms.

    Attributes:
        sample: CSV or Parquet file that both versions score.
        target: Its column with the outcome, which the scorer does not get.
        scorer: ``module:function`` or a function, called as ``scorer(model_dir, frame)``.
        registry: Where the version in use is.
    """

    sample: str
    target: str
    scorer: str | Scorer
    registry: str


def rehearse(
    question: ExitQuestion,
    stage: Stage,
    log: Callable[[str], None],
    started: Callable[[Callable[[], None]], None] = lambda _cancel: None,
) -> Rehearsed:
    """Train a version's specification on another platform, compare, and put it on record.

    Both versions are scored here, by the same function: what differs is the model.

    Args:
        question: Which model, from where to where.
        stage: What both are compared on.
        log: Told what is worth a line, and each line of the script's output.
        started: Given what ends the training, once it can be ended.

    Raises:
        MlgovError: As `plan_rehearsal`, `train_here` or `train_as_job`, `score_table` and
            `conclude_rehearsal`; nothing is on record then but what the platform's controls said.
    """
    from airflow_mlgov.service.exit_plan import plan_rehearsal
    from airflow_mlgov.service.exit_rehearsal import ScoredSample, conclude_rehearsal
    from airflow_mlgov.wiring import open_governance, open_registry

    gov = open_governance()
    started_at = gov.clock.now()
    plan = plan_rehearsal(gov, question)
    table = read_table(stage.sample)
    table.column(stage.target)  # what is wrong is said before anything is trained
    load_scorer(stage.scorer)
    train = _trainer(gov, plan, log, started)
    name, registry = gov.model(question.model).registered_name, open_registry(stage.registry)
    with (
        fetched(registry, name, plan.version) as (in_use, known),
        TemporaryDirectory(prefix="mlgov-rehearsal-") as folder,
    ):
        log(f"Training what {known.uri} was made of on platform {question.to_platform}.")
        made = train(Path(folder))
        first, second = (
            score_table(stage.scorer, model_dir, table, stage.target)
            for model_dir in (in_use, made.outputs.model_dir)
        )
    sample = ScoredSample(table.uri, table.sha256, _named(stage.scorer), first, second)
    return conclude_rehearsal(gov, plan, made, sample, started_at)


def _named(scorer: str | Scorer) -> str:
    if isinstance(scorer, str):
        return scorer
    return str(getattr(scorer, "__qualname__", type(scorer).__qualname__))


def _trainer(
    gov: Governance,
    plan: RehearsalPlan,
    log: Callable[[str], None],
    started: Callable[[Callable[[], None]], None],
) -> Callable[[Path], Trained]:
    """Return what trains the plan's order on its platform, into a folder."""
    from airflow_mlgov.service.exit_rehearsal import train_as_job, train_here
    from airflow_mlgov.service.jobs import JobTraining
    from airflow_mlgov.wiring import open_jobs, open_platform, platform_terms, runs_here

    terms = platform_terms(plan.question.to_platform)
    if runs_here(terms):
        platform = open_platform(terms)
        environment = platform.environment()
        started(platform.cancel)
        return lambda folder: train_here(plan, platform, environment, folder, log)
    training = JobTraining(plan.order, gov, terms, open_jobs(terms), log)
    return lambda folder: train_as_job(training, folder, started)
