"""What a connection may do in AWS, for training and for scoring."""

from __future__ import annotations

from airflow_mlgov.clouds.aws import partition_of, split_uri
from airflow_mlgov.policy.platforms_file import PlatformTerms


def needed(terms: PlatformTerms) -> dict[str, list[str]]:
    """Return the actions that jobs, stores and preflight need, by the ARN that they are done to.

    Args:
        terms: The platform's entry.
    """
    partition = partition_of(terms.region)
    sagemaker = f"arn:{partition}:sagemaker:{terms.region}:{terms.account}"
    logs = f"arn:{partition}:logs:{terms.region}:{terms.account}:log-group:/aws/sagemaker"
    bucket, prefix = split_uri(terms.output)
    actions = {
        f"{sagemaker}:training-job/mlgov-*": [
            "sagemaker:AddTags", "sagemaker:CreateTrainingJob",
            "sagemaker:DescribeTrainingJob", "sagemaker:StopTrainingJob",
        ],
        f"{sagemaker}:model/mlgov-*": [
            "sagemaker:AddTags", "sagemaker:CreateModel", "sagemaker:DescribeModel",
        ],
        f"{sagemaker}:transform-job/mlgov-*": [
            "sagemaker:AddTags", "sagemaker:CreateTransformJob",
            "sagemaker:DescribeTransformJob", "sagemaker:StopTransformJob",
        ],
        f"arn:{partition}:s3:::{bucket}": [
            "s3:GetBucketLocation", "s3:GetBucketPublicAccessBlock",
            "s3:GetEncryptionConfiguration", "s3:ListBucket",
        ],
        f"arn:{partition}:s3:::{bucket}/{f'{prefix}/*'.lstrip('/')}": [
            "s3:AbortMultipartUpload", "s3:GetObject", "s3:PutObject",
        ],
        f"{logs}/TrainingJobs:*": ["logs:DescribeLogStreams", "logs:GetLogEvents"],
        f"{logs}/TransformJobs:*": ["logs:DescribeLogStreams", "logs:GetLogEvents"],
    }  # fmt: skip
    if terms.identity:
        actions[terms.identity] = ["iam:PassRole"]
    for key in sorted({each for each in terms.keys.values() if each.startswith("arn:")}):
        actions[key] = ["kms:CreateGrant", "kms:Decrypt", "kms:DescribeKey", "kms:GenerateDataKey"]
    return actions
