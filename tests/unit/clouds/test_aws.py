"""What AWS's SDK raises, and what it means here."""

from __future__ import annotations

import pytest
from boto3.exceptions import S3UploadFailedError
from botocore import exceptions as sdk
from botocore.exceptions import ClientError

from airflow_mlgov.clouds.aws import Aws
from airflow_mlgov.errors import PlatformError, PlatformUnavailableError


def answer(code: str, status: int = 400, message: str = "no") -> ClientError:
    error = {"Code": code, "Message": message}
    return ClientError({"Error": error, "ResponseMetadata": {"HTTPStatusCode": status}}, "Op")


def transfer(cause: Exception) -> Exception:
    error = S3UploadFailedError("failed")
    error.__context__ = cause
    return error


@pytest.mark.parametrize(
    ("error", "retryable", "words"),
    [
        (answer("ThrottlingException"), True, "cannot be used now"),
        (answer("SlowDown", 503), True, "SlowDown"),
        (answer("Whatever", 502), True, "Whatever"),
        (answer("Odd", 429), True, "Odd"),
        (answer("ExpiredTokenException"), True, "token has expired"),
        (answer("RequestTimeTooSkewed", 403), False, "clock"),
        (answer("InvalidSignatureException", message="Signature expired: 1"), False, "clock"),
        (answer("ResourceLimitExceeded"), False, "quota"),
        (answer("AccessDeniedException"), False, "IAM policy"),
        (answer("UnrecognizedClientException"), False, "IAM policy"),
        (answer("ValidationException"), False, "AWS refused"),
        (transfer(answer("AccessDenied", 403)), False, "IAM policy"),
        (transfer(answer("InternalError", 500)), True, "InternalError"),
        (sdk.EndpointConnectionError(endpoint_url="https://x"), True, "https://x"),
        (sdk.ReadTimeoutError(endpoint_url="https://x"), True, "timeout"),
        (sdk.ConnectionClosedError(endpoint_url="https://x"), True, "closed"),
        (sdk.SSLError(endpoint_url="https://x", error="bad"), False, "SSLError"),
        (sdk.CredentialRetrievalError(provider="x", error_msg="y"), True, "cannot be used now"),
        (sdk.NoCredentialsError(), False, "NoCredentialsError"),
        (sdk.ParamValidationError(report="too long"), False, "too long"),
        (OSError("network"), True, "network"),
        (KeyError("Account"), False, "KeyError"),
    ],
)
def test_what_the_sdk_raises(error, retryable, words) -> None:
    aws = Aws("aws", "c", "1", "eu-central-1", "", PlatformError, PlatformUnavailableError)
    with pytest.raises(PlatformError, match=words) as caught, aws.talking("job x"):
        raise error
    assert caught.value.retryable is retryable
    assert "aws, job x" in str(caught.value)
