"""Writes ``facets.md``, beside this file, from the schemas in the package."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
SCHEMAS = HERE.parents[1] / "airflow_mlgov" / "lineage" / "schemas"
PAGE = HERE / "facets.md"

HEAD = """\
# Facets of our own

Written by `docs/reference/make_facets.py` from the JSON Schemas in the package; a test compares.
What the graph looks like stands in [explanation/lineage.md](../explanation/lineage.md).

Each facet names its schema in `_schemaURL`, an id that stands for the same bytes for ever, and
this package in `_producer`. `urn:airflow-mlgov:spec:facets:1-0-0:MlgovModelDatasetFacet.json` is
the file `airflow_mlgov/lineage/schemas/1-0-0/MlgovModelDatasetFacet.json` of the package. Why the
ids are URNs, and how to hold events against them, says
[decision 0011](../decisions/0011-facet-schemas.md).

None of them names a person or holds what a person wrote; only OpenLineage's `ownership` names the
inventory's owner. Digests are `sha256:` and 64 hexadecimal digits; times are RFC 3339 in UTC;
names are those of ledger entries.

## Which facet stands on which event
On the event that ends a run well. START has the job's facets and those of the inputs; what was
checked on an input is not known there. An event of a task also has what the OpenLineage provider
says about it. A failed run states its inputs, and what it kept.

| run | about the run and its job | about its inputs | about its outputs |
|---|---|---|---|
"""

DATA, WRITTEN = "documentation inputStatistics", "datasetType documentation version"
CHECKED = f"{DATA} dataQualityAssertions"
EVENTS = {
    "register.<source>": ("jobType", "", f"{WRITTEN} schema"),
    "ValidateDataOperator": ("test mlgov_checkpoint", CHECKED, WRITTEN),
    "TrainModelOperator": (
        "sourceCodeLocation executionParameters externalQuery mlgov_training mlgov_checkpoint",
        DATA,
        f"{WRITTEN} ownership tags schema columnLineage mlgov_model",
    ),
    "ValidateModelOperator": ("test mlgov_validation mlgov_checkpoint", CHECKED, WRITTEN),
    "<dag>.<gate>.request": ("jobType mlgov_approval", "documentation", WRITTEN),
    "<dag>.<gate>.decide": ("jobType mlgov_approval mlgov_checkpoint", "documentation", WRITTEN),
    "PromoteModelOperator": ("mlgov_checkpoint", "documentation", f"{WRITTEN} mlgov_deployment"),
    "@task.governed": (
        "mlgov_governed mlgov_checkpoint",
        DATA,
        f"{WRITTEN} schema outputStatistics",
    ),
}
"""Facets of each run's COMPLETE: about run and job, inputs, outputs; a test reads events."""

AFTER = """
`<dag>.<gate>.decide` has `mlgov_approval` on its START too, with the decision `open`.
Where events go into the outbox, every event of a task of ours, and of a task that the inventory
names, has `mlgov_governed`; the last one of a named task that uses a model also has the model
version, its approval and the endpoint as inputs. `<dag>.<task>.by_hand` (a state that was set by
hand) has `jobType` and `mlgov_governed`.
`ScoreBatchOperator` states what `@task.governed` does, without `schema`.
`@task.recorded` states its files as `@task.governed` does, without facets of ours. `schema` stands
where columns are known, `columnLineage` where an input was validated before and has a column with
the name of a field of the model's signature. `externalQuery` is the vendor's id of a job of a
cloud, where a training or a scoring of batches ran as one; it stands on a FAIL too.
"""


def page() -> str:
    """Return the page."""
    rows = [
        f"| `{run}` | {' | '.join(_listed(about) for about in places)} |"
        for run, places in EVENTS.items()
    ]
    versions: dict[str, list[dict[str, Any]]] = {}
    for file in sorted(SCHEMAS.glob("*/*.json"), key=lambda file: (file.name, file.parent.name)):
        versions.setdefault(file.name, []).append(json.loads(file.read_text("utf-8")))
    facets = ["\n".join(_described(*documents)) + "\n" for documents in versions.values()]
    return "\n".join([HEAD + "\n".join(rows) + "\n" + AFTER, *facets])


def _listed(keys: str) -> str:
    return ", ".join(f"`{key}`" for key in keys.split())


def _described(*documents: dict[str, Any]) -> Iterator[str]:
    *earlier, document = documents
    ((key, _),) = document["properties"].items()
    name, *others = document["$defs"]
    facet = document["$defs"][name]
    yield f"## `{key}`\n"
    yield f"{facet['description']}\n"
    yield f"`{document['$id']}`\n"
    for each in earlier:
        before = each["$defs"][name]["allOf"][1]["properties"]
        new = [field for field in facet["allOf"][1]["properties"] if field not in before]
        yield f"`{each['$id']}`, which older events name, has no {_listed(' '.join(new))}.\n"
    yield from _table(facet["allOf"][1])
    for other in others:
        yield f"\n**{other}.** {document['$defs'][other]['description']}\n"
        yield from _table(document["$defs"][other])


def _table(schema: dict[str, Any]) -> Iterator[str]:
    yield "| name | value | needed | what it says |"
    yield "|---|---|---|---|"
    for name, said in schema["properties"].items():
        needed = "yes" if name in schema["required"] else ""
        yield f"| `{name}` | {_kind(said)} | {needed} | {said.get('description', '')} |"


def _kind(said: dict[str, Any]) -> str:
    if "$ref" in said:
        return str(said["$ref"].rpartition("/")[2])
    if "enum" in said:
        return ", ".join(f"`{choice}`" for choice in said["enum"])
    if said["type"] == "array":
        return f"list of {_kind(said['items'])}"
    if "sha256" in said.get("pattern", ""):
        return "digest"
    kinds = {"date-time": "time", "date": "day", "string": "text", "boolean": "true or false"}
    return kinds.get(said.get("format", said["type"]), said["type"])


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
