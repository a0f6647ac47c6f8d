from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from openlineage.client.naming import dataset as naming

from airflow_mlgov.errors import ConfigurationError
from airflow_mlgov.lineage import names
from airflow_mlgov.lineage.names import DatasetName
from airflow_mlgov.records.digest import Digest

DIGEST = Digest("3f2a91c0d4e5" + "0" * 52)


def is_marquez_safe(namespace: str, name: str) -> bool:
    """Rule 8 of section 5 of the lineage reference, written anew for the test."""
    allowed = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789:;=/_.@+-"
    if not 1 <= len(namespace) <= 1024 or any(c not in allowed for c in namespace):
        return False
    if namespace.lower().startswith("arn:") or not name.strip() or "\0" in name:
        return False
    if any(0xD800 <= ord(c) <= 0xDFFF for c in name):
        return False
    return not (":" in namespace and name[0].isdigit())


namespaces = st.one_of(
    st.text(max_size=40),
    st.text("abz09:/._@+-=;", max_size=40),
    st.sampled_from(
        ["mlflow://h:5000", "mlgov", "file", "arn:aws:glue:eu", "ARN:x", "a\n", "a" * 1025, "ü"]
    ),
)
dataset_names = st.one_of(
    st.text(max_size=40),
    st.text("0123456789/ab \0", max_size=8),
    st.sampled_from(["\ud800", "٣/x"]),
)


@given(namespaces, dataset_names)
@example("mlflow://h:5000", "2024_pd/7")
@example("mlgov", "2024_pd/7")
@example("file\n", "x")
def test_a_name_is_accepted_if_and_only_if_marquez_can_keep_it(namespace: str, name: str) -> None:
    try:
        made = DatasetName(namespace, name)
    except ConfigurationError:
        assert not is_marquez_safe(namespace, name)
    else:
        assert is_marquez_safe(made.namespace, made.name)


@given(st.text(max_size=40))
@example("retail_pd.gate.request")
@example("a\x7f")
@example("näme")
def test_a_job_name_is_printable_ascii(name: str) -> None:
    good = bool(name.strip()) and re.fullmatch(r"[ -~]+", name) is not None
    if good:
        assert names.check_job_name(name) == name
    else:
        with pytest.raises(ConfigurationError):
            names.check_job_name(name)


@given(st.text(min_size=1, max_size=60))
@example("/data/ü/daten 1.csv")
@example("/data/a@b.csv")
def test_whatever_data_is_called_its_registration_has_a_name_that_marquez_keeps(path: str) -> None:
    try:
        source = names.snapshot(f"/data/{path}", DIGEST)
    except ConfigurationError:
        assert not is_marquez_safe("file", f"/data/{path}")
    else:
        job = names.register_job(source)
        assert job.startswith("register.")
        assert re.fullmatch(r"[ -~]+", job)


@pytest.mark.parametrize(
    ("uri", "expected"),
    [
        ("/data/raw.csv", ("file", "/data/raw.csv@3f2a91c0d4e5")),
        ("/data/50%25.csv", ("file", "/data/50%25.csv@3f2a91c0d4e5")),
        ("file:///data/two%20words.csv", ("file", "/data/two words.csv@3f2a91c0d4e5")),
        ("s3://bucket/dir/raw.parquet", ("s3://bucket", "dir/raw.parquet@3f2a91c0d4e5")),
        ("postgres://me:pw@db:54/a.b.c", ("postgres://db:54", "a.b.c@3f2a91c0d4e5")),
    ],
)  # fmt: skip
def test_data_is_named_by_its_place_and_content(uri: str, expected: tuple[str, str]) -> None:
    made = names.snapshot(uri, DIGEST)
    assert (made.namespace, made.name) == expected


def test_no_credential_stands_in_a_name() -> None:
    assert "pw" not in repr(names.snapshot("postgres://me:pw@db:5432/credit.public.loans", None))


def test_changed_data_is_another_dataset_of_the_same_source() -> None:
    first, second = (
        names.snapshot("/data/raw.csv", Digest.of(content)) for content in (b"1", b"2")
    )
    assert first != second
    assert names.register_job(first) == names.register_job(second)


def test_sources_of_one_name_in_two_places_have_two_jobs() -> None:
    jobs = {
        names.register_job(names.snapshot(path, DIGEST)) for path in ("/a/raw.csv", "/b/raw.csv")
    }
    assert len(jobs) == 2


@pytest.mark.parametrize(
    ("uri", "spelled"),
    [
        (
            "postgres://db/credit.risk.loans",
            naming.Postgres("db", "5432", "credit", "risk", "loans"),
        ),
        (
            "postgres://db:6432/credit.loans",
            naming.Postgres("db", "6432", "credit", "public", "loans"),
        ),
        ("mysql://me:pw@db/credit.loans", naming.MySQL("db", "3306", "credit", "loans")),
        ("oracle://db/ORCL.RISK.LOANS", naming.Oracle("db", "1521", "ORCL", "RISK", "LOANS")),
        ("trino://db/lake.risk.loans", naming.Trino("db", "8080", "lake", "risk", "loans")),
        ("s3://bucket/dir/a.csv", naming.S3("bucket", "dir/a.csv")),
        ("gs://bucket/dir/a.csv", naming.GCS("bucket", "dir/a.csv")),
        ("/data/a.csv", naming.LocalFileSystem("/data/a.csv")),
    ],
)
def test_places_are_spelled_as_the_openlineage_client_spells_them(uri: str, spelled: Any) -> None:
    made = names.snapshot(uri, None)
    assert (made.namespace, made.name) == (spelled.get_namespace(), spelled.get_name())


@pytest.mark.parametrize("uri", ["postgres://db:port/a.b.c", "s3://[half/x", "s3://my bucket/x"])
def test_a_place_that_is_none_is_refused(uri: str) -> None:
    with pytest.raises(ConfigurationError):
        names.snapshot(uri, DIGEST)


def test_what_has_no_address_is_named_by_its_kind() -> None:
    assert names.snapshot("python:features.load", None) == DatasetName("python", "features.load")
    database = names.snapshot("sqlite:///data/credit.db.loans", None)
    assert database == DatasetName("sqlite", "/data/credit.db.loans")


def test_records_of_one_version_begin_with_what_differs() -> None:
    made = [
        names.model_version("mlflow://h:5000", "retail_pd", "7"),
        names.validation_report("retail_pd", "7", DIGEST),
        names.request_record("retail_pd", "7", DIGEST),
        names.approval_record("retail_pd", "7", DIGEST),
        names.denial_record("retail_pd", "7", DIGEST),
        names.endpoint_revision("retail_pd", "7", "production", DIGEST),
    ]
    assert [name.name for name in made] == [
        "retail_pd/7",
        "retail_pd/7/report/3f2a91c0d4e5",
        "retail_pd/7/request/3f2a91c0d4e5",
        "retail_pd/7/approval/3f2a91c0d4e5",
        "retail_pd/7/denial/3f2a91c0d4e5",
        "retail_pd/7/endpoint/production/3f2a91c0d4e5",
    ]
    assert len({name.name[:15] for name in made}) == len(made), (
        "Marquez's picture shows 15 characters"
    )
