"""Folders in Azure's blob storage."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from airflow_mlgov.clouds.azure.session import CONNECT_S, READ_S, AzureSession, is_loopback
from airflow_mlgov.errors import ArtefactError, ConfigurationError, DataError
from airflow_mlgov.service.job_platform import StoredFile

if TYPE_CHECKING:
    from azure.storage.blob import BlobProperties, ContainerClient

_RETRIES: dict[str, Any] = {"retry_total": 2, "initial_backoff": 1, "increment_base": 2}
_FOLDER_MARK = "hdi_isfolder"
_EMULATOR_KEY = "account_key"
_NO_ADDRESS = re.compile(r"[?#%\\\x00-\x1f\x7f]|(?:^|/)\.{0,2}(?:/|$)")
"""In the name of a blob: what an address of it would say differently, or hide."""


class BlobStore:
    """A folder of a container.

    Args:
        session: Whose credentials are used. An emulator of this machine gets the account key that
            stands as ``account_key`` in the connection's extra.
        url: ``https://account.blob.core.windows.net/container/prefix``, or
            ``http://127.0.0.1:port/account/container/prefix`` for an emulator.

    Attributes:
        url: As given, without a slash at its end.
        account: Name of the storage account.
        container: Name of the container.
        prefix: Path in it; empty for its root.
        protocol: ``https``, or ``http`` for an emulator.
        suffix: What follows ``account.blob.`` in the address (``core.windows.net``).

    Raises:
        ConfigurationError: The address is none of these.
    """

    def __init__(self, session: AzureSession, url: str) -> None:
        self._session = session
        self._emulated = is_loopback(url)
        parts = urlsplit(url)
        names = [name for name in parts.path.split("/") if name]
        if self._emulated:
            self.account, self.suffix = (names.pop(0) if names else ""), parts.netloc
        else:
            self.account, _, self.suffix = parts.netloc.partition(".blob.")
        if not names or not self.account or not self.suffix or ".." in names:
            raise ConfigurationError(
                f"{session.entry}: {url!r} is no folder of a blob container.",
                remedy="Write https://account.blob.core.windows.net/container/prefix.",
            )
        self.protocol = parts.scheme
        self.container, self.prefix = names[0], "/".join(names[1:])
        self._server = f"{self.protocol}://{parts.netloc}"
        place = [self._server, *([self.account] if self._emulated else []), self.container]
        self._root = "/".join(place)
        self.url = f"{self._root}/{self.prefix}" if self.prefix else self._root

    def url_of(self, path: str) -> str:
        """Return the address of a path beneath the folder."""
        return f"{self.url}/{path}"

    def path_of(self, url: str) -> str:
        """Return the path in the container of an address in it, beneath this folder or not.

        Raises:
            ConfigurationError: It is elsewhere.
        """
        if not url.startswith(f"{self._root}/"):
            raise ConfigurationError(f"{url} is not beneath {self._root}.")
        return url.removeprefix(f"{self._root}/")

    def name_of(self, path: str) -> str:
        """Return the name of the blob at a path beneath the folder."""
        return f"{self.prefix}/{path}" if self.prefix else path

    def upload(self, path: str, file: Path) -> None:
        """Store a file at a path beneath the folder, in the place of what is there."""
        self._upload(self.name_of(path), file, trust_size=False)

    def send(self, url: str, files: Mapping[str, Path]) -> None:
        """Store files beneath an address; what is there with the same size is not sent again.

        Args:
            url: Of a folder in the container.
            files: Local files by relative path.
        """
        folder = self.path_of(url)
        for path, file in sorted(files.items()):
            self._upload(f"{folder}/{path}", file, trust_size=True)

    def claim(self, path: str, data: bytes) -> bool:
        """Store a blob if there is none at a path yet; return whether it was stored."""
        from azure.core.exceptions import ResourceExistsError

        blob = self._client().get_blob_client(self.name_of(path))
        with self._session.talking(f"storing {self.url_of(path)}"):
            try:
                blob.upload_blob(data, overwrite=False)
            except ResourceExistsError:
                return False
            return True

    def names(self, path: str) -> list[str]:
        """Return what stands beneath a path, relative to it."""
        folder = self.name_of(path)
        return [_relative(blob.name, folder) for blob in self._listed(folder)]

    def first(self, url: str) -> str | None:
        """Return the address of something beneath an address; None if nothing is there."""
        folder = self.path_of(url)
        for blob in self._listed(folder):
            return f"{url}/{_relative(blob.name, folder)}"
        return None

    def located(self, url: str) -> list[StoredFile]:
        """Return the file at an address in the container; all beneath it if it ends in ``/``.

        Raises:
            DataError: There is none, it is elsewhere, or a name is none that an address can say.
        """
        path = self._plain_path(url)
        found = list(self._listed(path.removesuffix("/"))) if url.endswith("/") else self._one(path)
        if not found:
            raise DataError(
                f"Nothing stands at {url}.",
                remedy="Correct it; the address of a folder ends in '/'.",
            )
        for blob in found:
            if _NO_ADDRESS.search(blob.name):
                raise DataError(
                    f"{blob.name!r} in {self._root} cannot be said in an address.",
                    remedy="Name files without '?', '#', '%' and '..'.",
                )
        return [
            StoredFile(f"{self._root}/{blob.name}", blob.size, str(blob.etag).strip('"'))
            for blob in found
        ]

    def read(self, name: str, start: int = 0, most: int | None = None) -> bytes:
        """Return the bytes of a blob of the container from a position on; empty if there are none.

        Args:
            name: Name of the blob.
            start: Position.
            most: How many at most; None for all.
        """
        from azure.core.exceptions import HttpResponseError

        blob = self._client().get_blob_client(name)
        with self._session.talking(f"reading {name} of {self.account}/{self.container}"):
            try:
                data: bytes = blob.download_blob(offset=start, length=most).readall()
            except HttpResponseError as error:
                if error.status_code not in {404, 416}:  # not there; or not so long
                    raise
                return b""
            return data

    def download(self, url: str, into: Path) -> None:
        """Copy everything beneath an address to an empty folder.

        Raises:
            ArtefactError: It is cut short, or holds paths that leave the folder.
        """
        folder = self.path_of(url)
        for blob in self._listed(folder):
            path = PurePosixPath(_relative(blob.name, folder))
            _refuse_escape(blob.name, path)
            target = into / path
            try:
                target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
                self._copy(blob, target)
            except (FileExistsError, NotADirectoryError, IsADirectoryError) as error:
                raise ArtefactError(
                    f"{self.url}: {blob.name!r} and another blob have one place in a folder."
                ) from error

    def probe(self, path: str) -> None:
        """Write and delete a small blob at a path."""
        blob = self._client().get_blob_client(self.name_of(path))
        with self._session.talking(f"writing {self.url_of(path)}"):
            blob.upload_blob(b"", overwrite=True)
            blob.delete_blob()

    def _upload(self, name: str, file: Path, *, trust_size: bool) -> None:
        blob = self._client().get_blob_client(name)
        with self._session.talking(f"storing {self._root}/{name}"):
            if trust_size and self._size(blob) == file.stat().st_size:
                return
            with file.open("rb") as data:
                blob.upload_blob(data, overwrite=True)

    def _copy(self, blob: BlobProperties, target: Path) -> None:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
        client = self._client().get_blob_client(blob.name)
        with (
            self._session.talking(f"reading {blob.name} of {self.account}/{self.container}"),
            os.fdopen(os.open(target, flags, 0o600), "wb") as out,
        ):
            stream = client.download_blob(etag=blob.etag, match_condition=_unmodified())
            stream.readinto(out)
            written = out.tell()
        if written != blob.size:
            raise ArtefactError(
                f"{blob.name} of {self.account}/{self.container} has {blob.size} bytes, and "
                f"{written} came.",
                remedy="Look what writes there.",
            )

    def _listed(self, folder: str) -> Iterator[BlobProperties]:
        """Yield the files beneath a path; folders that mounts leave as blobs are none."""
        with self._session.talking(f"listing {folder} of {self.account}/{self.container}"):
            found = self._client().list_blobs(
                name_starts_with=f"{folder}/" if folder else None, include=["metadata"]
            )
            for blob in found:
                if not _is_folder(blob):
                    yield blob

    def _plain_path(self, url: str) -> str:
        shown = url.partition("?")[0]  # a token may follow, and would get into logs
        try:
            path = self.path_of(url)
        except ConfigurationError as error:
            raise DataError(
                f"{shown} is not in {self._root}, and jobs of {self._session.entry} read no other "
                "container.",
                remedy="Copy it there, or add an entry for its container to the platform file.",
            ) from error
        if path and _NO_ADDRESS.search(path.removesuffix("/")):
            raise DataError(
                f"{shown} is no plain address of a blob.",
                remedy="Write it without a token, and name files without '?', '#', '%' and '..'.",
            )
        return path

    def _one(self, name: str) -> list[BlobProperties]:
        from azure.core.exceptions import ResourceNotFoundError

        with self._session.talking(f"looking at {name} of {self.account}/{self.container}"):
            try:
                blob = self._client().get_blob_client(name).get_blob_properties()
            except ResourceNotFoundError:
                return []
        return [] if _is_folder(blob) else [blob]

    def _size(self, blob: Any) -> int | None:
        from azure.core.exceptions import ResourceNotFoundError

        try:
            size: int = blob.get_blob_properties().size
        except ResourceNotFoundError:
            return None
        return size

    def _client(self) -> ContainerClient:
        return self._session.once(f"{self._server}/{self.account}/{self.container}", self._made)

    def _made(self) -> ContainerClient:
        from azure.core.credentials import AzureNamedKeyCredential
        from azure.storage.blob import ContainerClient as Client
        from azure.storage.blob import ExponentialRetry

        address, credential = self._server, None
        if self._emulated:
            address = f"{self._server}/{self.account}"
            key = str(self._session.connection().extra_dejson.get(_EMULATOR_KEY, ""))
            credential = AzureNamedKeyCredential(self.account, key)
        return Client(
            address,
            self.container,
            credential=credential or self._session.credential(),
            retry_policy=ExponentialRetry(**_RETRIES),
            connection_timeout=CONNECT_S,
            read_timeout=READ_S,
        )


def _is_folder(blob: BlobProperties) -> bool:
    marks = {key.lower(): value for key, value in (blob.metadata or {}).items()}
    return marks.get(_FOLDER_MARK) == "true" or blob.name.endswith("/")


def _unmodified() -> Any:
    from azure.core import MatchConditions

    return MatchConditions.IfNotModified


def _relative(name: str, folder: str) -> str:
    return name.removeprefix(f"{folder}/") if folder else name


def _refuse_escape(name: str, path: PurePosixPath) -> None:
    if path.is_absolute() or ".." in path.parts or "\\" in name or "\0" in name or not path.parts:
        raise ArtefactError(
            f"The store holds {name!r}, which leaves its folder.",
            remedy="Look who can write there.",
        )
