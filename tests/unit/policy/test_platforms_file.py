"""The file of platforms and registries, read strictly."""

from __future__ import annotations

from pathlib import Path

import pytest

from airflow_mlgov.errors import DocumentError
from airflow_mlgov.policy.platforms_file import NO_FILE, Instance, Network, read_platforms

PAGE = Path(__file__).parents[3] / "docs" / "reference" / "platforms.md"
GOOD = PAGE.read_text("utf-8").partition("```yaml\n")[2].partition("```")[0]


def read(tmp_path: Path, text: str):
    file = tmp_path / "platforms.yaml"
    file.write_text(text)
    return read_platforms(file)


def test_the_example_of_the_reference_page(tmp_path: Path) -> None:
    found = read(tmp_path, GOOD)
    assert list(found.platforms) == ["local", "house", "frankfurt"]
    assert found.platforms["house"].python == "/opt/venvs/credit/bin/python"
    cloud = found.platforms["frankfurt"]
    assert cloud.instance == Instance("ml.m5.large", 1, 30, spot=False)
    assert cloud.network == Network(
        ("subnet-0a1b",), ("sg-0a1b",), "", isolated=True, encrypted=True
    )
    assert (cloud.hours, cloud.outage_s, cloud.poll_s) == (4.0, 1800.0, 30.0)
    assert cloud.keys == dict.fromkeys(("output", "volume", "model"), "alias/mlgov")
    assert (cloud.file, cloud.line) == (str(tmp_path / "platforms.yaml"), 6)
    assert found.registries["frankfurt-models"].store == "s3://bank-models-frankfurt/registry"


def test_local_is_always_there() -> None:
    assert list(NO_FILE.platforms) == ["local"]
    assert NO_FILE.registries == {}


def test_local_may_have_an_interpreter_of_its_own(tmp_path: Path) -> None:
    found = read(tmp_path, GOOD.replace("name: house", "name: local"))
    assert found.platforms["local"].python == "/opt/venvs/credit/bin/python"


def test_a_slash_at_the_end_of_a_store_does_not_matter(tmp_path: Path) -> None:
    found = read(tmp_path, GOOD.replace("frankfurt/mlgov\n", "frankfurt/mlgov/\n"))
    assert found.platforms["frankfurt"].output == "s3://bank-models-frankfurt/mlgov"


@pytest.mark.parametrize(
    ("change", "line", "message"),
    [
        (("version: 1", "version: 2"), 1, "version 2 of this format"),
        (("name: frankfurt\n", "name: house\n"), 6, "'house' stands here twice"),
        (("kind: sagemaker", "kind: slurm"), 7, "'slurm' is not one of the values"),
        (('"123456789012"', '"1234"'), 9, "'1234' is no account of sagemaker"),
        (("    region: eu-central-1\n", ""), 7, "sagemaker needs 'region'"),
        (("kind: local", "kind: vertex"), 4, "vertex needs"),
        (("s3://bank-models-frankfurt/mlgov", "gs://bank/mlgov"), 16, "no store that sagemaker"),
        (("s3://bank-models-frankfurt/mlgov", "s3://key:secret@bank/x"), 16, "cannot stand here"),
        (("python: /opt", "python: opt"), 5, "cannot stand here"),
        (("hours: 4", "hours: 0"), 18, "hours"),
        (("disk_gb", "disk_tb"), 12, "disk_tb"),
        (("    kind: local\n", "    kind: local\n    region: x\n"), 5, "local has no 'region'"),
        (("name: house", "name: House"), 3, "cannot stand here"),
    ],
)
def test_what_is_wrong_is_said_with_its_line(tmp_path, change, line, message) -> None:
    assert change[0] in GOOD
    with pytest.raises(DocumentError, match=message) as caught:
        read(tmp_path, GOOD.replace(*change, 1))
    assert caught.value.line == line
    assert caught.value.remedy


def test_a_workspace_of_azure_is_a_resource_id(tmp_path: Path) -> None:
    text = """\
version: 1
registries:
  - name: models
    kind: azureml
    connection: azure
    account: workspace
    region: westeurope
    store: https://bank.blob.core.windows.net/models
"""
    with pytest.raises(DocumentError, match="no account of azureml"):
        read(tmp_path, text)
    whole = (
        "/subscriptions/s/resourceGroups/g/providers/Microsoft.MachineLearningServices/workspaces/w"
    )
    found = read(tmp_path, text.replace("account: workspace", f"account: {whole}"))
    assert found.registries["models"].account == whole
