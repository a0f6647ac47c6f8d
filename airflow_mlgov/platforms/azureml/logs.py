"""What a job of Azure ML has written to its standard output."""

from __future__ import annotations

from airflow_mlgov.clouds.azure import Arm, AzureSession, BlobStore
from airflow_mlgov.errors import ConfigurationError, PlatformError, PlatformUnavailableError
from airflow_mlgov.service.job_platform import JobHandle

_ARTEFACTS = "workspaceartifactstore"
_FILE = "ExperimentRun/dcid.{job}/user_logs/std_log.txt"
_CHUNK_BYTES = 256 * 1024
_MOST_LINES = 1000
_LINE_BYTES = 4000
_TOLD = "told"


class JobLog:
    """Reads ``user_logs/std_log.txt`` from the workspace's own artefact store.

    Azure ML's documented API gives no logs. The file is a blob of the workspace's storage account,
    where the connection's identity may or may not read; if not, a reader is told once where to
    look.

    Args:
        arm: The resource manager.
        session: Whose credentials are used.
        workspace: Resource id.
    """

    def __init__(self, arm: Arm, session: AzureSession, workspace: str) -> None:
        self._arm = arm
        self._session = session
        self._workspace = workspace

    def lines(self, handle: JobHandle, cursor: str | None) -> tuple[list[str], str | None]:
        """Return what stands behind a cursor, and the next cursor.

        A cursor is a position in the file; or says that a reader was told that it cannot be read.
        """
        if cursor == _TOLD:
            return [], _TOLD
        start = int(cursor or 0)
        try:
            data = self._read(_FILE.format(job=handle.native_id), start)
        except PlatformUnavailableError:
            raise
        except (PlatformError, ConfigurationError) as error:
            return [f"{error.problem} Its output is at {handle.console_url}"], _TOLD
        lines, length = _whole_lines(data)
        return lines, str(start + length)

    def _read(self, name: str, start: int) -> bytes:
        found = self._arm.get(f"{self._workspace}/datastores/{_ARTEFACTS}")
        if found is None:
            raise PlatformError(f"{self._workspace} has no datastore {_ARTEFACTS}.")
        place = found["properties"]
        protocol, suffix = place.get("protocol") or "https", place.get("endpoint")
        server = f"{place['accountName']}.blob.{suffix or 'core.windows.net'}"
        if protocol != "https":
            server = f"{suffix}/{place['accountName']}"
        store = BlobStore(self._session, f"{protocol}://{server}/{place['containerName']}")
        return store.read(name, start, _CHUNK_BYTES)


def _whole_lines(data: bytes) -> tuple[list[str], int]:
    """Return at most 1,000 lines, and the length of what they stand for.

    The end of a file that is still written may be half a line: it waits, unless it is very long.
    """
    pieces = data.split(b"\n")
    whole, rest = pieces[:-1][:_MOST_LINES], pieces[-1]
    length = sum(len(piece) + 1 for piece in whole)
    if not whole and len(rest) >= _LINE_BYTES:
        whole, length = [rest], len(rest)
    return [_line(piece) for piece in whole], length


def _line(piece: bytes) -> str:
    text = piece[:_LINE_BYTES].decode(errors="replace").rstrip("\r")
    return "".join(char for char in text if char.isprintable() or char == "\t")
