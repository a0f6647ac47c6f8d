"""A job on the fake SageMaker, and what else of its account is always the same."""

from __future__ import annotations

import io
import json
import tarfile
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import boto3

from airflow_mlgov.policy.platforms_file import Instance, Network, PlatformTerms, RegistryTerms

ENDED = frozenset({"succeeded", "failed", "cancelled", "too long"})
ACCOUNT, REGION, BUCKET = "123456789012", "eu-central-1", "bank-mlgov"
CONNECTION = "mlgov_aws_fake"
IMAGE = f"{ACCOUNT}.dkr.ecr.{REGION}.amazonaws.com/train@sha256:{'a' * 64}"
ROLE = f"arn:aws:iam::{ACCOUNT}:role/mlgov-training"
UNKNOWN = (400, "ValidationException", "Requested resource not found.")


class RefusedError(Exception):
    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.answer = status, {"__type": code, "message": message}


@dataclass
class Job:
    """A job; `lines` are its container's, `said` those of SageMaker about the files it sends."""

    request: dict[str, Any]
    states: list[str]
    reason: str
    ours: bool = True
    hidden: int = 0
    gone: bool = False
    ran: bool = False
    noun: str = "Training"
    made_at: datetime = field(default_factory=lambda: datetime.now(UTC))
    ended_at: datetime | None = None
    lines: list[str] = field(default_factory=list)
    said: list[str] = field(default_factory=list)

    @property
    def state(self) -> str:
        return self.states[0]

    @property
    def name(self) -> str:
        return self.request[f"{self.noun}JobName"]

    def streams(self) -> dict[str, list[str]]:
        """Return what stands in CloudWatch, by the name of the stream."""
        if self.noun == "Training":
            found = {f"{self.name}/algo-1-17": self.lines}
        else:
            machine = f"{self.name}/i-0123456789abcdef0-17"
            found = {machine: self.lines, f"{machine}/data-log": self.said}
        return {name: lines for name, lines in found.items() if lines}

    def end_reached(self) -> datetime:
        self.ended_at = self.ended_at or datetime.now(UTC)
        return self.ended_at


class Account:
    """A bank's account: the entries of a platform file for it, its bucket and its key."""

    url: str
    moto: str

    def terms(self, **changes: Any) -> PlatformTerms:
        said: dict[str, Any] = {
            "name": "aws", "kind": "sagemaker", "connection": CONNECTION, "account": ACCOUNT,
            "region": REGION, "endpoint": self.url, "image": IMAGE, "identity": ROLE,
            "instance": Instance("ml.m5.xlarge"), "output": f"s3://{BUCKET}/mlgov",
            "keys": {"output": self.key, "volume": self.key}, "tags": {"cost-centre": "risk"},
            "network": Network(("subnet-1",), ("sg-1",), isolated=True, encrypted=True),
            "file": "platforms.yaml", "line": 1,
        }  # fmt: skip
        return PlatformTerms(**{**said, **changes})

    def registry_terms(self, **changes: Any) -> RegistryTerms:
        said: dict[str, Any] = {
            "name": "aws-models", "kind": "sagemaker", "connection": CONNECTION,
            "account": ACCOUNT, "region": REGION, "image": IMAGE,
            "store": f"s3://{BUCKET}/models", "keys": {"model": self.key},
            "tags": {"cost-centre": "risk"}, "file": "platforms.yaml", "line": 9,
        }  # fmt: skip
        return RegistryTerms(**{**said, **changes})

    def environment(self) -> dict[str, str]:
        extra = {
            "region_name": REGION,
            "endpoint_url": self.moto,
            "service_config": {"logs": {"endpoint_url": self.url}},
            "config_kwargs": {"read_timeout": 5},
        }
        connection = {"conn_type": "aws", "login": "test", "password": "test", "extra": extra}
        return {f"AIRFLOW_CONN_{CONNECTION.upper()}": json.dumps(connection)}

    @property
    def key(self) -> str:
        return str(self._keys[0])

    def client(self, service: str, region: str = REGION) -> Any:
        return boto3.client(
            service, endpoint_url=self.moto, region_name=region,
            aws_access_key_id="test", aws_secret_access_key="test",
        )  # fmt: skip

    def prepare(self) -> None:
        """Make a bank's bucket, and its key."""
        s3 = self.client("s3")
        made = self.client("kms").create_key()["KeyMetadata"]
        self._keys = [made["Arn"]]
        s3.create_bucket(Bucket=BUCKET, CreateBucketConfiguration={"LocationConstraint": REGION})
        by = {"SSEAlgorithm": "aws:kms", "KMSMasterKeyID": made["Arn"]}
        s3.put_bucket_encryption(
            Bucket=BUCKET,
            ServerSideEncryptionConfiguration={
                "Rules": [{"ApplyServerSideEncryptionByDefault": by}]
            },
        )
        blocks = (
            "BlockPublicAcls", "IgnorePublicAcls", "BlockPublicPolicy", "RestrictPublicBuckets",
        )  # fmt: skip
        s3.put_public_access_block(
            Bucket=BUCKET, PublicAccessBlockConfiguration=dict.fromkeys(blocks, True)
        )

    def stored(self, uri: str) -> bytes:
        bucket, _, key = split(uri)
        return bytes(self.client("s3").get_object(Bucket=bucket, Key=key)["Body"].read())

    def store(self, uri: str, data: bytes) -> None:
        bucket, _, key = split(uri)
        self.client("s3").put_object(Bucket=bucket, Key=key, Body=data)

    def listed(self, uri: str) -> list[str]:
        """Return the addresses of what stands under a prefix."""
        bucket, _, prefix = split(uri)
        found = self.client("s3").list_objects_v2(Bucket=bucket, Prefix=prefix)
        return [f"s3://{bucket}/{each['Key']}" for each in found.get("Contents", ())]


THEIR_TRAINING = {
    "AlgorithmSpecification": {"TrainingImage": IMAGE, "TrainingInputMode": "File"},
    "RoleArn": ROLE,
    "OutputDataConfig": {"S3OutputPath": f"s3://{BUCKET}/theirs"},
    "ResourceConfig": {"InstanceType": "ml.m5.large", "InstanceCount": 1, "VolumeSizeInGB": 9},
    "StoppingCondition": {"MaxRuntimeInSeconds": 60},
}
THEIR_TRANSFORM = {
    "ModelName": "theirs",
    "TransformInput": {
        "DataSource": {
            "S3DataSource": {"S3DataType": "S3Prefix", "S3Uri": f"s3://{BUCKET}/theirs/"}
        }
    },
    "TransformOutput": {"S3OutputPath": f"s3://{BUCKET}/theirs"},
    "TransformResources": {"InstanceType": "ml.m5.large", "InstanceCount": 1},
}


def changed(data: bytes) -> bytes:
    """Return the archive with another model in it, whole."""
    packed = io.BytesIO()
    with (
        tarfile.open(fileobj=io.BytesIO(data)) as old,
        tarfile.open(fileobj=packed, mode="w:gz") as new,
    ):
        for member in old:
            content = old.extractfile(member).read() if member.isreg() else b""
            if member.name.startswith("model/") and content:
                content = b"X" + content[1:]
            new.addfile(member, io.BytesIO(content))
    return packed.getvalue()


def arn_of(key: str, kind: str = "training-job") -> str:
    return f"arn:aws:sagemaker:{REGION}:{ACCOUNT}:{kind}/{key}"


def place(noun: str, key: str) -> str:
    """Return where a job is kept: names of training and of transform jobs are apart."""
    return key if noun == "Training" else f"transform-job/{key}"


def split(uri: str) -> tuple[str, str, str]:
    return uri.removeprefix("s3://").partition("/")
