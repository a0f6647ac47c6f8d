"""Writing a whole ledger as files that tools of transparency logs can read and check."""

from __future__ import annotations

from pathlib import Path

from airflow_mlgov.errors import ConfigurationError, LedgerIntegrityError
from airflow_mlgov.ledger.checkpoint import Checkpoint
from airflow_mlgov.ledger.tiles import tile_files
from airflow_mlgov.ledger.view import LedgerView
from airflow_mlgov.service.durable_file import replace_file

CHECKPOINT = "checkpoint"


def export_tiles(view: LedgerView, folder: Path) -> int:
    """Write everything under a signed checkpoint in C2SP tlog-tiles form.

    An export can be extended: what stands in the folder must be what would be written, since no
    file of a log but its checkpoint ever changes. The checkpoint is written last, so that a reader
    never finds one whose files are missing.

    Args:
        view: What to export.
        folder: Made if it is missing.

    Returns:
        How many files are new.

    Raises:
        LedgerIntegrityError: The folder holds another file under a name that this log would give
            one: it is of another log, or either was altered. A retry does not help.
        ConfigurationError: The folder cannot be written.
    """
    try:
        _refuse_newer(view.checkpoint, folder / CHECKPOINT)
        new = sum(_write_once(folder / path, data) for path, data in tile_files(view.leaves))
        replace_file(folder / CHECKPOINT, view.checkpoint.note.encode("utf-8"), 0o666)
    except OSError as error:
        raise ConfigurationError(
            f"The export to {folder} failed: {error.strerror or error}.",
            remedy="Name a folder that can be written, on a disk with room for the whole ledger.",
        ) from error
    return new


def _refuse_newer(checkpoint: Checkpoint, kept: Path) -> None:
    """Refuse to replace the checkpoint of a longer log, which would hide what came after."""
    if not kept.exists():
        return
    lines = kept.read_text("utf-8", errors="replace").split("\n")
    is_ours = len(lines) > 1 and lines[0] == checkpoint.origin and lines[1].isdecimal()
    if not is_ours or int(lines[1]) > checkpoint.size:
        raise LedgerIntegrityError(
            f"{kept} is of another log, or of a longer one than the {checkpoint.size} entries of "
            "this ledger.",
            remedy="Export to an empty folder, and find out why they differ: entries may have been "
            "removed.",
        )


def _write_once(path: Path, data: bytes) -> bool:
    if path.exists():
        if path.read_bytes() != data:
            raise LedgerIntegrityError(
                f"{path} holds other bytes than this ledger: the export is of another log, or one "
                "of the two was altered.",
                remedy="Keep both, and verify the ledger against a checkpoint kept elsewhere.",
            )
        return False
    path.parent.mkdir(parents=True, exist_ok=True)
    replace_file(path, data, 0o666)
    return True
