"""The platform files in the how-to pages are ones that can be read, and that a platform takes."""

from __future__ import annotations

from pathlib import Path

from airflow_mlgov.platforms.vertex import VertexPlatform
from airflow_mlgov.policy.platforms_file import read_platforms
from airflow_mlgov.registries.vertex import VertexRegistry

PAGES = Path(__file__).parents[3] / "docs" / "how-to"


def test_google_cloud(tmp_path: Path) -> None:
    page = (PAGES / "train-on-gcp.md").read_text("utf-8")
    file = tmp_path / "platforms.yaml"
    file.write_text(page.partition("```yaml\n")[2].partition("```")[0])
    found = read_platforms(file)
    assert VertexPlatform(found.platforms["frankfurt"]).name == "frankfurt"
    VertexRegistry(found.registries["frankfurt_models"])


def test_the_role_holds_what_is_asked_for() -> None:
    from airflow_mlgov.platforms.vertex import platform
    from airflow_mlgov.registries.vertex import registry

    page = (PAGES / "train-on-gcp.md").read_text("utf-8")
    role = page.partition("includedPermissions:\n")[2].partition("```")[0]
    listed = {line.removeprefix("- ") for line in role.splitlines()}
    lists = (platform._IN_PROJECT, platform._IN_BUCKET, registry._IN_PROJECT, registry._IN_BUCKET)
    assert listed == {each for permissions in lists for each in permissions}
