"""``airflow mlgov init``: a commented inventory file and policy pack to start from."""

from __future__ import annotations

from argparse import Namespace
from importlib.resources import files
from pathlib import Path

from airflow_mlgov.cli.run import print_rows, reports_errors
from airflow_mlgov.errors import ConfigurationError

_WRITTEN = (
    ("inventory", "inventory/example_model.yaml", "inventory.yaml"),
    ("policy", "policy/example_policy.yaml", "policy.yaml"),
)


@reports_errors
def init(args: Namespace) -> None:
    """Write both skeletons under ``args.folder``; nothing if one of them is there already."""
    folder = Path(args.folder)
    targets = [(what, folder / place, skeleton) for what, place, skeleton in _WRITTEN]
    taken = [str(file) for _, file, _ in targets if file.exists() or file.is_symlink()]
    if taken:
        raise ConfigurationError(
            f"{' and '.join(taken)} would be overwritten.",
            remedy="Name another folder with --folder, or move the file away.",
        )
    for _, file, skeleton in targets:
        _write(file, skeleton)
    rows = [
        {
            "what": what,
            "file": str(file),
            "next": f"edit it, then: airflow mlgov {what} check {file}",
        }
        for what, file, _ in targets
    ]
    print_rows(rows, args.output)


def _write(file: Path, skeleton: str) -> None:
    text = (files("airflow_mlgov.cli") / "skeletons" / skeleton).read_text("utf-8")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with file.open("x", encoding="utf-8") as stream:
            stream.write(text)
    except OSError as error:
        raise ConfigurationError(
            f"{file} cannot be written ({error.strerror}).",
            remedy="Name a folder that you may write to with --folder.",
        ) from error
