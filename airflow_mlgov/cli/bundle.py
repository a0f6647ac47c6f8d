"""``airflow mlgov bundle``: everything about one model, for somebody who has none of this."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path
from typing import TYPE_CHECKING

from airflow_mlgov.cli.files import write_whole
from airflow_mlgov.cli.run import command, option, reports_errors, tell

if TYPE_CHECKING:
    from airflow.cli.cli_config import ActionCommand


@reports_errors
def bundle(args: Namespace) -> None:
    """Write a bundle of one model; the file appears whole or not at all."""
    from airflow_mlgov.service.bundle import make_bundle
    from airflow_mlgov.wiring import open_governance, open_registry

    made = make_bundle(
        open_governance(),
        args.model,
        args.version,
        registry=lambda: open_registry(args.registry),
    )
    write_whole(Path(args.file), made.data)
    tell(
        f"Wrote {args.file}: {made.entries} entries about {args.model} under a checkpoint over "
        f"{made.size}."
    )
    if made.counted is None:
        tell(
            "No count of the model's entries is on record, so the bundle cannot show that it is "
            "complete. Make it where the log key is."
        )
    for name in made.could_not_be_had:
        tell(f"Not in it, because it could not be had: {name}")
    if made.waiting:
        tell(f"{made.waiting} entries in it are acknowledged and under no checkpoint yet.")


def bundle_command() -> ActionCommand:
    """Return the command ``airflow mlgov bundle``."""
    return command(
        bundle,
        "Write everything about a model into one file that an outsider can check",
        option("model", "Id of the model in the inventory", required=True),
        option(
            "version",
            "Put in the documents of this version only: the registry's number, or sha256:... "
            "(all entries of the model are put in all the same)",
        ),
        option("file", "File to write", required=True),
        option(
            "registry",
            "Airflow connection of the model registry",
            default="mlflow_default",
        ),
        description="mlgov-verify.pyz checks it without Airflow; see how-to/verify-a-bundle.",
    )
