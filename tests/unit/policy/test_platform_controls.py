"""Platform controls: what passes, what fails, and what cannot be checked."""

from __future__ import annotations

from dataclasses import fields, replace

import pytest

from airflow_mlgov.policy.documents import PACK_SCHEMA, schema
from airflow_mlgov.policy.platform_controls import (
    SUBJECTS,
    PlatformRules,
    Stated,
    Verdict,
    examine,
)

PINNED = f"registry.bank.example/train@sha256:{'0a' * 32}"
STRICT = PlatformRules(
    regions=("eu-central-1",),
    customer_keys=("output", "volume", "model"),
    private_network=True,
    isolated=True,
    encrypted_traffic=True,
    named_identity=True,
    max_hours=4,
    max_instances=2,
    spot=False,
    required_tags=("cost-centre",),
    image_registries=("registry.bank.example",),
    pinned_images=True,
)
GOOD = {
    "region": "eu-central-1",
    "region.data": "eu-central-1",
    "key.output": "alias/bank",
    "key.volume": "alias/bank",
    "key.model": "alias/bank",
    "network.private": True,
    "network.public": False,
    "network.isolated": True,
    "network.encrypted": True,
    "identity": "role/train",
    "hours": 4,
    "instances": 2,
    "spot": False,
    "tags": {"cost-centre": "risk"},
    "image": PINNED,
}


def stated(**changes) -> list[Stated]:
    said = GOOD | {key.replace("__", "."): value for key, value in changes.items()}
    return [Stated(subject, f"Field.{subject}", value) for subject, value in said.items()]


def failing(rules: PlatformRules, said: list[Stated]) -> set[tuple[str, str]]:
    return {
        (each.rule, each.subject)
        for each in examine(rules, said)
        if each.verdict is not Verdict.PASSED
    }


def test_a_request_that_keeps_to_every_rule_passes() -> None:
    results = examine(STRICT, stated())
    assert {each.verdict for each in results} == {Verdict.PASSED}
    assert {each.subject for each in results} == set(SUBJECTS)
    assert {each.rule for each in results} == {field.name for field in fields(PlatformRules)}


@pytest.mark.parametrize(
    ("change", "rule"),
    [
        ({"region": "us-east-1"}, "regions"),
        ({"region__data": "us-east-1"}, "regions"),
        ({"region": None}, "regions"),
        ({"key__output": None}, "customer_keys"),
        ({"key__volume": ""}, "customer_keys"),
        ({"key__model": None}, "customer_keys"),
        ({"network__private": False}, "private_network"),
        ({"network__private": "yes"}, "private_network"),
        ({"network__public": True}, "private_network"),
        ({"network__public": None}, "private_network"),
        ({"network__isolated": None}, "isolated"),
        ({"network__encrypted": False}, "encrypted_traffic"),
        ({"identity": ""}, "named_identity"),
        ({"hours": 4.01}, "max_hours"),
        ({"hours": None}, "max_hours"),
        ({"hours": 0}, "max_hours"),
        ({"hours": True}, "max_hours"),
        ({"instances": 3}, "max_instances"),
        ({"spot": True}, "spot"),
        ({"spot": None}, "spot"),
        ({"tags": {}}, "required_tags"),
        ({"tags": None}, "required_tags"),
        ({"tags": {"cost-centre": ""}}, "required_tags"),
        ({"image": PINNED.replace(".example", ".example.evil")}, "image_registries"),
        ({"image": "registry.bank.example/train:latest"}, "pinned_images"),
        ({"image": f"{PINNED}0"}, "pinned_images"),
    ],
)  # fmt: skip
def test_each_rule_refuses(change, rule) -> None:
    (subject,) = (key.replace("__", ".") for key in change)
    assert failing(STRICT, stated(**change)) == {(rule, subject)}
    assert failing(PlatformRules(), stated(**change)) == set()


@pytest.mark.parametrize("subject", sorted(GOOD))
def test_what_nobody_states_has_not_passed(subject) -> None:
    said = [each for each in stated() if each.subject != subject]
    assert {found for _, found in failing(STRICT, said)} == {subject}


@pytest.mark.parametrize("subject", sorted(GOOD))
def test_what_could_not_be_asked_has_not_passed(subject) -> None:
    said = [
        replace(each, unknown="access denied") if each.subject == subject else each
        for each in stated()
    ]
    results = [each for each in examine(STRICT, said) if each.verdict is not Verdict.PASSED]
    assert {(each.subject, each.verdict) for each in results} == {(subject, Verdict.UNCHECKED)}
    assert "access denied" in results[0].found


def test_of_two_statements_about_one_subject_each_has_to_pass() -> None:
    said = [*stated(), Stated("key.output", "bucket encryption", None)]
    (failed,) = [each for each in examine(STRICT, said) if each.verdict is Verdict.FAILED]
    assert str(failed) == "customer_keys: bucket encryption is not set"


def test_an_image_that_is_not_named_is_neither_pinned_nor_from_anywhere() -> None:
    wanted = {("image_registries", "image"), ("pinned_images", "image")}
    assert failing(STRICT, stated(image=None)) == wanted


@pytest.mark.parametrize(
    ("prefixes", "passes"),
    [
        (("other.example", "registry.bank.example"), True),
        (("registry.bank.example/",), True),
        (("registry.bank.example/train",), False),
        (("registry.bank.exampleX",), False),
        (("registry.bank",), False),
    ],
)
def test_an_image_is_from_a_registry_that_is_named_whole(prefixes, passes) -> None:
    rules = PlatformRules(image_registries=prefixes)
    assert (failing(rules, stated()) == set()) is passes


@pytest.mark.parametrize("changes", [{"instances": 1}, {"hours": 0.5}])
def test_less_than_the_most_is_fine(changes) -> None:
    assert failing(STRICT, stated(**changes)) == set()


def test_how_each_came_out_is_said_for_people_and_in_the_ledger() -> None:
    rules = PlatformRules(regions=("eu-central-1",), isolated=True)
    said = [
        Stated("region", "Region", "eu-central-1"),
        Stated("region.data", "Bucket", "us-east-1"),
    ]
    results = examine(rules, said)
    assert [each.as_json() for each in results] == [
        {
            "rule": "regions",
            "subject": "region",
            "field": "Region",
            "verdict": "passed",
            "found": "is 'eu-central-1'",
        },
        {
            "rule": "regions",
            "subject": "region.data",
            "field": "Bucket",
            "verdict": "failed",
            "found": "is 'us-east-1'",
        },
        {
            "rule": "isolated",
            "subject": "network.isolated",
            "field": "network.isolated",
            "verdict": "unchecked",
            "found": "could not be checked: this platform says nothing about it",
        },
    ]


def test_the_schema_of_packs_knows_every_rule() -> None:
    said = schema(PACK_SCHEMA)["properties"]["platforms"]["properties"]
    assert set(said) == {field.name for field in fields(PlatformRules)}
