"""Reading samples and letting a model version score them: what a validating task does itself."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from io import BytesIO
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, TypeAlias
from urllib.parse import unquote, urlsplit

from airflow_mlgov.errors import ArtefactError, ConfigurationError, DataError
from airflow_mlgov.records.digest import Digest

if TYPE_CHECKING:
    import pandas as pd

    from airflow_mlgov.service.ports import Registry, RegistryVersion

Scorer: TypeAlias = "Callable[[Path, Any], Sequence[float]]"

NEEDS_EXTRA = "Install the extra: airflow-mlgov[validation]."


@dataclass(frozen=True, eq=False)
class Table:
    """A file as a frame, and the digest of the very bytes that the frame was read from.

    Attributes:
        uri: As the operator was given it.
        sha256: Of the file's bytes.
        size_bytes: Length of the file.
        frame: Its rows.
    """

    uri: str
    sha256: Digest
    size_bytes: int
    frame: pd.DataFrame

    def column(self, name: str) -> Any:
        """Return a column as an array of objects, None where a value is missing.

        Raises:
            DataError: There is no such column; a retry does not help.
        """
        if name not in self.frame.columns:
            known = ", ".join(map(str, self.frame.columns))
            raise DataError(f"{self.uri} has no column {name!r}; it has: {known}.")
        column = self.frame[name].astype(object)
        return column.where(column.notna(), None).to_numpy()


def path_of(uri: str) -> Path:
    """Return the local path that a path or ``file://`` URI names.

    Raises:
        ConfigurationError: It names no local file; a retry does not help.
    """
    parts = urlsplit(uri)
    if "://" not in uri:
        return Path(uri)
    if parts.scheme != "file" or parts.netloc not in {"", "localhost"}:
        raise ConfigurationError(
            f"Samples are read from local files; {parts.scheme}:// is not read.",
            remedy="Copy the file where the worker can read it.",
        )
    return Path(unquote(parts.path))


def read_table(uri: str) -> Table:
    """Read a CSV or Parquet file; what is hashed is what is parsed.

    Args:
        uri: Path or ``file://`` URI that ends in ``.csv``, ``.parquet`` or ``.pq``.

    Raises:
        DataError: Missing, unreadable, malformed or without rows; a retry does not help.
        ConfigurationError: Another format, or the extra is not installed; a retry does not help.
    """
    path = path_of(uri)
    suffix = path.suffix.lower()
    if suffix not in {".csv", ".parquet", ".pq"}:
        raise ConfigurationError(
            f"{uri}: samples are read from .csv, .parquet and .pq files, not {suffix or 'that'}."
        )
    try:
        data = path.read_bytes()
    except OSError as error:
        raise DataError(f"Cannot read {uri}: {error.strerror or error}.") from error
    frame = _parse(uri, data, is_csv=suffix == ".csv")
    if frame.empty:
        raise DataError(f"{uri} has no rows.")
    return Table(uri, Digest.of(data), len(data), frame)


def _parse(uri: str, data: bytes, *, is_csv: bool) -> pd.DataFrame:
    try:
        import pandas as pd

        return pd.read_csv(BytesIO(data)) if is_csv else pd.read_parquet(BytesIO(data))
    except ImportError as error:
        raise ConfigurationError(f"{uri} cannot be read: {error}.", remedy=NEEDS_EXTRA) from error
    except (ValueError, OSError) as error:  # pandas' parser errors and pyarrow's are ValueErrors
        kind = "CSV" if is_csv else "Parquet"
        raise DataError(f"{uri} is not a readable {kind} file: {error}.") from error


def load_scorer(scorer: str | Scorer) -> Scorer:
    """Return the function that a scorer names.

    Args:
        scorer: ``module:function``, or the function itself.

    Raises:
        ConfigurationError: There is no such module or function; a retry does not help.
    """
    if callable(scorer):
        return scorer
    module, _, name = scorer.partition(":")
    if not module or not name:
        raise ConfigurationError(
            f"Scorer {scorer!r} is not of the form 'module:function'.",
            remedy="Name a function that takes the model's folder and a DataFrame.",
        )
    try:
        found = getattr(import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise ConfigurationError(
            f"Scorer {scorer!r} cannot be loaded: {error}.",
            remedy="Put the module where workers find it, such as the DAG folder.",
        ) from error
    if not callable(found):
        raise ConfigurationError(f"Scorer {scorer!r} is no function.")
    return found  # type: ignore[no-any-return]


@contextmanager
def fetched(
    registry: Registry, name: str, version: Digest
) -> Iterator[tuple[Path, RegistryVersion]]:
    """Fetch a version to a private folder and hand it out if its bytes are the ones meant.

    Args:
        registry: Where it lives.
        name: Registered name.
        version: Manifest digest that its files must have.

    Raises:
        ArtefactError: The registry holds other bytes; a retry does not help.
        VersionNotFoundError: It has no such version; a retry does not help.
        RegistryUnavailableError: It cannot be reached; a retry may help.
    """
    from airflow_mlgov.service.artefacts import hash_directory

    with TemporaryDirectory(prefix="mlgov-validate-") as private:
        known = registry.find(name, version)
        path = registry.fetch(known, Path(private))
        found = hash_directory(path).digest
        if found != version:
            raise ArtefactError(
                f"{known.uri} holds {found}, but {version} is to be validated.",
                remedy="The registry's files were changed after registration: train again.",
            )
        yield path, known


def score_table(scorer: str | Scorer, model_dir: Path, table: Table, target: str) -> Any:
    """Return the probabilities that a model gives to the rows of a table.

    The scorer gets a copy without the target column: a probability that knows the outcome is none.

    Args:
        scorer: ``module:function`` or a function, called as ``scorer(model_dir, frame)``.
        model_dir: The model's verified files.
        table: What to score.
        target: Name of the outcome's column.

    Raises:
        DataError: The scorer failed, or gave not one finite probability in [0, 1] for each row; a
            retry does not help.
        ConfigurationError: There is no such scorer; a retry does not help.
    """
    from airflow_mlgov.validation.samples import as_probabilities

    function = load_scorer(scorer)
    name = scorer if isinstance(scorer, str) else getattr(scorer, "__qualname__", repr(scorer))
    try:
        given = function(model_dir, table.frame.drop(columns=[target]))
    except Exception as error:
        problem = f"Scorer {name!r} failed on {table.uri}: {type(error).__name__}: {error}."
        raise DataError(problem, remedy="The traceback above says where.") from error
    probabilities = as_probabilities(given, f"scorer {name!r} on {table.uri}: probabilities")
    if len(probabilities) != len(table.frame):
        raise DataError(
            f"Scorer {name!r} gave {len(probabilities)} probabilities for the "
            f"{len(table.frame)} rows of {table.uri}."
        )
    return probabilities
