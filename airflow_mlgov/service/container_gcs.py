"""Cloud Storage as seen from a container of Google's: by its JSON interface, standard library only.

A token comes from the metadata server, which knows the job's service account. What may pass is
asked for again, for a minute in all. ``GCE_METADATA_HOST`` and ``STORAGE_EMULATOR_HOST`` are the
variables by which Google's own clients are told of other addresses.
"""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from http import HTTPStatus
from http.client import HTTPException, HTTPResponse
from pathlib import Path
from typing import Any, TypeVar
from urllib.error import HTTPError
from urllib.parse import quote, urlencode
from urllib.request import Request, urlopen

from airflow_mlgov.errors import DataError, PlatformError, PlatformUnavailableError
from airflow_mlgov.service.container_bootstrap import PASSING

_PAUSES_S = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0)
_CALL_S = 60.0
_EARLY_S = 60.0
_ACCOUNT = "computeMetadata/v1/instance/service-accounts/default/token"
_SAID_BYTES = 300

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class StoredObject:
    """An object of a bucket.

    Attributes:
        uri: ``gs://bucket/path``.
        generation: Number of these very bytes.
    """

    uri: str
    generation: str


class CloudStorage:
    """Reads and writes objects.

    Each method raises `PlatformError` for what Google refuses, and `PlatformUnavailableError` for
    what did not pass.

    Args:
        sleep: Waits a number of seconds.
    """

    def __init__(self, sleep: Callable[[float], None] = time.sleep) -> None:
        self._sleep = sleep
        self._token, self._token_until = "", 0.0
        host = os.environ.get("GCE_METADATA_HOST", "metadata.google.internal")
        self._metadata = f"http://{host}/{_ACCOUNT}"
        store = os.environ.get("STORAGE_EMULATOR_HOST", "https://storage.googleapis.com")
        self._store = store.rstrip("/")

    def beneath(self, folder: str) -> Iterator[StoredObject]:
        """Return all objects in a folder and the folders in it."""
        bucket, path = _split(folder)
        asked = {"prefix": f"{path.rstrip('/')}/", "fields": "items(name,generation),nextPageToken"}
        while True:
            url = f"{self._store}/storage/v1/b/{bucket}/o?{urlencode(asked)}"
            page: dict[str, Any] = self._asked(Request(url), json.load)  # noqa: S310
            for each in page.get("items", ()):
                yield StoredObject(f"gs://{bucket}/{each['name']}", str(each["generation"]))
            if not page.get("nextPageToken"):
                return
            asked["pageToken"] = page["nextPageToken"]

    def download(self, uri: str, generation: str, file: Path) -> None:
        """Copy an object's bytes, as they are stored, to a file.

        Args:
            uri: Of the object.
            generation: Which of its generations; empty for the one that is there.
            file: Replaced.

        Raises:
            DataError: There is no such object or generation; a retry does not help.
        """
        asked = {"alt": "media", **({"generation": generation} if generation else {})}
        # Else an object that is stored compressed would come expanded.
        request = Request(f"{self._object(uri)}?{urlencode(asked)}")  # noqa: S310
        request.add_header("Accept-Encoding", "gzip")

        def take(answer: HTTPResponse) -> str:
            with file.open("wb") as opened:
                shutil.copyfileobj(answer, opened)
                size = opened.tell()
            if size != int(answer.headers["Content-Length"] or size):
                raise ConnectionError(f"only {size} bytes came")
            return answer.headers["x-goog-generation"] or generation

        came = self._asked(request, take, f"{uri} of generation {generation or 'any'}")
        if generation and came != generation:
            raise DataError(f"{uri} is of generation {came}, and {generation} was meant.")

    def upload(self, file: Path, uri: str, key: str, *, replace: bool = False) -> bool:
        """Store a file, and return whether that was done.

        Args:
            file: Its bytes.
            uri: Of the object.
            key: Resource name of the customer's key that encrypts it; empty for the bucket's own.
            replace: Whether an object that is there is replaced, or nothing is done.
        """
        bucket, path = _split(uri)
        asked = {"uploadType": "media", "name": path}
        asked |= {"kmsKeyName": key} if key else {}
        asked |= {} if replace else {"ifGenerationMatch": "0"}
        url = f"{self._store}/upload/storage/v1/b/{bucket}/o?{urlencode(asked)}"
        request = Request(url, method="POST")  # noqa: S310
        request.add_header("Content-Type", "application/octet-stream")
        try:
            self._asked(request, json.load, body=file)
        except _IsThereError:
            return False
        return True

    def _object(self, uri: str) -> str:
        bucket, path = _split(uri)
        return f"{self._store}/storage/v1/b/{bucket}/o/{quote(path, safe='')}"

    def _asked(
        self,
        request: Request,
        take: Callable[[HTTPResponse], _T],
        what: str = "",
        body: Path | None = None,
    ) -> _T:
        """Return what is taken of an answer; what may pass is asked for again.

        Args:
            request: Without its body and who asks.
            take: Reads an answer; raises `OSError` for one that is cut short.
            what: Is asked for, if it may be missing.
            body: Is sent; None for nothing.
        """
        for pause_s in (*_PAUSES_S, None):
            try:
                with ExitStack() as opened:
                    if body is not None:
                        request.data = opened.enter_context(body.open("rb"))
                        request.add_header("Content-Length", str(body.stat().st_size))
                    request.add_header("Authorization", f"Bearer {self._current_token()}")
                    return _opened(request, take)
            except HTTPError as error:
                problem = self._problem(error, what)
            except (OSError, HTTPException, ValueError) as error:
                problem = str(error) or repr(error)
            if pause_s is not None:
                self._sleep(pause_s)
        raise PlatformUnavailableError(f"Google does not answer: {problem}.")

    def _problem(self, error: HTTPError, what: str) -> str:
        """Return what an answer complains of, if it may pass; raise it, if not."""
        said = " ".join(error.read(_SAID_BYTES).decode("utf-8", "replace").split())
        problem = f"{error.code} {error.reason} {said}".strip()
        if error.code == HTTPStatus.UNAUTHORIZED:
            self._token = ""
        elif error.code == HTTPStatus.PRECONDITION_FAILED:
            raise _IsThereError
        elif error.code == HTTPStatus.NOT_FOUND and what and error.url != self._metadata:
            raise DataError(f"There is no {what}.") from error
        elif error.code not in PASSING:
            raise PlatformError(
                f"Google refuses {error.url.partition('?')[0]}: {problem}.",
                remedy="Look at the roles of the job's service account.",
            ) from error
        return problem

    def _current_token(self) -> str:
        if not self._token or time.monotonic() > self._token_until:
            request = Request(self._metadata, headers={"Metadata-Flavor": "Google"})  # noqa: S310
            said: dict[str, Any] = _opened(request, json.load)
            self._token = str(said["access_token"])
            self._token_until = time.monotonic() + float(said["expires_in"]) - _EARLY_S
        return self._token


class _IsThereError(Exception):
    """The object is there already."""


def _opened(request: Request, take: Callable[[HTTPResponse], _T]) -> _T:
    with urlopen(request, timeout=_CALL_S) as answer:  # noqa: S310 - http or https, as built here
        return take(answer)


def _split(uri: str) -> tuple[str, str]:
    bucket, _, path = uri.removeprefix("gs://").partition("/")
    if not uri.startswith("gs://") or not bucket or not path:
        raise DataError(f"{uri!r} is no address in Cloud Storage.")
    return bucket, path
