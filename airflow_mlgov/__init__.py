"""Model-risk governance for Apache Airflow.

``import airflow`` loads this file in every Airflow process while configuration is still being read,
so it imports the standard library only; the public names are loaded when they are first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from airflow_mlgov.decorators.governed import GovernedModel as GovernedModel
    from airflow_mlgov.operators.approval_gate import ApprovalGateOperator as ApprovalGateOperator
    from airflow_mlgov.operators.promote_model import PromoteModelOperator as PromoteModelOperator
    from airflow_mlgov.operators.reconcile import ReconcileOperator as ReconcileOperator
    from airflow_mlgov.operators.rehearse_exit import RehearseExitOperator as RehearseExitOperator
    from airflow_mlgov.operators.score_batch import ScoreBatchOperator as ScoreBatchOperator
    from airflow_mlgov.operators.train_model import TrainModelOperator as TrainModelOperator
    from airflow_mlgov.operators.validate_data import ValidateDataOperator as ValidateDataOperator
    from airflow_mlgov.operators.validate_model import (
        ValidateModelOperator as ValidateModelOperator,
    )
    from airflow_mlgov.sensors.approval import ApprovalSensor as ApprovalSensor
    from airflow_mlgov.sensors.lineage_delivered import (
        LineageDeliveredSensor as LineageDeliveredSensor,
    )

_HOMES = {
    "ApprovalGateOperator": "airflow_mlgov.operators.approval_gate",
    "ApprovalSensor": "airflow_mlgov.sensors.approval",
    "GovernedModel": "airflow_mlgov.decorators.governed",
    "LineageDeliveredSensor": "airflow_mlgov.sensors.lineage_delivered",
    "PromoteModelOperator": "airflow_mlgov.operators.promote_model",
    "ReconcileOperator": "airflow_mlgov.operators.reconcile",
    "RehearseExitOperator": "airflow_mlgov.operators.rehearse_exit",
    "ScoreBatchOperator": "airflow_mlgov.operators.score_batch",
    "TrainModelOperator": "airflow_mlgov.operators.train_model",
    "ValidateDataOperator": "airflow_mlgov.operators.validate_data",
    "ValidateModelOperator": "airflow_mlgov.operators.validate_model",
}

__all__ = [
    "ApprovalGateOperator",
    "ApprovalSensor",
    "GovernedModel",
    "LineageDeliveredSensor",
    "PromoteModelOperator",
    "ReconcileOperator",
    "RehearseExitOperator",
    "ScoreBatchOperator",
    "TrainModelOperator",
    "ValidateDataOperator",
    "ValidateModelOperator",
    "__version__",
]


def __getattr__(name: str) -> Any:
    """Load a public name from its home when it is first used."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_HOMES[name]), name)
