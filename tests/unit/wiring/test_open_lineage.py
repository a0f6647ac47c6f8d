"""Targets and shippers as the settings name them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from lineage_events import run_of
from marquez import FakeMarquez

from airflow_mlgov.errors import ConfigurationError, DocumentError
from airflow_mlgov.records.clock import SystemClock
from airflow_mlgov.service.outbox import OutboxItem
from airflow_mlgov.stores.sqlite import SqliteStore
from airflow_mlgov.wiring.lineage import lineage_target_names, open_shippers, open_targets
from airflow_mlgov.wiring.outbox import open_outbox


@pytest.fixture
def fake() -> Iterator[FakeMarquez]:
    with FakeMarquez() as server:
        yield server


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def write(*targets: str) -> None:
        file = tmp_path / "targets.yaml"
        file.write_text("version: 1\ntargets:\n" + "".join(f"  - {each}\n" for each in targets))
        monkeypatch.setenv("AIRFLOW__MLGOV__LINEAGE_TARGETS_PATH", str(file))

    monkeypatch.setenv("AIRFLOW__MLGOV__LEDGER_URL", f"sqlite:///{tmp_path}/ledger.db")
    SqliteStore(tmp_path / "ledger.db").migrate()
    return write


def test_without_the_setting_there_are_no_targets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AIRFLOW__MLGOV__LINEAGE_TARGETS_PATH", raising=False)
    assert open_targets() == []
    assert open_shippers(print) == []


def test_each_kind_gets_what_was_appended(write, fake, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("WRITER_TOKEN", "sesame")
    monkeypatch.setenv("CATALOGUE_KEY", "open")
    auth = "auth: {type: api_key, apiKey: {env: CATALOGUE_KEY}}"
    write(
        f"{{name: marquez, kind: marquez, url: '{fake.url}', token_env: WRITER_TOKEN}}",
        f"{{name: archive, kind: folder, url: 'file://{tmp_path}/archive'}}",
        f"{{name: catalogue, kind: openlineage, transport: {{type: http, url: '{fake.url}', "
        f"endpoint: elsewhere, {auth}}}}}",
    )
    assert lineage_target_names() == ["marquez", "archive", "catalogue"]
    assert [each.binds_on_arrival for each in open_targets()] == [True, False, False]
    run = run_of("a", 0)
    open_outbox().append([OutboxItem.of(each) for each in run], SystemClock().now())
    said: list[str] = []
    marquez, archive, catalogue = (shipper.round() for shipper in open_shippers(said.append))
    assert marquez.backlog.delivered == archive.backlog.delivered == 2
    assert len(list((tmp_path / "archive").rglob("*.json"))) == 2
    assert catalogue.problem.startswith("Lineage target catalogue: 404")
    headers = {each.target: each.headers.get("authorization") for each in fake.requests}
    assert headers["/api/v1/lineage"] == "Bearer sesame"
    assert headers["/elsewhere"] == "Bearer open"


def test_a_variable_that_is_not_set_is_named_with_its_line(write) -> None:
    write("{name: marquez, kind: marquez, url: 'http://x', token_env: NOT_SET_HERE}")
    with pytest.raises(ConfigurationError, match=r":3: .*NOT_SET_HERE, which is not set"):
        open_targets()
    write("{name: x, kind: openlineage, transport: {type: http, more: [{a: {env: NOT_HERE}}]}}")
    with pytest.raises(ConfigurationError, match="NOT_HERE"):
        open_targets()


def test_a_malformed_file_is_refused(write) -> None:
    write("{name: marquez, kind: marquis}")
    with pytest.raises(DocumentError, match="marquez"):
        lineage_target_names()
