"""Clients of Google Cloud with an Airflow connection's credentials, and its errors in our words.

Nothing of Google's is imported before it is used. The SDK does not try again by itself: whoever
asks does, and spreads it.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from airflow_mlgov.clouds.gcp.errors import is_stale, translated
from airflow_mlgov.errors import MlgovError
from airflow_mlgov.policy.platforms_file import PlatformTerms, RegistryTerms

if TYPE_CHECKING:
    from google.auth.transport.requests import AuthorizedSession
    from google.cloud.aiplatform_v1 import JobServiceClient, ModelServiceClient
    from google.cloud.storage import Client

CALL_S = 30.0
"""How long one call may take."""

_LOGS = "https://logging.googleapis.com"
_PROJECTS = "https://cloudresourcemanager.googleapis.com"
_IDENTITIES = "https://iam.googleapis.com"


class GcpSession:
    """Clients for one entry of the platform file, made at first use; for several threads.

    Args:
        terms: Names the connection, the project, the region and the address of Vertex AI.
        refused: What to raise where no retry helps.
        unavailable: What to raise where one may.
    """

    def __init__(
        self,
        terms: PlatformTerms | RegistryTerms,
        refused: type[MlgovError],
        unavailable: type[MlgovError],
    ) -> None:
        self.terms = terms
        self.refused = refused
        self.unavailable = unavailable
        self._made: dict[str, Any] = {}
        self._lock = threading.RLock()

    @property
    def location(self) -> str:
        """Resource name of the region, in which all of an entry's jobs and models are."""
        return f"projects/{self.terms.account}/locations/{self.terms.region}"

    @property
    def vertex_url(self) -> str:
        """Address of Vertex AI's REST interface."""
        public = f"https://{self.terms.region}-aiplatform.googleapis.com"
        return (self.terms.endpoint or public).rstrip("/")

    @contextmanager
    def talking(self, about: str) -> Iterator[None]:
        """Translate what Google's libraries raise.

        Args:
            about: What is being done, for the message: ``asking about job 7``.

        Raises:
            MlgovError: `unavailable` or `refused`, as given to the session. After an expired token
                all clients are made anew by the next call.
        """
        try:
            yield
        except MlgovError:
            raise
        except Exception as error:
            if is_stale(error):
                self._forget()
            said = translated(error, self.terms, about, self.refused, self.unavailable)
            if said is None:
                raise
            raise said from error

    def jobs(self) -> JobServiceClient:
        """Return the client of jobs."""

        def make() -> JobServiceClient:
            from google.cloud.aiplatform_v1 import JobServiceClient as Client

            return Client(**self._how())

        client: JobServiceClient = self._once("jobs", make)
        return client

    def models(self) -> ModelServiceClient:
        """Return the client of models."""

        def make() -> ModelServiceClient:
            from google.cloud.aiplatform_v1 import ModelServiceClient as Client

            return Client(**self._how())

        client: ModelServiceClient = self._once("models", make)
        return client

    def storage(self) -> Client:
        """Return the client of Cloud Storage; ``STORAGE_EMULATOR_HOST`` is Google's own setting."""

        def make() -> Client:
            from google.cloud.storage import Client

            return Client(project=self.terms.account, credentials=self._credentials())

        client: Client = self._once("storage", make)
        return client

    def vertex(self, method: str, path: str) -> dict[str, Any]:
        """Ask Vertex AI by REST where its client would ask at a path of the console's."""
        return self._asked(method, f"{self.vertex_url}/v1/{path}", None)

    def log_entries(self, body: Mapping[str, Any]) -> dict[str, Any]:
        """Return a page of log entries."""
        return self._asked("POST", f"{self._beside(_LOGS)}/v2/entries:list", body)

    def held(self, permissions: list[str]) -> set[str]:
        """Return which permissions on the project who asks has."""
        url = f"{self._beside(_PROJECTS)}/v1/projects/{self.terms.account}:testIamPermissions"
        return set(self._asked("POST", url, {"permissions": permissions}).get("permissions", ()))

    def may_act_as(self, account: str) -> bool:
        """Return whether who asks may give a job this service account."""
        right = "iam.serviceAccounts.actAs"
        path = f"v1/projects/-/serviceAccounts/{account}:testIamPermissions"
        url = f"{self._beside(_IDENTITIES)}/{path}"
        said = self._asked("POST", url, {"permissions": [right]})
        return right in said.get("permissions", ())

    def _beside(self, public: str) -> str:
        """Return another service's address: the public one, which private DNS may map.

        An endpoint without TLS is a stand-in for Google, and stands in for all of it.
        """
        endpoint = self.terms.endpoint
        return endpoint.rstrip("/") if endpoint.startswith("http://") else public

    def _asked(self, method: str, url: str, body: Mapping[str, Any] | None) -> dict[str, Any]:
        from google.api_core.exceptions import from_http_response

        response = self._rest().request(method, url, json=body, timeout=CALL_S)
        if not response.ok:
            raise from_http_response(response)
        answer: dict[str, Any] = response.json()
        return answer

    def _rest(self) -> AuthorizedSession:
        def make() -> AuthorizedSession:
            from google.auth.transport.requests import AuthorizedSession as Session

            return Session(self._credentials())

        session: AuthorizedSession = self._once("rest", make)
        return session

    def _how(self) -> dict[str, Any]:
        """Return how a client of Vertex AI is made; only REST can speak to an address by URL."""
        endpoint = self.terms.endpoint.rstrip("/")
        return {
            "credentials": self._credentials(),
            "transport": "rest" if endpoint else None,
            "client_options": {
                "api_endpoint": endpoint or self.vertex_url.removeprefix("https://")
            },
        }

    def _credentials(self) -> Any:
        def make() -> Any:
            from airflow.providers.google.common.hooks.base_google import GoogleBaseHook
            from airflow.sdk.exceptions import AirflowException, AirflowNotFoundException

            try:
                hook = GoogleBaseHook(gcp_conn_id=self.terms.connection)
                return hook.get_credentials()
            except AirflowNotFoundException as error:
                raise self.refused(
                    f"There is no Airflow connection {self.terms.connection!r}, which "
                    f"{self.terms.name} ({self.terms.file}:{self.terms.line}) names.",
                    remedy="Add a connection of type google_cloud_platform.",
                ) from error
            except (AirflowException, ValueError, TypeError, OSError) as error:
                # Not the error's own text: it may quote the key.
                raise self.refused(
                    f"Airflow connection {self.terms.connection!r} of {self.terms.name} holds no "
                    f"usable credentials ({type(error).__name__}).",
                    remedy="Look at its key file, key JSON or impersonation chain.",
                ) from None

        return self._once("credentials", make)

    def _once(self, what: str, make: Callable[[], Any]) -> Any:
        with self._lock:
            if what not in self._made:
                self._made[what] = make()
            return self._made[what]

    def _forget(self) -> None:
        with self._lock:
            self._made.clear()
