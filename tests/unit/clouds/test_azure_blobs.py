"""Folders of blobs, the same tests against the fake's blobs in memory and against Azurite."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import azureml_server
import pytest
from azureml_account import ACCOUNT, CONNECTION, CONTAINER, KEY
from azurite import azurite

from airflow_mlgov.clouds.azure import AzureSession, BlobStore, Kinds
from airflow_mlgov.errors import (
    ArtefactError,
    ConfigurationError,
    DataError,
    PlatformError,
    PlatformUnavailableError,
)

KINDS = Kinds(PlatformError, PlatformUnavailableError)


@pytest.fixture(scope="module")
def emulator() -> Iterator[int]:
    with azurite() as port:
        yield port


@pytest.fixture(params=["memory", "azurite"])
def port(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    connection = {"conn_type": "azure", "password": "x", "extra": {"account_key": KEY}}
    monkeypatch.setenv(f"AIRFLOW_CONN_{CONNECTION.upper()}", json.dumps(connection))
    if request.param == "memory":
        with azureml_server.start() as fake:
            yield fake.port
        return
    yield request.getfixturevalue("emulator")


@pytest.fixture
def store(port: int, request: pytest.FixtureRequest) -> BlobStore:
    url = f"http://127.0.0.1:{port}/{ACCOUNT}/{CONTAINER}"
    session = AzureSession("Platform azure", CONNECTION, f"http://127.0.0.1:{port}", KINDS)
    made = BlobStore(session, f"{url}/{request.node.name.partition('[')[0]}")
    if "azurite" in request.node.name and not made._client().exists():
        made._client().create_container()
    return made


def put(store: BlobStore, path: str, data: bytes, **metadata: str) -> None:
    store._client().upload_blob(store.name_of(path), data, overwrite=True, metadata=metadata)


def file(folder: Path, data: bytes) -> Path:
    path = folder / "file"
    path.write_bytes(data)
    return path


def test_what_is_stored_comes_back(store: BlobStore, tmp_path: Path) -> None:
    for path in ("a/one", "a/b/two", "a/b/c/three with space", "a/empty", "ab/not mine"):
        store.upload(path, file(tmp_path, b"" if path == "a/empty" else path.encode()))
    into = tmp_path / "into"
    into.mkdir()
    store.download(store.url_of("a"), into)
    found = {str(p.relative_to(into)): p.read_bytes() for p in into.rglob("*") if p.is_file()}
    assert found == {
        "one": b"a/one", "b/two": b"a/b/two", "b/c/three with space": b"a/b/c/three with space",
        "empty": b"",
    }  # fmt: skip
    assert {p.stat().st_mode & 0o777 for p in into.rglob("*") if p.is_file()} == {0o600}
    assert sorted(store.names("a")) == sorted(found)


def test_a_file_of_the_same_size_is_trusted_where_asked(store: BlobStore, tmp_path: Path) -> None:
    put(store, "a/x", b"old")
    store.send(store.url_of("a"), {"x": file(tmp_path, b"new"), "b/y": file(tmp_path, b"new")})
    assert store.read(store.name_of("a/x")) == b"old"
    assert store.read(store.name_of("a/b/y")) == b"new"
    store.upload("a/x", file(tmp_path, b"new"))
    assert store.read(store.name_of("a/x")) == b"new"


def test_the_first_object_is_named(store: BlobStore) -> None:
    assert store.first(store.url_of("jobs/1")) is None
    put(store, "jobs/12/model/x", b"x")
    put(store, "jobs/123", b"x")
    assert store.first(store.url_of("jobs/1")) is None
    assert store.first(store.url_of("jobs/12")) == store.url_of("jobs/12/model/x")


def test_a_place_is_claimed_once(store: BlobStore) -> None:
    assert store.claim("versions/1", b"mine")
    assert not store.claim("versions/1", b"yours")
    assert store.read(store.name_of("versions/1")) == b"mine"


def test_a_blob_is_read_in_pieces(store: BlobStore) -> None:
    put(store, "log", b"0123456789")
    name = store.name_of("log")
    assert store.read(name, 4) == b"456789"
    assert store.read(name, 4, 3) == b"456"
    assert store.read(name, 10) == b""
    assert store.read(store.name_of("nowhere")) == b""


def test_folders_that_a_mount_leaves_are_no_files(store: BlobStore, tmp_path: Path) -> None:
    put(store, "out/model", b"", hdi_isfolder="true")
    put(store, "out/model/card.json", b"{}")
    into = tmp_path / "into"
    into.mkdir()
    store.download(store.url_of("out"), into)
    assert [p.name for p in into.rglob("*") if p.is_file()] == ["card.json"]


@pytest.mark.parametrize("path", ["../escaped", "a/../../escaped", "a\\b", "/absolute"])
def test_a_path_that_leaves_the_folder_is_refused(
    path: str, store: BlobStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(store, "out/x", b"x")
    listed = list(store._listed(store.name_of("out")))
    listed[0].name = f"{store.name_of('out')}/{path}"  # clients and Azurite send no such name
    monkeypatch.setattr(store, "_listed", lambda _: iter(listed))
    into = tmp_path / "into"
    into.mkdir()
    with pytest.raises(ArtefactError, match="leaves its folder"):
        store.download(store.url_of("out"), into)
    assert not list(tmp_path.rglob("escaped"))


def test_a_file_in_the_place_of_a_folder_is_refused(store: BlobStore, tmp_path: Path) -> None:
    put(store, "out/model", b"a file")
    put(store, "out/model/card.json", b"{}")
    into = tmp_path / "into"
    into.mkdir()
    with pytest.raises(ArtefactError, match="have one place"):
        store.download(store.url_of("out"), into)


def test_probing_leaves_nothing(store: BlobStore) -> None:
    store.probe("probes/check")
    assert store.first(store.url_of("probes")) is None


def test_an_address_elsewhere_is_refused(store: BlobStore) -> None:
    with pytest.raises(ConfigurationError, match="is not beneath"):
        store.first("http://127.0.0.1/other/container/x")


def test_a_blob_that_changes_meanwhile_is_not_mixed(
    store: BlobStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(store, "out/x", b"old")
    listed = list(store._listed(store.name_of("out")))
    put(store, "out/x", b"new")
    monkeypatch.setattr(store, "_listed", lambda _: iter(listed))
    into = tmp_path / "into"
    into.mkdir()
    with pytest.raises(PlatformError, match="ConditionNotMet"):
        store.download(store.url_of("out"), into)


def test_a_blob_that_is_cut_short_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with azureml_server.start() as fake:
        for name, value in fake.environment().items():
            monkeypatch.setenv(name, value)
        session = AzureSession("Platform azure", CONNECTION, fake.url, KINDS)
        store = BlobStore(session, f"{fake.url}/{ACCOUNT}/{CONTAINER}/cut")
        put(store, "out/x", b"whole")
        fake.blobs.shown_length[store.name_of("out/x")] = 50
        into = tmp_path / "into"
        into.mkdir()
        with pytest.raises(ArtefactError, match="has 50 bytes, and 5 came"):
            store.download(store.url_of("out"), into)


@pytest.mark.parametrize(
    ("url", "parts"),
    [
        (
            "https://bank.blob.core.windows.net/models/a/b/",
            ("bank", "models", "a/b", "https", "core.windows.net"),
        ),
        (
            "https://bank.blob.core.usgovcloudapi.net/models",
            ("bank", "models", "", "https", "core.usgovcloudapi.net"),
        ),
    ],
)
def test_an_address_is_taken_apart(url: str, parts: tuple[str, ...]) -> None:
    store = BlobStore(AzureSession("x", CONNECTION, "", KINDS), url)
    got = (store.account, store.container, store.prefix, store.protocol, store.suffix)
    assert got == parts
    assert store.name_of("x") == (f"{parts[2]}/x" if parts[2] else "x")


def test_a_file_is_located_with_its_size_and_version(store: BlobStore) -> None:
    beside = store.name_of("") + "beside/loans 1.csv"  # of the container, not beneath the folder
    store._client().upload_blob(beside, b"a,b", overwrite=True)
    url = store.url_of("").removesuffix(store.name_of("")) + beside
    (found,) = store.located(url)
    assert (found.uri, found.size_bytes) == (url, 3)
    assert store.located(url) == [found]
    store._client().upload_blob(beside, b"a,c", overwrite=True)
    (changed,) = store.located(url)
    assert changed.version not in {found.version, "", "None"}
    assert '"' not in changed.version


def test_all_beneath_a_folder_is_located(store: BlobStore) -> None:
    put(store, "in/a.csv", b"1")
    put(store, "in/deep", b"", hdi_isfolder="true")
    put(store, "in/deep/b.csv", b"12")
    put(store, "in/deep/c.csv", b"123")
    put(store, "in2/d.csv", b"1234")
    found = store.located(store.url_of("in/"))
    assert [(each.uri, each.size_bytes) for each in found] == [
        (store.url_of("in/a.csv"), 1), (store.url_of("in/deep/b.csv"), 2),
        (store.url_of("in/deep/c.csv"), 3),
    ]  # fmt: skip
    assert [store.located(each.uri) for each in found] == [[each] for each in found]


@pytest.mark.parametrize(
    ("path", "says"),
    [
        ("nowhere.csv", "Nothing stands at"), ("in", "folder ends in '/'"),
        ("nowhere/", "Nothing stands at"), ("in/deep", "Nothing stands at"),
        ("in/../in/a.csv", "no plain address"), ("in//a.csv", "no plain address"),
        ("in/a%20b.csv", "no plain address"), ("in/a.csv?sv=1&sig=secret", "no plain address"),
        ("odd/", "cannot be said in an address"),
    ],
)  # fmt: skip
def test_what_is_not_there_or_no_address_is_not_located(
    path: str, says: str, store: BlobStore
) -> None:
    put(store, "in/a.csv", b"1")
    put(store, "in/deep", b"", hdi_isfolder="true")
    put(store, "odd/a%20b.csv", b"1")
    with pytest.raises(DataError, match=says) as caught:
        store.located(store.url_of(path))
    assert not caught.value.retryable
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    "url",
    [
        "https://bank.blob.core.windows.net/mlgov/in/a.csv", "s3://mlgov/a.csv", "/etc/passwd",
        "https://bank.blob.core.windows.net/mlgov/a.csv?sig=secret",
    ],
)  # fmt: skip
def test_what_is_elsewhere_is_not_located(url: str, store: BlobStore) -> None:
    with pytest.raises(DataError, match="read no other container") as caught:
        store.located(url)
    assert "secret" not in str(caught.value)
    with pytest.raises(DataError, match="read no other container"):
        store.located(store.url_of("x").replace(f"/{CONTAINER}/", f"/{CONTAINER}2/"))
