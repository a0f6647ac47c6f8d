"""Key files: made once, readable by their owner only."""

from __future__ import annotations

import logging
import multiprocessing
import os
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from airflow_mlgov.errors import ConfigurationError
from airflow_mlgov.records.kinds import KeyRole
from airflow_mlgov.signers.file import open_signer, open_signers


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_keys_are_made_once_with_one_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    keys_dir = tmp_path / "deep" / "keys"
    with caplog.at_level(logging.WARNING):
        first, again = open_signers(keys_dir), open_signers(keys_dir)
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "for development" in caplog.text
    assert {role: signer.public_key for role, signer in first.items()} == {
        role: signer.public_key for role, signer in again.items()
    }
    assert len({signer.public_key for signer in first.values()}) == 3
    assert names_in(keys_dir) == ["attestor.key", "log.key", "writer.key"]
    assert {(keys_dir / name).stat().st_mode & 0o777 for name in names_in(keys_dir)} == {0o600}
    assert keys_dir.stat().st_mode & 0o777 == 0o700


def test_modes_do_not_depend_on_the_umask(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        open_signers(tmp_path / "keys")
    finally:
        os.umask(before)
    assert (tmp_path / "keys" / "log.key").stat().st_mode & 0o777 == 0o600


def test_signatures_verify_and_the_key_stays_out_of_sight(tmp_path: Path) -> None:
    signer = open_signers(tmp_path)[KeyRole.WRITER]
    Ed25519PublicKey.from_public_bytes(signer.public_key).verify(signer.sign(b"m"), b"m")
    assert (signer.role, signer.name) == (KeyRole.WRITER, "airflow-mlgov-writer")
    assert "rivate" not in repr(signer)


def test_without_create_missing_roles_are_left_out(tmp_path: Path) -> None:
    open_signers(tmp_path)
    (tmp_path / "log.key").unlink()
    assert set(open_signers(tmp_path, create=False)) == {KeyRole.ATTESTOR, KeyRole.WRITER}
    assert not (tmp_path / "log.key").exists()


def _public_keys(keys_dir: Path, start: object, queue: object) -> None:
    start.wait()  # type: ignore[attr-defined]
    queue.put({role: signer.public_key for role, signer in open_signers(keys_dir).items()})  # type: ignore[attr-defined]


def test_eight_processes_at_once_get_the_same_keys(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    for attempt in range(3):
        start, queue = context.Event(), context.Queue()
        keys_dir = tmp_path / str(attempt)
        workers = [
            context.Process(target=_public_keys, args=(keys_dir, start, queue)) for _ in range(8)
        ]
        for worker in workers:
            worker.start()
        start.set()
        seen = [queue.get(timeout=30) for _ in workers]
        for worker in workers:
            worker.join()
        assert all(keys == seen[0] for keys in seen)
        assert names_in(keys_dir) == ["attestor.key", "log.key", "writer.key"]


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o602, 0o644, 0o666])
def test_a_key_that_others_can_read_or_change_is_refused(tmp_path: Path, mode: int) -> None:
    open_signers(tmp_path)
    (tmp_path / "log.key").chmod(mode)
    with pytest.raises(ConfigurationError, match="Others than its owner") as caught:
        open_signers(tmp_path)
    assert "chmod 600" in caught.value.remedy


def test_encrypted_keys_open_with_their_passphrase_only(tmp_path: Path) -> None:
    made = open_signers(tmp_path, passphrase=b"right")[KeyRole.LOG].public_key
    assert b"ENCRYPTED" in (tmp_path / "log.key").read_bytes()
    assert open_signer(tmp_path / "log.key", KeyRole.LOG, passphrase=b"right").public_key == made
    with pytest.raises(ConfigurationError, match="passphrase"):
        open_signer(tmp_path / "log.key", KeyRole.LOG, passphrase=b"wrong")
    with pytest.raises(ConfigurationError, match="no passphrase"):
        open_signer(tmp_path / "log.key", KeyRole.LOG)


def pem(key: object) -> bytes:
    return key.private_bytes(  # type: ignore[attr-defined, no-any-return]
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


PUBLIC = (
    Ed25519PrivateKey.generate()
    .public_key()
    .public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"nonsense",
        b"\xff" * 100,
        PUBLIC,
        pem(ec.generate_private_key(ec.SECP256R1())),
        pem(Ed25519PrivateKey.generate())[:60],
        b"-----BEGIN ENCRYPTED PRIVATE KEY-----\n",
    ],
    ids=["empty", "nonsense", "binary", "public", "other kind", "cut", "encrypted, cut"],
)
def test_what_is_no_key_is_refused_and_never_repeated(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "log.key"
    path.write_bytes(data)
    path.chmod(0o600)
    with pytest.raises(ConfigurationError) as caught:
        open_signer(path, KeyRole.LOG)
    assert "BEGIN" not in str(caught.value)


def test_a_folder_that_cannot_be_used(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigurationError, match="keys_dir"):
        open_signers(tmp_path / "file" / "keys")
    with pytest.raises(ConfigurationError, match="No such file"):
        open_signer(tmp_path / "none.key", KeyRole.LOG)
