"""Lineage of Python tasks whose author names the files that they read and write."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from airflow_mlgov.operators.lineage import LineageMixin, local_file

if TYPE_CHECKING:
    from airflow.sdk import Context

    from airflow_mlgov.lineage.datasets import DataRef
    from airflow_mlgov.lineage.events import StepLineage


class FileLineageMixin(LineageMixin):
    """A task with `inputs` and `outputs`: lists of paths or URIs, templated.

    Local files are named by their content. A task downstream in the same DAG that reads one of the
    outputs finds its writer in the DAG, so the two meet in the graph.
    """

    inputs: Sequence[str] = ()
    outputs: Sequence[str] = ()

    @property
    def file_outputs(self) -> Sequence[str]:
        """What tasks downstream look for, to know that their input has a writer."""
        return self.outputs

    def files_read(self) -> list[DataRef]:
        """Return the inputs.

        Raises:
            OSError: One cannot be read.
        """
        return [self.data_before(uri) for uri in self.inputs]

    def files_written(self) -> list[DataRef]:
        """Return the outputs as they stand now; a local file that is not there was not written."""
        found = []
        for uri in self.outputs:
            file = local_file(uri)
            if file is None or file.is_file():
                found.append(self.data_before(uri))
        return found

    def lineage_before(self, context: Context | None) -> StepLineage | None:
        """Return what will be read."""
        del context
        from airflow_mlgov.lineage import events

        return events.prepare(self.files_read())

    def keep_files(self, before: Sequence[DataRef]) -> None:
        """Note what was read and written, for the terminal event.

        Args:
            before: The inputs as they were before the function ran.
        """
        from airflow_mlgov.lineage import events

        self.keep_lineage(lambda: events.prepare(before, self.files_written()))
