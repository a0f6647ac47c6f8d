"""What the account says about the stores and keys of a request."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from airflow_mlgov.clouds.aws import Aws, code_of, split_uri
from airflow_mlgov.errors import MlgovError
from airflow_mlgov.platforms.sagemaker.request import customers
from airflow_mlgov.policy.platform_controls import Stated

_OLD_REGIONS = {None: "us-east-1", "": "us-east-1", "EU": "eu-west-1"}
_BLOCKS = ("BlockPublicAcls", "IgnorePublicAcls", "BlockPublicPolicy", "RestrictPublicBuckets")


def preflight(aws: Aws, request: Mapping[str, Any]) -> Iterator[Stated]:
    """Yield what the account says; what could not be asked is stated as unknown."""
    output = request["OutputDataConfig"]
    asked = output.get("KmsKeyId")
    uris = [each["DataSource"]["S3DataSource"]["S3Uri"] for each in request["InputDataConfig"]]
    for bucket in sorted({split_uri(uri)[0] for uri in (*uris, output["S3OutputPath"])}):
        yield _ask(aws, "region.data", f"s3://{bucket} location", _region, bucket)
        yield _ask(
            aws,
            "key.output",
            f"s3://{bucket} default encryption",
            lambda aws, bucket: _bucket_key(aws, bucket, asked),
            bucket,
        )
        yield _ask(aws, "network.public", f"s3://{bucket} public access block", _is_open, bucket)
    keys = {"key.output": asked, "key.model": asked}
    keys["key.volume"] = request["ResourceConfig"].get("VolumeKmsKeyId")
    for subject, key in keys.items():
        if key:
            yield _ask(aws, subject, f"KMS key {key}", _customers_key, key)


def _ask(aws: Aws, subject: str, field: str, ask: Callable[[Aws, str], Any], what: str) -> Stated:
    try:
        with aws.talking(field):
            return Stated(subject, field, ask(aws, what))
    except MlgovError as error:
        return Stated(subject, field, unknown=error.problem)


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
