"""Evidence documents by digest, in a folder or a bucket.

A document's address is its content: ``<url>/sha256/<2 hex>/<62 hex>.json``. So keeping it twice is
harmless, no other document can take its place, and a reader sees for itself whether it was altered.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING

from airflow_mlgov.errors import ConfigurationError, EvidenceError
from airflow_mlgov.records.digest import Digest
from airflow_mlgov.service.durable_file import make_folder, replace_file, sync_folder

if TYPE_CHECKING:
    from airflow.sdk import ObjectStoragePath

log = logging.getLogger(__name__)

_WRITE_HELP = (
    "Check that 'evidence_url' in [mlgov] can be written by this task and has space left, "
    "then run the task again."
)
_READ_HELP = "Restore it from a backup of the evidence store, or run the task that wrote it again."


class ObjectEvidenceStore:
    """Evidence documents under an Airflow object storage path.

    On a local disk a document appears whole or not at all, also after a crash. Object stores
    (``s3://``, ``gs://``, ``abfss://``) get it in one request, which has the same effect there.

    Args:
        url: ``file:///absolute/folder`` or ``scheme://connection@bucket/prefix``.

    Raises:
        ConfigurationError: The URL is none of these, or no installed provider knows its scheme.
    """

    def __init__(self, url: str) -> None:
        self._root = _open_root(url)
        self._is_local = self._root.protocol == "file"

    def put(self, document: bytes) -> Digest:
        """Keep a document durably and return its digest; keeping it twice is fine.

        A file under its name with other bytes (half-written or altered) is replaced.

        Raises:
            EvidenceError: The store cannot be written; a retry helps once that was seen to.
        """
        digest = Digest.of(document)
        path = self._path(digest)
        try:
            if self._is_local:
                _write_local(Path(path.path), document)
            else:
                _write_object(path, document)
        except Exception as error:
            # Each object store's driver raises its own tree of errors; none may leave this method.
            raise EvidenceError(
                f"Evidence cannot be written to {path}: {error}.", remedy=_WRITE_HELP
            ) from error
        return digest

    def get(self, digest: Digest) -> bytes:
        """Return the document with this digest, re-hashed on reading.

        Raises:
            EvidenceError: Missing, unreadable or altered; a retry does not help.
        """
        path = self._path(digest)
        try:
            document = _read_object(path)
        except FileNotFoundError as error:
            raise EvidenceError(
                f"Evidence {digest} is missing: there is no {path}.", remedy=_READ_HELP
            ) from error
        except Exception as error:
            raise EvidenceError(
                f"Evidence {digest} cannot be read from {path}: {error}.",
                remedy="Check that 'evidence_url' in [mlgov] can be read by this task.",
            ) from error
        found = Digest.of(document)
        if found != digest:
            raise EvidenceError(
                f"Evidence {digest} was altered: {path} now holds {found}.", remedy=_READ_HELP
            )
        return document

    def _path(self, digest: Digest) -> ObjectStoragePath:
        return self._root / "sha256" / digest.hex[:2] / f"{digest.hex[2:]}.json"


def _open_root(url: str) -> ObjectStoragePath:
    from airflow.sdk import ObjectStoragePath

    scheme, _, rest = url.partition("://")
    if not scheme or not rest or (scheme == "file" and not rest.startswith("/")):
        raise ConfigurationError(
            f"evidence_url {url!r} in [mlgov] is not an absolute object storage path.",
            remedy="Write file:///absolute/folder, or scheme://connection@bucket/prefix.",
        )
    try:
        root = ObjectStoragePath(url)
        _ = root.fs
    except Exception as error:
        raise ConfigurationError(
            f"evidence_url {url!r} in [mlgov] cannot be opened: {error}.",
            remedy=f"Install the Airflow provider for {scheme}://, and check the URL's connection.",
        ) from error
    return root


def _read_object(path: ObjectStoragePath) -> bytes:
    # Not path.open(): Airflow would report the document as an input of the task in its lineage.
    content = path.fs.cat_file(path.path)
    return content if isinstance(content, bytes) else bytes(content)


def _write_object(path: ObjectStoragePath, document: bytes) -> None:
    if path.fs.exists(path.path):
        if _read_object(path) == document:
            return
        _warn_replaced(path)
    path.fs.pipe_file(path.path, document)
    if _read_object(path) != document:
        raise OSError("the store gave back other bytes than were written")


def _write_local(path: Path, document: bytes) -> None:
    if not _holds(path, document):
        make_folder(path.parent)
        # Group-readable like the rest of a shared Airflow home; never readable by everybody.
        replace_file(path, document, 0o640)
    sync_folder(path.parent)


def _holds(path: Path, document: bytes) -> bool:
    try:
        found = path.read_bytes()
    except FileNotFoundError:
        return False
    if found != document:
        _warn_replaced(path)
    return found == document


def _warn_replaced(path: Path | ObjectStoragePath) -> None:
    log.warning("%s held other bytes than its name says; it is replaced by the document.", path)
