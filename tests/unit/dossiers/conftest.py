"""A full evidence page, and the same with one text in every place where a text may stand."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import fields, is_dataclass, replace
from datetime import UTC, date, datetime
from enum import Enum
from pathlib import Path
from typing import Any

import pytest

from airflow_mlgov.dossiers.approval_form import DataLine, SeatLine, TrainingLine
from airflow_mlgov.dossiers.desk import Desk, FindingOffer, GlassOffer
from airflow_mlgov.dossiers.evidence import (
    Challenger,
    DataCheck,
    DocumentLine,
    Dossier,
    GroupRate,
    HistoryLine,
    InUse,
    Report,
    ReportedTest,
    RequestState,
    SampleCurves,
    SampleLine,
    StopLine,
    Training,
    TrainingInput,
)
from airflow_mlgov.dossiers.lists import ModelLine, ModelPage, Overview, RequestLine
from airflow_mlgov.dossiers.pages import (
    write_evidence_page,
    write_model_page,
    write_overview,
    write_problem,
)
from airflow_mlgov.dossiers.plots import Calibration, Histogram
from airflow_mlgov.dossiers.site import Site
from airflow_mlgov.policy.inventory_file import parse_entry
from airflow_mlgov.policy.pack_file import parse_pack
from airflow_mlgov.records.digest import Digest
from airflow_mlgov.records.governance import (
    ApprovalRequest,
    Finding,
    Outcome,
    Severity,
    TestResult,
)

DAGS = Path(__file__).parents[3] / "dags"
AT = datetime(2026, 6, 1, 12, tzinfo=UTC)
DIGEST, OTHER = Digest.of(b"x"), Digest.of(b"y")
INVENTORY, PACK = DAGS / "inventory" / "retail_pd.yaml", DAGS / "policy" / "retail_credit.yaml"
ENTRY = parse_entry(INVENTORY.read_bytes(), str(INVENTORY))
REQUEST = ApprovalRequest(
    "retail_pd", DIGEST, "production", DIGEST, (("model.trained", DIGEST),), "dag", "run", "gate", 2
)
AUC = TestResult(
    "discrimination.auc",
    "Area under the ROC curve",
    0.7712,
    Outcome.WARN,
    "fail below 0.68",
    {"validation": 9000},
    "DeLong (1988)",
    segment="all",
)
RATIO = replace(AUC, test="fairness", title="Adverse impact", outcome=Outcome.FAIL, statistic=None)
CURVES = SampleCurves(
    "validation",
    [(0.0, 0.0), (0.1, 0.5), (1.0, 1.0)],
    [(0.0, 0.0), (0.2, 0.7), (1.0, 1.0)],
    [Calibration(500, 0.1, 0.12), Calibration(500, 0.4, 0.35)],
    Histogram([0.0, 0.5, 1.0], [10, 30], [80, 20]),
)
STOP = StopLine(9, AT, "zoe", "it scores nonsense")
SEATS = [
    SeatLine("model_owner", ("olivia (L1)",), 0, ("olivia",)),
    SeatLine("committee", (), 2, ("victor", "vera"), veto=False),
]
DOSSIER = Dossier(
    request=REQUEST,
    asked_by="erin",
    history=[
        HistoryLine(3, AT, "asked", "erin"),
        HistoryLine(4, AT, "approved", "olivia", "L1", "looked at it", "", True),
        HistoryLine(5, AT, "answered", "erin", "L1", "mine", "the voter is the requester", False),
    ],
    registry_version="3",
    entry=ENTRY,
    tier=1,
    pack=parse_pack(PACK.read_bytes(), str(PACK)),
    is_pack_in_force=False,
    state=RequestState.OPEN,
    granted_at=AT,
    expires_at=AT,
    conditions=(),
    decide_by=AT,
    used_by="task promote",
    seats=SEATS,
    is_reader_waited_for=True,
    stop=STOP,
    documents=[
        DocumentLine("model.trained", DIGEST),
        DocumentLine("model.validated", OTHER, "Evidence was altered."),
    ],
    reports=[
        Report(
            tests=[
                ReportedTest(AUC, 0.01, (0.75, 0.79), 0.95, "few rows"),
                ReportedTest(
                    RATIO,
                    groups=[
                        GroupRate("20-29", 900, 0.75, 0.93, 0.04),
                        GroupRate("60+", 9, 0.7, None, None),
                    ],
                    bounds={"fail_below": 0.8},
                ),
            ],
            samples=[SampleLine("validation", "file:///v.csv", str(DIGEST), 9000, 2000)],
            curves=[CURVES],
            challenger=Challenger(str(OTHER), 0.77, 0.78, 0.03),
        )
    ],
    trainings=[
        Training(
            TrainingLine("train.py", str(DIGEST), "42"),
            [TrainingInput("clients", "file:///d.csv", str(DIGEST))],
            "b2d2a88",
            True,
            "local, Linux",
            246,
            {"depth": "3"},
        )
    ],
    data=[
        DataCheck(
            DataLine("development", 21000, 25, str(DIGEST), True, "clients"),
            "file:///d.csv",
            58,
            ["age is between 18 and 99"],
        )
    ],
    findings=[
        Finding("F-1", "retail_pd", DIGEST, Severity.HIGH, "t", "calibration is off", "olivia", AT),
        Finding("F-2", "retail_pd", DIGEST, Severity.LOW, "t", "late", "olivia", AT, is_open=False),
    ],
    in_use=InUse(OTHER, "2", "champion", AT, {("discrimination.auc", "all"): 0.76}),
    read_at=datetime(2026, 7, 1, tzinfo=UTC),
    ledger_size=12,
    ledger_root="ab" * 32,
)
LINE = RequestLine(
    digest=DIGEST,
    model="retail_pd",
    model_name="Retail PD",
    number="3",
    target="production",
    asked_at=AT,
    asked_by="erin",
    state=RequestState.OPEN,
    open_seats=SEATS[1:],
    decide_by=AT,
    is_reader_waited_for=True,
)
DESK = Desk(
    model="retail_pd",
    ledger_size=12,
    today=AT.date(),
    findings=[
        FindingOffer("F-1", may_close=True, accept_until=date(2026, 7, 1)),
        FindingOffer("F-3", may_confirm=True),
    ],
    may_resume=True,
    may_revoke=True,
    glass=GlassOffer([(OTHER, "3"), (DIGEST, "2")], ("production",), 8),
    done="Finding F-9 is closed: ledger entry 11.",
)
TOKEN = "1.12." + "ab" * 32
MODEL_PAGE = ModelPage(
    ModelLine(ENTRY, STOP), [LINE], 1, [OTHER], DOSSIER.findings[:1], 2, DOSSIER.read_at, DESK
)
OVERVIEW = Overview("victor", [LINE], [ModelLine(ENTRY, STOP)], 2, [OTHER])


def with_text(value: Any, text: str) -> Any:
    """Return a value with every text in it replaced, however deep; digests and verdicts stay."""
    if isinstance(value, Enum | Digest | bytes | datetime | date):
        return value
    if isinstance(value, str):
        return text
    if is_dataclass(value):
        changed = {f.name: with_text(getattr(value, f.name), text) for f in fields(value)}
        return type(value)(**changed)
    if isinstance(value, Mapping):
        return {with_text(k, text): with_text(v, text) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(with_text(item, text) for item in value)
    return value


def written_pages(text: str | None = None) -> dict[str, str]:
    """Return each page as HTML, as it is or with one text everywhere."""
    site = Site("")
    dossier, model, overview, desk, token = (
        value if text is None else with_text(value, text)
        for value in (DOSSIER, MODEL_PAGE, OVERVIEW, DESK, TOKEN)
    )
    return {
        "evidence": write_evidence_page(dossier, site, desk, token),
        "model": write_model_page(model, site, token),
        "overview": write_overview(overview, site),
        "problem": write_problem(
            "Problem",
            "There is no such thing." if text is None else text,
            site,
            back=site.model("retail_pd"),
            typed="because it is" if text is None else text,
        ),
    }


@pytest.fixture
def dossier() -> Dossier:
    return DOSSIER


@pytest.fixture
def model_page() -> ModelPage:
    return MODEL_PAGE


@pytest.fixture
def write_pages() -> Callable[..., dict[str, str]]:
    return written_pages
