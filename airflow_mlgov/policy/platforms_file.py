"""Platforms and registries from a YAML file: what the names in DAGs mean in this deployment."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from airflow_mlgov.errors import DocumentError
from airflow_mlgov.policy.documents import PLATFORMS_SCHEMA, Document, inspect_yaml, parse_yaml
from airflow_mlgov.policy.files import read_bytes

LOCAL = "local"

_COMMON = {"name", "kind"}
_CLOUD = {"connection", "account", "region", "image", "instance", "output"}
_CLOUD_MAY = {"endpoint", "identity", "keys", "network", "tags", "limits"}
_STORES = {"sagemaker": "s3", "vertex": "gs", "azureml": "http"}
_ACCOUNTS = {
    "sagemaker": (r"\d{12}", "the 12 digits of the AWS account"),
    "vertex": (r"[a-z][a-z0-9:.-]{4,}", "the id of the Google Cloud project"),
    "azureml": (
        (
            r"/subscriptions/[^/]+/resourceGroups/[^/]+/providers/Microsoft\.MachineLearningServices"
            r"/(workspaces|registries)/[^/]+"
        ),
        "the resource id of the workspace, /subscriptions/.../workspaces/name",
    ),
}
_KEYS_OF_PLATFORMS = {"local": (set[str](), {"python"})} | dict.fromkeys(
    _STORES, (_CLOUD, _CLOUD_MAY)
)
_KEYS_OF_REGISTRIES = {
    "mlflow": ({"connection"}, set[str]()),
    "sagemaker": (
        {"connection", "account", "region", "store", "image"},
        {"endpoint", "keys", "tags"},
    ),
    "vertex": ({"connection", "account", "region", "store", "image"}, {"endpoint", "keys", "tags"}),
    "azureml": ({"connection", "account", "region", "store"}, {"endpoint", "keys", "tags"}),
}


@dataclass(frozen=True, slots=True)
class Instance:
    """What a job runs on.

    Attributes:
        type: Machine type in the vendor's words.
        count: Machines, at least 1.
        disk_gb: Disk of each in GB.
        spot: Whether the vendor may take machines back.
        compute: Compute cluster of an Azure ML workspace; empty for none.
    """

    type: str = ""
    count: int = 1
    disk_gb: int = 30
    spot: bool = False
    compute: str = ""


@dataclass(frozen=True, slots=True)
class Network:
    """Where a job's traffic may go.

    Attributes:
        subnets: Ids of subnets.
        security_groups: Ids of security groups.
        name: Full name of a network.
        isolated: Whether a job has no way out.
        encrypted: Whether traffic between machines is encrypted.
    """

    subnets: tuple[str, ...] = ()
    security_groups: tuple[str, ...] = ()
    name: str = ""
    isolated: bool = False
    encrypted: bool = False


@dataclass(frozen=True, slots=True)
class PlatformTerms:
    """What a file says of one platform. A cloud's entry has all that its kind needs.

    Attributes:
        name: For DAGs.
        kind: ``local``, ``sagemaker``, ``vertex`` or ``azureml``.
        python: Interpreter for local scripts; empty for the worker's own.
        connection: Airflow connection.
        account: AWS account, Google Cloud project or resource id of an Azure ML workspace.
        region: In the vendor's spelling.
        endpoint: Address of the API; empty for the region's public one.
        image: Container image.
        instance: What a job runs on.
        identity: Who a job is; empty if it is not named.
        keys: Ids of customer's keys by ``output``, ``volume``, ``model``; those that are named.
        network: Where a job's traffic may go.
        output: Folder for staged files and results, without a slash at its end.
        tags: On everything that is made there.
        hours: Longest time of a job.
        outage_s: How long the API may be away before a waiting task fails.
        poll_s: Time between two looks at a job.
        file: Where it stands, for errors.
        line: Line of its name.
    """

    name: str
    kind: str
    python: str = ""
    connection: str = ""
    account: str = ""
    region: str = ""
    endpoint: str = ""
    image: str = ""
    instance: Instance = Instance()
    identity: str = ""
    keys: Mapping[str, str] = field(default_factory=dict)
    network: Network = Network()
    output: str = ""
    tags: Mapping[str, str] = field(default_factory=dict)
    hours: float = 24.0
    outage_s: float = 1800.0
    poll_s: float = 30.0
    file: str = ""
    line: int = 0


@dataclass(frozen=True, slots=True)
class RegistryTerms:
    """What a file says of one registry; see `PlatformTerms` for the words.

    Attributes:
        name: For DAGs.
        kind: ``mlflow``, ``sagemaker``, ``vertex`` or ``azureml``.
        connection: Airflow connection.
        account: AWS account, Google Cloud project, resource id of a workspace or registry.
        region: In the vendor's spelling.
        endpoint: Address of the API; empty for the region's public one.
        image: Image that serves models, where the vendor wants one.
        store: Folder for model files, without a slash at its end.
        keys: Ids of customer's keys by ``model``.
        tags: On everything that is made there.
        file: Where it stands, for errors.
        line: Line of its name.
    """

    name: str
    kind: str
    connection: str
    account: str = ""
    region: str = ""
    endpoint: str = ""
    image: str = ""
    store: str = ""
    keys: Mapping[str, str] = field(default_factory=dict)
    tags: Mapping[str, str] = field(default_factory=dict)
    file: str = ""
    line: int = 0


@dataclass(frozen=True, slots=True)
class PlatformsFile:
    """Platforms and registries by name.

    Attributes:
        platforms: At least ``local``.
        registries: Those that are listed.
    """

    platforms: Mapping[str, PlatformTerms]
    registries: Mapping[str, RegistryTerms]


NO_FILE = PlatformsFile({LOCAL: PlatformTerms(LOCAL, LOCAL)}, {})
"""What holds in a deployment that has no such file."""


def read_platforms(file: str | Path) -> PlatformsFile:
    """Return what a file names.

    Raises:
        DocumentError: The first thing that is wrong with it; a retry does not help.
    """
    document = parse_yaml(read_bytes(file), str(file))
    problems = inspect_yaml(document, PLATFORMS_SCHEMA) or list(_problems(document))
    if problems:
        raise min(problems, key=lambda problem: problem.line)
    value = document.value
    platforms = [_platform(document, i) for i in range(len(value.get("platforms", ())))]
    registries = [_registry(document, i) for i in range(len(value.get("registries", ())))]
    return PlatformsFile(
        {**NO_FILE.platforms, **{each.name: each for each in platforms}},
        {each.name: each for each in registries},
    )


def _problems(document: Document) -> Iterator[DocumentError]:
    for section, keys in (("platforms", _KEYS_OF_PLATFORMS), ("registries", _KEYS_OF_REGISTRIES)):
        names: list[str] = []
        for index, said in enumerate(document.value.get(section, ())):
            place = (section, index)
            if said["name"] in names:
                problem = f"{said['name']!r} stands here twice."
                yield document.error(problem, *place, "name", remedy="Give each its own name.")
            names.append(said["name"])
            yield from _problems_of_keys(document, said, place, keys[said["kind"]])
            yield from _problems_of_values(document, said, place)


def _problems_of_keys(
    document: Document,
    said: dict[str, Any],
    place: tuple[str | int, ...],
    keys: tuple[set[str], set[str]],
) -> Iterator[DocumentError]:
    needed, optional = keys
    kind, known = said["kind"], ", ".join(sorted(needed | optional))
    for key in sorted(needed - said.keys()):
        remedy = f"An entry of kind {kind} needs {', '.join(sorted(needed))}."
        yield document.error(f"{kind} needs {key!r}.", *place, "kind", remedy=remedy)
    for key in sorted(said.keys() - needed - optional - _COMMON):
        remedy = f"An entry of kind {kind} may have {known}."
        yield document.error(f"{kind} has no {key!r}.", *place, key, remedy=remedy)


def _problems_of_values(
    document: Document, said: dict[str, Any], place: tuple[str | int, ...]
) -> Iterator[DocumentError]:
    kind = said["kind"]
    if kind not in _STORES:
        return
    pattern, wanted = _ACCOUNTS[kind]
    if "account" in said and not re.fullmatch(pattern, said["account"]):
        problem = f"{said['account']!r} is no account of {kind}."
        yield document.error(problem, *place, "account", remedy=f"Write {wanted}.")
    for key in ("output", "store"):
        if key in said and not said[key].startswith(_STORES[kind]):
            problem = f"{said[key]!r} is no store that {kind} reads."
            remedy = f"Write an address that begins with {_STORES[kind]}."
            yield document.error(problem, *place, key, remedy=remedy)


def _platform(document: Document, index: int) -> PlatformTerms:
    said = dict(document.value["platforms"][index])
    limits = said.pop("limits", {})
    parts = {
        "instance": Instance(**said.get("instance", {})),
        "network": _network(said.get("network", {})),
        "output": said.get("output", "").rstrip("/"),
    }
    return PlatformTerms(
        **{**said, **parts},
        hours=float(limits.get("hours", 24)),
        outage_s=60.0 * limits.get("outage_minutes", 30),
        poll_s=float(limits.get("poll_seconds", 30)),
        file=document.file,
        line=document.line_of(("platforms", index, "name")),
    )


def _network(said: Mapping[str, Any]) -> Network:
    values: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in said.items()}
    return Network(**values)


def _registry(document: Document, index: int) -> RegistryTerms:
    said = document.value["registries"][index]
    return RegistryTerms(
        **{**said, "store": said.get("store", "").rstrip("/")},
        file=document.file,
        line=document.line_of(("registries", index, "name")),
    )
