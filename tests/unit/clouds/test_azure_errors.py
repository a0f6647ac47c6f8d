"""Every exception of Azure's libraries is translated once: what passes may be retried."""

from __future__ import annotations

from typing import Any

import pytest
from azure.core.exceptions import (
    AzureError,
    ClientAuthenticationError,
    DecodeError,
    HttpResponseError,
    IncompleteReadError,
    ResourceExistsError,
    ResourceModifiedError,
    ResourceNotFoundError,
    ServiceRequestError,
    ServiceRequestTimeoutError,
    ServiceResponseError,
    ServiceResponseTimeoutError,
    StreamClosedError,
    TooManyRedirectsError,
)
from azure.identity import AuthenticationRequiredError, CredentialUnavailableError

from airflow_mlgov.clouds.azure import AzureSession, Kinds
from airflow_mlgov.errors import PlatformError, PlatformUnavailableError

KINDS = Kinds(PlatformError, PlatformUnavailableError)
SIGN_IN = "Authentication failed: AADSTS7000215: Invalid client secret provided."


class Response:
    def __init__(self, status: int) -> None:
        self.status_code, self.reason, self.headers = status, "because", {}
        self.request = "GET /"

    def text(self, encoding: str | None = None) -> str:
        return ""

    body = text


def of_http(status: int, **more: Any) -> HttpResponseError:
    error = HttpResponseError("it said no", response=Response(status))  # type: ignore[arg-type]
    for name, value in more.items():
        setattr(error, name, value)
    return error


def of_storage(kind: type[HttpResponseError], status: int, code: str) -> HttpResponseError:
    error = kind("it said no", response=Response(status))  # type: ignore[arg-type]
    error.error_code = code  # type: ignore[attr-defined]
    return error


@pytest.mark.parametrize(
    ("error", "retryable", "says"),
    [
        (ServiceRequestError("no route to host"), True, "reaches Azure"),
        (ServiceRequestTimeoutError("connect timed out"), True, "reaches Azure"),
        (ServiceResponseError("connection aborted"), True, "reaches Azure"),
        (ServiceResponseTimeoutError("read timed out"), True, "reaches Azure"),
        (IncompleteReadError("cut"), True, "reaches Azure"),
        (of_http(408), True, "HTTP 408"),
        (of_http(429), True, "HTTP 429"),
        (of_http(500), True, "HTTP 500"),
        (of_http(503), True, "HTTP 503"),
        (of_storage(HttpResponseError, 503, "ServerBusy"), True, "ServerBusy"),
        (of_http(401), True, "expired"),
        (of_storage(ClientAuthenticationError, 401, "InvalidAuthenticationInfo"), True, "expired"),
        (of_http(400), False, "it said no"),
        (of_http(403), False, "train-on-azure"),
        (of_http(403, message="QuotaExceeded for cores"), False, "quota is exceeded"),
        (of_http(409, message="ClusterMinNodesExceedCoreQuota"), False, "quota is exceeded"),
        (
            of_storage(ClientAuthenticationError, 403, "AuthorizationFailure"),
            False,
            "Authorization",
        ),
        (of_storage(ResourceNotFoundError, 404, "ContainerNotFound"), False, "ContainerNotFound"),
        (of_storage(ResourceExistsError, 409, "BlobImmutable"), False, "BlobImmutable"),
        (of_storage(ResourceModifiedError, 412, "ConditionNotMet"), False, "ConditionNotMet"),
        (of_http(403, message="Request date header too old: 17 minutes"), False, "clock"),
        (
            ClientAuthenticationError("AADSTS700024: not in its time range"),
            False,
            "clock",
        ),
        (ClientAuthenticationError(SIGN_IN), False, "secret of Airflow connection 'azure_test'"),
        (
            ClientAuthenticationError(SIGN_IN, response=Response(401)),  # type: ignore[arg-type]
            False,
            "tenant, client and secret",
        ),
        (
            ClientAuthenticationError("busy", response=Response(503)),  # type: ignore[arg-type]
            True,
            "HTTP 503",
        ),
        (CredentialUnavailableError("no identity here"), False, "tenant, client and secret"),
        (AuthenticationRequiredError(["scope"]), False, "tenant, client and secret"),
        (DecodeError("no JSON"), False, "no JSON"),
        (TooManyRedirectsError([]), False, "redirect"),
        (StreamClosedError(Response(200)), False, "closed"),
        (AzureError("something new"), False, "something new"),
    ],
)
def test_each_error_has_one_meaning(error: AzureError, retryable: bool, says: str) -> None:
    session = AzureSession("Platform azure", "azure_test", "", KINDS)
    with pytest.raises(PlatformError) as caught, session.talking("asking for jobs/mlgov-1"):
        raise error
    assert caught.value.retryable is retryable, caught.value
    assert says in str(caught.value)
    assert str(caught.value).startswith("Platform azure: asking for jobs/mlgov-1: ")


@pytest.mark.parametrize(
    "text",
    [
        "https://x.blob.core.windows.net/c?sig=Zm9vYmFy&se=1",
        "client secret: Zm9vYmFy was refused",
        "AccountKey=Zm9vYmFy;x",
        "Authorization: Bearer Zm9vYmFy",
    ],
)
def test_no_secret_is_repeated(text: str) -> None:
    session = AzureSession("Platform azure", "azure_test", "", KINDS)
    with pytest.raises(PlatformError) as caught, session.talking("asking"):
        raise AzureError(text)
    assert "Zm9vYmFy" not in str(caught.value)


def test_only_a_refused_token_makes_clients_anew() -> None:
    session = AzureSession("Platform azure", "azure_test", "", KINDS)
    first = session.once("arm", object)
    for status in (500, 403):
        with pytest.raises(PlatformError), session.talking("asking"):
            raise of_http(status)
    assert session.once("arm", object) is first
    with pytest.raises(PlatformUnavailableError), session.talking("asking"):
        raise of_http(401)
    assert session.once("arm", object) is not first


def test_the_hook_s_credential_is_one_that_todays_clients_take(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from azure.identity import ClientSecretCredential, DefaultAzureCredential

    session = AzureSession("Platform azure", "azure_test", "", KINDS)
    tenant = '"extra": {"tenantId": "22222222-0000-0000-0000-000000000000"}'
    login = '"login": "11111111-0000-0000-0000-000000000000", "password": "x"'
    monkeypatch.setenv("AIRFLOW_CONN_AZURE_TEST", f'{{"conn_type": "azure", {login}, {tenant}}}')
    assert isinstance(session.credential(), ClientSecretCredential)
    assert session.credential() is session.credential()
    monkeypatch.setenv("AIRFLOW_CONN_AZURE_TEST", '{"conn_type": "azure"}')
    other = AzureSession("Platform azure", "azure_test", "", KINDS)
    assert isinstance(other.credential(), DefaultAzureCredential)
