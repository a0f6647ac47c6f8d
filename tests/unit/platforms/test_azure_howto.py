"""The how-to's file is one, and its role is what doctor asks about."""

from __future__ import annotations

import json
import re
from pathlib import Path

from airflow_mlgov.clouds.azure import STORE_DATA_ACTIONS
from airflow_mlgov.platforms.azureml import AzureMlPlatform, rights
from airflow_mlgov.policy.platforms_file import read_platforms
from airflow_mlgov.registries.azureml import AzureMlRegistry
from airflow_mlgov.registries.azureml.registry import ACTIONS

PAGE = (Path(__file__).parents[3] / "docs/how-to/train-on-azure.md").read_text()


def block(kind: str) -> str:
    (found,) = re.findall(rf"```{kind}\n(.*?)```", PAGE, re.DOTALL)
    return found


def test_the_example_is_a_platform_file(tmp_path: Path) -> None:
    file = tmp_path / "platforms.yaml"
    file.write_text(block("yaml"))
    known = read_platforms(file)
    assert AzureMlPlatform(known.platforms["azure_west"]).kind == "azureml"
    registry = AzureMlRegistry(known.registries["azure_models"])
    assert registry.namespace == "azureml://bank-ml.westeurope"


def test_the_role_holds_what_doctor_asks_about() -> None:
    role = json.loads(block("json"))
    asked = dict.fromkeys([*rights.ACTIONS, *ACTIONS["workspaces"], *rights.STORE_ACTIONS])
    assert role["Actions"] == list(asked)
    assert role["DataActions"] == [*STORE_DATA_ACTIONS]
    for action in ACTIONS["registries"][:2]:
        assert action.removeprefix("Microsoft.MachineLearningServices/") in PAGE
