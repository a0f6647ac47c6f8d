"""The whole task on real things: Great Expectations, Airflow connections, SQLite, ledger.

PostgreSQL is not here: it needs a server, and comes with the deployment that has one.
"""

from __future__ import annotations

import json
import logging
import sqlite3
import subprocess
import sys
import tempfile
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pandas as pd
import pytest
from airflow.sdk.exceptions import AirflowException, AirflowFailException, AirflowSkipException

from airflow_mlgov.errors import ConfigurationError, MlgovError
from airflow_mlgov.operators.validate_data import ValidateDataOperator
from airflow_mlgov.wiring import open_evidence, open_ledger

if TYPE_CHECKING:
    from collections.abc import Callable

ROOT = Path(__file__).parents[2]
NAMES = ["alice", "bob", "carol", "dave", "erin", "frank", "grace", "heidi", "ivan", "judy"]
SECRET = "p$ss/w:rd"
SUITE = {
    "name": "clients",
    "expectations": [
        {"type": "expect_column_values_to_not_be_null", "kwargs": {"column": "ID"}},
        {"type": "expect_column_values_to_be_unique", "kwargs": {"column": "ID"}},
        {
            "type": "expect_column_values_to_be_in_set",
            "kwargs": {"column": "GROUP", "value_set": [0, 1]},
            "severity": "warning",
        },
        {
            "type": "expect_column_quantile_values_to_be_between",
            "kwargs": {
                "column": "X",
                "quantile_ranges": {"quantiles": [0.25, 0.5], "value_ranges": [[20, 30], [45, 55]]},
            },
        },
        {"type": "expect_column_mean_to_be_between", "kwargs": {"column": "X", "min_value": 40}},
        {"type": "expect_column_max_to_be_between", "kwargs": {"column": "X", "max_value": 99}},
        {"type": "expect_table_row_count_to_be_between", "kwargs": {"min_value": 50}},
    ],
}


@pytest.fixture(autouse=True)
def _settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {
        "LEDGER_URL": f"sqlite:///{tmp_path}/ledger.db",
        "EVIDENCE_URL": f"file://{tmp_path}/evidence",
        "INVENTORY_PATH": str(ROOT / "dags" / "inventory"),
        "POLICY_PATH": str(ROOT / "dags" / "policy"),
        "KEYS_DIR": str(tmp_path / "keys"),
    }.items():
        monkeypatch.setenv(f"AIRFLOW__MLGOV__{name}", value)


def _frame(rows: int = 100) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "ID": range(rows),
            "GROUP": [number % 2 for number in range(rows)],
            "X": [float(number) for number in range(rows)],
            "NAME": [NAMES[number % 10] for number in range(rows)],
        }
    )


@pytest.fixture
def csv(tmp_path: Path) -> Path:
    path = tmp_path / "clients.csv"
    _frame().to_csv(path, index=False, encoding="utf-8-sig")
    return path


@pytest.fixture
def run(tmp_path: Path) -> Callable[..., dict[str, Any]]:
    instance = SimpleNamespace(
        dag_id="retail_pd", run_id="run-1", task_id="check", map_index=-1, try_number=1
    )

    def run_it(*, suite: object = SUITE, suite_path: str = "", **arguments: Any) -> dict[str, Any]:
        path = tmp_path / "suite.json"
        path.write_text(suite if isinstance(suite, str) else json.dumps(suite))
        operator = ValidateDataOperator(
            task_id="check",
            **{"model": "retail_pd", "suite": suite_path or str(path)} | arguments,
        )
        return operator.execute({"ti": instance, "dag_run": SimpleNamespace()})

    return run_it


def _entries() -> list[Any]:
    return open_ledger().view().select("data.validated")


def _evidence(entry: Any) -> dict[str, Any]:
    from airflow_mlgov.records.digest import Digest

    return json.loads(open_evidence().get(Digest.parse(entry.body["evidence_sha256"])))


def _broken(**changes: object) -> dict[str, Any]:
    suite = json.loads(json.dumps(SUITE))
    suite["expectations"][0] |= changes
    return suite


def _rule(name: str, **kwargs: object) -> dict[str, Any]:
    return {"type": name, "kwargs": {"column": "NAME"} | kwargs}


def test_a_csv_file_with_a_byte_order_mark_passes(run, csv: Path) -> None:
    import hashlib

    result = run(data=str(csv))

    digest = "sha256:" + hashlib.sha256(csv.read_bytes()).hexdigest()
    (entry,) = _entries()
    assert result == {
        "dataset": "clients",
        "uri": csv.as_uri(),
        "sha256": digest,
        "rows": 100,
        "columns": 4,
        "passed": True,
        "evidence": entry.body["evidence_sha256"],
    }
    assert json.loads(json.dumps(result)) == result
    assert entry.body["sha256"] == digest
    document = _evidence(entry)
    assert document["fingerprint"]["schema"][0] == {"name": "ID", "type": "int64"}
    assert document["engine"].startswith("great_expectations 1.")
    assert [e["success"] for e in document["expectations"]] == [True] * 7
    assert [e["type"] for e in document["expectations"]] == [
        e["type"] for e in SUITE["expectations"]
    ]
    assert [e["kwargs"] for e in document["expectations"]] == [
        e["kwargs"] for e in SUITE["expectations"]
    ]
    assert document["expectations"][2]["severity"] == "warning"
    assert document["expectations"][3]["observed_value"]["quantiles"] == [0.25, 0.5]
    assert document["expectations"][4]["observed_value"] == 49.5
    assert document["expectations"][5]["observed_value"] is None
    assert document["expectations"][6]["observed_value"] == 100


def test_a_failure_keeps_its_evidence_and_no_persons_data(
    run, csv: Path, caplog: pytest.LogCaptureFixture
) -> None:
    rules = [
        _rule("expect_column_values_to_be_in_set", value_set=[]),
        _rule("expect_column_distinct_values_to_be_in_set", value_set=["x"]),
        _rule("expect_column_most_common_value_to_be_in_set", value_set=["x"]),
        _rule("expect_column_values_to_be_between", min_value=0),
        _rule("expect_column_mean_to_be_between", min_value=0),
        _rule("expect_column_values_to_match_strftime_format", strftime_format="%Y"),
        _rule("expect_column_values_to_match_json_schema", json_schema={}),
        _rule("expect_column_values_to_match_regex", regex="(("),
    ]

    with (
        caplog.at_level(logging.INFO),
        pytest.raises(AirflowFailException, match="failed 8 of 8") as caught,
    ):
        run(data=str(csv), suite={"name": "leaky", "expectations": rules})

    (entry,) = _entries()
    assert entry.body["passed"] is False
    document = _evidence(entry)
    assert [e["success"] for e in document["expectations"]] == [False] * 8
    assert document["expectations"][0]["unexpected_count"] == 100
    assert "could not be evaluated (TypeError" in document["expectations"][3]["error"]
    told = json.dumps(document) + caplog.text + str(caught.value)
    assert [name for name in NAMES if name in told] == []
    cause = caught.value.__cause__
    assert isinstance(cause, MlgovError)
    assert cause.__cause__ is None


def test_a_column_that_is_not_there_is_named_with_the_suites_place(run, csv: Path) -> None:
    with pytest.raises(
        AirflowFailException,
        match=r"suite\.json:1: expectations\.0: INCOME .*: the data has no column 'INCOME'",
    ):
        run(data=str(csv), suite=_broken(kwargs={"column": "INCOME"}))
    assert _entries()[0].body["passed"] is False


def test_the_log_has_one_line_an_expectation_and_no_progress_bar(
    run, csv: Path, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    with caplog.at_level(logging.DEBUG):
        run(data=str(csv))

    lines = [r.message for r in caplog.records if r.name == "airflow_mlgov.service.validate_data"]
    assert len(lines) == 7
    assert lines[0] == "PASS  ID values to not be null: 0 of 100 unexpected"
    assert [r for r in caplog.records if r.name.startswith("great_expectations")] == []
    assert "Calculating Metrics" not in "".join(capfd.readouterr())


def test_parquet_keeps_a_column_that_pandas_calls_an_index(run, tmp_path: Path) -> None:
    path = tmp_path / "clients.parquet"
    _frame().set_index("ID").to_parquet(path)

    result = run(data=path, dataset="named")

    assert (result["dataset"], result["columns"]) == ("named", 4)


def test_a_function_is_called_when_the_task_runs(run) -> None:
    calls = []

    def load() -> pd.DataFrame:
        calls.append(1)
        return _frame()

    operator = ValidateDataOperator(task_id="c", model="retail_pd", suite="s.json", data=load)
    operator.render_template_fields({}, operator.get_template_env())
    assert calls == []

    result = run(data=load)
    again = run(data=lambda: _frame().set_axis(range(7, 107)))
    other = run(data=lambda: _frame().assign(X=lambda frame: frame["X"] - 1e-9))

    assert calls == [1]
    assert result["dataset"] == "load"
    assert result["uri"].startswith("python:")
    assert again["sha256"] == result["sha256"] != other["sha256"]


@pytest.mark.parametrize("answer", [None, [{"ID": 1}], "data.csv"])
def test_a_function_that_returns_no_frame_is_refused(run, answer: object) -> None:
    with pytest.raises(AirflowFailException, match="no pandas DataFrame"):
        run(data=lambda: answer)
    assert _entries() == []


def test_a_function_that_breaks_may_be_tried_again(run) -> None:
    def load() -> pd.DataFrame:
        raise ConnectionError("no route")

    with pytest.raises(AirflowException, match="ConnectionError: no route") as caught:
        run(data=load)
    assert not isinstance(caught.value, AirflowFailException)

    def skip() -> pd.DataFrame:
        raise AirflowSkipException

    with pytest.raises(AirflowSkipException):
        run(data=skip)


@pytest.mark.parametrize(
    ("frame", "problem"),
    [
        (pd.DataFrame(), "no rows"),
        (pd.DataFrame({"ID": []}), "no rows"),
        (pd.DataFrame([[1, 2]], columns=["ID", "ID"]), "more than one column called 'ID'"),
        (pd.DataFrame([[1]]), "no text"),
        (pd.DataFrame({"ID": [[1]]}), "holds a list"),
    ],
)
def test_a_frame_that_is_no_table_is_refused(run, frame: pd.DataFrame, problem: str) -> None:
    with pytest.raises(AirflowFailException, match=problem):
        run(data=lambda: frame)


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"", "is empty"),
        (b"\xef\xbb\xbf", "is empty"),
        (b"ID,GROUP,X\n", "no rows"),
        (b"ID,X\n1,2\n3,4,5\n", "Expected 2 fields in line 3, saw 3"),
        (b"ID,X\n1,2,3\n4,5,6\n", "no well-formed CSV"),
        (b"ID,ID\n1,2\n", "more than one column called 'ID'"),
        (b'ID,X\n1,"2\n', "no well-formed CSV"),
        ("ID,N\n1,é\n".encode("latin-1"), "no well-formed CSV"),
        ("ID,N\n1,e\n".encode("utf-16"), "no well-formed CSV"),
    ],
)
def test_a_malformed_csv_file_is_one_clear_error(
    run, tmp_path: Path, content: bytes, problem: str
) -> None:
    path = tmp_path / "data.csv"
    path.write_bytes(content)

    with pytest.raises(AirflowFailException, match=problem):
        run(data=str(path))
    assert _entries() == []


def test_files_that_are_none_are_one_clear_error(run, tmp_path: Path) -> None:
    (tmp_path / "folder.csv").mkdir()
    (tmp_path / "text.parquet").write_text("ID\n1\n")
    for name, problem in {
        "none.csv": "No such file",
        "folder.csv": "Is a directory",
        "text.parquet": "no readable Parquet",
        "clients.xlsx": "no known kind",
    }.items():
        with pytest.raises(AirflowFailException, match=problem):
            run(data=str(tmp_path / name))
    with pytest.raises(AirflowFailException, match="not on a disk"):
        run(data="s3://bucket/data.csv")


def test_a_file_that_changes_while_it_is_read_is_refused(
    run, csv: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read_csv = pd.read_csv

    def read_and_change(*arguments: Any, **options: Any) -> pd.DataFrame:
        frame = read_csv(*arguments, **options)
        with csv.open("ab") as file:
            file.write(b"100,0,100.0,judy\n")
        return frame

    monkeypatch.setattr(pd, "read_csv", read_and_change)
    with pytest.raises(AirflowFailException, match="changed while it was read"):
        run(data=str(csv))
    assert _entries() == []


@pytest.mark.parametrize(
    ("suite", "problem"),
    [
        ("{", "not YAML"),
        (_broken(type="expect_column_values_to_not_be_nul"), "Did you mean .*to_not_be_null"),
        (_broken(kwargs={"colum": "ID"}), "expectations.0.kwargs: .*extra fields not permitted"),
        (_broken(kwargs={"column": "ID", "mostly": 3}), "expectations.0.kwargs: .*mostly"),
        (_broken(severity="bad"), "expectations.0.severity"),
        (_broken(extra=1), "expectations.0.extra: the key 'extra' is not known"),
    ],
)  # fmt: skip
def test_a_malformed_suite_is_refused_whole(run, csv: Path, suite: object, problem: str) -> None:
    with pytest.raises(AirflowFailException, match=problem) as caught:
        run(data=str(csv), suite=suite)
    assert "suite.json" in str(caught.value)
    assert _entries() == []


def test_a_missing_suite_and_an_unknown_model_are_refused(run, csv: Path) -> None:
    with pytest.raises(AirflowFailException, match="No such file"):
        run(data=str(csv), suite_path="/none/suite.yaml")
    with pytest.raises(AirflowFailException, match="'other' is not in the inventory"):
        run(data=str(csv), model="other")


@pytest.fixture
def database(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> sqlite3.Connection:
    path = tmp_path / "credit.db"
    connection = sqlite3.connect(path)
    connection.execute(
        'CREATE TABLE clients (ID INTEGER PRIMARY KEY, "GROUP" INT, X REAL, NAME TEXT)'
    )
    rows = _frame().itertuples(index=False)
    connection.executemany("INSERT INTO clients VALUES (?, ?, ?, ?)", list(rows))
    connection.execute("CREATE TABLE nokey AS SELECT * FROM clients ORDER BY ID DESC")
    connection.execute("CREATE TABLE empty (ID INTEGER)")
    connection.commit()
    monkeypatch.setenv("AIRFLOW_CONN_CREDIT", f"sqlite:///{path}")
    return connection


def test_a_sql_table_is_checked_where_it_stands(run, database, tmp_path: Path) -> None:
    result = run(sql_conn_id="credit", table="clients")

    assert (result["rows"], result["columns"], result["passed"]) == (100, 4, True)
    assert result["uri"] == f"sqlite://{tmp_path}/credit.db.clients"
    document = _evidence(_entries()[0])
    assert document["fingerprint"]["schema"][0] == {"name": "ID", "type": "INTEGER"}
    assert document["expectations"][4]["observed_value"] == 49.5

    database.execute("UPDATE clients SET X = 50.5 WHERE ID = 50")
    database.commit()
    assert run(sql_conn_id="credit", table="clients")["sha256"] != result["sha256"]


def test_rows_without_a_key_are_taken_in_the_order_of_all_columns(run, database) -> None:
    before = run(sql_conn_id="credit", table="nokey")
    database.execute("CREATE TABLE sorted AS SELECT * FROM nokey ORDER BY X")
    database.execute("DROP TABLE nokey")
    database.execute("ALTER TABLE sorted RENAME TO nokey")
    database.commit()

    assert run(sql_conn_id="credit", table="nokey")["sha256"] == before["sha256"]


def test_a_sql_failure_keeps_its_evidence_and_no_persons_data(run, database) -> None:
    database.execute("UPDATE clients SET \"GROUP\" = 7 WHERE NAME = 'alice'")
    database.commit()

    query = 'SELECT * FROM {batch} WHERE "GROUP" = 7'
    rows = {
        "type": "unexpected_rows_expectation",
        "kwargs": {"unexpected_rows_query": query},
    }
    suite = {"name": "clients", "expectations": [*SUITE["expectations"], rows]}

    with pytest.raises(AirflowFailException, match=r"GROUP values to be in set.*10 of 100"):
        run(sql_conn_id="credit", table="clients", suite=suite)

    document = _evidence(_entries()[0])
    assert document["expectations"][2]["unexpected_count"] == 10
    assert document["expectations"][7]["success"] is False
    assert "alice" not in json.dumps(document)


def test_a_table_that_changes_while_it_is_validated_is_refused(
    run, database, monkeypatch: pytest.MonkeyPatch
) -> None:
    from airflow_mlgov.operators import data_sources

    check_table = data_sources.check_table

    def check_and_change(*arguments: Any) -> Any:
        observed = check_table(*arguments)
        database.execute("UPDATE clients SET X = 50.5 WHERE ID = 50")
        database.commit()
        return observed

    monkeypatch.setattr(data_sources, "check_table", check_and_change)
    with pytest.raises(AirflowFailException, match="changed while it was validated"):
        run(sql_conn_id="credit", table="clients")
    assert _entries() == []


def test_what_is_wrong_with_a_table_or_connection_is_said(
    run, database, monkeypatch: pytest.MonkeyPatch
) -> None:
    for table, problem in {"none": "no table 'none'", "empty": "no rows"}.items():
        with pytest.raises(AirflowFailException, match=problem):
            run(sql_conn_id="credit", table=table)
    monkeypatch.setenv("AIRFLOW_CONN_WEB", f"weblog://user:{SECRET.replace('/', '%2F')}@host")
    for conn_id, problem in {"web": "cannot be used", "none": "cannot be used"}.items():
        with pytest.raises(AirflowFailException, match=problem) as caught:
            run(sql_conn_id=conn_id, table="clients")
        assert "p$ss" not in str(caught.value)


def test_a_database_out_of_reach_may_be_tried_again(
    run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_CREDIT", f"sqlite:///{tmp_path}/none/credit.db")

    with pytest.raises(AirflowException, match=r"cannot be read \(OperationalError") as caught:
        run(sql_conn_id="credit", table="clients")
    assert not isinstance(caught.value, AirflowFailException)


def test_the_examples_data_passes_the_examples_suite(run, tmp_path: Path) -> None:
    data = next(
        (path for path in (ROOT / "dags" / "data" / "taiwan_credit.csv",) if path.exists()), None
    )
    if data is None:
        pytest.skip("the example's data is not here")
    suite = ROOT / "dags" / "retail_pd_model" / "data_suite.yaml"
    whole = pd.read_csv(data)
    for rows in (len(whole), 9_000, 2_000):
        sample = tmp_path / f"{rows}.csv"
        whole.sample(rows, random_state=7).to_csv(sample, index=False)
        assert run(data=str(sample), suite=suite.read_text())["passed"] is True

    whole.assign(LIMIT_BAL=whole["LIMIT_BAL"] / 1000).to_csv(sample, index=False)
    with pytest.raises(AirflowFailException, match="LIMIT_BAL"):
        run(data=str(sample), suite=suite.read_text())


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        ({}, "was given none"),
        ({"data": "a.csv", "sql_conn_id": "c", "table": "t"}, "was given two"),
        ({"sql_conn_id": "c"}, "Add table"),
        ({"table": "t"}, "Add sql_conn_id"),
    ],
)
def test_exactly_one_source_is_checked_when_the_dag_is_parsed(
    arguments: dict[str, str], problem: str
) -> None:
    with pytest.raises(ConfigurationError, match=problem):
        ValidateDataOperator(task_id="c", model="retail_pd", suite="s.yaml", **arguments)


def test_a_missing_extra_names_what_to_install(
    run, csv: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "great_expectations", None)
    with pytest.raises(AirflowFailException, match=r"pip install 'airflow-mlgov\[gx\]'"):
        run(data=str(csv))


@pytest.mark.parametrize("is_good", [True, False])
def test_lineage_names_the_file_the_report_and_each_check(
    csv: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_good: bool
) -> None:
    monkeypatch.setattr("airflow_mlgov.operators.lineage.is_listening", lambda: True)
    suite = tmp_path / "suite.json"
    suite.write_text(json.dumps(SUITE if is_good else _broken(kwargs={"column": "INCOME"})))
    operator = ValidateDataOperator(task_id="c", model="retail_pd", suite=str(suite), data=str(csv))
    instance = SimpleNamespace(dag_id="d", run_id="r", task_id="c", map_index=None, try_number=1)

    before = operator.lineage_before(None)
    with nullcontext() if is_good else pytest.raises(AirflowFailException):
        operator.execute({"ti": instance})

    after = operator._lineage
    assert [dataset.name for dataset in before.inputs] == [after.inputs[0].name]
    assert before.outputs == ()
    assert len(after.outputs) == 1
    checks = after.inputs[0].input_facets["dataQualityAssertions"]["assertions"]
    assert {check["assertion"] for check in checks} == {
        expectation["type"] for expectation in SUITE["expectations"]
    }
    assert [check["success"] for check in checks] == [is_good, *[True] * 6]
    checkpoint = after.run_facets["mlgov_checkpoint"]
    assert checkpoint["entry_kind"] == "data.validated"
    assert checkpoint["entry_index"] < checkpoint["size"]


def test_no_folder_is_left_behind(run, csv: Path, tmp_path: Path, monkeypatch) -> None:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(scratch))
    run(data=str(csv))
    assert list(scratch.iterdir()) == []


def test_importing_the_operator_loads_nothing_heavy() -> None:
    code = (
        "import sys; from airflow.sdk import BaseOperator; before = set(sys.modules); "
        "import airflow_mlgov.operators.validate_data; "
        "print(sorted(m for m in set(sys.modules) - before if not m.startswith('airflow_mlgov')))"
    )
    answer = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT
    )
    assert answer.stdout.splitlines()[-1] == "[]"
