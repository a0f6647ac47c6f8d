"""``airflow mlgov bundle``: the file it writes, and what it says."""

from __future__ import annotations

from airflow_mlgov.ledger.bundle_check import check_bundle
from airflow_mlgov.ledger.bundle_report import Verdict


def test_it_writes_a_bundle_that_verifies(airflow, governed, tmp_path):
    file = tmp_path / "x.zip"
    ended = airflow("bundle", "--model", "retail_pd", "--version", "1", "--file", file)
    assert (ended.code, ended.out) == (0, "")
    assert "entries about retail_pd under a checkpoint over" in ended.err
    trust = governed.gov.ledger.trust_root()
    report = check_bundle(file.read_bytes(), trust, now=governed.clock.now())
    assert report.verdict is Verdict.FINE
    again = tmp_path / "again.zip"
    airflow("bundle", "--model", "retail_pd", "--version", "1", "--file", again)
    assert again.read_bytes() == file.read_bytes()


def test_it_tells_what_could_not_be_had(airflow, governed, tmp_path):
    governed.gov.evidence.documents.clear()
    ended = airflow("bundle", "--model", "retail_pd", "--file", tmp_path / "x.zip")
    assert ended.code == 0
    assert "Not in it, because it could not be had: evidence/" in ended.err


def test_an_unknown_version_and_a_folder_that_is_not_there(airflow, governed, tmp_path):
    file = tmp_path / "x.zip"
    ended = airflow("bundle", "--model", "retail_pd", "--version", "9", "--file", file)
    assert (ended.code, file.exists()) == (1, False)
    assert "has no version '9'" in ended.err
    ended = airflow("bundle", "--model", "retail_pd", "--file", tmp_path / "no" / "x.zip")
    assert ended.code == 64
    assert "cannot be written" in ended.err


def test_a_bundle_that_stands_there_stays_whole_if_the_new_one_cannot_be_made(
    airflow, governed, tmp_path
):
    file = tmp_path / "x.zip"
    file.write_bytes(b"the old one")
    airflow("bundle", "--model", "nobody", "--file", file)
    assert file.read_bytes() == b"the old one"
    airflow("bundle", "--model", "retail_pd", "--file", file)
    assert file.read_bytes()[:2] == b"PK"
    assert [path.name for path in tmp_path.iterdir() if ".x.zip" in path.name] == []
