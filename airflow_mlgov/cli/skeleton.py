"""``airflow mlgov init``: a commented inventory file and policy pack to start from.

``--pack`` takes one of the packs in ``airflow_mlgov/policy/packs``, whose rules name their sources.
"""

from __future__ import annotations

from argparse import Namespace
from importlib.resources import files
from pathlib import Path

from airflow_mlgov.cli.run import print_rows, reports_errors
from airflow_mlgov.errors import ConfigurationError

STARTING_PACKS = ("eu_ai_act", "sr_26_2", "ss1_23")
_EXAMPLE = "example_policy"


@reports_errors
def init(args: Namespace) -> None:
    """Write both skeletons under ``args.folder``; nothing if one of them is there already."""
    folder, pack = Path(args.folder), args.pack or _EXAMPLE
    written = {
        "inventory": (folder / "inventory" / "example_model.yaml", inventory_skeleton(pack)),
        "policy": (folder / "policy" / f"{pack}.yaml", pack_skeleton(pack)),
    }
    taken = [str(file) for file, _ in written.values() if file.exists() or file.is_symlink()]
    if taken:
        raise ConfigurationError(
            f"{' and '.join(taken)} would be overwritten.",
            remedy="Name another folder with --folder, or move the file away.",
        )
    for file, text in written.values():
        _write(file, text)
    rows = [
        {
            "what": what,
            "file": str(file),
            "next": f"edit it, then: airflow mlgov {what} check {file}",
        }
        for what, (file, _) in written.items()
    ]
    print_rows(rows, args.output)


def inventory_skeleton(pack: str) -> str:
    """Return the text of an inventory file that names a pack."""
    text = (files("airflow_mlgov.cli") / "skeletons" / "inventory.yaml").read_text("utf-8")
    return text.replace(f"policy: {_EXAMPLE}\n", f"policy: {pack}\n")


def pack_skeleton(pack: str) -> str:
    """Return the text of a pack to start from: one of `STARTING_PACKS`, or the example."""
    skeleton = files("airflow_mlgov.cli") / "skeletons" / "policy.yaml"
    if pack in STARTING_PACKS:
        skeleton = files("airflow_mlgov.policy") / "packs" / f"{pack}.yaml"
    return skeleton.read_text("utf-8")


def _write(file: Path, text: str) -> None:
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with file.open("x", encoding="utf-8") as stream:
            stream.write(text)
    except OSError as error:
        raise ConfigurationError(
            f"{file} cannot be written ({error.strerror}).",
            remedy="Name a folder that you may write to with --folder.",
        ) from error
