"""Folders in Cloud Storage: files go there and come back whole, or not at all."""

from __future__ import annotations

import base64
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from airflow_mlgov.clouds.gcp.session import CALL_S, GcpSession
from airflow_mlgov.errors import ArtefactError

if TYPE_CHECKING:
    from google.cloud.storage import Blob, Bucket

_LINK = "gcsfuse_symlink_target"
_MOVE_S = 300.0
_BLOCK_BYTES = 1024 * 1024


def split_uri(uri: str) -> tuple[str, str]:
    """Return bucket and path of ``gs://bucket/path``."""
    bucket, _, path = uri.removeprefix("gs://").partition("/")
    return bucket, path.rstrip("/")


def bucket_of(session: GcpSession, uri: str) -> Bucket:
    """Return the bucket of a URI; asks nobody."""
    return session.storage().bucket(split_uri(uri)[0])


def check_writable(session: GcpSession, uri: str) -> None:
    """Ask whether files may be stored beneath a URI; nothing is stored.

    Raises:
        MlgovError: They may not, as `GcpSession.talking`.
    """
    right = "storage.objects.create"
    with session.talking(f"looking at the bucket of {uri}"):
        bucket = bucket_of(session, uri)
        held = bucket.test_iam_permissions([right], timeout=CALL_S, retry=None)
    if right not in held:
        raise session.refused(
            f"{session.terms.name} may not store files in {uri}.",
            remedy=f"Give who Airflow connection {session.terms.connection!r} stands for {right}.",
        )


def send(session: GcpSession, folder: str, files: Mapping[str, Path], key: str | None) -> None:
    """Store files in a folder; what is there with the same size and checksum is not sent again.

    Args:
        session: Who asks.
        folder: ``gs://bucket/path``.
        files: Local files by relative path.
        key: Customer's key that encrypts them; None for the bucket's own.
    """
    with session.talking(f"storing files in {folder}"):
        bucket = bucket_of(session, folder)
        there = {blob.name: (blob.size, blob.crc32c) for blob in _listed(session, folder)}
        for name, file in files.items():
            path = f"{split_uri(folder)[1]}/{name}"
            if there.get(path) != (file.stat().st_size, _checksum(file)):
                blob = bucket.blob(path, kms_key_name=key)
                blob.upload_from_filename(str(file), checksum="crc32c", timeout=_MOVE_S, retry=None)


def first_in(session: GcpSession, folder: str) -> str | None:
    """Return the URI of something in a folder; None if there is nothing."""
    with session.talking(f"looking into {folder}"):
        for blob in _listed(session, folder, most=1):
            return f"gs://{blob.bucket.name}/{blob.name}"
    return None


def read_start(session: GcpSession, uri: str) -> str:
    """Return the first 1,000 bytes of an object as text; nothing if it is not there."""
    from google.api_core.exceptions import NotFound

    with session.talking(f"reading {uri}"):
        blob = bucket_of(session, uri).blob(split_uri(uri)[1])
        try:
            data = blob.download_as_bytes(end=999, timeout=CALL_S, retry=None, checksum=None)
        except NotFound:
            return ""
    return " ".join(data.decode("utf-8", "replace").split())


def found(session: GcpSession, uri: str) -> list[Blob]:
    """Return the object with a URI; of one that ends in ``/``, all beneath it; none if none is."""
    from google.api_core.exceptions import NotFound

    with session.talking(f"looking for {uri}"):
        try:
            if uri.endswith("/"):
                return list(_listed(session, uri))
            blob = bucket_of(session, uri).get_blob(split_uri(uri)[1], timeout=CALL_S, retry=None)
        except NotFound:
            return []
    return [blob] if blob else []


def read_blob(session: GcpSession, blob: Blob) -> bytes:
    """Return an object's bytes, of the generation that it was found in."""
    with session.talking(f"reading gs://{blob.bucket.name}/{blob.name}"):
        data: bytes = blob.download_as_bytes(
            if_generation_match=blob.generation, timeout=_MOVE_S, retry=None
        )
    return data


def receive_file(session: GcpSession, uri: str, target: Path) -> None:
    """Copy an object to a file that is not there yet, as `receive` does.

    Raises:
        ArtefactError: There is none, or it is a link; a retry does not help.
        MlgovError: As `GcpSession.talking`.
    """
    blobs = found(session, uri)
    if not blobs:
        raise ArtefactError(f"There is no {uri}.")
    with session.talking(f"fetching {uri}"):
        _check_name(blobs[0], target.name)
        _receive_one(session, blobs[0], target)


def receive(session: GcpSession, folder: str, into: Path) -> int:
    """Copy all files of a folder to a private one and return how many there were.

    Each is of one generation, as it was listed, and its size and checksum are compared.

    Raises:
        ArtefactError: There are links, or paths that leave the folder; a retry does not help.
        MlgovError: As `GcpSession.talking`.
    """
    count, prefix = 0, f"{split_uri(folder)[1]}/"
    with session.talking(f"fetching {folder}"):
        for blob in _listed(session, folder):
            name = blob.name.removeprefix(prefix)
            if name.endswith("/") or not name:
                continue  # how a folder is shown that was made by hand or by a mount
            _check_name(blob, name)
            _receive_one(session, blob, into / name)
            count += 1
    return count


def _listed(session: GcpSession, folder: str, most: int | None = None) -> Iterator[Blob]:
    bucket, path = split_uri(folder)
    listed: Iterator[Blob] = session.storage().list_blobs(
        bucket, prefix=f"{path}/", max_results=most, timeout=CALL_S, retry=None
    )
    return listed


def _check_name(blob: Blob, name: str) -> None:
    where = f"gs://{blob.bucket.name}/{blob.name}"
    if _LINK in (blob.metadata or {}):
        raise ArtefactError(
            f"{where} is a symbolic link to {blob.metadata[_LINK]!r}.",
            remedy="Write a copy of the file instead.",
        )
    parts = name.split("/")
    if {"", ".", ".."} & set(parts) or "\\" in name or "\0" in name:
        raise ArtefactError(f"{where} has a name that leaves its folder, or is none.")


def _receive_one(session: GcpSession, blob: Blob, target: Path) -> None:
    # As listed: a download overwrites what the client's object says of itself.
    listed = (blob.size, blob.crc32c)
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
    try:
        target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(target, flags, 0o600)
    except (FileExistsError, NotADirectoryError) as error:
        raise ArtefactError(f"Two stored files go by the name {target.name!r} here.") from error
    with os.fdopen(descriptor, "wb") as file:
        blob.download_to_file(
            file, checksum="crc32c", if_generation_match=blob.generation, timeout=_MOVE_S,
            retry=None, raw_download=True,
        )  # fmt: skip
    size = target.stat().st_size
    if (size, _checksum(target)) != listed:
        raise session.unavailable(
            f"gs://{blob.bucket.name}/{blob.name} did not arrive as it was listed: {size} of "
            f"{listed[0]} bytes."
        )


def _checksum(file: Path) -> str:
    from google_crc32c import Checksum

    total = Checksum()
    with file.open("rb") as opened:
        while block := opened.read(_BLOCK_BYTES):
            total.update(block)
    return base64.b64encode(total.digest()).decode()
