"""The portable training contract: what a script is given, and what it must leave behind.

The same on every platform, so that a script runs unchanged on this machine and in any cloud.
Described for authors of scripts in ``docs/reference/training-contract.md``.
"""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from airflow_mlgov.errors import ConfigurationError, TrainingError

JOB_VERSION = 1
MAX_SEED = 2**32 - 1
GRACE_S = 5.0
"""Time that a script has to end after SIGTERM, before SIGKILL."""
COLUMN_TYPES = ("boolean", "integer", "long", "float", "double", "string", "datetime")
THREAD_VARIABLES = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "NUMEXPR_NUM_THREADS",
    "BLIS_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
)
PASSED_ON = frozenset(
    {
        "PATH", "HOME", "USER", "LOGNAME", "LANG", "LANGUAGE", "LC_ALL", "LC_CTYPE", "TZ", "TZDIR",
        "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "PYTHONPATH", "VIRTUAL_ENV", "CONDA_PREFIX",
        "SSL_CERT_FILE", "SSL_CERT_DIR", "CUDA_VISIBLE_DEVICES",
    }
)  # fmt: skip
"""What a script sees of the variables of the worker or container: no credential is among them."""

_MAX_DOCUMENT_BYTES = 1024 * 1024
_INPUT_NAME = re.compile(r"[a-z][a-z0-9_]{0,63}")
_METRIC_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_.@/-]{0,127}")
_REMEDY = "See docs/reference/training-contract.md for what a training script must write."


@dataclass(frozen=True)
class Outputs:
    """What a training script left behind, checked.

    Attributes:
        model_dir: Its ``model/`` folder.
        metrics: Finite numbers by name, at least one.
        signature: ``{"inputs": [{"name", "type"}, ...], "output": name}``.
    """

    model_dir: Path
    metrics: dict[str, float]
    signature: dict[str, Any]


def check_request(inputs: Mapping[str, str], parameters: Mapping[str, Any], seed: int) -> None:
    """Refuse what cannot be handed to a script.

    Args:
        inputs: Paths by name; a name is ``[a-z][a-z0-9_]*`` of at most 64 characters.
        parameters: JSON values.
        seed: 0 to 2^32-1.

    Raises:
        ConfigurationError: One of them is something else; a retry does not help.
    """
    for name in inputs:
        if not _INPUT_NAME.fullmatch(name):
            raise ConfigurationError(
                f"Input name {name!r} cannot be part of an environment variable.",
                remedy="Use lower-case letters, digits and '_', starting with a letter.",
            )
    if isinstance(seed, bool) or not isinstance(seed, int) or not 0 <= seed <= MAX_SEED:
        raise ConfigurationError(f"Seed {seed!r} is not a whole number from 0 to {MAX_SEED}.")
    try:
        json.dumps(dict(parameters), allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise ConfigurationError(
            f"Parameters are not JSON values: {error}.",
            remedy="Use objects, lists, strings, finite numbers, booleans and null.",
        ) from error


def check_limits(timeout_s: float | None, memory_mb: int | None) -> None:
    """Refuse limits that are none.

    Args:
        timeout_s: Wall-clock limit in seconds; None for no limit.
        memory_mb: Limit in MiB; None for no limit.

    Raises:
        ConfigurationError: One is not above 0; a retry does not help.
    """
    for name, limit in (("timeout_s", timeout_s), ("memory_mb", memory_mb)):
        if limit is not None and not limit > 0:
            raise ConfigurationError(f"Limit {name} is {limit}, not above 0.")


def job_document(
    inputs: Mapping[str, str], parameters: Mapping[str, Any], seed: int, output_dir: str
) -> bytes:
    """Return the job file of a script, version 1, as UTF-8 JSON.

    Args:
        inputs: Paths by name, as the script sees them.
        parameters: JSON values.
        seed: 0 to 2^32-1.
        output_dir: As the script sees it.
    """
    document = {
        "v": JOB_VERSION,
        "inputs": dict(inputs),
        "parameters": dict(parameters),
        "seed": seed,
        "output_dir": output_dir,
    }
    return json.dumps(document, sort_keys=True, ensure_ascii=False, allow_nan=False).encode()


def passed_on() -> dict[str, str]:
    """Return those of this process's variables that a script sees."""
    return {name: value for name, value in os.environ.items() if name in PASSED_ON}


def script_variables(
    job_file: str, inputs: Mapping[str, str], seed: int, output_dir: str, temporary: str
) -> dict[str, str]:
    """Return the whole environment of a script, all paths as the script sees them.

    Args:
        job_file: Path of the job file.
        inputs: Paths by name.
        seed: 0 to 2^32-1.
        output_dir: Empty directory.
        temporary: Directory for temporary files.
    """
    return {
        **passed_on(),
        "TMPDIR": temporary,
        "PYTHONUNBUFFERED": "1",
        "PYTHONDONTWRITEBYTECODE": "1",
        "MLGOV_JOB_FILE": job_file,
        "MLGOV_OUTPUT_DIR": output_dir,
        "MLGOV_SEED": str(seed),
        **{f"MLGOV_INPUT_{name.upper()}": path for name, path in inputs.items()},
        "PYTHONHASHSEED": str(seed),
        **dict.fromkeys(THREAD_VARIABLES, "1"),
    }


def read_outputs(output_dir: Path) -> Outputs:
    """Read and check what a script left; ``model/`` itself is checked by hashing it.

    Args:
        output_dir: What the script was told as ``MLGOV_OUTPUT_DIR``.

    Raises:
        TrainingError: A part is missing or malformed; a retry does not help.
    """
    model_dir = output_dir / "model"
    if model_dir.is_symlink() or not model_dir.is_dir():
        raise TrainingError("The training script wrote no directory 'model'.", remedy=_REMEDY)
    if not any(model_dir.iterdir()):
        raise TrainingError("The training script wrote an empty directory 'model'.", remedy=_REMEDY)
    metrics = _check_metrics(_read_document(output_dir / "metrics.json"))
    signature = _check_signature(_read_document(output_dir / "signature.json"))
    return Outputs(model_dir, metrics, signature)


def _broken(what: str) -> TrainingError:
    return TrainingError(f"The training script {what}.", remedy=_REMEDY)


def _read_document(path: Path) -> Any:
    if path.is_symlink() or not path.is_file():
        raise _broken(f"wrote no file {path.name!r}")
    try:
        with path.open("rb") as file:
            content = file.read(_MAX_DOCUMENT_BYTES + 1)
        if len(content) > _MAX_DOCUMENT_BYTES:
            raise _broken(f"wrote more than {_MAX_DOCUMENT_BYTES} bytes to {path.name!r}")
        return json.loads(content.decode("utf-8"), object_pairs_hook=_unique)
    except OSError as error:
        raise _broken(f"wrote a {path.name!r} that cannot be read ({error.strerror})") from error
    except (ValueError, RecursionError) as error:
        raise _broken(f"wrote a {path.name!r} that is not JSON ({error})") from error


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        raise ValueError("a key stands twice")
    return result


def _check_metrics(value: Any) -> dict[str, float]:
    if not isinstance(value, dict) or not value:
        raise TrainingError(
            "'metrics.json' holds no object with at least one metric.", remedy=_REMEDY
        )
    for name, number in value.items():
        if not _METRIC_NAME.fullmatch(name):
            raise TrainingError(
                f"'metrics.json': {name!r} is no name for a metric.", remedy=_REMEDY
            )
        if isinstance(number, bool) or not isinstance(number, int | float):
            raise TrainingError(f"'metrics.json': {name} is {number!r}, no number.", remedy=_REMEDY)
        if not _is_finite(number):
            raise TrainingError(
                f"'metrics.json': {name} is {number}, no finite number.",
                remedy="Leave a metric out rather than write one that could not be computed.",
            )
    return value


def _is_finite(number: float) -> bool:
    try:
        return math.isfinite(number)
    except OverflowError:  # an integer beyond every float
        return False


def _check_signature(value: Any) -> dict[str, Any]:
    columns = value.get("inputs") if isinstance(value, dict) else None
    if not isinstance(columns, list) or not columns or not all(_is_column(c) for c in columns):
        raise TrainingError(
            "'signature.json': 'inputs' is not a list of columns with 'name' and 'type', "
            f"types being {', '.join(COLUMN_TYPES)}.",
            remedy=_REMEDY,
        )
    names = [column["name"] for column in columns]
    if len(set(names)) != len(names):
        raise TrainingError("'signature.json': a column stands twice in 'inputs'.", remedy=_REMEDY)
    if not isinstance(value.get("output"), str) or not value["output"]:
        raise TrainingError("'signature.json': 'output' does not name the output.", remedy=_REMEDY)
    return {"inputs": columns, "output": value["output"]}


def _is_column(value: Any) -> bool:
    return (
        isinstance(value, dict)
        and set(value) == {"name", "type"}
        and isinstance(value["name"], str)
        and value["name"] != ""
        and value["type"] in COLUMN_TYPES
    )
