"""What the evidence page shows of each kind of evidence document.

Each reader takes JSON values and raises KeyError, TypeError, ValueError or OverflowError for what
is not of its kind (`airflow_mlgov.service.documents.read_document` says of which document). What
was added to a document's format later may be absent.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from airflow_mlgov.dossiers.approval_form import DataLine, TrainingLine
from airflow_mlgov.dossiers.evidence import (
    Challenger,
    DataCheck,
    GroupRate,
    Report,
    ReportedTest,
    SampleCurves,
    SampleLine,
    Training,
    TrainingInput,
)
from airflow_mlgov.dossiers.plots import Calibration, Histogram, Points
from airflow_mlgov.records.governance import TestResult
from airflow_mlgov.service.documents import count_in, finite_in, of_type, results_of, share_in

_MOST_POINTS = 2000


def read_report(document: dict[str, Any]) -> Report:
    """Return what a validation report says."""
    bounds = {
        of_type(planned["test"], str): _numbers(planned["thresholds"])
        for planned in _dicts(document, "planned")
    }
    return Report(
        tests=[_test(result, bounds) for result in results_of(document)],
        samples=[_sample(name, said) for name, said in _items(document, "data")],
        curves=[_curves(name, drawn) for name, drawn in _items(document, "plots")],
        challenger=_challenger(document.get("challenger")),
    )


def read_training(document: dict[str, Any]) -> Training:
    """Return what a training record says."""
    environment = of_type(document.get("environment", {}), dict)
    ran = [document.get("platform", ""), environment.get("platform", "")]
    if "python" in environment:
        ran.append(f"Python {of_type(environment['python'], str)}")
    clean = document.get("git_is_clean")
    return Training(
        line=read_training_line(document),
        inputs=[_input(item) for item in _dicts(document, "inputs")],
        git_commit=of_type(document.get("git_commit") or "", str),
        git_is_clean=None if clean is None else of_type(clean, bool),
        platform=", ".join(of_type(part, str) for part in ran if part),
        packages=len(of_type(environment.get("packages", []), list)),
        parameters={name: str(value) for name, value in _items(document, "parameters")},
    )


def read_training_line(document: dict[str, Any]) -> TrainingLine:
    """Return script, code and seed of a training record."""
    return TrainingLine(
        script=of_type(document["script"], str),
        code_sha256=of_type(document["code_sha256"], str),
        seed=str(of_type(document["seed"], int | str)),
    )


def read_data_check(document: dict[str, Any]) -> DataCheck:
    """Return what a data validation says."""
    expectations = _dicts(document, "expectations")
    return DataCheck(
        line=read_data_line(document),
        uri=of_type(document.get("uri", ""), str),
        expectations=len(expectations),
        unmet=[_expected(item) for item in expectations if not of_type(item["success"], bool)],
    )


def read_data_line(document: dict[str, Any]) -> DataLine:
    """Return dataset, fingerprint, suite and verdict of a data validation."""
    fingerprint = of_type(document["fingerprint"], dict)
    return DataLine(
        dataset=of_type(document["dataset"], str),
        rows=count_in(fingerprint["rows"]),
        columns=count_in(fingerprint["columns"]),
        sha256=of_type(fingerprint["sha256"], str),
        passed=of_type(document["passed"], bool),
        suite=of_type(of_type(document["suite"], dict)["name"], str),
    )


def _items(document: Mapping[str, Any], name: str) -> list[tuple[str, Any]]:
    return list(of_type(document.get(name, {}), dict).items())


def _dicts(document: Mapping[str, Any], name: str) -> list[dict[str, Any]]:
    return [of_type(item, dict) for item in of_type(document.get(name, []), list)]


def _numbers(value: Any) -> dict[str, float]:
    return {name: finite_in(number) for name, number in of_type(value, dict).items()}


def _test(result: TestResult, bounds: Mapping[str, Mapping[str, float]]) -> ReportedTest:
    details = of_type(result.details, dict)
    interval = details.get("interval")
    lower_upper = None
    if interval is not None:
        lower, upper = map(finite_in, of_type(interval, list))
        lower_upper = (lower, upper)
    notes = [of_type(details[why], str) for why in ("not_computed", "note") if why in details]
    groups = details.get("groups")
    return ReportedTest(
        result=result,
        p_value=_share_or_none(details.get("p_value")),
        interval=lower_upper,
        confidence=_share_or_none(details.get("confidence")),
        note=" ".join(notes),
        # Of other tests "groups" is a number: how many they made.
        groups=[_group(of_type(item, dict)) for item in groups] if _is_list(groups) else (),
        bounds=bounds.get(result.test, {}),
    )


def _is_list(value: Any) -> bool:
    return isinstance(value, list)


def _share_or_none(value: Any) -> float | None:
    return None if value is None else share_in(value)


def _group(value: Mapping[str, Any]) -> GroupRate:
    ratio = value["ratio"]
    return GroupRate(
        group=of_type(value["group"], str),
        rows=count_in(value["rows"]),
        rate=share_in(value["rate"]),
        ratio=None if ratio is None else finite_in(ratio),
        p_value=_share_or_none(value.get("p_value")),
    )


def _sample(name: str, said: Any) -> SampleLine:
    value = of_type(said, dict)
    return SampleLine(
        name=name,
        uri=of_type(value["uri"], str),
        sha256=of_type(value["sha256"], str),
        rows=count_in(value["rows"]),
        events=count_in(value["events"]),
    )


def _curves(name: str, drawn: Any) -> SampleCurves:
    value = of_type(drawn, dict)
    groups = [
        Calibration(
            count_in(item["rows"]), share_in(item["mean_probability"]), share_in(item["event_rate"])
        )
        for item in _dicts(value, "calibration")
    ]
    bars = of_type(value["histogram"], dict)
    edges = [share_in(edge) for edge in of_type(bars["edges"], list)]
    events, non_events = ([count_in(n) for n in bars[side]] for side in ("events", "non_events"))
    if not groups or not len(events) == len(non_events) == len(edges) - 1 > 0:
        raise ValueError("a curve has no points, or a bar no edge")
    return SampleCurves(
        name=name,
        roc=_points(value["roc"]),
        challenger_roc=_points(value["challenger_roc"]) if "challenger_roc" in value else (),
        calibration=groups,
        histogram=Histogram(edges, events, non_events),
    )


def _points(value: Any) -> Points:
    points = of_type(value, list)
    if not 1 < len(points) <= _MOST_POINTS:
        raise ValueError("a curve has too few points, or too many")
    return [(share_in(x), share_in(y)) for x, y in points]


def _challenger(value: Any) -> Challenger | None:
    if value is None:
        return None
    said = of_type(value, dict)
    return Challenger(
        version=of_type(said.get("version") or "", str),
        champion_auc=share_in(said["champion_auc"]),
        challenger_auc=share_in(said["challenger_auc"]),
        p_value=_share_or_none(said.get("p_value")),
    )


def _input(item: Mapping[str, Any]) -> TrainingInput:
    return TrainingInput(
        of_type(item["name"], str), of_type(item["uri"], str), of_type(item["sha256"], str)
    )


def _expected(item: Mapping[str, Any]) -> str:
    where = of_type(item.get("kwargs", {}), dict).get("column", "")
    said = f"{of_type(item['type'], str)} {where}".strip().replace("_", " ")
    severity = of_type(item.get("severity", ""), str)
    return f"{said} ({severity})" if severity else said
