"""Our own schemas: what was released never changes, and each of them can say no."""

from __future__ import annotations

import copy
import importlib.util
import json
import pickle
import re
import warnings
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from airflow_mlgov.lineage import emission
from airflow_mlgov.lineage.facet_schemas import PUBLISHED, documents, schema_of
from airflow_mlgov.records.digest import Digest

ROOT = Path(__file__).resolve().parents[3]
RELEASED = ROOT / "tests" / "assets" / "lineage" / "facet-schemas.sha256"
"""Digests of all that was ever released, as ``sha256sum`` writes them: lines are only added."""

PEOPLE = {"actor", "approver", "author", "comment", "owner", "person", "user", "username", "voter"}


def properties(schema: Any) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every property that a schema lists, however deep."""
    if isinstance(schema, dict):
        yield from (schema.get("properties") or {}).items()
        for name, inner in schema.items():
            yield from properties(inner) if name != "if" else ()
    elif isinstance(schema, list):
        for inner in schema:
            yield from properties(inner)


def own_properties() -> list[tuple[str, dict[str, Any]]]:
    return [found for document in documents() for found in properties(document["$defs"])]


def stated(recorded: list[dict[str, Any]], checks: Any, key: str) -> list[dict[str, Any]]:
    return [facet for event in recorded for k, facet in checks.facets_of(event) if k == key]


def test_what_was_released_stays_as_it_is() -> None:
    folder = files("airflow_mlgov.lineage") / "schemas"
    found = {
        f"{Digest.of(file.read_bytes()).hex}  {version.name}/{file.name}"
        for version in folder.iterdir()
        for file in version.iterdir()
    }
    assert found == set(RELEASED.read_text().splitlines())


def test_a_schema_stands_where_its_id_says() -> None:
    places = {line.split()[1] for line in RELEASED.read_text().splitlines()}
    ids = {f"urn:airflow-mlgov:spec:facets:{place.replace('/', ':')}" for place in places}
    assert {document["$id"] for document in documents()} == ids
    assert {f"{name}.json" for name in PUBLISHED.values()} <= places


@pytest.mark.parametrize("key", PUBLISHED)
def test_names_follow_the_rules_of_openlineage(key: str) -> None:
    schema = schema_of(key)
    prefix, name = key.split("_")
    assert schema.name == f"{prefix.capitalize()}{name.capitalize()}{schema.entity}Facet"
    (document,) = (d for d in documents() if schema.url.startswith(d["$id"]))
    assert document["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert document["properties"] == {key: {"$ref": schema.url}}
    assert schema.url == f"{document['$id']}#/$defs/{schema.name}"


def test_references_are_absolute() -> None:
    """What many validators join to a URN is lost: ``#/$defs/Seat`` would lead nowhere."""
    for file in (ROOT / "airflow_mlgov" / "lineage" / "schemas").glob("*/*.json"):
        references = re.findall(r'"\$ref": "([^"]+)"', file.read_text("utf-8"))
        assert references
        assert all(reference.startswith(("urn:", "https:")) for reference in references)


def test_validators_of_before_2023_find_their_way(
    recorded: list[dict[str, Any]], checks: Any, rare: dict[str, Any]
) -> None:
    store = {document["$id"]: document for document in documents()}
    for file in checks.spec_dir().rglob("*.json"):
        document = json.loads(file.read_text("utf-8"))
        store[document["$id"]] = document
    if "https://openlineage.io/spec/2-0-2/OpenLineage.json" not in store:
        pytest.skip("OpenLineage's schemas are not at hand.")
    for key in PUBLISHED:
        schema = store[schema_of(key).url.partition("#")[0]]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            resolver = jsonschema.RefResolver.from_schema(schema, store=store)
            validator = jsonschema.Draft202012Validator(schema, resolver=resolver)
        for facet in stated(recorded, checks, key):
            assert list(validator.iter_errors({key: facet})) == []
            assert list(validator.iter_errors({key: {**facet, "model": 7, "size": "x"}}))


def test_every_property_is_described_and_none_is_about_people() -> None:
    for name, schema in own_properties():
        assert "description" in schema or "$ref" in schema, name
        assert not PEOPLE.intersection(name.split("_")), name


def test_airflow_masks_no_property_of_ours() -> None:
    from airflow.providers.openlineage.utils.utils import OpenLineageRedactor
    from airflow.sdk._shared.secrets_masker import _secrets_masker

    redactor = OpenLineageRedactor.from_masker(_secrets_masker())
    names = {name for name, _ in own_properties()}
    assert redactor.redact(dict.fromkeys(names, "shown")) == dict.fromkeys(names, "shown")
    assert redactor.redact({"token": "x"}) == {"token": "***"}


@pytest.mark.parametrize("key", PUBLISHED)
def test_every_property_is_stated_somewhere(
    key: str, recorded: list[dict[str, Any]], checks: Any, rare: dict[str, Any]
) -> None:
    facets = [*stated(recorded, checks, key), rare.get(key, {})]
    said = {name for facet in facets for name in facet}
    assert said - {"_producer", "_schemaURL"} == set(schema_of(key).fields)


@pytest.mark.parametrize("key", PUBLISHED)
def test_each_schema_refuses_what_is_missing_or_of_another_kind(
    key: str, recorded: list[dict[str, Any]], checks: Any, schemas: Any, rare: dict[str, Any]
) -> None:
    url = schema_of(key).url
    good = {**rare.get(key, {}), **max(stated(recorded, checks, key), key=len)}
    document = next(d for d in documents() if url.startswith(d["$id"]))
    own = document["$defs"][schema_of(key).name]["allOf"][1]
    assert schemas.errors(good, url) == []
    for name in own["required"]:
        assert schemas.errors({k: v for k, v in good.items() if k != name}, url), f"no {name}"
    for path in paths(good):
        for wrong in ({"not": "this"}, *forbidden(path[-1])):
            assert schemas.errors(replaced(good, path, wrong), url), f"{path} is {wrong}"


def paths(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Where each value of a facet stands, however deep."""
    items = value.items() if isinstance(value, dict) else enumerate(value)
    for key, inner in items:
        if not (isinstance(value, dict) and key.startswith("_")):
            yield (*path, key)
            if isinstance(inner, dict | list):
                yield from paths(inner, (*path, key))


def forbidden(name: Any) -> list[Any]:
    """What may stand under no property of this name."""
    wrong = ["sha256:1", "granted by olivia", -1]
    if isinstance(name, int):
        return []
    text = next((s for n, s in own_properties() if n == name), {})
    return wrong if {"pattern", "enum", "format", "minimum"} & set(text) else [-1]


def replaced(value: Any, path: tuple[Any, ...], wrong: Any) -> Any:
    changed = copy.deepcopy(value)
    at = changed
    for key in path[:-1]:
        at = at[key]
    at[path[-1]] = wrong
    return changed


def test_a_decision_without_its_time_is_none(
    recorded: list[dict[str, Any]], checks: Any, schemas: Any
) -> None:
    url = schema_of("mlgov_approval").url
    asked, *_, granted = stated(recorded, checks, "mlgov_approval")
    assert schemas.errors(asked, url) == []
    assert schemas.errors({**asked, "decision": "granted"}, url)
    for name in ("decided_at", "waited_s"):
        assert schemas.errors({k: v for k, v in granted.items() if k != name}, url)


@pytest.mark.parametrize("key", PUBLISHED)
def test_facets_can_be_copied_and_pickled(key: str) -> None:
    (facet,) = emission._facets({key: dict.fromkeys(schema_of(key).fields, "x")}).values()
    for other in (copy.deepcopy(facet), pickle.loads(pickle.dumps(facet))):
        assert other == facet
        assert other._schemaURL == schema_of(key).url


def page_maker() -> Any:
    file = ROOT / "docs" / "reference" / "make_facets.py"
    spec = importlib.util.spec_from_file_location("make_facets", file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_page_is_what_the_schemas_say() -> None:
    maker = page_maker()
    assert maker.PAGE.read_text("utf-8") == maker.page(), "run docs/reference/make_facets.py"


def test_the_page_lists_what_events_carry(recorded: list[dict[str, Any]]) -> None:
    tasks = {
        "ValidateDataOperator": "retail_pd.validate_data",
        "TrainModelOperator": "retail_pd.train",
        "ValidateModelOperator": "retail_pd.validate_model",
        "PromoteModelOperator": "retail_pd.promote",
        "@task.governed": "retail_pd.score",
        "<dag>.<gate>.request": "retail_pd.gate.request",
        "<dag>.<gate>.decide": "retail_pd.gate.decide",
        "register.<source>": "register.taiwan_credit.csv",
    }
    listed = page_maker().EVENTS
    assert set(listed) == set(tasks)
    for name, places in listed.items():
        event = next(
            e
            for e in recorded
            if e["job"]["name"].startswith(tasks[name]) and e["eventType"] == "COMPLETE"
        )
        run = {*event["run"]["facets"], *event["job"]["facets"]} - {"parent"}
        inputs = {k for i in event["inputs"] for k in (*i["facets"], *i["inputFacets"])}
        outputs = {k for o in event["outputs"] for k in (*o["facets"], *o["outputFacets"])}
        assert [set(keys.split()) for keys in places] == [run, inputs, outputs], name


def test_there_is_no_other_name_to_import() -> None:
    with pytest.raises(AttributeError, match="Nothing"):
        _ = emission.Nothing
