from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from airflow_mlgov import wiring

ROOT = Path(__file__).parents[3]
PACK = ROOT / "tests" / "assets" / "policy" / "policy-pack-1.yaml"


@pytest.fixture
def newer(tmp_path: Path) -> Path:
    file = tmp_path / "new.yaml"
    file.write_text(PACK.read_text().replace("valid_days: 180", "valid_days: 90"))
    return file


def test_what_a_pack_changes(airflow, configure, newer: Path) -> None:
    ended = airflow("policy", "diff", PACK, newer, "--output", "json")
    assert ended.code == 0
    assert ended.json == [
        {
            "where": "valid_days",
            "change": "180 becomes 90",
            "meaning": "Days that an approval lasts, 1 to 3650.",
        }
    ]
    assert "they end." in ended.err
    table = airflow("policy", "diff", PACK, newer)
    assert "180 becomes 90" in table.out


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("", "", "It is the same pack.\n"),
        ("", "# a comment\n", "The rules are the same.\n"),
        ("existing_approvals: end", "existing_approvals: keep", "if their votes satisfy"),
        (
            "existing_approvals: end",
            'existing_approvals: keep\nsupersedes: ["DIGEST"]',
            "since `supersedes` names it",
        ),
    ],
)
def test_what_becomes_of_approvals(airflow, tmp_path: Path, old, new, said) -> None:
    from airflow_mlgov.records.digest import Digest

    text = PACK.read_text()
    new = new.replace("DIGEST", str(Digest.of(text.encode())))
    (tmp_path / "new.yaml").write_text(text.replace(old, new) if old else text + new)
    ended = airflow("policy", "diff", PACK, tmp_path / "new.yaml", "--output", "json")
    assert said in ended.err
    assert bool(ended.json) == ("existing" in old)


def test_packs_that_were_in_use_are_named_by_digest(airflow, world, monkeypatch, newer) -> None:
    digest = world.gov.evidence.put(PACK.read_bytes())
    monkeypatch.setattr(wiring, "open_evidence", lambda: world.gov.evidence)
    ended = airflow("policy", "diff", str(digest), newer, "--output", "json")
    assert [row["where"] for row in ended.json] == ["valid_days"]
    unknown = airflow("policy", "diff", f"sha256:{'0' * 64}", newer)
    assert (unknown.code != 0, "sha256:000" in unknown.err) == (True, True)


def test_a_pack_that_is_none_is_an_error_with_its_line(airflow, tmp_path: Path) -> None:
    (tmp_path / "bad.yaml").write_text(PACK.read_text().replace("valid_days: 180", "valid_days: 0"))
    ended = airflow("policy", "diff", PACK, tmp_path / "bad.yaml")
    assert ended.code == 65
    assert "bad.yaml:" in ended.err


def test_past_requests_under_a_new_pack(airflow, candidate, monkeypatch, tmp_path: Path) -> None:
    request = candidate.ask()
    candidate.approve(request)
    monkeypatch.setattr(wiring, "open_governance", lambda: candidate.gov)
    pack = candidate.gov.packs["retail_credit"]
    file = tmp_path / "new.yaml"
    file.write_bytes(pack.source.replace(b"[olivia]", b"[rita]"))
    ended = airflow("policy", "try", file, "--output", "yaml")
    (row,) = yaml.safe_load(ended.out)
    assert row == {
        "request_sha256": str(request.digest),
        "model": "retail_pd",
        "target": "production",
        "asked_at": row["asked_at"],
        "policy_sha256": str(pack.digest),
        "was": "granted",
        "would": "open",
        "because": [
            "the vote of olivia does not count: the voter is on no seat of the policy pack",
            "the seat model_owner lacks 1",
        ],
    }
    assert airflow("policy", "try", file, "--model", "retail_pd").code == 0
    assert airflow("policy", "try", file, "--model", "nobody").code == 64
    file.write_bytes(pack.source.replace(b"id: retail_credit", b"id: other"))
    ended = airflow("policy", "try", file, "--output", "json")
    assert (ended.json, "no request under a pack 'other'" in ended.err) == ([], True)
