"""What somebody wants trained, the same wherever it runs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from airflow_mlgov.errors import ConfigurationError
from airflow_mlgov.records.people import Person
from airflow_mlgov.records.source import Source
from airflow_mlgov.service.contract import check_limits, check_request
from airflow_mlgov.service.provenance import TrainingInput, read_input

VARIANTS = ("candidate", "challenger")


@dataclass(frozen=True)
class TrainingOrder:
    """What somebody wants trained.

    Attributes:
        model: Inventory id.
        script: Training script.
        inputs: Paths of files by the name that the script knows them by.
        parameters: JSON values.
        seed: 0 to 2^32-1.
        variant: ``candidate`` or ``challenger``.
        timeout_s: Wall-clock limit in seconds, above 0; None for no limit.
        memory_mb: Limit in MiB, above 0; None for no limit.
        source: Which task asks.
        developer: Who triggered the run, if known.
    """

    model: str
    script: Path
    inputs: Mapping[str, str]
    parameters: Mapping[str, Any] = field(default_factory=dict)
    seed: int = 0
    variant: str = "candidate"
    timeout_s: float | None = None
    memory_mb: int | None = None
    source: Source = field(default_factory=Source)
    developer: Person | None = None


def read_order(order: TrainingOrder) -> tuple[TrainingInput, ...]:
    """Return the inputs of an order that can be, hashed, in the order of their names.

    Raises:
        ConfigurationError: It asks for what cannot be; a retry does not help.
        DataError: An input is missing; a retry does not help.
    """
    _check_order(order)
    return tuple(read_input(name, order.inputs[name]) for name in sorted(order.inputs))


def _check_order(order: TrainingOrder) -> None:
    check_request(order.inputs, order.parameters, order.seed)
    if order.variant not in VARIANTS:
        raise ConfigurationError(
            f"Variant {order.variant!r} is not known.", remedy=f"Use one of: {', '.join(VARIANTS)}."
        )
    check_limits(order.timeout_s, order.memory_mb)
