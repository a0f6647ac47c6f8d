"""What a policy pack demands of a job in a cloud, held against what its request says.

Pure: the platform says what a request states (`Stated`), the pack says what is demanded
(`PlatformRules`), and `examine` compares. What is not stated, or not known, has not passed.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

_PINNED = re.compile(r"[^@]+@sha256:[0-9a-f]{64}")


class Verdict(StrEnum):
    """How a control came out."""

    PASSED = "passed"
    FAILED = "failed"
    UNCHECKED = "unchecked"


SUBJECTS = (
    "region",
    "region.data",
    "key.output",
    "key.volume",
    "key.model",
    "network.private",
    "network.isolated",
    "network.encrypted",
    "network.public",
    "identity",
    "hours",
    "instances",
    "spot",
    "tags",
    "image",
)
"""What controls are about. ``region`` is where the job runs, ``region.data`` where the store of its
data is; keys are customers' own (an id, or None for the vendor's); ``network.private``,
``isolated``, ``encrypted``, ``network.public`` and ``spot`` are true or false; ``identity`` is a
name, ``hours`` and ``instances`` are numbers, ``tags`` an object, ``image`` a reference."""


@dataclass(frozen=True, slots=True)
class Stated:
    """What a request, or the account, says about the subject of a control.

    Attributes:
        subject: One of `SUBJECTS`.
        field: Where it stands, in the vendor's names (``ResourceConfig.VolumeKmsKeyId``).
        value: What stands there; None for nothing.
        unknown: Why it could not be asked; empty if it could.
    """

    subject: str
    field: str
    value: Any = None
    unknown: str = ""


@dataclass(frozen=True, slots=True)
class ControlResult:
    """One control, and how it came out.

    Attributes:
        rule: Key in the pack's section ``platforms``.
        subject: What it looked at.
        field: Where that stands.
        verdict: How it came out.
        found: What stands there, for people.
    """

    rule: str
    subject: str
    field: str
    verdict: Verdict
    found: str

    def as_json(self) -> dict[str, str]:
        """Return it as it stands in the ledger."""
        return {
            "rule": self.rule,
            "subject": self.subject,
            "field": self.field,
            "verdict": str(self.verdict),
            "found": self.found,
        }

    def __str__(self) -> str:
        return f"{self.rule}: {self.field} {self.found}"


@dataclass(frozen=True, slots=True)
class PlatformRules:
    """What a pack demands of jobs that run elsewhere; an empty rule demands nothing.

    Attributes:
        regions: Where jobs may run and their data may lie; empty for anywhere.
        customer_keys: Which of ``output``, ``volume`` and ``model`` are encrypted with a key of
            the customer's own.
        private_network: Whether jobs run in a network of the customer's, closed to the public.
        isolated: Whether jobs have no way out of it.
        encrypted_traffic: Whether traffic between a job's machines is encrypted.
        named_identity: Whether the job runs under an identity that the request names.
        max_hours: Longest time that a job may be given; None for any.
        max_instances: Most machines that a job may be given; None for any.
        spot: Whether machines may be taken back by the vendor.
        required_tags: Tags that must be there and not empty.
        image_registries: Prefixes of allowed image references; empty for any.
        pinned_images: Whether an image must be named by its digest.
    """

    regions: tuple[str, ...] = ()
    customer_keys: tuple[str, ...] = ()
    private_network: bool = False
    isolated: bool = False
    encrypted_traffic: bool = False
    named_identity: bool = False
    max_hours: float | None = None
    max_instances: int | None = None
    spot: bool = True
    required_tags: tuple[str, ...] = ()
    image_registries: tuple[str, ...] = ()
    pinned_images: bool = False


def examine(rules: PlatformRules, stated: Iterable[Stated]) -> list[ControlResult]:
    """Return every control of a pack and how it came out, in a fixed order.

    Args:
        rules: The pack's.
        stated: What the request states first, then what the account does; of several statements
            about one subject each has to pass.
    """
    by_subject: dict[str, list[Stated]] = {}
    for each in stated:
        by_subject.setdefault(each.subject, []).append(each)
    return list(_examine(rules, by_subject))


def _examine(rules: PlatformRules, said: dict[str, list[Stated]]) -> Iterator[ControlResult]:
    if rules.regions:
        for subject in ("region", "region.data"):
            yield from _each("regions", subject, said, lambda v: v in rules.regions)
    for key in rules.customer_keys:
        yield from _each("customer_keys", f"key.{key}", said, bool)
    if rules.named_identity:
        yield from _each("named_identity", "identity", said, bool)
    for tag in rules.required_tags:
        yield from _each("required_tags", "tags", said, lambda v, t=tag: bool((v or {}).get(t)))
    yield from _network(rules, said)
    yield from _limits(rules, said)
    yield from _images(rules, said)


def _network(rules: PlatformRules, said: dict[str, list[Stated]]) -> Iterator[ControlResult]:
    if rules.private_network:
        yield from _each("private_network", "network.private", said, _is_true)
        yield from _each("private_network", "network.public", said, lambda value: value is False)
    if rules.isolated:
        yield from _each("isolated", "network.isolated", said, _is_true)
    if rules.encrypted_traffic:
        yield from _each("encrypted_traffic", "network.encrypted", said, _is_true)


def _limits(rules: PlatformRules, said: dict[str, list[Stated]]) -> Iterator[ControlResult]:
    for rule, subject, most in (
        ("max_hours", "hours", rules.max_hours),
        ("max_instances", "instances", rules.max_instances),
    ):
        if most is not None:
            yield from _each(rule, subject, said, lambda v, m=most: _at_most(v, m))
    if not rules.spot:
        yield from _each("spot", "spot", said, lambda value: value is False)


def _images(rules: PlatformRules, said: dict[str, list[Stated]]) -> Iterator[ControlResult]:
    if rules.image_registries:
        yield from _each("image_registries", "image", said, lambda v: _is_from(v, rules))
    if rules.pinned_images:
        yield from _each("pinned_images", "image", said, lambda v: bool(_PINNED.fullmatch(str(v))))


def _each(
    rule: str, subject: str, said: dict[str, list[Stated]], passes: Any
) -> Iterator[ControlResult]:
    statements: Sequence[Stated] = said.get(subject) or (
        Stated(subject, subject, unknown="this platform says nothing about it"),
    )
    for each in statements:
        if each.unknown:
            verdict, found = Verdict.UNCHECKED, f"could not be checked: {each.unknown}"
        else:
            verdict = Verdict.PASSED if passes(each.value) else Verdict.FAILED
            found = "is not set" if each.value is None else f"is {each.value!r}"
        yield ControlResult(rule, subject, each.field, verdict, found)


def _is_true(value: Any) -> bool:
    return value is True


def _at_most(value: Any, most: float) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 < value <= most


def _is_from(image: Any, rules: PlatformRules) -> bool:
    return any(str(image).startswith(f"{prefix.rstrip('/')}/") for prefix in rules.image_registries)
