"""Blob storage in memory, as far as azure-storage-blob is used here.

It proves nothing about Azure: signatures are not checked, blocks are not known, so blobs of more
than 64 MB are refused. Azurite does better where Node is; tests/unit/clouds/test_azure_blobs.py
runs the same tests against both.
"""

from __future__ import annotations

import hashlib
import re
import threading
from dataclasses import dataclass, field
from email.utils import formatdate
from http import HTTPStatus
from urllib.parse import parse_qs, unquote
from xml.sax.saxutils import escape

from azureml_replies import Reply

_RANGE = re.compile(r"bytes=(\d+)-(\d*)")


@dataclass
class Blob:
    data: bytes
    metadata: dict[str, str] = field(default_factory=dict)

    @property
    def etag(self) -> str:
        return f'"0x{hashlib.md5(self.data).hexdigest()[:16].upper()}"'

    def headers(self) -> dict[str, str]:
        return {
            "ETag": self.etag,
            "Last-Modified": formatdate(0, usegmt=True),
            "x-ms-blob-type": "BlockBlob",
            "Content-Type": "application/octet-stream",
            **{f"x-ms-meta-{key}": value for key, value in self.metadata.items()},
        }


class Blobs:
    """Containers by account and name; all there from the start."""

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.stored: dict[tuple[str, str], dict[str, Blob]] = {}
        self.shown_length: dict[str, int] = {}

    def of(self, account: str, container: str) -> dict[str, Blob]:
        return self.stored.setdefault((account, container), {})

    def answer(
        self, method: str, path: str, query: str, headers: dict[str, str], body: bytes
    ) -> Reply:
        account, container, *rest = unquote(path).lstrip("/").split("/", 2)
        asked = {key: values[0] for key, values in parse_qs(query).items()}
        with self.lock:
            held = self.of(account, container)
            if asked.get("comp") == "list":
                return self._list(held, container, asked)
            if asked.get("comp"):
                return _error(HTTPStatus.NOT_IMPLEMENTED, "NotImplemented")
            name = rest[0] if rest else ""
            if method == "PUT":
                return self._put(held, name, headers, body)
            if name not in held:
                return _error(HTTPStatus.NOT_FOUND, "BlobNotFound")
            if method == "DELETE":
                del held[name]
                return Reply(HTTPStatus.ACCEPTED)
            return self._read(name, held[name], headers)

    def _put(self, held: dict[str, Blob], name: str, headers: dict[str, str], body: bytes) -> Reply:
        if headers.get("if-none-match") == "*" and name in held:
            return _error(HTTPStatus.CONFLICT, "BlobAlreadyExists")
        prefix = "x-ms-meta-"
        metadata = {k[len(prefix) :]: v for k, v in headers.items() if k.startswith(prefix)}
        held[name] = Blob(body, metadata)
        return Reply(HTTPStatus.CREATED, headers=held[name].headers())

    def _read(self, name: str, blob: Blob, headers: dict[str, str]) -> Reply:
        if headers.get("if-match") not in {None, "*", blob.etag}:
            return _error(HTTPStatus.PRECONDITION_FAILED, "ConditionNotMet")
        match = _RANGE.fullmatch(headers.get("x-ms-range", headers.get("range", "")))
        size = len(blob.data)
        if match is None:
            return Reply(HTTPStatus.OK, blob.data, blob.headers())
        start, end = int(match[1]), min(int(match[2] or size), size - 1)
        if start >= size:
            return _error(HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE, "InvalidRange")
        shown = {**blob.headers(), "Content-Range": f"bytes {start}-{end}/{size}"}
        return Reply(HTTPStatus.PARTIAL_CONTENT, blob.data[start : end + 1], shown)

    def _list(self, held: dict[str, Blob], container: str, asked: dict[str, str]) -> Reply:
        """Two a page, so that whoever lists has to turn pages."""
        prefix = asked.get("prefix", "")
        names = sorted(name for name in held if name.startswith(prefix))
        start = int(asked.get("marker") or 0)
        page, more = names[start : start + 2], len(names) > start + 2
        entries = "".join(self._entry(name, held[name]) for name in page)
        text = (
            f'<?xml version="1.0"?><EnumerationResults ContainerName="{container}">'
            f"<Prefix>{escape(prefix)}</Prefix><Blobs>{entries}</Blobs>"
            f"<NextMarker>{start + 2 if more else ''}</NextMarker>"
            "</EnumerationResults>"
        )
        return Reply(HTTPStatus.OK, text.encode(), {"Content-Type": "application/xml"})

    def _entry(self, name: str, blob: Blob) -> str:
        metadata = "".join(f"<{k}>{escape(v)}</{k}>" for k, v in blob.metadata.items())
        size = self.shown_length.get(name, len(blob.data))
        return (
            f"<Blob><Name>{escape(name)}</Name><Properties>"
            f"<Content-Length>{size}</Content-Length><Etag>{escape(blob.etag)}</Etag>"
            f"<Last-Modified>{formatdate(0, usegmt=True)}</Last-Modified>"
            "<BlobType>BlockBlob</BlobType></Properties>"
            f"<Metadata>{metadata}</Metadata></Blob>"
        )


def _error(status: HTTPStatus, code: str) -> Reply:
    text = f'<?xml version="1.0"?><Error><Code>{code}</Code><Message>{code}</Message></Error>'
    headers = {"x-ms-error-code": code, "Content-Type": "application/xml"}
    return Reply(status, text.encode(), headers)
