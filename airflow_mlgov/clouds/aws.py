"""AWS: clients from the Amazon provider's hook, what its errors mean, and files in S3."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from airflow_mlgov.errors import MlgovError

SPEC_TAG = "mlgov-spec"
KEY_TAG = "mlgov-key"

_MANNERS = {"connect_timeout": 10, "read_timeout": 30}
_EXPIRED = frozenset({"ExpiredToken", "ExpiredTokenException", "TokenRefreshRequired"})
_BUSY = frozenset(
    {
        "BandwidthLimitExceeded",
        "InternalError",
        "InternalFailure",
        "InternalServerError",
        "InternalServerException",
        "OperationAborted",
        "PriorRequestNotComplete",
        "RequestLimitExceeded",
        "RequestThrottled",
        "RequestThrottledException",
        "RequestTimeout",
        "RequestTimeoutException",
        "ServiceUnavailable",
        "ServiceUnavailableException",
        "SlowDown",
        "ThrottledException",
        "Throttling",
        "ThrottlingException",
        "TooManyRequestsException",
    }
)
_CLOCK = frozenset({"RequestExpired", "RequestInTheFuture", "RequestTimeTooSkewed"})
_QUOTA = frozenset(
    {"LimitExceededException", "ResourceLimitExceeded", "ServiceQuotaExceededException"}
)
_REFUSED = frozenset(
    {
        "AccessDenied", "AccessDeniedException", "AuthFailure", "Forbidden", "403",
        "InvalidAccessKeyId", "InvalidClientTokenId", "MissingAuthenticationToken",
        "OptInRequired", "SignatureDoesNotMatch", "InvalidSignatureException",
        "UnauthorizedOperation", "UnrecognizedClientException",
    }
)  # fmt: skip
_GONE = frozenset({"404", "NoSuchKey", "NotFound"})


@dataclass
class Aws:
    """An account in a region, as an entry of the platform file names it.

    Clients are made once, of one session, shared by threads, and made anew after a token has
    expired. Before the first one is handed out, the account is held against the entry's: nothing
    is sent to another.

    Attributes:
        entry: Name of the entry, for errors.
        connection: Airflow connection of type ``aws``.
        account: 12 digits.
        region: For every client.
        endpoint: Address of the SageMaker API; empty for the connection's, or the public one.
        refused: What is raised where a retry does not help.
        unavailable: What is raised where one may.
    """

    entry: str
    connection: str
    account: str
    region: str
    endpoint: str
    refused: type[MlgovError]
    unavailable: type[MlgovError]
    _opened: tuple[Any, Any] | None = field(default=None, init=False, repr=False)
    _clients: dict[str, Any] = field(default_factory=dict, init=False, repr=False)
    _lock: threading.RLock = field(default_factory=threading.RLock, init=False, repr=False)

    def client(self, service: str) -> Any:
        """Return a client; only within `talking`."""
        with self._lock:
            if "sts" not in self._clients:
                sts = self._made("sts")
                self._check_account(sts.get_caller_identity())
                self._clients["sts"] = sts
            if service not in self._clients:
                self._clients[service] = self._made(service)
            return self._clients[service]

    def identity(self) -> str:
        """Return the ARN of who the connection is; only within `talking`."""
        return str(self.client("sts").get_caller_identity()["Arn"])

    def _made(self, service: str) -> Any:
        from botocore.config import Config

        hook, session = self._session()
        endpoint = self.endpoint if service == "sagemaker" else ""
        # Waiting tasks back off themselves; a transfer of files does not.
        ours = Config(**_MANNERS, retries={"total_max_attempts": 3 if service == "s3" else 1})
        return session.client(
            service,
            endpoint_url=endpoint or hook.conn_config.get_service_endpoint_url(service),
            config=ours.merge(hook.config),
            verify=hook.verify,
        )

    def _session(self) -> tuple[Any, Any]:
        """Return the connection's hook, and its session: each would assume the role once more."""
        from airflow.providers.amazon.aws.hooks.base_aws import AwsBaseHook
        from airflow.sdk import BaseHook

        if self._opened is not None:
            return self._opened
        # The hook takes whatever credentials it finds when its connection is missing.
        kind = BaseHook.get_connection(self.connection).conn_type
        if kind != "aws":
            raise self.refused(
                f"{self.entry}: Airflow connection {self.connection!r} is of type {kind!r}.",
                remedy="Use a connection of type aws.",
            )
        hook = AwsBaseHook(self.connection, region_name=self.region, client_type="sts")
        self._opened = hook, hook.get_session(region_name=self.region)
        return self._opened

    def _check_account(self, caller: Mapping[str, Any]) -> None:
        if caller["Account"] != self.account:
            raise self.refused(
                f"{self.entry}: Airflow connection {self.connection!r} is of AWS account "
                f"{caller['Account']}, and the entry says {self.account}.",
                remedy="Correct the connection, or the entry in the platform file.",
            )

    @contextmanager
    def talking(self, what: str = "") -> Iterator[None]:
        """Translate what goes wrong meanwhile.

        Args:
            what: What it is about, for errors: ``job mlgov-...``; empty for nothing in particular.

        Raises:
            MlgovError: `unavailable`, where a retry may help; else `refused`.
        """
        about = f"{self.entry}, {what}" if what else self.entry
        try:
            yield
        except MlgovError:
            raise
        except Exception as error:
            # Of botocore, boto3's transfers, the hook, Airflow's secrets and the network.
            raise self._translated(about, error) from error

    def _translated(self, about: str, error: Exception) -> MlgovError:
        from airflow.sdk.exceptions import AirflowException, AirflowNotFoundException
        from boto3.exceptions import Boto3Error
        from botocore.exceptions import BotoCoreError, ClientError
        from botocore.parsers import ResponseParserError

        if isinstance(error, AirflowNotFoundException):
            return self.refused(
                f"{about}: there is no Airflow connection {self.connection!r}.",
                remedy="Add a connection of type aws, or name another one in the platform file.",
            )
        cause = error
        if isinstance(error, Boto3Error) and isinstance(error.__context__, ClientError):
            cause = error.__context__  # a transfer tells its cause in its text only
        if isinstance(cause, ClientError):
            return self._answered(about, cause)
        if isinstance(error, BotoCoreError):
            return self._not_sent(about, error)
        if isinstance(error, AirflowException):
            return self._denied(about, str(error))
        if isinstance(error, OSError | Boto3Error | ResponseParserError):
            return self._away(about, str(error))
        return self.refused(f"{about}: {type(error).__name__}: {error}.")

    def _answered(self, about: str, error: Any) -> MlgovError:
        said = error.response.get("Error", {})
        code, text = str(said.get("Code", "")), str(said.get("Message", ""))
        status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
        words = f"{code}: {text}" if text else code
        if code in _EXPIRED:
            with self._lock:
                self._clients.clear()
                self._opened = None
            return self._away(about, f"the token has expired ({words})")
        if code in _CLOCK or "Signature expired" in text or "Signature not yet current" in text:
            return self.refused(
                f"{about}: AWS does not take the time of this machine ({words}).",
                remedy="Set its clock, by NTP.",
            )
        if code in _BUSY or status >= 500 or status == 429:
            return self._away(about, words)
        if code in _QUOTA:
            return self.refused(
                f"{about}: a quota of the account is exceeded ({words}).",
                remedy="Wait for other jobs to end, choose another instance, or have it raised.",
            )
        if code in _REFUSED:
            return self._denied(about, words)
        return self.refused(f"{about}: AWS refused ({words}).")

    def _not_sent(self, about: str, error: Any) -> MlgovError:
        from botocore import exceptions

        passing = (
            exceptions.HTTPClientError, exceptions.ConnectionError, exceptions.IncompleteReadError,
            exceptions.CredentialRetrievalError, exceptions.MetadataRetrievalError,
            exceptions.WaiterError,
        )  # fmt: skip
        if isinstance(error, passing) and not isinstance(error, exceptions.SSLError):
            return self._away(about, str(error))
        return self._denied(about, f"{type(error).__name__}: {error}")

    def _away(self, about: str, words: str) -> MlgovError:
        return self.unavailable(
            f"{about}: AWS in {self.region} cannot be used now: {words}.",
            remedy="Check that this machine reaches it.",
        )

    def _denied(self, about: str, words: str) -> MlgovError:
        return self.refused(
            f"{about}: the request could not be made or was denied ({words}).",
            remedy=f"Check Airflow connection {self.connection!r} and its IAM policy.",
        )

    def head(self, uri: str) -> dict[str, Any] | None:
        """Return what S3 says of an object; None if there is none; only within `talking`."""
        from botocore.exceptions import ClientError

        bucket, key = split_uri(uri)
        try:
            return dict(self.client("s3").head_object(Bucket=bucket, Key=key))
        except ClientError as error:
            if code_of(error) in _GONE:
                return None
            raise

    def has_size(self, uri: str, size_bytes: int) -> bool:
        """Return whether an object stands there and is this long; only within `talking`."""
        found = self.head(uri)
        return found is not None and bool(found["ContentLength"] == size_bytes)

    def upload(self, file: Path, uri: str, key_id: str | None) -> None:
        """Store a file, encrypted with a key; only within `talking`.

        Args:
            file: What to store.
            uri: Where; what stands there is replaced.
            key_id: Customer's key; None for the bucket's own way.
        """
        bucket, key = split_uri(uri)
        extra = {"ServerSideEncryption": "aws:kms", "SSEKMSKeyId": key_id} if key_id else {}
        self.client("s3").upload_file(str(file), bucket, key, ExtraArgs=extra)

    def download(self, uri: str, file: Path) -> bool:
        """Copy an object to a file; only within `talking`.

        Returns:
            False if there is no such object.
        """
        from botocore.exceptions import ClientError

        bucket, key = split_uri(uri)
        try:
            self.client("s3").download_file(bucket, key, str(file))
        except ClientError as error:
            if code_of(error) in _GONE:
                return False
            raise
        return True

    def first_object(self, uri: str) -> str | None:
        """Return the URI of something beneath a folder's URI; only within `talking`."""
        bucket, prefix = _folder(uri)
        found = self.client("s3").list_objects_v2(Bucket=bucket, Prefix=prefix, MaxKeys=1)
        return next((f"s3://{bucket}/{each['Key']}" for each in found.get("Contents", ())), None)

    def sizes(self, uri: str) -> dict[str, int]:
        """Return the length in bytes of all beneath a folder's URI, by URI; only within `talking`.

        The empty objects that stand for folders in the console are left out.
        """
        from botocore.exceptions import ClientError

        bucket, prefix = _folder(uri)
        pages = self.client("s3").get_paginator("list_objects_v2")
        try:
            return {
                f"s3://{bucket}/{each['Key']}": int(each["Size"])
                for page in pages.paginate(Bucket=bucket, Prefix=prefix)
                for each in page.get("Contents", ())
                if not each["Key"].endswith("/")
            }
        except ClientError as error:
            if code_of(error) == "NoSuchBucket":
                return {}
            raise

    def missing_permissions(self, needed: Mapping[str, list[str]]) -> list[str]:
        """Ask IAM which actions the connection's role or user may not do; only within `talking`.

        Args:
            needed: Actions by the ARN of what they are done to; ``*`` for anything.
        """
        iam, caller = self.client("iam"), self.identity()
        if ":assumed-role/" in caller:
            role = caller.split(":assumed-role/")[1].split("/")[0]
            caller = iam.get_role(RoleName=role)["Role"]["Arn"]
        missing: list[str] = []
        for resource, actions in needed.items():
            pages = iam.get_paginator("simulate_principal_policy").paginate(
                PolicySourceArn=caller, ActionNames=actions, ResourceArns=[resource]
            )
            missing += [
                f"{result['EvalActionName']} on {resource}"
                for page in pages
                for result in page["EvaluationResults"]
                if result["EvalDecision"] != "allowed"
            ]
        return missing


def code_of(error: Any) -> str:
    """Return the code of a `botocore.exceptions.ClientError`."""
    return str(error.response.get("Error", {}).get("Code", ""))


def says(error: Any, *words: str) -> bool:
    """Return whether the message of a `botocore.exceptions.ClientError` has one of these words."""
    message = str(error.response.get("Error", {}).get("Message", "")).lower()
    return any(word in message for word in words)


def split_uri(uri: str) -> tuple[str, str]:
    """Return bucket and key of an address ``s3://bucket/key``."""
    parts = urlsplit(uri, allow_fragments=False)
    return parts.netloc, parts.path.removeprefix("/") + (f"?{parts.query}" if parts.query else "")


def _folder(uri: str) -> tuple[str, str]:
    bucket, key = split_uri(uri)
    return bucket, f"{key.rstrip('/')}/" if key else ""


def partition_of(region: str) -> str:
    """Return the AWS partition that a region is of."""
    known: dict[str, str] = {"cn": "aws-cn", "us-gov": "aws-us-gov"}
    return next((known[each] for each in known if region.startswith(f"{each}-")), "aws")


def console_of(region: str) -> str:
    """Return the address of a region's console."""
    hosts: dict[str, Callable[[str], str]] = {
        "aws": lambda each: f"{each}.console.aws.amazon.com",
        "aws-cn": lambda each: f"{each}.console.amazonaws.cn",
        "aws-us-gov": lambda each: f"{each}.console.amazonaws-us-gov.com",
    }
    return f"https://{hosts[partition_of(region)](region)}"
