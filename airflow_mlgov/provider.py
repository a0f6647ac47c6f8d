"""What Airflow's provider discovery reads; every process imports it, so standard library only."""

from __future__ import annotations

from typing import Any


def get_provider_info() -> dict[str, Any]:
    """Return the provider's description in Airflow's provider_info schema."""
    return {
        "package-name": "airflow-mlgov",
        "name": "Model governance",
        "description": (
            "Approvals bound to digests, verified at each use, in a ledger that others can check."
        ),
        "connection-types": [
            {
                "connection-type": "mlflow",
                "hook-class-name": "airflow_mlgov.hooks.mlflow.MlflowHook",
                "hook-name": "MLflow",
            }
        ],
        "task-decorators": [
            {"name": "governed", "class-name": "airflow_mlgov.decorators.governed.governed_task"},
            {"name": "recorded", "class-name": "airflow_mlgov.decorators.recorded.recorded_task"},
        ],
        "plugins": [
            {"name": "mlgov", "plugin-class": "airflow_mlgov.plugins.mlgov.MlgovPlugin"},
        ],
        "cli": ["airflow_mlgov.cli.definition.get_cli_commands"],
        "config": {
            "mlgov": {
                "description": "Model governance: where the rules stand and where the records go.",
                "options": {
                    "ledger_url": {
                        "description": "The ledger's store, as sqlite:////absolute/path/ledger.db.",
                        "type": "string",
                        "version_added": "0.1.0",
                        "sensitive": True,
                        "example": "sqlite:////var/lib/mlgov/ledger.db",
                        "default": None,
                    },
                    "evidence_url": {
                        "description": (
                            "Folder or bucket for evidence documents, as an object storage path."
                        ),
                        "type": "string",
                        "version_added": "0.1.0",
                        "example": "file:///var/lib/mlgov/evidence",
                        "default": None,
                    },
                    "inventory_path": {
                        "description": "Folder of inventory files, one YAML file a model.",
                        "type": "string",
                        "version_added": "0.1.0",
                        "example": "/opt/airflow/governance/inventory",
                        "default": None,
                    },
                    "policy_path": {
                        "description": "Folder of policy packs.",
                        "type": "string",
                        "version_added": "0.1.0",
                        "example": "/opt/airflow/governance/policy",
                        "default": None,
                    },
                    "keys_dir": {
                        "description": "Folder of the keys that sign entries and checkpoints.",
                        "type": "string",
                        "version_added": "0.1.0",
                        "example": "/var/lib/mlgov/keys",
                        "default": None,
                    },
                },
            }
        },
    }
