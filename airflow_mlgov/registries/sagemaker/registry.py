"""Model versions in SageMaker Model Registry: a group for a model, a package for a version.

A package's description holds the digest of its manifest: it shows in lists, and nobody can change
it afterwards. An alias is a property of a package that is Approved; its value is when it was set,
so that of two packages with one alias, after a task died between them, the later one holds it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from airflow_mlgov.clouds.aws import Aws, code_of, partition_of, says, split_uri
from airflow_mlgov.errors import (
    ArtefactError,
    ConfigurationError,
    RegistryError,
    RegistryUnavailableError,
    VersionNotFoundError,
)
from airflow_mlgov.policy.platforms_file import RegistryTerms
from airflow_mlgov.records.digest import Digest
from airflow_mlgov.records.manifest import Manifest
from airflow_mlgov.service.artefacts import check_directory
from airflow_mlgov.service.model_archive import pack, unpack
from airflow_mlgov.service.ports import RegistryVersion

MANIFEST_PROPERTY = "mlgov.manifest_sha256"
ALIAS_PROPERTY = "mlgov.alias."

_NAME = re.compile(r"[A-Za-z](-*[A-Za-z0-9]){0,62}")
_DESCRIPTION = re.compile(r"mlgov manifest (sha256:[0-9a-f]{64})")
_PENDING, _APPROVED = "PendingManualApproval", "Approved"
_LOST = frozenset({"Failed", "Deleting"})
_MOST_CHARACTERS = 256
_MOST_BYTES = 64 * 1024**3


class SageMakerRegistry:
    """An entry of kind ``sagemaker``; see `airflow_mlgov.service.ports.Registry`.

    Args:
        terms: The entry.

    Attributes:
        namespace: OpenLineage namespace of its datasets.
    """

    def __init__(self, terms: RegistryTerms) -> None:
        self._terms = terms
        self.namespace = f"sagemaker://{terms.region}.{terms.account}"
        self._aws = Aws(
            terms.name,
            terms.connection,
            terms.account,
            terms.region,
            terms.endpoint,
            RegistryError,
            RegistryUnavailableError,
        )

    def register(
        self, name: str, model_dir: Path, manifest: Manifest, tags: Mapping[str, str]
    ) -> RegistryVersion:
        """Store a model folder as ``model.tar.gz`` and register it, once for each manifest.

        Killed at any point, the next call completes the work.

        Raises:
            ConfigurationError: SageMaker cannot hold this name; a retry does not help.
            RegistryError: AWS refused; a retry does not help.
            RegistryUnavailableError: It cannot be reached; a retry may help.
        """
        _check_name(name)
        with self._aws.talking(f"model {name}"):
            if self._with_manifest(name, manifest.digest) is None:
                self._ensure_group(name)
                self._upload(name, model_dir, manifest)
                self._create(name, manifest, tags)
        # Of two tasks that registered it at once, both take the version with the lower number.
        return self.find(name, manifest.digest)

    def find(self, name: str, manifest: Digest) -> RegistryVersion:
        """Return the version with this manifest."""
        with self._aws.talking(f"model {name}"):
            found = self._with_manifest(name, manifest)
        return self._found(found, f"version of model {name!r} with the manifest {manifest}")

    def by_alias(self, name: str, alias: str) -> RegistryVersion:
        """Return the version that an alias points to; one that is not Approved holds none."""
        with self._aws.talking(f"model {name}"):
            holders = self._holders(name, alias)
            found = max(holders, key=lambda each: holders[each][0], default=None)
            said = holders[found][1] if found is not None else None
        return self._found(said, f"approved version of model {name!r} with the alias {alias!r}")

    def get(self, name: str, version: str) -> RegistryVersion:
        """Return a version by its number."""
        with self._aws.talking(f"model {name}"):
            found = self._numbered(name, version)
        return self._found(found, f"version {version!r} of model {name!r}")

    def versions(self, name: str) -> list[RegistryVersion]:
        """Return every version of a model, newest first; empty if there is no such model."""
        with self._aws.talking(f"model {name}"):
            return [self._version(each) for each in reversed(self._listed(name))]

    def fetch(self, version: RegistryVersion, into: Path) -> Path:
        """Copy the model folder to a private directory and return its path.

        What comes back is what the registry holds now: compare its manifest before it is used.

        Raises:
            VersionNotFoundError: The version or its files are gone; a retry does not help.
            RegistryError: It was not registered by us, or points out of the entry's store.
            ArtefactError: It is cut short, or holds links, pickles or paths that leave it.
            RegistryUnavailableError: AWS cannot be reached; a retry may help.
        """
        label = f"model {version.name} version {version.version}"
        with TemporaryDirectory(prefix="mlgov-sagemaker-") as scratch:
            archive = Path(scratch, "model.tar.gz")
            with self._aws.talking(label):
                uri = self._files_of(version, label)
                if not self._aws.download(uri, archive):
                    raise VersionNotFoundError(
                        f"{self._terms.name}: the files of {label} are gone: {uri}."
                    )
            into.mkdir(mode=0o700, parents=True, exist_ok=True)
            into.chmod(0o700)
            try:
                unpack(archive, into / "model", _MOST_BYTES)
            except ArtefactError as error:
                raise ArtefactError(f"{label}, {uri}: {error.problem}") from error
        check_directory(into / "model")
        return into / "model"

    def set_alias(self, version: RegistryVersion, alias: str) -> None:
        """Point an alias at a version and approve it; who held it and nothing else is pending."""
        label = f"model {version.name} version {version.version}"
        with self._aws.talking(label):
            target = self._numbered(version.name, version.version)
            if target is None:
                raise VersionNotFoundError(f"{self._terms.name} has no {label}.")
            said = self._described(target)
            now = datetime.now(UTC).isoformat()
            properties = {**_properties(said), f"{ALIAS_PROPERTY}{alias}": now}
            self._update(target["ModelPackageArn"], properties, alias=alias)
            for arn in self._holders(version.name, alias):
                if arn != target["ModelPackageArn"]:
                    self._take(arn, alias)

    def unset_alias(self, version: RegistryVersion, alias: str) -> None:
        """Take an alias away; a version without one is pending again, for nobody rejected it."""
        with self._aws.talking(f"model {version.name} version {version.version}"):
            target = self._numbered(version.name, version.version)
            if target is not None:
                self._take(target["ModelPackageArn"], alias)

    def check(self) -> str:
        """Ask for identity, a group and a write; return a line about it, for ``doctor``.

        Raises:
            RegistryError: AWS refuses, or the connection is of another account.
            RegistryUnavailableError: It cannot be reached.
        """
        terms = self._terms
        with self._aws.talking():
            who = self._aws.identity()
            self._listed("mlgov-check")
            with TemporaryDirectory() as scratch:
                probe = Path(scratch, "mlgov-check")
                probe.touch()
                self._aws.upload(probe, f"{terms.store}/{probe.name}", terms.keys.get("model"))
        return f"SageMaker Model Registry in {terms.region} answers {who}; the store is writable."

    def missing_permissions(self) -> list[str]:
        """Return what IAM says the connection may not do of what this registry needs.

        Raises:
            RegistryError: IAM cannot be asked.
            RegistryUnavailableError: It cannot be reached.
        """
        terms, partition = self._terms, partition_of(self._terms.region)
        place = f"arn:{partition}:sagemaker:{terms.region}:{terms.account}"
        bucket, prefix = split_uri(terms.store)
        needed = {
            f"{place}:model-package-group/*": [
                "sagemaker:AddTags",
                "sagemaker:CreateModelPackageGroup",
                "sagemaker:DescribeModelPackageGroup",
            ],
            f"{place}:model-package/*": [
                "sagemaker:CreateModelPackage",
                "sagemaker:DescribeModelPackage",
                "sagemaker:UpdateModelPackage",
            ],
            "*": ["sagemaker:ListModelPackages"],
            f"arn:{partition}:s3:::{bucket}/{f'{prefix}/*'.lstrip('/')}": [
                "s3:GetObject",
                "s3:PutObject",
            ],
        }
        with self._aws.talking("permissions"):
            return self._aws.missing_permissions(needed)

    def _listed(self, name: str, status: str = "") -> list[dict[str, Any]]:
        """Return a group's packages, oldest first; of a status, or of any."""
        from botocore.exceptions import ClientError

        pages = self._aws.client("sagemaker").get_paginator("list_model_packages")
        only = {"ModelApprovalStatus": status} if status else {}
        try:
            found = [
                each
                for page in pages.paginate(ModelPackageGroupName=name, **only)
                for each in page["ModelPackageSummaryList"]
                if each["ModelPackageStatus"] not in _LOST
            ]
        except ClientError as error:
            if code_of(error) == "ValidationException" and says(error, "does not exist"):
                return []
            raise
        return sorted(found, key=lambda each: int(each["ModelPackageVersion"]))

    def _with_manifest(self, name: str, manifest: Digest) -> dict[str, Any] | None:
        return next((each for each in self._listed(name) if _manifest_of(each) == manifest), None)

    def _numbered(self, name: str, version: str) -> dict[str, Any] | None:
        listed = self._listed(name)
        return next((e for e in listed if str(e["ModelPackageVersion"]) == version), None)

    def _holders(self, name: str, alias: str) -> dict[str, tuple[str, dict[str, Any]]]:
        """Return who holds an alias by ARN: since when, and the package."""
        found = {}
        for each in self._listed(name, _APPROVED):
            properties = _properties(self._described(each))
            if since := properties.get(f"{ALIAS_PROPERTY}{alias}"):
                found[each["ModelPackageArn"]] = (since, each)
        return found

    def _described(self, package: Mapping[str, Any]) -> dict[str, Any]:
        arn = package["ModelPackageArn"]
        said = self._aws.client("sagemaker").describe_model_package(ModelPackageName=arn)
        return dict(said)

    def _take(self, arn: str, alias: str) -> None:
        properties = _properties(self._described({"ModelPackageArn": arn}))
        if properties.pop(f"{ALIAS_PROPERTY}{alias}", None) is not None:
            self._update(arn, properties, removed=f"{ALIAS_PROPERTY}{alias}")

    def _update(
        self, arn: str, properties: dict[str, str], *, alias: str = "", removed: str = ""
    ) -> None:
        left = [key for key in properties if key.startswith(ALIAS_PROPERTY)]
        stage = alias or (left[0].removeprefix(ALIAS_PROPERTY) if left else "candidate")
        status = _APPROVED if left else _PENDING
        more = {"CustomerMetadataPropertiesToRemove": [removed]} if removed else {}
        self._aws.client("sagemaker").update_model_package(
            ModelPackageArn=arn,
            ModelApprovalStatus=status,
            ApprovalDescription=f"airflow-mlgov: {stage}. The ledger decides, this shows it.",
            CustomerMetadataProperties=properties,
            ModelLifeCycle={"Stage": _entity_name(stage), "StageStatus": status},
            **more,
        )

    def _ensure_group(self, name: str) -> None:
        from botocore.exceptions import ClientError

        client = self._aws.client("sagemaker")
        try:
            client.describe_model_package_group(ModelPackageGroupName=name)
        except ClientError as error:
            if code_of(error) != "ValidationException" or not says(error, "does not exist"):
                raise
            tags = [{"Key": key, "Value": value} for key, value in self._terms.tags.items()]
            try:
                client.create_model_package_group(ModelPackageGroupName=name, Tags=tags)
            except ClientError as second:
                if not says(second, "already exists"):
                    raise

    def _uri(self, name: str, manifest: Digest) -> str:
        return f"{self._terms.store}/{name}/{manifest.hex}/model.tar.gz"

    def _upload(self, name: str, model_dir: Path, manifest: Manifest) -> None:
        with TemporaryDirectory(prefix="mlgov-sagemaker-") as scratch:
            archive = Path(scratch, "model.tar.gz")
            pack(model_dir, archive)
            uri = self._uri(name, manifest.digest)
            self._aws.upload(archive, uri, self._terms.keys.get("model"))

    def _create(self, name: str, manifest: Manifest, tags: Mapping[str, str]) -> None:
        digest, key = manifest.digest, self._terms.keys.get("model")
        said = {key: value[:_MOST_CHARACTERS] for key, value in tags.items() if value}
        model = {"Image": self._terms.image, "ModelDataUrl": self._uri(name, digest)}
        more = {"SecurityConfig": {"KmsKeyId": key}} if key else {}
        self._aws.client("sagemaker").create_model_package(
            ModelPackageGroupName=name,
            ModelPackageDescription=f"mlgov manifest {digest}",
            # Twice at once is one version at AWS; moto does not look at it.
            ClientToken=Digest.of(f"{name} {digest}".encode()).hex[:36],
            ModelApprovalStatus=_PENDING,
            InferenceSpecification={
                "Containers": [model],
                "SupportedContentTypes": ["text/csv"],
                "SupportedResponseMIMETypes": ["text/csv"],
            },
            CustomerMetadataProperties={**said, MANIFEST_PROPERTY: str(digest)},
            ModelLifeCycle={"Stage": "candidate", "StageStatus": _PENDING},
            **more,
        )

    def _files_of(self, version: RegistryVersion, label: str) -> str:
        found = self._numbered(version.name, version.version)
        if found is None:
            raise VersionNotFoundError(f"{self._terms.name} has no {label}.")
        containers = self._described(found).get("InferenceSpecification", {}).get("Containers", [])
        uri = str(containers[0].get("ModelDataUrl", "")) if containers else ""
        if _manifest_of(found) is None or not uri.startswith(f"{self._terms.store}/"):
            raise RegistryError(
                f"{self._terms.name}: {label} was not registered by airflow-mlgov, or its files "
                f"are elsewhere now: {uri or 'it has none'}.",
                remedy=f"Its files are to stand beneath {self._terms.store}; train it again.",
            )
        return uri

    def _found(self, said: Mapping[str, Any] | None, what: str) -> RegistryVersion:
        if said is None:
            raise VersionNotFoundError(f"{self._terms.name} has no {what}.")
        return self._version(said)

    def _version(self, said: Mapping[str, Any]) -> RegistryVersion:
        name, version = str(said["ModelPackageGroupName"]), str(said["ModelPackageVersion"])
        return RegistryVersion(
            registry="sagemaker",
            name=name,
            version=version,
            manifest=_manifest_of(said),
            uri=f"{self.namespace}/{name}/{version}",
            namespace=self.namespace,
            is_approved=said.get("ModelApprovalStatus") == _APPROVED,
        )


def _manifest_of(said: Mapping[str, Any]) -> Digest | None:
    match = _DESCRIPTION.fullmatch(said.get("ModelPackageDescription") or "")
    return Digest.parse(match[1]) if match else None


def _properties(said: Mapping[str, Any]) -> dict[str, str]:
    return dict(said.get("CustomerMetadataProperties") or {})


def _entity_name(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9]+", "-", text).strip("-")[:63] or "none"


def _check_name(name: str) -> None:
    if not _NAME.fullmatch(name):
        raise ConfigurationError(
            f"Registered model name {name!r} is not one that SageMaker can hold.",
            remedy="Use at most 63 letters, digits and '-', a letter first and no '-' last, in the "
            "inventory's 'registered_name'.",
        )
