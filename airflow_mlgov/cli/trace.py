"""``airflow mlgov trace``: from a decision back to data and approvals."""

from __future__ import annotations

import json
from argparse import Namespace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow_mlgov.cli.files import write_whole
from airflow_mlgov.cli.run import (
    FOR_PROGRAMS,
    command,
    option,
    print_rows,
    printable,
    reports_errors,
    tell,
)
from airflow_mlgov.errors import ConfigurationError
from airflow_mlgov.records.clock import to_text

if TYPE_CHECKING:
    from airflow.cli.cli_config import ActionCommand

    from airflow_mlgov.records.trace import Answer, Trace
    from airflow_mlgov.service.trace import Tracer


def trace_command() -> ActionCommand:
    """Return the command."""
    from airflow.cli.cli_config import ARG_OUTPUT

    return command(
        trace,
        "Walk from a decision back to data and approvals, and say what disagrees",
        option(
            "dataset",
            "A dataset in lineage, such as a scored batch",
            nargs=2,
            metavar=("NAMESPACE", "NAME"),
        ),
        option("model", "Id of a model in the inventory; with --version"),
        option("version", "Version of the model: the registry's number, or sha256:..."),
        option("run", "Id of a run in lineage"),
        option("marquez-conn-id", "Compare with the Marquez of this Airflow connection, too"),
        option("svg", "Write a picture to this file"),
        ARG_OUTPUT,
        description="Give one of --dataset, --model with --version, and --run. Exit code 1 if "
        "ledger, outbox and Marquez disagree, or something is missing.",
    )


@reports_errors
def trace(args: Namespace) -> None:
    """Print what a decision rests on, and end with 1 if anything is missing or disagrees."""
    from airflow_mlgov.service.trace import Tracer
    from airflow_mlgov.wiring import open_governance, open_outbox

    _check(args)
    tracer = Tracer(open_governance(), open_outbox(), _marquez(args.marquez_conn_id))
    found = _traced(tracer, args)
    if args.svg:
        from airflow_mlgov.dossiers.lineage_svg import draw_trace

        write_whole(Path(args.svg), draw_trace(found).encode("utf-8"))
        tell(f"Wrote {args.svg}.")
    if args.output in FOR_PROGRAMS:
        _print_for_programs(found.as_json(), args.output)
    else:
        _print_for_people(found, args.output)
    if found.gaps:
        raise SystemExit(1)


def _check(args: Namespace) -> None:
    given = [name for name in ("dataset", "model", "run") if getattr(args, name)]
    if len(given) != 1 or bool(args.model) != bool(args.version):
        raise ConfigurationError(
            "It is not clear where to begin.",
            remedy="Give --dataset NAMESPACE NAME, or --model with --version, or --run.",
        )


def _marquez(conn_id: str | None) -> Any:
    if conn_id is None:
        return None
    from airflow_mlgov.hooks.marquez import MarquezHook

    return MarquezHook(conn_id).get_conn()


def _traced(tracer: Tracer, args: Namespace) -> Trace:
    if args.dataset:
        return tracer.from_dataset(*args.dataset)
    return tracer.from_run(args.run) if args.run else tracer.from_model(args.model, args.version)


def _print_for_programs(found: dict[str, Any], output: str) -> None:
    """Print one object, where Airflow's own commands print lists."""
    if output == "json":
        print(json.dumps(found))
        return
    import yaml

    print(yaml.safe_dump(found, sort_keys=False), end="")


def _answer(given: Answer) -> dict[str, str]:
    return {
        "record": given.record,
        "seat": given.seat,
        "user": given.who,
        "assurance": given.assurance,
        "at": to_text(given.at),
    }


def _print_for_people(found: Trace, output: str) -> None:
    from airflow_mlgov.dossiers.lineage_tree import write_tree

    print(printable(write_tree(found)))
    if found.answers:
        print_rows([_answer(each) for each in found.answers], output, title="Approved by")
    if found.gaps:
        rows = [{"where": gap.where, "problem": gap.problem} for gap in found.gaps]
        print_rows(rows, output, title="Missing, or told differently")
    else:
        tell("Nothing is missing, and nothing is told differently.")
