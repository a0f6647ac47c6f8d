from __future__ import annotations

from datetime import timedelta

import pytest

from airflow_mlgov.errors import (
    ConfigurationError,
    GuardRefusedError,
    LedgerIntegrityError,
    LedgerUnavailableError,
    NotEntitledError,
    NotInForceError,
    RegistryUnavailableError,
    RequestRefusedError,
    UnknownSubjectError,
)
from airflow_mlgov.policy.inventory import Mode
from airflow_mlgov.records.digest import Digest
from airflow_mlgov.records.governance import Severity
from airflow_mlgov.records.kinds import KeyRole
from airflow_mlgov.records.people import Person
from airflow_mlgov.records.source import Source
from airflow_mlgov.service import use_break_glass as orders
from airflow_mlgov.service.break_glass import break_glasses
from airflow_mlgov.service.findings import all_findings, high_findings
from airflow_mlgov.service.ledger import EntryDraft
from airflow_mlgov.service.promote import promote
from airflow_mlgov.service.request_approval import Question, emergency_of
from airflow_mlgov.service.retention import RetentionRules
from airflow_mlgov.service.score import model_in_use
from airflow_mlgov.service.settle_finding import accept_finding, close_finding
from airflow_mlgov.service.stop import revoke_approval, stop_model
from airflow_mlgov.service.use_break_glass import (
    Emergency,
    confirm_break_glass,
    use_break_glass,
)

ZOE, VICTOR, OLIVIA, ERIN, OSCAR = (
    Person(name, f"{name} Surname") for name in ("zoe", "victor", "olivia", "erin", "oscar")
)
WHY = "fraud rises by the hour and the model in use is blind to it"
RULES = """findings: {close: [victor], accept: [victor], accept_max_days: 30}
break_glass: {users: [zoe, olivia], max_hours: 8, quorum: 2, confirm_within_days: 3}
valid_days:"""


class Case:
    """A candidate that nobody approved, under a pack that says who may break glass."""

    def __init__(self, world) -> None:
        self.world, self.gov = world, world.gov
        world.with_pack("users: [victor, erin]", "users: [victor, erin, oscar]")
        world.with_pack("valid_days:", RULES)
        world.validate_model(note="again")

    def break_it(self, person=ZOE, *, version=None, target="production", hours=None, reason=WHY):
        emergency = Emergency("retail_pd", version or self.world.version, target, hours)
        return use_break_glass(self.gov, emergency, reason, person)

    def confirm(self, glass, person=VICTOR):
        return confirm_break_glass(self.gov, "retail_pd", glass.id, "it was right", person)

    def promote(self, run_id="run-1", **changes):
        use = self.world.use(run_id=run_id, **changes)
        return promote(self.gov, self.world.registry, use, self.world.version)

    def score(self, target="production"):
        use = self.world.use("score", target=target)
        with model_in_use(self.gov, self.world.registry, use) as model:
            return model

    def refused(self, act, *given, **named) -> str:
        with pytest.raises(GuardRefusedError) as caught:
            act(*given, **named)
        return caught.value.check

    def pass_hours(self, hours: float) -> None:
        self.world.clock.moment += timedelta(hours=hours)

    def high(self, version=None) -> list[str]:
        version, now = version or self.world.version, self.world.clock.moment
        return high_findings(self.gov.ledger.view(), "retail_pd", version, now)

    @property
    def alias(self):
        return self.world.registry.aliases.get(("retail_pd", "champion"))


@pytest.fixture
def case(candidate):
    return Case(candidate)


def test_it_lets_one_promotion_through_and_scoring_while_it_lasts(case):
    assert case.refused(case.promote) == "approval"
    glass = case.break_it()
    case.promote()
    assert case.alias == "1"
    assert case.score().version == case.world.version
    (consumed,) = case.world.kinds("breakglass.consumed")
    (promoted,) = case.world.kinds("model.promoted")
    (scored,) = case.world.kinds("model.scored")
    for entry in (consumed, promoted, scored):
        assert entry.body["breakglass"] == entry.body["request_sha256"] == str(glass.key)
    assert case.world.kinds("approval.consumed", "approval.granted") == []
    case.pass_hours(8)
    assert case.refused(case.score) == "approval"


def test_what_is_on_record_names_nobody(case):
    glass = case.break_it(hours=2)
    (entry,) = case.world.kinds("breakglass.used")
    assert (entry.signed_by, entry.version) == (KeyRole.ATTESTOR, case.world.version)
    assert (entry.person("used_by"), entry.text("reason")) == (ZOE, WHY)
    assert entry.body == {
        "target": "production",
        "until": "2026-06-01T14:00:00.000Z",
        "quorum": 2,
        "confirm_by": "2026-06-04T12:00:00.000Z",
    }
    case.confirm(glass)
    (confirmed,) = case.world.kinds("breakglass.confirmed")
    assert confirmed.body == {"breakglass": str(glass.key), "place": 0}
    assert (confirmed.signed_by, confirmed.person("confirmed_by")) == (KeyRole.ATTESTOR, VICTOR)
    assert confirmed.text("reason") == "it was right"


def test_it_is_used_once_and_a_retry_completes_the_same_promotion(case):
    case.break_it()
    case.world.registry.fail_next_alias = RegistryUnavailableError("gone")
    with pytest.raises(RegistryUnavailableError):
        case.promote()
    case.promote()
    assert case.alias == "1"
    assert len(case.world.kinds("breakglass.consumed")) == 1
    assert case.refused(case.promote, run_id="run-2") == "approval"
    assert case.refused(case.promote, task_id="again") == "approval"


def test_a_promotion_that_was_replaced_since_is_not_repeated(case):
    first = case.world.version
    case.break_it()
    case.promote()
    case.world.train('{"points": [9]}', run_id="run-2")
    case.break_it()
    case.promote(run_id="run-2")
    assert case.score().version == case.world.version
    case.world.version = first
    assert case.refused(case.promote) == "consumed"
    assert case.alias == "2"


def test_scoring_follows_the_promotion_of_the_emergency(case):
    case.break_it()
    case.world.registry.aliases["retail_pd", "champion"] = "1"
    assert case.refused(case.score) == "approval"  # nobody promoted it
    case.promote()
    case.score()
    case.world.train('{"points": [9]}', run_id="run-2")
    case.break_it()
    case.promote(run_id="run-2")
    case.world.registry.aliases["retail_pd", "champion"] = "1"
    assert case.refused(case.score) == "alias"


@pytest.mark.parametrize("mode", [Mode.OBSERVE, Mode.WARN])
def test_a_mode_on_trial_lets_scoring_go_on_afterwards(case, mode):
    case.world.with_inventory(mode=mode)
    case.break_it()
    case.promote()
    assert case.score().clearance is not None
    case.pass_hours(8)
    assert case.score().clearance is None
    assert case.refused(case.promote) == "approval"


def test_another_version_and_another_target_stay_shut(case):
    case.break_it()
    case.world.train('{"points": [9]}', run_id="run-2")
    assert case.refused(case.promote, run_id="run-2") == "approval"
    assert case.refused(case.promote, target="staging") == "approval"


def test_before_it_is_over_it_opens_and_afterwards_not(case):
    case.break_it(hours=1)
    case.pass_hours(0.999)
    case.promote()
    case.pass_hours(0.001)
    assert case.refused(case.score) == "approval"
    assert case.refused(case.promote) == "approval"


def test_a_stopped_model_stays_shut(case):
    case.break_it()
    stop_model(case.gov, "retail_pd", "it scores nonsense", ZOE)
    assert case.refused(case.promote) == "stopped"
    assert case.refused(case.break_it) == "stopped"


def test_a_stop_ends_the_use(case):
    case.break_it()
    case.promote()
    stop_model(case.gov, "retail_pd", "it scores nonsense", ZOE)
    assert case.refused(case.score) == "stopped"


def test_altered_bytes_stay_shut(case):
    case.break_it()
    file = case.world.registry.folder("retail_pd", "1") / "scorecard.json"
    original = file.read_bytes()
    file.write_text("{}")
    assert case.refused(case.promote) == "digest"
    file.write_bytes(original)
    case.promote()
    file.write_text("{}")
    assert case.refused(case.score) == "digest"


def test_a_version_that_somebody_revoked_stays_shut(case):
    request = case.world.ask()
    case.break_it()
    revoke_approval(case.gov, request.digest, "wrong cut-off", VICTOR)
    assert case.refused(case.promote) == "revoked"
    assert case.refused(case.break_it) == "revoked"


def test_a_revocation_ends_the_use(case):
    request = case.world.ask()
    case.break_it()
    case.promote()
    case.score()
    revoke_approval(case.gov, request.digest, "wrong cut-off", VICTOR)
    assert case.refused(case.score) == "revoked"


def test_a_version_with_another_high_finding_stays_shut(case):
    case.break_it()
    case.world.open_finding("high")
    assert case.refused(case.promote) == "findings"
    assert case.refused(case.break_it) == "findings"
    today = case.world.clock.moment.date()
    accept_finding(case.gov, "retail_pd", "F-00000001", "small", VICTOR, until=today)
    case.promote()


def test_a_dag_that_may_not_promote_stays_out(case):
    case.break_it()
    case.world.with_inventory(promoted_by=("another",))
    assert case.refused(case.promote) == "dag"


def test_it_is_an_open_high_finding_until_it_is_confirmed(case):
    glass = case.break_it()
    (finding,) = all_findings(case.gov.ledger.view(), "retail_pd")
    assert (finding.id, finding.version, finding.severity) == (
        glass.id,
        case.world.version,
        Severity.HIGH,
    )
    assert (finding.owner, finding.is_open, finding.due_at) == (ZOE.name, True, glass.confirm_by)
    assert WHY in finding.summary
    with pytest.raises(RequestRefusedError, match=glass.id):
        case.world.ask()
    assert not case.confirm(glass, VICTOR).is_confirmed
    assert case.high() == [glass.id]
    assert case.confirm(glass, OSCAR).is_confirmed
    assert case.high() == []
    (finding,) = all_findings(case.gov.ledger.view(), "retail_pd")
    assert (finding.is_open, finding.settled_by) == (False, f"{VICTOR.name}, {OSCAR.name}")
    case.world.ask()
    with pytest.raises(NotInForceError, match="confirmed already"):
        case.confirm(glass, OLIVIA)


def test_confirmed_it_lasts_no_longer(case):
    glass = case.break_it()
    case.promote()
    case.confirm(glass, VICTOR)
    case.confirm(glass, OSCAR)
    case.score()
    case.pass_hours(8)
    assert case.refused(case.score) == "approval"


def test_an_approval_takes_over_once_it_is_confirmed(case):
    glass = case.break_it()
    case.promote()
    case.confirm(glass, VICTOR)
    case.confirm(glass, OSCAR)
    gate = Source("retail_pd", "run-2", "gate", -1, 1)
    request = case.world.ask(version=case.world.version, source=gate)
    case.world.approve(request)
    case.promote(run_id="run-2")
    case.pass_hours(8)
    assert case.score().clearance.approval.request == request


def test_not_confirmed_in_time_it_is_on_every_version_and_no_glass_is_broken_again(case):
    glass = case.break_it()
    other = case.world.train('{"points": [9]}', run_id="run-2")
    case.world.validate_model(note="second")
    assert case.high(other) == []
    case.break_it()  # for the other version, in time
    case.pass_hours(72)
    assert glass.id in case.high(other)
    with pytest.raises(RequestRefusedError, match=glass.id):
        case.world.ask(version=other)
    with pytest.raises(NotEntitledError, match="nobody confirmed it in time"):
        case.break_it()
    for each in break_glasses(case.gov.ledger.view()):
        case.confirm(each, VICTOR)
        case.confirm(each, OSCAR)
    case.break_it()


@pytest.mark.parametrize("settle", [close_finding, accept_finding])
def test_nothing_but_its_confirmation_closes_it(case, settle):
    glass = case.break_it()
    until = {"until": case.world.clock.moment.date()} if settle is accept_finding else {}
    with pytest.raises(NotEntitledError, match="only its confirmation"):
        settle(case.gov, "retail_pd", glass.id, WHY, VICTOR, **until)
    assert case.high() == [glass.id]


def test_a_finding_of_a_tests_under_its_id_does_not_take_its_place(case):
    """A task opens it, and somebody is led to close it."""
    glass = case.break_it()
    body = {
        "finding": glass.id,
        "severity": "low",
        "test": "t",
        "due_at": "2026-07-01T00:00:00.000Z",
    }
    case.world.entry("finding.opened", body, version=case.world.version)
    closing = EntryDraft(
        "finding.closed", "retail_pd", case.world.version, {"finding": glass.id}, ("x",)
    )
    case.gov.ledger.seal(case.gov.ledger.append(closing, role=KeyRole.ATTESTOR))
    assert case.high() == [glass.id]


@pytest.mark.parametrize(
    ("person", "said"),
    [
        (ZOE, "You broke the glass"),
        (Person("17", ZOE.name), "You broke the glass"),
        (Person("anna", "anna"), "no seat"),
        (ERIN, "You built this version"),
    ],
)
def test_who_may_not_confirm(case, person, said):
    glass = case.break_it()
    with pytest.raises(NotEntitledError, match=said):
        case.confirm(glass, person)
    assert case.world.kinds("breakglass.confirmed") == []


def test_nobody_confirms_twice_and_nobody_with_a_seat_their_own(case):
    glass = case.break_it(OLIVIA)
    with pytest.raises(NotEntitledError, match="You broke the glass"):
        case.confirm(glass, OLIVIA)
    case.confirm(glass, VICTOR)
    with pytest.raises(NotEntitledError, match="have confirmed it"):
        case.confirm(glass, VICTOR)
    assert case.high() == [glass.id]


def test_two_confirmations_in_one_moment_count_once_and_the_second_is_told(case, monkeypatch):
    glass = case.break_it()
    real = orders.sign_order

    def slowly(*given):
        monkeypatch.setattr(orders, "sign_order", real)
        case.confirm(glass, OSCAR)
        return real(*given)

    monkeypatch.setattr(orders, "sign_order", slowly)
    with pytest.raises(LedgerUnavailableError, match="at the same moment"):
        case.confirm(glass, VICTOR)
    assert case.high() == [glass.id]
    assert case.confirm(glass, VICTOR).is_confirmed


def test_who_may_not_break_it(case):
    with pytest.raises(NotEntitledError, match="does not let you break glass"):
        case.break_it(VICTOR)
    for hours in (0, 9):
        with pytest.raises(NotEntitledError, match=f"for {hours} hours"):
            case.break_it(hours=hours)
    case.world.with_pack(RULES, "valid_days:")
    with pytest.raises(NotEntitledError, match="does not let you break glass"):
        case.break_it()
    assert case.world.kinds("breakglass.used") == []


def test_what_nobody_knows_and_no_reason(case):
    with pytest.raises(UnknownSubjectError, match="has no version"):
        case.break_it(version=Digest.of(b"other"))
    with pytest.raises(UnknownSubjectError, match="may not be promoted to 'moon'"):
        case.break_it(target="moon")
    with pytest.raises(ConfigurationError, match="no reason"):
        case.break_it(reason=" \n")
    glass = case.break_it()
    with pytest.raises(UnknownSubjectError, match="Nobody broke glass"):
        confirm_break_glass(case.gov, "retail_pd", "F-00000000", WHY, VICTOR)
    with pytest.raises(UnknownSubjectError, match="not in the inventory"):
        confirm_break_glass(case.gov, "unknown", glass.id, WHY, VICTOR)


def test_bypass_19_what_a_task_breaks_or_confirms_counts_for_nothing_and_is_reported(case):
    """With the writer's key: neither through the service nor past it."""
    version = case.world.version
    body = {
        "target": "production",
        "until": "2027-01-01T00:00:00.000Z",
        "quorum": 1,
        "confirm_by": "2027-01-01T00:00:00.000Z",
    }
    used = EntryDraft("breakglass.used", "retail_pd", version, body, ("x",))
    with pytest.raises(LedgerIntegrityError, match="writer key may not sign"):
        case.gov.ledger.append(used)
    case.world.forge(used)
    assert case.refused(case.promote) == "approval"
    glass = case.break_it()
    for place in (0, 1):
        body = {"breakglass": str(glass.key), "place": place}
        case.world.forge(
            EntryDraft("breakglass.confirmed", "retail_pd", version, body, (str(place),))
        )
    assert case.high() == [glass.id]
    reasons = [violation.reason for violation in case.gov.ledger.view().violations]
    assert len(reasons) == 3
    assert all("writer key may not sign breakglass." in reason for reason in reasons)


def test_an_invented_use_does_not_use_it_up(case):
    glass = case.break_it()
    body = {
        "breakglass": str(glass.key),
        "target": "production",
        "use": {"dag_id": "x", "run_id": "y", "task_id": "z", "map_index": -1},
    }
    case.world.entry("breakglass.consumed", body, version=case.world.version)
    case.promote()


def test_a_gate_asks_nobody_while_it_lasts(case):
    ours = Question("retail_pd", "production", None, case.world.GATE, None)
    other = Question("retail_pd", "production", Digest.of(b"other"), case.world.GATE, None)
    assert emergency_of(case.gov, ours) is None
    glass = case.break_it()
    assert emergency_of(case.gov, ours).id == glass.id
    assert emergency_of(case.gov, other) is None
    case.promote()
    assert emergency_of(case.gov, ours).id == glass.id
    late = Source("retail_pd", "run-2", "gate", -1, 1)
    again = Question("retail_pd", "production", case.world.version, late, None)
    assert emergency_of(case.gov, again) is None
    case.pass_hours(8)
    assert emergency_of(case.gov, ours) is None


def test_a_run_that_asked_for_nothing_promotes_what_was_opened(case):
    use = case.world.use(run_id="run-9")
    with pytest.raises(GuardRefusedError, match="asked for no approval"):
        promote(case.gov, case.world.registry, use)
    case.break_it()
    promote(case.gov, case.world.registry, use)
    assert case.alias == "1"


def test_whoever_must_be_somebody_else_is_not_erased_before_it_is_confirmed(case):
    glass = case.break_it()

    def kept() -> set[tuple[str, str]]:
        view = case.gov.ledger.view()
        rules = RetentionRules(case.gov, view)
        return {
            (entry.kind, field)
            for entry in view.select("model.trained", "breakglass.used", "breakglass.confirmed")
            for field in entry.people
            if "break glass" in getattr(rules.obstacle(entry, f"people.{field}"), "reason", "")
        }

    did, built = ("breakglass.used", "used_by"), ("model.trained", "developer")
    assert kept() == {did, built}
    case.confirm(glass, VICTOR)
    assert kept() == {did, built, ("breakglass.confirmed", "confirmed_by")}
    case.confirm(glass, OSCAR)
    assert kept() == set()


def test_nobody_confirms_where_a_name_was_erased(case, monkeypatch):
    glass = case.break_it()
    monkeypatch.setattr(orders, "person_of", lambda *_: None)
    with pytest.raises(NotEntitledError, match="is gone"):
        case.confirm(glass)
