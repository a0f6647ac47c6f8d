"""The seam between our operators and the OpenLineage provider, with its own extractor."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.providers.openlineage.extractors.base import DefaultExtractor
from airflow.sdk import DAG, BaseOperator

from airflow_mlgov.decorators.recorded import RecordedTaskOperator
from airflow_mlgov.errors import ConfigurationError
from airflow_mlgov.lineage import events
from airflow_mlgov.lineage.datasets import DataRef
from airflow_mlgov.lineage.events import StepLineage
from airflow_mlgov.operators import lineage
from airflow_mlgov.operators.lineage import LineageMixin

STARTED = datetime(2026, 11, 23, 9, tzinfo=UTC)


class Copy(LineageMixin, BaseOperator):
    """Reads one file."""

    template_fields = ("path",)

    def __init__(self, *, path: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.path = path

    def lineage_before(self, context: Any) -> StepLineage | None:
        return events.prepare([self.data_before(self.path)])

    def execute(self, context: Any) -> None:
        before = self.data_before(self.path)
        written = DataRef(f"{self.path}.copy", before.digest)
        self.keep_lineage(lambda: events.prepare([before], [written]))


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Any]]:
    """What our operators emit themselves, with the provider on."""
    monkeypatch.setenv("AIRFLOW__OPENLINEAGE__TRANSPORT", '{"type": "console"}')
    from airflow.providers.openlineage import conf

    for cached in vars(conf).values():
        getattr(cached, "cache_clear", lambda: None)()
    found: list[Any] = []
    monkeypatch.setattr("airflow.providers.openlineage.api.emit", found.append)
    yield found
    monkeypatch.undo()
    for cached in vars(conf).values():
        getattr(cached, "cache_clear", lambda: None)()


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    file = tmp_path / "raw.csv"
    file.write_text("a\n1\n")
    return file


def rendered(task: Any, **values: Any) -> Any:
    task.render_template_fields({"ti": SimpleNamespace(start_date=STARTED), **values})
    return task


def extract(task: Any, event: str) -> Any:
    """What the provider takes for an event, as its listener does it."""
    extractor = DefaultExtractor(task)
    if event == "start":
        return extractor.extract()
    return getattr(extractor, f"extract_on_{event}")(SimpleNamespace())


def names(datasets: Any) -> list[str]:
    return [dataset.name.rpartition("/")[2].partition("@")[0] for dataset in datasets]


def test_a_source_is_registered_before_the_start_at_the_tasks_own_time(
    raw: Path, sent: list[Any]
) -> None:
    task = rendered(Copy(task_id="copy", path=str(raw)))
    made = extract(task, "start")
    assert names(made.inputs) == ["raw.csv"]
    assert made.outputs == []
    (event,) = sent
    assert event.job.name.startswith("register.raw.csv.")
    assert event.eventTime == STARTED.isoformat()
    assert event.outputs[0].name == made.inputs[0].name


def test_the_end_states_what_was_written_and_reads_the_same(raw: Path, sent: list[Any]) -> None:
    task = rendered(Copy(task_id="copy", path=str(raw)))
    start = extract(task, "start")
    task.execute({})
    end = extract(task, "complete")
    assert [d.name for d in start.inputs] == [d.name for d in end.inputs]
    assert names(end.outputs) == ["raw.csv.copy"]
    assert len(sent) == 1, "registered once"


def test_a_failure_before_anything_was_kept_reads_the_same_and_writes_nothing(
    raw: Path, sent: list[Any]
) -> None:
    task = rendered(Copy(task_id="copy", path=str(raw)))
    start, end = extract(task, "start"), extract(task, "failure")
    assert [d.name for d in start.inputs] == [d.name for d in end.inputs]
    assert end.outputs == []


def test_a_failure_after_something_was_kept_states_it(raw: Path, sent: list[Any]) -> None:
    task = rendered(Copy(task_id="copy", path=str(raw)))
    task.execute({})
    assert names(extract(task, "failure").outputs) == ["raw.csv.copy"]


def test_what_cannot_be_named_is_a_warning_and_an_event_without_data(
    sent: list[Any], caplog: Any
) -> None:
    task = rendered(Copy(task_id="copy", path="/nowhere/raw.csv"))
    made = extract(task, "start")
    assert (made.inputs, made.outputs) == ([], [])
    assert "Lineage of this task is incomplete" in caplog.text
    task.keep_lineage(lambda: (_ for _ in ()).throw(ConfigurationError("no name")))
    assert extract(task, "complete").outputs == []


def test_a_large_file_stands_on_the_terminal_event_only_and_is_registered_there(
    raw: Path, sent: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lineage, "HASH_LIMIT_BYTES", 1)
    task = rendered(Copy(task_id="copy", path=str(raw)))
    assert extract(task, "start").inputs == []
    assert sent == []
    read = task.placed(DataRef(str(raw), lineage_digest(raw)))
    task.keep_lineage(lambda: events.prepare([read]))
    assert names(extract(task, "complete").inputs) == ["raw.csv"]
    assert len(sent) == 1


def lineage_digest(file: Path) -> Any:
    from airflow_mlgov.records.digest import Digest

    return Digest.of(file.read_bytes())


def test_what_a_task_before_writes_is_no_source(raw: Path, tmp_path: Path, sent: list[Any]) -> None:
    out = tmp_path / "out.csv"
    out.write_text("b\n2\n")
    with DAG("chain", schedule=None):
        writer = RecordedTaskOperator(
            task_id="writer",
            python_callable=lambda: None,
            inputs=[str(raw)],
            outputs=["{{ folder }}/out.csv"],
        )
        reader = Copy(task_id="reader", path=str(out))
        other = Copy(task_id="other", path=str(out))
        writer >> reader
    written = extract(executed(rendered(writer, folder=str(tmp_path))), "complete")
    sent.clear()
    read = extract(rendered(reader, folder=str(tmp_path)), "start")
    assert [d.name for d in read.inputs] == [d.name for d in written.outputs]
    assert [d.facets["documentation"] for d in read.inputs] == [
        d.facets["documentation"] for d in written.outputs
    ]
    assert sent == []
    extract(rendered(other, folder=str(tmp_path)), "start")
    assert len(sent) == 1, "who has no writer before it reads a source"


def executed(task: Any) -> Any:
    task.keep_files(task.files_read())
    return task


def test_without_a_transport_nothing_is_built(raw: Path) -> None:
    code = """
import sys
from airflow.sdk import BaseOperator
from airflow_mlgov.hooks.listening import is_listening
from airflow_mlgov.operators.lineage import LineageMixin
class Copy(LineageMixin, BaseOperator): pass
task = Copy(task_id="copy")
task.render_template_fields({})
def build():
    raise SystemExit("built")
task.keep_lineage(build)
import json
loaded = [m for m in sys.modules if m.startswith(("openlineage", "airflow_mlgov.lineage"))]
print(json.dumps([is_listening(), loaded]))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout.strip().splitlines()[-1]) == [False, []]
