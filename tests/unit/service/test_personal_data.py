"""Where people may be found after a governed flow, and where they may not."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest

from airflow_mlgov.errors import GuardRefusedError
from airflow_mlgov.ledger.entry import entry_key
from airflow_mlgov.platforms.local import LocalPlatform
from airflow_mlgov.records.canonical import canonical_bytes
from airflow_mlgov.records.digest import Digest
from airflow_mlgov.records.governance import Choice, EraseReason
from airflow_mlgov.records.people import Disclosure, Person
from airflow_mlgov.records.source import Source
from airflow_mlgov.service.changes import record_manual_change
from airflow_mlgov.service.erase import erase_person
from airflow_mlgov.service.findings import open_findings
from airflow_mlgov.service.holds import lift_hold, place_hold
from airflow_mlgov.service.promote import promote
from airflow_mlgov.service.score import model_in_use
from airflow_mlgov.service.train import train
from airflow_mlgov.service.training_order import TrainingOrder
from airflow_mlgov.service.validate_model import ScoredData, Validation, validate_model
from airflow_mlgov.service.vote import Answer, count_votes, record_answer
from airflow_mlgov.validation.samples import Sample

EMAIL = re.compile(rb"[A-Za-z0-9._+-]+@[A-Za-z0-9-]+\.[a-z]+")
RUN = "manual__2026-06-01T12:00:00+00:00_Ab3dE"

ERIN, OLIVIA, VICTOR = (
    Person(f"{name}@bank.example", f"{name.capitalize()} Surname")
    for name in ("erin", "olivia", "victor")
)
PEOPLE = (ERIN, OLIVIA, VICTOR)

SCRIPT = """
import json, os, pathlib
out = pathlib.Path(json.load(open(os.environ["MLGOV_JOB_FILE"]))["output_dir"])
(out / "model").mkdir()
(out / "model" / "scorecard.json").write_text("[1, 2]")
(out / "metrics.json").write_text('{"auc": 0.77}')
(out / "signature.json").write_text(
    '{"inputs": [{"name": "PAY_0", "type": "long"}], "output": "pd"}'
)
"""


@dataclass
class Changed:
    """A task instance as Airflow's listener sees it."""

    dag_id: str = "retail_pd"
    run_id: str = RUN
    task_id: str = "gate"
    map_index: int = -1
    try_number: int = 1


@pytest.fixture
def least_assurance() -> str:
    return "L0"


def scored(name: str, seed: int, sha256: Digest) -> ScoredData:
    rng = np.random.default_rng(seed)
    y = (rng.random(2000) < 0.2).astype(float)
    columns = {
        "SEX": rng.integers(1, 3, 2000),
        "AGE_BAND": np.array(["young", "old"], dtype=object)[rng.integers(0, 2, 2000)],
    }
    p = rng.permutation(np.clip(y * 0.5 + rng.beta(1, 4, 2000) / 2, 0, 1))
    return ScoredData(
        f"file:///{name}.csv", sha256, 99, Sample(name, y, p, columns, np.clip(p + 0.1, 0, 1))
    )


def vote(world, request, person, choice=Choice.APPROVE, comment="", digest=""):
    world.clock.moment = world.clock.moment.replace(second=world.clock.moment.second + 1)
    text = comment or f"seen by {person.id}, {person.name}"
    asked = Answer(choice, digest or str(request.digest), text, person, world.clock.now())
    record_answer(world.gov, request, asked, _at("gate"))


def _at(task: str) -> Source:
    return Source("retail_pd", RUN, task, -1, 1)


@pytest.fixture
def flow(world, tmp_path: Path):
    """A governed flow whose people have e-mail addresses as ids, from training to erasure."""
    for name in ("olivia", "victor"):
        world.with_pack(f"[{name}", f"[{name}@bank.example")
    world.with_inventory(owner=OLIVIA.id, developers=(ERIN.id,), validators=(VICTOR.id,))
    _train(world, tmp_path)
    world.validate_model()
    request = world.ask(source=_at("gate"), requester=ERIN)
    vote(world, request, ERIN)
    vote(world, request, OLIVIA, digest="sha256:" + "0" * 64)
    vote(world, request, OLIVIA)
    vote(world, request, VICTOR)
    count_votes(world.gov, request)
    _use(world)
    world.train('{"points": [8]}', by=ERIN)
    _validate(world)
    record_manual_change(world.gov.ledger, Changed(), "success")
    place_hold(world.gov, "retail_pd", f"asked for by {OLIVIA.id}", OLIVIA)
    lift_hold(world.gov, "retail_pd", f"says {OLIVIA.name}", OLIVIA)
    return world


def _train(world, tmp_path: Path) -> None:
    (tmp_path / "code").mkdir()
    (tmp_path / "code" / "train.py").write_text(SCRIPT)
    (tmp_path / "dev.csv").write_text("PAY_0,DEFAULT\n1,0\n")
    order = TrainingOrder(
        model="retail_pd",
        script=tmp_path / "code" / "train.py",
        inputs={"development": str(tmp_path / "dev.csv")},
        parameters={},
        seed=42,
        source=_at("train"),
        developer=ERIN,
    )
    world.validate_data(str(Digest.of((tmp_path / "dev.csv").read_bytes())))
    trained = train(order, world.gov, LocalPlatform(), world.registry, lambda _line: None)
    world.version = trained.manifest.digest


def _use(world) -> None:
    promoting = replace(world.use("promote"), source=_at("promote"))
    promote(world.gov, world.registry, promoting)
    with model_in_use(world.gov, world.registry, replace(promoting, source=_at("score"))):
        pass
    with pytest.raises(GuardRefusedError):
        promote(world.gov, world.registry, replace(promoting, source=_at("promote_again")))


def _validate(world) -> None:
    asked = Validation(
        model="retail_pd",
        version=world.version,
        development=scored("development", 1, Digest("1" * 64)),
        validation=scored("validation", 2, Digest("5" * 64)),
        challenger=None,
        source=_at("validate"),
    )
    assert not validate_model(world.gov, asked).passed
    assert {f.owner for f in open_findings(world.gov.ledger.view())} == {OLIVIA.id}


def payloads(world) -> list[bytes]:
    ledger = world.gov.ledger
    leaves = ledger._store.leaves(0, ledger.checkpoint().size)
    return [base64.b64decode(json.loads(leaf)["payload"]) for leaf in leaves]


def test_the_flow_writes_what_people_do(flow):
    found = {entry.kind for entry in flow.kinds()}
    assert {
        "genesis",
        "policy.changed",
        "data.validated",
        "model.trained",
        "model.registered",
        "model.validated",
        "finding.opened",
        "approval.requested",
        "approval.voted",
        "approval.vote_refused",
        "guard.refused",
        "model.promoted",
        "model.scored",
        "approval.consumed",
        "state.changed_by_hand",
        "hold.placed",
        "hold.lifted",
    } <= found


@pytest.mark.attack(35)
def test_threat_35_no_leaf_holds_an_e_mail_address_or_a_name(flow):
    named = 0
    for payload, entry in zip(payloads(flow), flow.kinds(), strict=True):
        assert EMAIL.findall(payload) == [], entry.kind
        for person in PEOPLE:
            assert person.id.encode() not in payload, entry.kind
            assert b"Surname" not in payload, entry.kind
        opened = entry.disclose(entry.key)
        shown = json.dumps([each.value for each in opened.values()]).encode()
        named += len(EMAIL.findall(shown))
    assert named > 15  # that the search finds addresses where they are


@pytest.mark.attack(35)
def test_threat_35_nor_does_an_erasure(flow, tmp_path):
    flow.clock.moment = datetime(2060, 1, 1, tzinfo=UTC)
    for person in PEOPLE:
        _, gone = erase_person(
            flow.gov, flow.gov.ledger._store, person.id, EraseReason.STORAGE_LIMIT
        )
        assert len(gone) > 1
    assert len(flow.kinds("erased")) == 3
    assert EMAIL.findall(b"".join(payloads(flow))) == []
    assert all(entry.disclose(entry.key).keys() <= {"texts.summary"} for entry in flow.kinds())
    files = b"".join(file.read_bytes() for file in tmp_path.glob("ledger.db*"))
    assert EMAIL.findall(files) == []
    assert b"Surname" not in files
    assert flow.gov.ledger.verify().is_fine


def test_evidence_names_people_in_policy_packs_and_nowhere_else(flow):
    """A pack lists who may sit on a seat: use ids that say nothing, where that matters."""
    packs = {str(pack.digest) for pack in flow.gov.packs.values()}
    documents = flow.gov.evidence.documents
    naming = {str(digest) for digest, kept in documents.items() if EMAIL.search(kept)}
    assert naming == packs
    assert len(documents) > 4


@pytest.mark.attack(34)
def test_threat_34_a_committed_e_mail_address_cannot_be_guessed_without_its_salt(flow):
    """A dictionary that holds the right address: nothing of the leaf confirms it."""
    dictionary = [person for n in range(300) for person in _spellings(f"user{n}@bank.example")]
    dictionary += [person for person in PEOPLE for person in _spellings(person.id, person.name)]
    guesses = {digest for value in dictionary for digest in _unsalted(value)}
    for payload, entry in zip(payloads(flow), flow.kinds(), strict=True):
        hashes = set(re.findall(rb"[0-9a-f]{64}", payload))
        assert hashes.isdisjoint(guesses), entry.kind
        assert hashes.isdisjoint(_keys(flow, entry, dictionary)), entry.kind
    (asked,) = flow.kinds("approval.requested")
    salt = asked.disclose(asked.key)["people.requester"].salt
    matching = [
        value for value in dictionary if Disclosure(salt, value).commitment in _commitments(asked)
    ]
    assert matching == [ERIN.as_json()]


def _commitments(entry) -> set[str]:
    return set(entry.people.values())


def _spellings(address: str, name: str = "") -> list[object]:
    return [{"id": address, "name": name or address}, {"id": address}, address]


def _unsalted(value: object) -> set[bytes]:
    """Digests that a leaf would hold if a salt were missing, empty or all zero."""
    said = canonical_bytes(value)
    before = (b"", b"\x02", b"\x02" + bytes(32), bytes(32))
    return {hashlib.sha256(prefix + said).hexdigest().encode() for prefix in before}


def _keys(world, entry, dictionary) -> set[bytes]:
    """Idempotency keys that somebody could compute who knows all of the leaf but the person."""
    known = [str(part) for part in entry.body.values() if isinstance(part, str | Choice)]
    at = str(entry.body.get("answered_at", ""))
    request = str(entry.body.get("request_sha256", ""))
    ids = [str(value) for value in dictionary if isinstance(value, str)]
    identities = [
        (request, person, choice, at, *more)
        for person in ids
        for choice in (*Choice, "None")
        for more in ((), ("0",))
    ]
    identities += [(*known, person) for person in ids]
    origin = world.gov.ledger.origin
    return {
        entry_key(origin, entry.kind, *map(str, each)).removeprefix("sha256:").encode()
        for each in identities
    }


@pytest.mark.attack(34)
def test_threat_34_the_key_of_a_vote_is_made_of_what_the_leaf_shows(flow):
    """It has no salt: a name in it could be guessed by trying, and would outlive its erasure."""
    for entry in flow.kinds("approval.voted"):
        body = entry.body
        identity = (body["request_sha256"], body["choice"], body["answered_at"], "0")
        assert entry.key == entry_key(flow.gov.ledger.origin, entry.kind, *identity)


def test_two_people_who_answer_in_one_millisecond_are_two_votes(candidate):
    request = candidate.ask()
    answers = [
        Answer(Choice.APPROVE, str(request.digest), "looked at it", person, candidate.clock.now())
        for person in (OLIVIA, VICTOR, ERIN)
    ]
    for answer in (*answers, *reversed(answers)):
        record_answer(candidate.gov, request, answer, candidate.GATE)
    voters = [entry.person("voter") for entry in candidate.kinds("approval.voted")]
    assert voters == [OLIVIA, VICTOR, ERIN]


def test_two_old_forms_answered_in_one_millisecond_are_refused_once_each(candidate):
    request = candidate.ask()
    answers = [
        Answer(Choice.APPROVE, "an old one", "looked at it", person, candidate.clock.now())
        for person in (OLIVIA, None, VICTOR)
    ]
    for answer in (*answers, *reversed(answers)):
        record_answer(candidate.gov, request, answer, candidate.GATE)
    refused = candidate.kinds("approval.vote_refused")
    assert [entry.person("voter") for entry in refused] == [OLIVIA, None, VICTOR]
