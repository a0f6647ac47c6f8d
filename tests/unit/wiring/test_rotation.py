"""Rotation of keys in their files: whatever interrupts it, it goes on; and processes keep apart."""

from __future__ import annotations

import importlib.util
import os
import sqlite3
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from airflow_mlgov.errors import (
    ConfigurationError,
    LedgerIntegrityError,
    LedgerUnavailableError,
)
from airflow_mlgov.ledger.trust import TrustRoot
from airflow_mlgov.records.kinds import KeyRole
from airflow_mlgov.service.ledger import EntryDraft, Ledger
from airflow_mlgov.service.sequencer import Pace
from airflow_mlgov.signers.key_files import KeyFiles
from airflow_mlgov.stores.sqlite import SqliteStore
from airflow_mlgov.wiring import (
    key_places,
    open_keys,
    open_ledger,
    open_sequencer,
    rotate_role,
)

ROLES = {
    KeyRole.LOG: "heartbeat",
    KeyRole.ATTESTOR: "state.changed_by_hand",
    KeyRole.WRITER: "policy.changed",
}
BODIES = {
    "heartbeat": {"interval_s": 60},
    "state.changed_by_hand": {"task": "t", "state": "s"},
    "policy.changed": {"policy_sha256": "sha256:" + "0" * 64},
}


def draft(role: KeyRole, name: str) -> EntryDraft:
    return EntryDraft(ROLES[role], "", None, BODIES[ROLES[role]], (name,))


def write(role: KeyRole, name: str) -> int:
    ledger = open_ledger()
    return ledger.seal(ledger.append(draft(role, name), role=role), timeout_s=0).index


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("TRUST_PATH", "KEYS_PASSPHRASE"):
        monkeypatch.delenv(f"AIRFLOW__MLGOV__{name}", raising=False)
    monkeypatch.setenv("AIRFLOW__MLGOV__LEDGER_URL", f"sqlite:///{tmp_path}/ledger.db")
    monkeypatch.setenv("AIRFLOW__MLGOV__SEEN_DIR", str(tmp_path / "seen"))
    monkeypatch.setenv("AIRFLOW__MLGOV__KEYS_DIR", str(tmp_path / "keys"))
    for role in KeyRole:
        write(role, "before")
    (tmp_path / "before.json").write_bytes(open_ledger().trust_root().as_bytes())
    return tmp_path


def trust_of(home: Path, name: str = "before.json") -> TrustRoot:
    return TrustRoot.parse((home / name).read_bytes())


def auditor(home: Path, trust: TrustRoot) -> Any:
    return Ledger(SqliteStore(home / "ledger.db", read_only=True), {}).verify(trust)


@pytest.mark.parametrize("role", KeyRole)
def test_a_key_is_rotated_and_everybody_goes_on(home: Path, role: KeyRole) -> None:
    old = open_keys().signers[role].public_key
    index = rotate_role(role, None)
    new = open_keys().signers[role].public_key
    assert (index, new != old) == (4, True)
    names = sorted(p.name for p in (home / "keys").iterdir())
    assert names == sorted(["attestor.key", "log.key", "writer.key", f"{role}.retired"])
    assert write(role, "after") == 5
    for each in KeyRole:
        write(each, "later")
    assert open_ledger().verify().is_fine  # without a trust file, by what was retired
    assert auditor(home, trust_of(home)).is_fine
    after = open_ledger().trust_root()
    assert {key.public_key for key in after.keys(role)} == {old, new}
    assert auditor(home, TrustRoot.parse(after.as_bytes())).is_fine
    assert open_ledger().view().violations == []


def test_a_key_is_rotated_again_and_again(home: Path) -> None:
    for number in range(3):
        rotate_role(KeyRole.LOG, None)
        write(KeyRole.LOG, str(number))
    assert len(KeyFiles(home / "keys", KeyRole.LOG).read_retired()) == 3
    assert auditor(home, trust_of(home)).is_fine


@pytest.mark.parametrize("role", KeyRole)
def test_who_still_holds_the_old_key_is_told(home: Path, role: KeyRole) -> None:
    stale = open_ledger()
    stale.view()
    rotate_role(role, None)
    if role is KeyRole.LOG:
        open_ledger().append(draft(KeyRole.WRITER, "waits"))
        with pytest.raises(ConfigurationError, match="rotated out by entry 4"):
            stale.drain()
        return
    # It does not know yet when it writes; once the entry is sealed, it is told.
    receipt = stale.append(draft(role, "stale"), role=role)
    with pytest.raises(LedgerIntegrityError, match="entry 4 rotated out"):
        stale.seal(receipt)
    with pytest.raises(ConfigurationError, match="rotated out by entry 4"):
        stale.append(draft(role, "stale 2"), role=role)
    assert [v.index for v in open_ledger().view().violations] == [5]


def test_the_trust_file_from_before_lets_the_process_start(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIRFLOW__MLGOV__TRUST_PATH", str(home / "before.json"))
    rotate_role(KeyRole.LOG, None)
    assert write(KeyRole.LOG, "after") == 5
    (home / "after.json").write_bytes(open_ledger().trust_root().as_bytes())
    monkeypatch.setenv("AIRFLOW__MLGOV__TRUST_PATH", str(home / "after.json"))
    (home / "keys" / "log.retired").unlink()
    assert write(KeyRole.LOG, "later") == 6
    assert auditor(home, trust_of(home, "after.json")).is_fine


def test_keys_apart_the_sequencer_covers_the_rotation_of_a_writer(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIRFLOW__MLGOV__TRUST_PATH", str(home / "before.json"))
    (home / "writer").mkdir(mode=0o700)
    (home / "keys" / "writer.key").rename(home / "writer" / "writer.key")
    monkeypatch.setenv("AIRFLOW__MLGOV__KEYS_DIR", str(home / "writer"))
    monkeypatch.setattr("airflow_mlgov.service.rotate.WAIT_S", 0.0)
    with pytest.raises(LedgerUnavailableError, match="No signed checkpoint"):
        rotate_role(KeyRole.WRITER, None)

    monkeypatch.setenv("AIRFLOW__MLGOV__KEYS_DIR", str(home / "keys"))
    open_sequencer(Pace(heartbeat_s=0), print).round()
    monkeypatch.setenv("AIRFLOW__MLGOV__KEYS_DIR", str(home / "writer"))
    assert rotate_role(KeyRole.WRITER, None) == 4
    assert sorted(p.name for p in (home / "writer").iterdir()) == ["writer.key", "writer.retired"]
    with pytest.raises(ConfigurationError, match="no log key"):
        rotate_role(KeyRole.LOG, None)


def test_a_ledger_that_was_set_back_behind_a_rotation_is_refused_by_who_saw_it(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with sqlite3.connect(home / "ledger.db") as source, sqlite3.connect(home / "old.db") as to:
        source.backup(to)
    rotate_role(KeyRole.LOG, None)
    # Another process of this machine, which has the trust file from before and no log key.
    monkeypatch.setenv("AIRFLOW__MLGOV__TRUST_PATH", str(home / "before.json"))
    (home / "none").mkdir()
    monkeypatch.setenv("AIRFLOW__MLGOV__KEYS_DIR", str(home / "none"))
    assert open_ledger().view().checkpoint.size == 5
    monkeypatch.setenv("AIRFLOW__MLGOV__LEDGER_URL", f"sqlite:///{home}/old.db")
    with pytest.raises(LedgerIntegrityError, match="set back to before a rotation"):
        open_ledger().view()
    assert any("set back" in problem for problem in open_ledger().verify().problems)


def test_a_rotation_that_comes_between_two_looks_of_a_sequencer_is_seen(home: Path) -> None:
    stale = open_ledger()
    stale.append(draft(KeyRole.WRITER, "a"))
    honest = stale._store.sequence  # type: ignore[attr-defined]

    def sequence(integrate: Any) -> Any:
        stale._store.sequence = honest  # type: ignore[attr-defined]
        rotate_role(KeyRole.LOG, None)
        open_ledger().append(draft(KeyRole.WRITER, "b"))
        return honest(integrate)

    stale._store.sequence = sequence  # type: ignore[attr-defined]
    with pytest.raises(ConfigurationError, match="rotated out by entry 5"):
        stale.drain()
    assert write(KeyRole.WRITER, "b") == 6
    assert auditor(home, trust_of(home)).is_fine


CALLS = ("replace", "link", "unlink", "fsync", "open")


def crash_at(number: int, work: Callable[[], None]) -> bool:
    """Run work in a process that dies at its nth call of the system; return whether it did."""
    child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9
    left = number

    def dying(call: Any) -> Any:
        def called(*args: Any, **more: Any) -> Any:
            nonlocal left
            left -= 1
            if left == 0:
                os._exit(9)
            return call(*args, **more)

        return called

    try:
        for name in CALLS:
            setattr(os, name, dying(getattr(os, name)))
        for name in ("insert", "sequence"):
            setattr(SqliteStore, name, dying(getattr(SqliteStore, name)))
        work()
        os._exit(0)
    except BaseException:  # noqa: BLE001 - whatever it is, the child ends here
        os._exit(1)


@pytest.mark.parametrize("role", [KeyRole.LOG, KeyRole.WRITER])
def test_a_rotation_that_dies_anywhere_goes_on_when_it_is_run_again(
    home: Path, role: KeyRole
) -> None:
    old = open_keys().signers[role].public_key
    number, died = 0, 0
    while True:
        number += 1
        if not crash_at(number, lambda: rotate_role(role, None) and None):
            break
        died += 1
        # Until it is run again, readers go on, and a holder of the old key either works or says
        # what to do; nothing that was acknowledged is lost.
        remedy = remedy_of_reading()
        assert remedy is None or f"keys rotate --role {role}" in remedy
        rotate_role(role, None)
        new = open_keys().signers[role].public_key
        assert new != old
        old = new
        write(role, f"after {number}")
        assert open_ledger().view().violations == []
        assert auditor(home, trust_of(home)).is_fine
        leftovers = [p.name for p in (home / "keys").iterdir() if p.name.endswith(".next")]
        assert leftovers == []
    assert died >= 15


def remedy_of_reading() -> str | None:
    """Return what a reader is told to do; None if it can read."""
    try:
        open_ledger().view()
    except ConfigurationError as error:
        return error.remedy
    return None


def load_fake(name: str) -> Any:
    path = Path(__file__).parents[2] / "fakes" / f"{name}.py"
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)  # type: ignore[arg-type]
    sys.modules[name] = module
    spec.loader.exec_module(module)  # type: ignore[union-attr]
    return module


FAKE = load_fake("kms_server")


@pytest.fixture(scope="module")
def kms() -> Any:
    with pytest.MonkeyPatch.context() as patch, FAKE.kms_server(patch) as client:
        yield client


@pytest.mark.parametrize("role", KeyRole)
def test_from_a_file_to_the_kms_and_on_to_another_key_of_it(
    home: Path, kms: Any, role: KeyRole
) -> None:
    uri = FAKE.make_key(kms)
    assert rotate_role(role, uri) == 4
    files = KeyFiles(home / "keys", role)
    assert (files.uri.read_text().strip(), files.key.exists()) == (uri, False)
    assert write(role, "after") == 5
    with pytest.raises(ConfigurationError, match="--new-uri"):
        rotate_role(role, None)
    with pytest.raises(ConfigurationError, match="is the present one"):
        rotate_role(role, uri)
    assert rotate_role(role, FAKE.make_key(kms)) == 6
    assert auditor(home, trust_of(home)).is_fine
    rows = [(p.role, p.state, p.algorithm) for p in key_places() if p.role is role]
    assert rows == [
        (role, "in use", "ECDSA P-256"),
        (role, "retired", "Ed25519"),
        (role, "retired", "ECDSA P-256"),
    ]


def test_two_keys_of_a_role_are_refused_until_the_swap_is_finished(home: Path, kms: Any) -> None:
    files = KeyFiles(home / "keys", KeyRole.LOG)
    old = files.key.read_bytes()
    rotate_role(KeyRole.LOG, FAKE.make_key(kms))
    files.key.write_bytes(old)  # as if it had died between its last two steps
    files.key.chmod(0o600)
    with pytest.raises(ConfigurationError, match="a role has one key") as caught:
        open_keys()
    assert "keys rotate --role log" in caught.value.remedy
    assert rotate_role(KeyRole.LOG, FAKE.make_key(kms)) == 5
    assert not files.key.exists()
    assert auditor(home, trust_of(home)).is_fine


def test_another_new_key_is_taken_unless_the_first_is_on_record(home: Path, kms: Any) -> None:
    files = KeyFiles(home / "keys", KeyRole.WRITER)
    first, second = FAKE.make_key(kms), FAKE.make_key(kms)
    files.write_next_uri(first)
    assert rotate_role(KeyRole.WRITER, second) == 4
    assert files.uri.read_text().strip() == second
    third, before = FAKE.make_key(kms), files.uri.read_text()
    rotate_role(KeyRole.WRITER, third)
    files.next_uri.write_text(third + "\n")  # as if it had died before the swap
    files.uri.write_text(before)
    with pytest.raises(ConfigurationError, match="on record already"):
        rotate_role(KeyRole.WRITER, first)
    assert rotate_role(KeyRole.WRITER, None) == 5
    assert files.uri.read_text().strip() == third


def test_a_new_key_that_cannot_sign_leaves_everything_as_it_was(home: Path, kms: Any) -> None:
    size = open_ledger().view().checkpoint.size
    for uri in ("awskms:alias/none", FAKE.make_key(kms, "ECC_NIST_P384"), "file2:/x"):
        with pytest.raises(ConfigurationError):
            rotate_role(KeyRole.WRITER, uri)
    assert open_ledger().view().checkpoint.size == size
    names = sorted(p.name for p in (home / "keys").iterdir())
    assert names == ["attestor.key", "log.key", "writer.key"]


@pytest.mark.parametrize(
    ("file", "text", "said"),
    [
        ("log.uri", "conn:my_key", "Every task can read those"),
        ("log.uri", "variable:x\n", "Every task can read those"),
        ("log.uri", "", "one line"),
        ("log.uri", "awskms:a\nawskms:b\n", "one line"),
        ("log.uri", "https://kms/x", "no URI that this version knows"),
        ("log.retired", "scribble", "log.retired"),
    ],
)
def test_a_file_that_names_no_key_is_refused(home: Path, file: str, text: str, said: str) -> None:
    if file == "log.uri":
        (home / "keys" / "log.key").unlink()
    (home / "keys" / file).write_text(text)
    with pytest.raises(ConfigurationError, match=said):
        open_keys()


def test_a_uri_that_others_may_change_is_refused(home: Path) -> None:
    (home / "keys" / "log.key").unlink()
    (home / "keys" / "log.uri").write_text("awskms:x")
    (home / "keys" / "log.uri").chmod(0o666)
    with pytest.raises(ConfigurationError, match="can change"):
        open_keys()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("KEYS_DIR", "airflow://connections/keys"),
        ("KEYS_PASSPHRASE", "conn:keys"),
        ("KEYS_PASSPHRASE_SECRET", "connections:keys"),
        ("KEYS_PASSPHRASE_CMD", "airflow connections get keys -o plain"),
        ("KEYS_PASSPHRASE_CMD", "sh -c 'airflow  variables get keys'"),
    ],
)
def test_nothing_about_a_key_comes_from_an_airflow_connection(
    home: Path, monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv(f"AIRFLOW__MLGOV__{name}", value)
    with pytest.raises(ConfigurationError, match="Every task can read those") as caught:
        open_keys()
    assert value not in str(caught.value)
