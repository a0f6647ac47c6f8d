"""The file of lineage targets, read strictly."""

from __future__ import annotations

from pathlib import Path

import pytest

from airflow_mlgov.errors import DocumentError
from airflow_mlgov.policy.lineage_targets_file import read_lineage_targets

GOOD = """\
version: 1
targets:
  - name: marquez
    kind: marquez
    url: https://lineage.bank.example/marquez
    token_env: MARQUEZ_TOKEN
  - name: archive
    kind: folder
    url: file:///var/lib/mlgov/lineage
  - name: bucket
    kind: folder
    url: s3://aws_default@bank/lineage
  - name: catalogue
    kind: openlineage
    transport:
      type: http
      url: https://catalogue.bank.example
      auth:
        type: api_key
        apiKey: {env: CATALOGUE_KEY}
      custom_headers: {}
"""


def read(tmp_path: Path, text: str):
    file = tmp_path / "targets.yaml"
    file.write_text(text)
    return read_lineage_targets(file)


def test_a_good_file(tmp_path: Path) -> None:
    marquez, archive, bucket, catalogue = read(tmp_path, GOOD)
    assert (marquez.name, marquez.kind, marquez.line) == ("marquez", "marquez", 3)
    assert (marquez.url, marquez.token_env) == (
        "https://lineage.bank.example/marquez",
        "MARQUEZ_TOKEN",
    )
    assert archive.url == "file:///var/lib/mlgov/lineage"
    assert bucket.url == "s3://aws_default@bank/lineage"
    assert catalogue.transport["auth"]["apiKey"] == {"env": "CATALOGUE_KEY"}
    assert (archive.token_env, archive.transport, catalogue.url) == ("", {}, "")


@pytest.mark.parametrize(
    ("change", "line", "message"),
    [
        (("version: 1", "version: 2"), 1, "version 2 of this format"),
        (("name: archive", "name: marquez"), 7, "stands here twice"),
        (("name: archive", "name: Archive"), 7, "cannot stand here"),
        (("name: archive", f"name: {'a' * 41}"), 7, "40"),
        (("kind: folder", "kind: foldr"), 8, "Did you mean 'folder'"),
        (("    url: file:///var/lib/mlgov/lineage\n", ""), 8, "folder needs 'url'"),
        (("file:///var", "file://var"), 9, "no folder or bucket"),
        (("file:///var", "/var"), 9, "cannot stand here"),
        (("https://lineage", "ftp://lineage"), 5, "no address of a Marquez"),
        (("https://lineage", "https://me:sesame@lineage"), 5, "no address of a Marquez"),
        (("token_env: MARQUEZ_TOKEN", "token: abc"), 6, "'token' is not known"),
        (("token_env: MARQUEZ_TOKEN", "token_env: Bearer abc"), 6, "cannot stand here"),
        (("token_env: MARQUEZ_TOKEN", "transport: {}"), 6, "marquez has no 'transport'"),
        (("    kind: openlineage", "    kind: openlineage\n    url: http://x"), 15, "has no 'url'"),
        (("kind: openlineage", "kind: marquez"), 14, "marquez needs 'url'"),
        (("{env: CATALOGUE_KEY}", "abcdef"), 20, "a secret stands in the file"),
        (("custom_headers: {}", "custom_headers: {Authorization: Basic x}"), 21, "a secret"),
        (("https://catalogue", "https://me:sesame@catalogue"), 17, "a secret stands in the file"),
        (("      custom_headers: {}", "      more: [{sasl.password: x}]"), 21, "a secret"),
    ],
)
def test_what_is_wrong_is_told_with_its_line(tmp_path, change, line, message) -> None:
    text = GOOD.replace(*change, 1)
    assert text != GOOD
    with pytest.raises(DocumentError, match=message) as caught:
        read(tmp_path, text)
    assert caught.value.line == line
    assert "sesame" not in str(caught.value)


def test_no_target_at_all(tmp_path: Path) -> None:
    with pytest.raises(DocumentError, match="at least 1 must be listed"):
        read(tmp_path, "version: 1\ntargets: []\n")
