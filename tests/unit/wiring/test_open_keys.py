"""Keys apart: each process opens the ledger with its own settings, as on its own machine."""

from __future__ import annotations

from pathlib import Path

import pytest

from airflow_mlgov.errors import ConfigurationError, LedgerUnavailableError
from airflow_mlgov.service.ledger import EntryDraft
from airflow_mlgov.service.sequencer import Pace
from airflow_mlgov.wiring import open_keys, open_ledger, open_sequencer

DRAFT = EntryDraft("policy.changed", "", None, {"policy_sha256": "sha256:" + "0" * 64}, ("1",))


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Settings of a process that was given some of the keys; a set-up with all of them began."""
    monkeypatch.setenv("AIRFLOW__MLGOV__LEDGER_URL", f"sqlite:///{tmp_path}/ledger.db")
    monkeypatch.setenv("AIRFLOW__MLGOV__SEEN_DIR", str(tmp_path / "seen"))
    monkeypatch.setenv("AIRFLOW__MLGOV__KEYS_DIR", str(tmp_path / "all"))
    (tmp_path / "trust.json").write_bytes(open_ledger().trust_root().as_bytes())
    monkeypatch.setenv("AIRFLOW__MLGOV__TRUST_PATH", str(tmp_path / "trust.json"))

    def with_keys(*roles: str) -> Path:
        folder = tmp_path / "-".join(roles or ["none"])
        folder.mkdir(mode=0o700)
        for role in roles:
            target = folder / f"{role}.key"
            target.write_bytes((tmp_path / "all" / f"{role}.key").read_bytes())
            target.chmod(0o600)
        monkeypatch.setenv("AIRFLOW__MLGOV__KEYS_DIR", str(folder))
        return folder

    return with_keys


def test_a_writer_without_the_log_key_waits_for_the_sequencer(machine) -> None:
    machine("writer")
    writer = open_ledger()
    receipt = writer.append(DRAFT)
    with pytest.raises(LedgerUnavailableError, match="No signed checkpoint"):
        writer.seal(receipt, timeout_s=0)

    machine("log")
    open_sequencer(Pace(heartbeat_s=0), print).round()
    assert writer.seal(receipt).index == 1
    assert [entry.signed_by for entry in writer.view().select("policy.changed")] == ["writer"]


def test_no_key_is_made_and_what_is_not_held_is_not_written(machine) -> None:
    folder = machine("attestor")
    ledger = open_ledger()
    with pytest.raises(ConfigurationError, match="does not hold the writer key"):
        ledger.append(DRAFT)
    assert [path.name for path in folder.iterdir()] == ["attestor.key"]


def test_a_reader_needs_no_key(machine, tmp_path: Path) -> None:
    machine("log")
    open_sequencer(Pace(heartbeat_s=0), print).round()
    (machine()).rmdir()
    assert open_keys()[0] == {}
    assert open_ledger().verify().is_fine


def test_a_key_that_nobody_would_believe_is_refused(machine, tmp_path: Path) -> None:
    folder = machine("writer")
    (folder / "attestor.key").write_bytes((folder / "writer.key").read_bytes())
    (folder / "attestor.key").chmod(0o600)
    with pytest.raises(ConfigurationError, match=r"attestor key in .* is not in the trust file"):
        open_ledger()


def test_the_sequencer_says_that_it_lacks_its_key(machine) -> None:
    folder = machine("writer")
    with pytest.raises(ConfigurationError, match=f"no log key in {folder}"):
        open_sequencer(Pace(), print)


def test_a_trust_file_that_is_not_there_is_named(machine, monkeypatch) -> None:
    machine("writer")
    monkeypatch.setenv("AIRFLOW__MLGOV__TRUST_PATH", "/nowhere/trust.json")
    with pytest.raises(ConfigurationError, match=r"/nowhere/trust\.json cannot be read"):
        open_ledger()


def test_keys_are_encrypted_if_there_is_a_passphrase(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIRFLOW__MLGOV__KEYS_DIR", str(tmp_path / "keys"))
    monkeypatch.setenv("AIRFLOW__MLGOV__KEYS_PASSPHRASE_CMD", "echo correct horse")
    made = {role: signer.public_key for role, signer in open_keys()[0].items()}
    assert all(b"ENCRYPTED" in path.read_bytes() for path in (tmp_path / "keys").glob("*.key"))
    assert {role: signer.public_key for role, signer in open_keys()[0].items()} == made

    monkeypatch.setenv("AIRFLOW__MLGOV__KEYS_PASSPHRASE", "sesame-7")
    with pytest.raises(ConfigurationError, match="cannot be opened with this passphrase") as caught:
        open_keys()
    assert "sesame-7" not in caught.value.diagnostics()
    monkeypatch.delenv("AIRFLOW__MLGOV__KEYS_PASSPHRASE")
    monkeypatch.delenv("AIRFLOW__MLGOV__KEYS_PASSPHRASE_CMD")
    with pytest.raises(ConfigurationError, match="no passphrase was given") as caught:
        open_keys()
    assert "keys_passphrase" in caught.value.diagnostics()
