"""The event that makes a dataset known which no run is known to have written."""

from __future__ import annotations

from typing import Any
from uuid import NAMESPACE_URL, uuid5

from airflow_mlgov.lineage.facets import PRODUCER, job_type
from airflow_mlgov.lineage.names import DatasetName, register_job
from airflow_mlgov.service.outbox import OutboxItem
from airflow_mlgov.service.ship_order import DatasetKey, Parcel

_SCHEMA = "https://openlineage.io/spec/2-0-2/OpenLineage.json#/$defs/RunEvent"
_JOB_TYPE = "https://openlineage.io/spec/facets/2-0-4/JobTypeJobFacet.json#/$defs/JobTypeJobFacet"


def source_registration(source: DatasetKey, reader: Parcel) -> OutboxItem:
    """Return a lone COMPLETE that has a dataset as its output.

    The run is always the same for the same source, so that two shippers make one of it.

    Args:
        source: What is about to be read.
        reader: The event that reads it; its time and its words about the source are taken.

    Raises:
        ConfigurationError: The dataset's name is none that can be stored; a retry does not help.
        LineageError: The reader is no event of a run; a retry does not help.
    """
    name = DatasetName(*source)
    namespace = reader.event["job"]["namespace"]
    run = f"urn:airflow-mlgov:register:{namespace}\n{source[0]}\n{source[1]}"
    kind = {**job_type("SOURCE"), "_producer": PRODUCER, "_schemaURL": _JOB_TYPE}
    return OutboxItem.of(
        {
            "eventType": "COMPLETE",
            "eventTime": reader.event["eventTime"],
            "run": {"runId": str(uuid5(NAMESPACE_URL, run)), "facets": {}},
            "job": {
                "namespace": namespace,
                "name": register_job(name),
                "facets": {"jobType": kind},
            },
            "inputs": [],
            "outputs": [
                {"namespace": name.namespace, "name": name.name, "facets": _words(source, reader)}
            ],
            "producer": PRODUCER,
            "schemaURL": _SCHEMA,
        }
    )


def _words(source: DatasetKey, reader: Parcel) -> dict[str, Any]:
    """Return what the reader says about the source itself; nobody else says anything."""
    for each in reader.event["inputs"]:
        if (each["namespace"], each["name"]) == source:
            said = each.get("facets") or {}
            return {key: said[key] for key in ("documentation", "schema") if key in said}
    return {}
