"""``airflow mlgov bundle``: everything about one model, for somebody who has none of this."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path

from airflow_mlgov.cli.files import write_whole
from airflow_mlgov.cli.run import reports_errors, tell


@reports_errors
def bundle(args: Namespace) -> None:
    """Write a bundle of one model; the file appears whole or not at all."""
    from airflow_mlgov.service.bundle import make_bundle
    from airflow_mlgov.wiring import open_governance, open_registry

    made = make_bundle(
        open_governance(),
        args.model,
        args.version,
        registry=lambda: open_registry(args.registry_conn_id),
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
