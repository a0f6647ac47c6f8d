"""What Airflow's provider discovery reads; every process imports it, so standard library only."""

from __future__ import annotations

from typing import Any

_OPTIONS = (
    (
        "ledger_url",
        "The ledger's store, as sqlite:////absolute/path/ledger.db.",
        "sqlite:////var/lib/mlgov/ledger.db",
    ),
    (
        "evidence_url",
        "Folder or bucket for evidence documents, as an object storage path.",
        "file:///var/lib/mlgov/evidence",
    ),
    (
        "inventory_path",
        "Folder of inventory files, one YAML file a model.",
        "/opt/airflow/governance/inventory",
    ),
    ("policy_path", "Folder of policy packs.", "/opt/airflow/governance/policy"),
    (
        "keys_dir",
        "Folder of the keys that sign entries and checkpoints.",
        "/var/lib/mlgov/keys",
    ),
    (
        "keys_passphrase",
        "Opens encrypted key files, and encrypts keys that are made.",
        "correct horse battery staple",
    ),
    (
        "trust_path",
        "Trust file of the deployment; with it a process holds only the keys in its keys_dir.",
        "/etc/mlgov/trust.json",
    ),
    (
        "seen_dir",
        "Folder on each machine's own disk for the newest checkpoint seen, out of the backup.",
        "/var/lib/airflow/mlgov-seen",
    ),
    (
        "lineage_spool_dir",
        "Folder on each machine's own disk for lineage events while the ledger's store is away.",
        "/var/lib/airflow/mlgov-lineage-spool",
    ),
    (
        "anchors_path",
        "YAML file of the places outside of this deployment that checkpoints are handed to.",
        "/opt/airflow/governance/anchors.yaml",
    ),
    (
        "lineage_targets_path",
        "YAML file of the places that lineage events are sent to; without it they stay here.",
        "/opt/airflow/governance/lineage-targets.yaml",
    ),
    (
        "platforms_path",
        "YAML file of the platforms and registries that DAGs name; without it there is 'local'.",
        "/opt/airflow/governance/platforms.yaml",
    ),
)

_CONNECTION_TYPES = (
    ("marquez", "airflow_mlgov.hooks.marquez.MarquezHook", "Marquez"),
    ("mlflow", "airflow_mlgov.hooks.mlflow.MlflowHook", "MLflow"),
    (
        "mlgov_airflow",
        "airflow_mlgov.hooks.airflow_server.AirflowServerHook",
        "Airflow API (mlgov)",
    ),
)

_SENSITIVE = ("ledger_url", "keys_passphrase")
"""Options that Airflow also reads from ``_cmd`` and ``_secret``, and never shows."""


_MODEL_URIS = {
    "schemes": ["mlflow", "sagemaker", "vertexai", "azureml"],
    "handler": "airflow_mlgov.lineage.assets.sanitize_uri",
    "to_openlineage_converter": "airflow_mlgov.lineage.assets.convert_to_openlineage",
}


def get_provider_info() -> dict[str, Any]:
    """Return the provider's description in Airflow's provider_info schema."""
    return {
        "package-name": "airflow-mlgov",
        "name": "Model governance",
        "description": (
            "Approvals bound to digests, verified at each use, in a ledger that others can check."
        ),
        "connection-types": [
            {"connection-type": kind, "hook-class-name": path, "hook-name": name}
            for kind, path, name in _CONNECTION_TYPES
        ],
        "task-decorators": [
            {"name": "governed", "class-name": "airflow_mlgov.decorators.governed.governed_task"},
            {"name": "recorded", "class-name": "airflow_mlgov.decorators.recorded.recorded_task"},
        ],
        "extra-links": [
            "airflow_mlgov.operators.evidence_link.EvidenceLink",
            "airflow_mlgov.operators.job_link.JobLink",
        ],
        "asset-uris": [dict(_MODEL_URIS)],
        "plugins": [
            {"name": "mlgov", "plugin-class": "airflow_mlgov.plugins.mlgov.MlgovPlugin"},
        ],
        "cli": ["airflow_mlgov.cli.definition.get_cli_commands"],
        "config": {
            "mlgov": {
                "description": "Model governance: where the rules stand and where the records go.",
                "options": {
                    name: _option(description, example, sensitive=name in _SENSITIVE)
                    for name, description, example in _OPTIONS
                },
            }
        },
    }


def _option(description: str, example: str, *, sensitive: bool) -> dict[str, Any]:
    said = {
        "description": description,
        "type": "string",
        "version_added": "0.1.0",
        "example": example,
        "default": None,
    }
    return said | ({"sensitive": True} if sensitive else {})
