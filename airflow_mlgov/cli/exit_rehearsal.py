"""``airflow mlgov exit-rehearsal``: can this model be made elsewhere, and is it the same?"""

from __future__ import annotations

import sys
from argparse import Namespace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from airflow_mlgov.cli.files import write_whole
from airflow_mlgov.cli.run import command, option, print_rows, reports_errors, tell
from airflow_mlgov.errors import ConfigurationError
from airflow_mlgov.records.digest import Digest
from airflow_mlgov.records.source import Source

if TYPE_CHECKING:
    from airflow.cli.cli_config import ActionCommand

    from airflow_mlgov.service.exit_plan import ExitQuestion
    from airflow_mlgov.service.exit_rehearsal import Rehearsed


def exit_rehearsal_command() -> ActionCommand:
    """Return the command."""
    from airflow.cli.cli_config import ARG_OUTPUT

    return command(
        exit_rehearsal,
        "Train a model's newest version again on another platform, and compare the scores",
        option("model", "Id of the model in the inventory", required=True),
        option("from", "Platform that the version was trained on", required=True, dest="origin"),
        option("to", "Platform to train it again on", required=True),
        option("script", "The training script, as it was then", required=True),
        option("sample", "CSV or Parquet file that both versions score", required=True),
        option("target", "Its column with the outcome", required=True),
        option("scorer", "module:function; a module may stand beside the script", required=True),
        option(
            "input",
            "Where an input is now, if not where the training record says; may be repeated",
            action="append",
            metavar="NAME=PATH",
            default=[],
        ),
        option("version", "sha256:... (default: the newest that was trained there)"),
        option("registry", "Registry that has the version in use", default="mlflow_default"),
        option("report", "Write the report as HTML to this file"),
        ARG_OUTPUT,
        description="Tolerances are in the policy pack, section 'exit'. Exit code 1 if the scores "
        "are too far apart. Given again on the same day (UTC), it goes on with the same job.",
    )


@reports_errors
def exit_rehearsal(args: Namespace) -> None:
    """Rehearse, print each tolerance, and end with 1 if one is not kept."""
    from airflow_mlgov.operators.rehearsing import Stage, rehearse

    script = Path(args.script).resolve()
    sys.path.insert(0, str(script.parent))  # as `python script.py` does
    stage = Stage(args.sample, args.target, args.scorer, args.registry)
    done = rehearse(_question(args, script), stage, tell)
    if args.report:
        _write_report(Path(args.report), done)
    rows = [
        {
            "measure": result.measure,
            "found": "not defined" if result.found is None else result.found,
            "tolerance": result.bound,
            "outcome": "pass" if result.passed else "fail",
        }
        for result in done.results
    ]
    print_rows(rows, args.output, title=f"{args.model}: {args.origin} against {args.to}")
    alike = "the same bytes" if done.document["same_bytes"] else "another version"
    tell(
        f"Version {done.document['version']} was made again as {alike}: "
        f"{done.document['rehearsed_version']}. Report {done.evidence}."
    )
    if not done.passed:
        raise SystemExit(1)


def _question(args: Namespace, script: Path) -> ExitQuestion:
    from airflow_mlgov.service.exit_plan import ExitQuestion

    inputs = dict(each.partition("=")[::2] for each in args.input)
    if not all(inputs.values()):
        raise ConfigurationError("An --input is not of the form NAME=PATH.")
    return ExitQuestion(
        model=args.model,
        from_platform=args.origin,
        to_platform=args.to,
        script=script,
        inputs=inputs,
        version=Digest.parse(args.version) if args.version else None,
        source=Source(run_id=f"exit-rehearsal {datetime.now(UTC):%Y-%m-%d}", task_id=args.to),
    )


def _write_report(file: Path, done: Rehearsed) -> None:
    from airflow_mlgov.dossiers.pages import write_exit_report
    from airflow_mlgov.wiring import open_site

    write_whole(file, write_exit_report(done.document, open_site()).encode("utf-8"))
    tell(f"Wrote {file}.")
