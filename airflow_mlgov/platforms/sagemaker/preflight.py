"""What the account says about the stores and keys of a request."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any

from airflow_mlgov.clouds.aws import Aws, code_of, split_uri
from airflow_mlgov.errors import MlgovError
from airflow_mlgov.platforms.sagemaker.request import customers
from airflow_mlgov.policy.platform_controls import Stated

_OLD_REGIONS = {None: "us-east-1", "": "us-east-1", "EU": "eu-west-1"}
_BLOCKS = ("BlockPublicAcls", "IgnorePublicAcls", "BlockPublicPolicy", "RestrictPublicBuckets")
_AT_ONCE = 8


@dataclass(frozen=True, slots=True)
class Asked:
    """What a request says of stores and keys.

    Attributes:
        read: URIs of what a job reads.
        output: URI of the folder under which it writes.
        output_key: Key that encrypts what is staged and written; None for none.
        volume_key: Key of the disks; None for none.
    """

    read: tuple[str, ...]
    output: str
    output_key: str | None
    volume_key: str | None


def preflight(aws: Aws, asked: Asked) -> list[Stated]:
    """Return what the account says; what could not be asked is stated as unknown.

    A submission waits for the slowest answer, not for all of them one by one.
    """
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        answers = pool.map(lambda question: question.asked(aws), list(_questions(asked)))
        return [stated for each in answers for stated in each]


@dataclass(frozen=True, slots=True)
class _Question:
    """Something to ask of the account.

    Attributes:
        subjects: What the answer is about.
        field: Where it stands.
        ask: Returns the answer.
        what: Bucket or key that is asked about.
    """

    subjects: tuple[str, ...]
    field: str
    ask: Callable[[Aws, str], Any]
    what: str

    def asked(self, aws: Aws) -> list[Stated]:
        """Return the answer, or why there is none, for each subject."""
        try:
            with aws.talking(self.field):
                answer = self.ask(aws, self.what)
        except MlgovError as error:
            why = error.problem
            return [Stated(subject, self.field, unknown=why) for subject in self.subjects]
        return [Stated(subject, self.field, answer) for subject in self.subjects]


def _questions(asked: Asked) -> Iterator[_Question]:
    written = split_uri(asked.output)[0]
    for bucket in sorted({written, *(split_uri(uri)[0] for uri in asked.read)}):
        named = f"s3://{bucket}"
        yield _Question(("region.data",), f"{named} location", _region, bucket)
        if bucket == written:
            own = partial(_bucket_key, asked=asked.output_key)
            yield _Question(("key.output",), f"{named} default encryption", own, bucket)
        yield _Question(("network.public",), f"{named} public access block", _is_open, bucket)
    key = asked.output_key
    keys = {"key.output": key, "key.model": key, "key.volume": asked.volume_key}
    for key in sorted({each for each in keys.values() if each}):
        subjects = tuple(subject for subject, named in keys.items() if named == key)
        yield _Question(subjects, f"KMS key {key}", _customers_key, key)


def _region(aws: Aws, bucket: str) -> str:
    said = aws.client("s3").get_bucket_location(Bucket=bucket).get("LocationConstraint")
    return str(_OLD_REGIONS.get(said, said))


def _bucket_key(aws: Aws, bucket: str, asked: str | None) -> str | None:
    """Return the customer's key of a bucket, if it is the one that the request names."""
    from botocore.exceptions import ClientError

    try:
        said = aws.client("s3").get_bucket_encryption(Bucket=bucket)
    except ClientError as error:
        if code_of(error) == "ServerSideEncryptionConfigurationNotFoundError":
            return None
        raise
    rules = said["ServerSideEncryptionConfiguration"]["Rules"]
    key = customers(rules[0].get("ApplyServerSideEncryptionByDefault", {}).get("KMSMasterKeyID"))
    if key is None or asked is None or key.split("/")[-1] == asked.split("/")[-1]:
        return key
    described = [aws.client("kms").describe_key(KeyId=each) for each in (key, asked)]
    first, second = (each["KeyMetadata"]["Arn"] for each in described)
    return key if first == second else None


def _is_open(aws: Aws, bucket: str) -> bool:
    from botocore.exceptions import ClientError

    try:
        said = aws.client("s3").get_public_access_block(Bucket=bucket)
    except ClientError as error:
        if code_of(error) == "NoSuchPublicAccessBlockConfiguration":
            return True
        raise
    return not all(said["PublicAccessBlockConfiguration"].get(block) for block in _BLOCKS)


def _customers_key(aws: Aws, key: str) -> str | None:
    said = aws.client("kms").describe_key(KeyId=key)["KeyMetadata"]
    return key if said["KeyManager"] == "CUSTOMER" and said["KeyState"] == "Enabled" else None
