from __future__ import annotations

import json
from typing import Any

import pytest

from airflow_mlgov.dossiers.approval_form import DataLine, TrainingLine, body_of
from airflow_mlgov.errors import EvidenceError
from airflow_mlgov.records.digest import Digest
from airflow_mlgov.service.approvals import standing_of
from airflow_mlgov.service.describe import describe
from airflow_mlgov.service.documents import evidence_document

RESULT = {
    "test": "discrimination.auc",
    "title": "AUC",
    "statistic": 0.77,
    "outcome": "pass",
    "threshold": "fail below 0.68",
    "sample_sizes": {"validation": 9000},
    "source": "convention",
}
DATA = {
    "dataset": "development",
    "fingerprint": {"sha256": "sha256:" + "1" * 64, "rows": 21000, "columns": 25},
    "suite": {"name": "clients"},
    "passed": True,
}
TRAINING = {"script": "train.py", "code_sha256": "sha256:" + "2" * 64, "seed": 42}


def described(world: Any, request: Any) -> Any:
    standing = standing_of(world.gov, world.gov.ledger.view(), request.digest)
    assert standing is not None
    return describe(world.gov, standing)


def altered(world: Any, kind: str, document: bytes) -> tuple[Any, Digest]:
    """Let a request's document of a kind be another one, as if it had been so from the start."""
    request = world.ask()
    digest = dict(request.evidence)[kind]
    get = world.gov.evidence.get
    world.gov.evidence.get = lambda wanted: document if wanted == digest else get(wanted)
    return request, digest


def test_shows_what_the_documents_say(candidate):
    form = described(candidate, candidate.ask())
    assert form.training == TrainingLine("train.py", "sha256:" + "2" * 64, "42")
    assert form.data == [DataLine("development", 21000, 25, "sha256:" + "1" * 64, True, "clients")]
    assert [(result.title, result.statistic) for result in form.results] == [("AUC", 0.77)]
    assert form.registry_version == "1"
    assert "seed 42" in body_of(form)


@pytest.mark.parametrize(
    ("document", "said"),
    [
        (b"no json", "is not JSON"),
        (b"\xff\xfe", "is not JSON"),
        (b"[" * 100_000, "is not JSON"),
        (b"9" * 5_000, "is not JSON"),
        (b"[1]", "is not a JSON object"),
        (b'"text"', "is not a JSON object"),
    ],
)
def test_a_document_that_is_no_json_object_is_an_error_of_ours(world, document, said):
    digest = world.gov.evidence.put(document)
    with pytest.raises(EvidenceError, match=f"{digest} {said}"):
        evidence_document(world.gov, digest)


@pytest.mark.parametrize(
    ("kind", "document"),
    [
        ("model.validated", {}),
        ("model.validated", {"results": None}),
        ("model.validated", {"results": ["text"]}),
        ("model.validated", {"results": [{}]}),
        ("model.validated", {"results": [RESULT | {"outcome": "splendid"}]}),
        ("model.validated", {"results": [RESULT | {"outcome": []}]}),
        ("model.validated", {"results": [RESULT | {"statistic": "0.77"}]}),
        ("model.validated", {"results": [RESULT | {"statistic": 10**4000}]}),
        ("model.validated", {"results": [RESULT | {"statistic": True}]}),
        ("model.validated", {"results": [RESULT | {"sample_sizes": {"validation": "many"}}]}),
        ("model.validated", {"results": [RESULT | {"sample_sizes": [1]}]}),
        ("model.validated", {"results": [RESULT | {"title": ["AUC"]}]}),
        ("model.validated", {"results": [RESULT | {"x" * 100_000: 1}]}),
        ("model.trained", {}),
        ("model.trained", TRAINING | {"seed": {"a": 1}}),
        ("model.trained", TRAINING | {"seed": None}),
        ("model.trained", TRAINING | {"code_sha256": 7}),
        ("data.validated", {}),
        ("data.validated", DATA | {"passed": "false"}),
        ("data.validated", DATA | {"passed": 0}),
        ("data.validated", DATA | {"fingerprint": []}),
        ("data.validated", DATA | {"fingerprint": {"sha256": "x", "rows": -1, "columns": 1}}),
        ("data.validated", DATA | {"fingerprint": {"sha256": "x", "rows": 2**70, "columns": 1}}),
        ("data.validated", DATA | {"fingerprint": {"sha256": "x", "rows": 1.5, "columns": 1}}),
        ("data.validated", DATA | {"suite": "clients"}),
    ],
)
def test_a_document_of_another_shape_is_one_error_that_names_it(candidate, kind, document):
    request, digest = altered(candidate, kind, json.dumps(document).encode())
    with pytest.raises(EvidenceError) as caught:
        described(candidate, request)
    assert str(digest) in caught.value.problem
    assert repr(kind) in caught.value.problem
    assert len(str(caught.value)) < 600


@pytest.mark.parametrize("statistic", [None, 1, float("nan"), float("inf")])
def test_every_number_that_a_test_may_give_can_be_shown(candidate, statistic):
    document = {"results": [RESULT | {"statistic": statistic}]}
    request, _ = altered(candidate, "model.validated", json.dumps(document).encode())
    assert "AUC" in body_of(described(candidate, request))
