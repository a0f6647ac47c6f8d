"""Opens what the names in DAGs mean: entries of the file in ``[mlgov] platforms_path``."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from airflow_mlgov.errors import ConfigurationError
from airflow_mlgov.policy.platforms_file import (
    LOCAL,
    NO_FILE,
    PlatformsFile,
    PlatformTerms,
    RegistryTerms,
    read_platforms,
)
from airflow_mlgov.service.job_platform import SCORING, JobPlatform, Jobs, ScoringPlatform
from airflow_mlgov.service.training_platform import Platform
from airflow_mlgov.wiring.settings import optional_setting


def platforms_file() -> PlatformsFile:
    """Return what the deployment's platform file names; without one, the platform ``local``.

    Raises:
        DocumentError: The file is malformed; a retry does not help.
    """
    file = optional_setting("platforms_path")
    return NO_FILE if file is None else read_platforms(file)


def platform_terms(name: str) -> PlatformTerms:
    """Return what the file says of a platform.

    Raises:
        ConfigurationError: There is no such platform; a retry does not help.
        DocumentError: The file is malformed; a retry does not help.
    """
    known = platforms_file().platforms
    if name not in known:
        raise ConfigurationError(
            f"There is no platform {name!r}.",
            remedy=f"Use one of: {', '.join(known)}; or add it to the file in "
            "[mlgov] platforms_path.",
        )
    return known[name]


def open_platform(terms: PlatformTerms) -> Platform:
    """Return a platform whose scripts run in the task itself.

    Args:
        terms: Of kind ``local``.
    """
    from airflow_mlgov.platforms.local import LocalPlatform

    return LocalPlatform(terms.name, python=terms.python or sys.executable)


def open_jobs(terms: PlatformTerms) -> JobPlatform:
    """Return a platform whose jobs outlive the task; nothing is asked of it yet.

    Args:
        terms: Of a kind that is not ``local``.

    Raises:
        ConfigurationError: What its kind needs is not installed; a retry does not help.
    """
    with _extra_needed(terms):
        return _training(terms)


def open_scoring(terms: PlatformTerms) -> ScoringPlatform:
    """Return a platform whose scoring jobs outlive the task; nothing is asked of it yet.

    Args:
        terms: Of a kind that is not ``local``.

    Raises:
        ConfigurationError: What its kind needs is not installed; a retry does not help.
    """
    with _extra_needed(terms):
        return _scoring(terms)


def open_either(platform: str, purpose: str) -> Jobs:
    """Return a platform for jobs of a purpose, which a `JobHandle` states.

    Raises:
        ConfigurationError: There is no such platform; a retry does not help.
    """
    terms = platform_terms(platform)
    return open_scoring(terms) if purpose == SCORING else open_jobs(terms)


@contextmanager
def _extra_needed(terms: PlatformTerms) -> Iterator[None]:
    try:
        yield
    except ImportError as error:
        raise missing_extra(terms, error) from error


def _training(terms: PlatformTerms) -> JobPlatform:
    if terms.kind == "sagemaker":
        from airflow_mlgov.platforms.sagemaker import SageMakerPlatform

        return SageMakerPlatform(terms)
    if terms.kind == "vertex":
        from airflow_mlgov.platforms.vertex import VertexPlatform

        return VertexPlatform(terms)
    from airflow_mlgov.platforms.azureml import AzureMlPlatform

    return AzureMlPlatform(terms)


def _scoring(terms: PlatformTerms) -> ScoringPlatform:
    if terms.kind == "sagemaker":
        from airflow_mlgov.platforms.sagemaker import SageMakerScoring

        return SageMakerScoring(terms)
    if terms.kind == "vertex":
        from airflow_mlgov.platforms.vertex import VertexScoring

        return VertexScoring(terms)
    from airflow_mlgov.platforms.azureml import AzureMlScoring

    return AzureMlScoring(terms)


def runs_here(terms: PlatformTerms) -> bool:
    """Return whether a platform's scripts run in the task itself."""
    return terms.kind == LOCAL


def missing_extra(terms: PlatformTerms | RegistryTerms, error: ImportError) -> ConfigurationError:
    """Return the error about an extra that is not installed."""
    extra = {"sagemaker": "aws", "vertex": "gcp", "azureml": "azure"}.get(terms.kind, terms.kind)
    return ConfigurationError(
        f"{terms.file}:{terms.line}: {terms.name} is of kind {terms.kind}, and a library that it "
        f"needs is not installed ({error}).",
        remedy=f"Install the extra: airflow-mlgov[{extra}].",
    )
