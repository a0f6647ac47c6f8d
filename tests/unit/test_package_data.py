"""Files that are no code are part of the package, and every one that code reads is found there."""

from __future__ import annotations

import json
import re
from importlib.resources import files

import pytest

from airflow_mlgov.cli.skeleton import STARTING_PACKS, inventory_skeleton, pack_skeleton
from airflow_mlgov.lineage.facet_schemas import PUBLISHED, documents
from airflow_mlgov.policy.documents import (
    ANCHORS_SCHEMA,
    INVENTORY_SCHEMA,
    LINEAGE_TARGETS_SCHEMA,
    PACK_SCHEMA,
    PLATFORMS_SCHEMA,
)

SCHEMAS = (
    ANCHORS_SCHEMA,
    INVENTORY_SCHEMA,
    LINEAGE_TARGETS_SCHEMA,
    PACK_SCHEMA,
    PLATFORMS_SCHEMA,
    "gx-suite-1",
)


@pytest.mark.parametrize("name", SCHEMAS)
def test_a_schema_is_found(name):
    file = files("airflow_mlgov.policy") / "schemas" / f"{name}.schema.json"
    assert json.loads(file.read_text("utf-8"))["$schema"].startswith("https://json-schema.org/")


def test_there_is_no_schema_beside_these():
    found = {file.name for file in (files("airflow_mlgov.policy") / "schemas").iterdir()}
    assert found == {f"{name}.schema.json" for name in SCHEMAS}


@pytest.mark.parametrize("pack", ["example_policy", *STARTING_PACKS])
def test_a_skeleton_is_found(pack):
    assert f"\nid: {pack}\n" in pack_skeleton(pack)
    assert f"\npolicy: {pack}\n" in inventory_skeleton(pack)


def test_every_pack_to_start_from_can_be_asked_for():
    found = {file.name for file in (files("airflow_mlgov.policy") / "packs").iterdir()}
    assert found == {f"{pack}.yaml" for pack in STARTING_PACKS}


def test_templates_and_style_sheet_are_found():
    templates = files("airflow_mlgov.dossiers") / "templates"
    found = {file.name for file in templates.iterdir()}
    named = {
        name
        for file in templates.iterdir()
        for name in re.findall(r'(?:extends|import|include) "([^"]+)"', file.read_text("utf-8"))
    }
    written = {
        "evidence.html",
        "exit.html",
        "model.html",
        "overview.html",
        "problem.html",
        "page.css",
    }
    assert found == named | written


def test_every_facet_that_is_written_has_its_schema_in_the_package():
    found = {name for document in documents() for name in document["$defs"]}
    assert {name.partition("/")[2] for name in PUBLISHED.values()} <= found


def test_type_checkers_are_told_that_the_package_is_typed():
    assert (files("airflow_mlgov") / "py.typed").is_file()
