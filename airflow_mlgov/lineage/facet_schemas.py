"""The JSON Schemas of our own facets, as files of this package.

A schema's ``$id`` says where its file stands:
``urn:airflow-mlgov:spec:facets:1-0-0:MlgovModelDatasetFacet.json`` is
``schemas/1-0-0/MlgovModelDatasetFacet.json``. What was released stays as it is, for ever.

Source:
    OpenLineage specification, custom facet naming and versioning.
    `docs/decisions/0011-facet-schemas.md` says why the ids are URNs.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from types import MappingProxyType
from typing import Any

PUBLISHED = MappingProxyType(
    {
        "mlgov_approval": "1-0-0/MlgovApprovalRunFacet",
        "mlgov_checkpoint": "1-0-0/MlgovCheckpointRunFacet",
        "mlgov_deployment": "1-0-0/MlgovDeploymentDatasetFacet",
        "mlgov_governed": "1-0-0/MlgovGovernedRunFacet",
        "mlgov_model": "1-0-1/MlgovModelDatasetFacet",
        "mlgov_training": "1-0-1/MlgovTrainingRunFacet",
        "mlgov_validation": "1-0-0/MlgovValidationRunFacet",
    }
)
"""Version and class of each facet that is written now, by key."""


@dataclass(frozen=True, slots=True)
class FacetSchema:
    """What a facet of ours may hold.

    Attributes:
        name: Class, by the OpenLineage rules (``MlgovModelDatasetFacet``).
        entity: What it stands on: ``Dataset`` or ``Run``.
        url: What ``_schemaURL`` says.
        fields: Names of what it holds.
    """

    name: str
    entity: str
    url: str
    fields: tuple[str, ...]


@cache
def schema_of(key: str) -> FacetSchema:
    """Return the schema of a facet that is written now.

    Args:
        key: In `PUBLISHED`.
    """
    document = _read(PUBLISHED[key])
    name = PUBLISHED[key].partition("/")[2]
    base, own = document["$defs"][name]["allOf"]
    entity = base["$ref"].rpartition("/")[2].removesuffix("Facet")
    return FacetSchema(name, entity, f"{document['$id']}#/$defs/{name}", tuple(own["properties"]))


def documents() -> tuple[dict[str, Any], ...]:
    """Return every schema that was ever released, to hold events against."""
    folder = files(__package__) / "schemas"
    found = [
        f"{version.name}/{file.name.removesuffix('.json')}"
        for version in folder.iterdir()
        for file in version.iterdir()
    ]
    return tuple(_read(name) for name in sorted(found))


def _read(name: str) -> dict[str, Any]:
    file = files(__package__) / "schemas" / f"{name}.json"
    return dict(json.loads(file.read_text("utf-8")))
