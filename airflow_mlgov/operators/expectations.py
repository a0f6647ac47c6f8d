"""Great Expectations, used directly: in memory, silent, and without sending anything anywhere.

Source:
    Why no provider stands in between: ``docs/decisions/0002-gx-and-mlflow-directly.md``.
"""

from __future__ import annotations

import json
import logging
import re
import shutil
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from airflow_mlgov.errors import ConfigurationError, DataError
from airflow_mlgov.service.suite_file import Suite
from airflow_mlgov.service.validate_data import Observed

if TYPE_CHECKING:
    from pandas import DataFrame
    from sqlalchemy.engine import URL

_INDEX = "mlgov_index"
# No examples of failing values: whatever else a result holds is left out by `service.disclosure`.
_RESULT_FORMAT = {"result_format": "BASIC", "partial_unexpected_count": 0}
# A class name that cannot be the value of a row, which a message of several lines may begin with.
_EXCEPTION = re.compile(r"^(?:\w+\.)*([A-Za-z]\w*(?:Error|Exception))(?::|$)")


def engine_name() -> str:
    """Return what checks the data, with its version.

    Raises:
        ConfigurationError: It is not installed; a retry does not help.
    """
    return f"great_expectations {_import_gx().__version__}"


def check_frame(frame: DataFrame, suite: Suite) -> tuple[Observed, ...]:
    """Hold a DataFrame against a suite.

    Raises:
        DocumentError: An expectation is unknown or wrongly written; a retry does not help.
        ConfigurationError: Great Expectations is not installed; a retry does not help.
    """

    def batch(sources: Any) -> Any:
        asset = sources.add_pandas("data").add_dataframe_asset("data")
        return asset.add_batch_definition_whole_dataframe("data")

    return _check(batch, suite, {"dataframe": frame})


def check_table(url: URL, schema: str | None, table: str, suite: Suite) -> tuple[Observed, ...]:
    """Hold a SQL table against a suite; the database computes.

    Args:
        url: Of the database, with its password.
        schema: Schema of the table; None for the connection's default.
        table: Table or view.
        suite: What it must look like.

    Raises:
        DocumentError: An expectation is unknown or wrongly written; a retry does not help.
        DataError: Great Expectations cannot open the table; a retry does not help.
        ConfigurationError: Great Expectations is not installed; a retry does not help.
    """
    # A dollar sign would start a variable of Great Expectations' own.
    address = url.render_as_string(hide_password=False).replace("$", "%24")

    def batch(sources: Any) -> Any:
        source = sources.add_sql("data", connection_string=address, create_temp_table=False)
        asset = source.add_table_asset("data", table_name=table, schema_name=schema)
        return asset.add_batch_definition_whole_table("data")

    return _check(batch, suite, {})


def _check(
    batch: Callable[[Any], Any], suite: Suite, parameters: dict[str, Any]
) -> tuple[Observed, ...]:
    gx = _import_gx()
    with _quiet():
        expectations = [_expectation(suite, index) for index in range(len(suite.expectations))]
        context = _open_context(gx)
        try:
            definition = _define(gx, context, batch, suite, expectations)
            found = definition.run(batch_parameters=parameters, result_format=_RESULT_FORMAT)
        except Exception as error:  # noqa: BLE001 - besides its own tree it lets others through
            # Without its text and cause, which may hold a password or a row's value.
            raise DataError(
                f"Great Expectations cannot check the data ({type(error).__name__}).",
                remedy=f"Check that suite {suite.file} suits this data, and its column names.",
            ) from None
        finally:
            _close_context(context)
    return _in_order(found.results, suite)


def _define(
    gx: Any, context: Any, batch: Callable[[Any], Any], suite: Suite, expectations: list[Any]
) -> Any:
    held_against = context.suites.add(
        gx.ExpectationSuite(name=suite.name, expectations=expectations)
    )
    definition = gx.ValidationDefinition(
        name="data", data=batch(context.data_sources), suite=held_against
    )
    return context.validation_definitions.add(definition)


def _expectation(suite: Suite, index: int) -> Any:
    """Build one expectation ourselves: given the file, a suite drops what it does not know."""
    from great_expectations.exceptions import GreatExpectationsError
    from great_expectations.expectations.expectation_configuration import ExpectationConfiguration

    wanted = suite.expectations[index]
    try:
        return ExpectationConfiguration(
            type=wanted.type,
            kwargs=dict(wanted.kwargs),
            severity=wanted.severity,
            meta={_INDEX: index},
        ).to_domain_obj()
    except GreatExpectationsError as error:
        raise suite.error(
            index,
            f"Great Expectations does not know {wanted.type!r}.",
            "type",
            remedy=_nearest(wanted.type),
        ) from error
    except (TypeError, ValueError) as error:
        raise suite.error(
            index,
            f"{wanted.type} cannot be asked for like this: {_without_layout(error)}.",
            "kwargs",
            remedy="Correct its arguments; Great Expectations' gallery lists them.",
        ) from error


def _in_order(results: list[Any], suite: Suite) -> tuple[Observed, ...]:
    """Return the results in the suite's order: Great Expectations groups them by column."""
    by_index: dict[int, Observed] = {}
    for result in results:
        found = _plain(result.to_json_dict())
        by_index[found["expectation_config"]["meta"][_INDEX]] = Observed(
            success=bool(found["success"]),
            result=found["result"],
            error=_exception_name(found["exception_info"]),
        )
    if sorted(by_index) != list(range(len(suite.expectations))):
        raise DataError(
            f"Great Expectations answered {len(by_index)} of the {len(suite.expectations)} "
            f"expectations of suite {suite.file}.",
            remedy="No result is kept, as it would be incomplete; report this as a bug.",
        )
    return tuple(by_index[index] for index in sorted(by_index))


def _plain(result: Any) -> Any:
    """Return a result as plain JSON values: it may hold numpy's numbers, dates and decimals."""
    return json.loads(json.dumps(result, default=_plain_value))


def _plain_value(value: Any) -> Any:
    return value.item() if getattr(value, "shape", None) == () else str(value)


def _exception_name(info: Mapping[str, Any]) -> str:
    """Return the class of the exception that an expectation ended with; empty if there was none."""
    if "raised_exception" in info:
        failures = [info] if info["raised_exception"] else []
    else:
        failures = list(info.values())
    for failure in failures:
        lines = str(failure.get("exception_traceback") or "").splitlines()
        # The first one named is the root cause; what follows wraps it.
        return next((found[1] for line in lines if (found := _EXCEPTION.match(line))), "error")
    return ""


def _nearest(name: str) -> str:
    import difflib

    from great_expectations.expectations.registry import list_registered_expectation_implementations

    near = difflib.get_close_matches(name, list_registered_expectation_implementations(), n=1)
    return f"Did you mean {near[0]!r}?" if near else "See Great Expectations' gallery for names."


def _without_layout(error: Exception) -> str:
    return " ".join(str(error).split())


def _open_context(gx: Any) -> Any:
    from great_expectations.data_context.types.base import ProgressBarsConfig

    context = gx.get_context(mode="ephemeral")
    context.enable_analytics(enable=False)
    context.variables.progress_bars = ProgressBarsConfig(globally=False)
    return context


def _close_context(context: Any) -> None:
    """Delete the folder that an in-memory context makes for a site that nobody builds."""
    for site in (context.variables.data_docs_sites or {}).values():
        folder = site.get("store_backend", {}).get("base_directory")
        if folder:
            shutil.rmtree(folder, ignore_errors=True)


def _import_gx() -> Any:
    try:
        with _quiet():
            import great_expectations
    except ImportError as error:
        raise ConfigurationError(
            f"Great Expectations cannot be imported: {error}.",
            remedy="Install it where tasks run: pip install 'airflow-mlgov[gx]'",
        ) from error
    return great_expectations


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep the library's hundreds of lines, some with values of rows, out of the task's log."""
    log = logging.getLogger("great_expectations")
    # Not by its level: some of its loggers set their own, but all of them report to this one.
    handlers, propagates = log.handlers, log.propagate
    log.handlers, log.propagate = [logging.NullHandler()], False
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        log.handlers, log.propagate = handlers, propagates
