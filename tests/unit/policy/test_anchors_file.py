"""The file of anchors, read strictly."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from airflow_mlgov.errors import DocumentError
from airflow_mlgov.policy.anchors_file import read_anchors

GOOD = """\
version: 1
anchors:
  - name: vault
    kind: directory
    path: /mnt/vault
    every: 30s
  - name: tsa
    kind: timestamp
    url: https://tsa.example/tsr
    certificates: /etc/mlgov/tsa.pem
    every: 1h
  - name: audit-witness
    kind: witness
    url: http://witness.example:8080/prefix
    key: witness.example/w1+00000000+AAAA
    every: 2d
"""


def read(tmp_path: Path, text: str):
    file = tmp_path / "anchors.yaml"
    file.write_text(text)
    return read_anchors(file)


def test_a_good_file(tmp_path: Path) -> None:
    vault, tsa, witness = read(tmp_path, GOOD)
    assert (vault.name, vault.kind, vault.path) == ("vault", "directory", "/mnt/vault")
    assert [each.every for each in (vault, tsa, witness)] == [
        timedelta(seconds=30),
        timedelta(hours=1),
        timedelta(days=2),
    ]
    assert (tsa.url, tsa.certificates) == ("https://tsa.example/tsr", "/etc/mlgov/tsa.pem")
    assert (witness.key, witness.line) == ("witness.example/w1+00000000+AAAA", 15)


@pytest.mark.parametrize(
    ("change", "line", "message"),
    [
        (("version: 1", "version: 2"), 1, "version 2 of this format"),
        (("    path: /mnt/vault\n", ""), 4, "directory needs 'path'"),
        (("path: /mnt/vault", "path: vault"), 5, "cannot stand here"),
        (("every: 30s", "every: 30"), 6, "text is needed"),
        (("every: 30s", "every: 0s"), 6, "cannot stand here"),
        (("every: 30s", "every: soon"), 6, "cannot stand here"),
        (("name: tsa", "name: vault"), 7, "stands here twice"),
        (("name: tsa", "name: 'a\"b'"), 7, "cannot stand here"),
        (("kind: timestamp", "kind: timestmp"), 8, "Did you mean 'timestamp'"),
        (("https://tsa", "ftp://tsa"), 9, "cannot stand here"),
        (("https://tsa", "https://user:sesame@tsa"), 9, "cannot stand here"),
        (("certificates:", "certificate:"), 10, "Did you mean 'certificates'"),
        (("    certificates: /etc/mlgov/tsa.pem\n", ""), 8, "timestamp needs 'certificates'"),
        (("    certificates:", "    path: /x\n    certificates:"), 10, "timestamp has no 'path'"),
        (("key: witness", "key: |\n      witness"), 15, ""),
    ],
)
def test_what_is_wrong_is_told_with_its_line(tmp_path, change, line, message) -> None:
    text = GOOD.replace(*change, 1)
    assert text != GOOD
    if not message:  # text over several lines is text; the key's own reader refuses it
        assert read(tmp_path, text)[2].key.endswith("\n")
        return
    with pytest.raises(DocumentError, match=message) as caught:
        read(tmp_path, text)
    assert caught.value.line == line


def test_no_anchor_at_all(tmp_path: Path) -> None:
    with pytest.raises(DocumentError, match="at least 1 must be listed"):
        read(tmp_path, "version: 1\nanchors: []\n")
