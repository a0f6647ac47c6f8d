"""A training job on the fake SageMaker, and what else of its account is always the same."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

ENDED = frozenset({"succeeded", "failed", "cancelled", "too long"})
ACCOUNT, REGION, BUCKET = "123456789012", "eu-central-1", "bank-mlgov"
CONNECTION = "mlgov_aws_fake"
IMAGE = f"{ACCOUNT}.dkr.ecr.{REGION}.amazonaws.com/train@sha256:{'a' * 64}"
ROLE = f"arn:aws:iam::{ACCOUNT}:role/mlgov-training"


@dataclass
class Job:
    request: dict[str, Any]
    states: list[str]
    reason: str
    ours: bool = True
    hidden: int = 0
    gone: bool = False
    ran: bool = False
    made_at: datetime = field(default_factory=lambda: datetime.now(UTC))
    ended_at: datetime | None = None
    lines: list[str] = field(default_factory=list)

    @property
    def state(self) -> str:
        return self.states[0]


def theirs() -> Iterator[dict[str, Any]]:
    yield {
        "AlgorithmSpecification": {"TrainingImage": IMAGE, "TrainingInputMode": "File"},
        "RoleArn": ROLE,
        "OutputDataConfig": {"S3OutputPath": f"s3://{BUCKET}/theirs"},
        "ResourceConfig": {"InstanceType": "ml.m5.large", "InstanceCount": 1, "VolumeSizeInGB": 9},
        "StoppingCondition": {"MaxRuntimeInSeconds": 60},
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


def arn_of(key: str) -> str:
    return f"arn:aws:sagemaker:{REGION}:{ACCOUNT}:training-job/{key}"


def split(uri: str) -> tuple[str, str, str]:
    return uri.removeprefix("s3://").partition("/")
