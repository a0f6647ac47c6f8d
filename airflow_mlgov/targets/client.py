"""Whatever a transport of the OpenLineage client sends to, within the limits of who reads it.

Source:
    Limits: Google Cloud, Dataplex, "Integrate with OpenLineage"; Amazon DataZone API,
    ``PostLineageEvent``.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from copy import deepcopy
from typing import TYPE_CHECKING, Any

from airflow_mlgov.errors import (
    ConfigurationError,
    LineageRefusedError,
    LineageUnavailableError,
)
from airflow_mlgov.service.outbox import Event

if TYPE_CHECKING:
    from openlineage.client.event_v2 import RunEvent
    from openlineage.client.transport import Transport

DATAPLEX = "gcplineage"
DATAPLEX_BYTES, DATAPLEX_NAME, DATAPLEX_LINKS = 5_000_000, 4_000, 100
DATAZONE = "amazon_datazone_api"
DATAZONE_BYTES = 300_000

_REFUSED = frozenset({400, 413, 422})
_SILENT = {
    "async_http": "sends later, and tells nobody what it could not send",
    "noop": "sends nothing",
}


class ClientTarget:
    """Hands events to a transport of the OpenLineage client.

    Args:
        name: What the settings call it.
        transport: The transport's configuration, as under ``transport`` of the client.

    Raises:
        ConfigurationError: The client is not installed, or refuses the configuration, or the
            transport never says what became of an event; a retry does not help.
    """

    binds_on_arrival = False

    def __init__(self, name: str, transport: Mapping[str, Any]) -> None:
        self._name = name
        config = deepcopy(dict(transport))
        self._kinds = {_checked(name, each) for each in _all(config)}
        self._transport = _made(name, config)
        self._kafka = [
            _Producer.watch(each) for each in _leaves(self._transport) if _is_kafka(each)
        ]

    @property
    def name(self) -> str:
        """What the settings call it."""
        return self._name

    def problem(self, event: Event) -> str:
        """Say why an event must not be sent, and the remedy; empty if it may."""
        return next(self._problems(event), "")

    def send(self, event: bytes) -> None:
        """Let the transport emit an event; it says that it was taken."""
        try:
            self._transport.emit(_run_event(json.loads(event)))
            for producer in self._kafka:
                producer.check()
        except Exception as error:
            # Each transport has its own tree of errors; none may leave this method.
            status = _status(error)
            said = f"Lineage target {self._name}: {_words(error)}."
            if status in _REFUSED:
                raise LineageRefusedError(said) from error
            raise LineageUnavailableError(said) from error

    def difference(self, events: Sequence[Event]) -> str:  # noqa: ARG002
        """Return nothing: transports only send."""
        return ""

    def _problems(self, event: Event) -> Iterator[str]:
        from openlineage.client.serde import Serde

        try:
            size = len(Serde.to_json(_run_event(event)))  # ASCII, as it is sent
            links = len(event.get("inputs") or ()) * len(event.get("outputs") or ())
            longest = max(map(len, _names(event)), default=0)
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            yield f"It is no run event of OpenLineage ({type(error).__name__}: {error})."
            return
        if DATAZONE in self._kinds and size > DATAZONE_BYTES:
            yield _too_much("Amazon DataZone", f"{size} bytes", f"{DATAZONE_BYTES}")
        if DATAPLEX in self._kinds and size > DATAPLEX_BYTES:
            yield _too_much("Dataplex", f"{size} bytes", f"{DATAPLEX_BYTES}")
        if DATAPLEX in self._kinds and longest > DATAPLEX_NAME:
            yield _too_much("Dataplex", f"a name of {longest} characters", f"{DATAPLEX_NAME}")
        if DATAPLEX in self._kinds and links > DATAPLEX_LINKS:
            yield _too_much(
                "Dataplex", f"{links} links from inputs to outputs", f"{DATAPLEX_LINKS}"
            )


def _too_much(whose: str, found: str, limit: str) -> str:
    return f"It has {found}; {whose} takes at most {limit}. Make several tasks of its task."


def _names(event: Event) -> Iterator[str]:
    for dataset in [*(event.get("inputs") or ()), *(event.get("outputs") or ())]:
        yield f"{dataset['namespace']}:{dataset['name']}"


def _all(config: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield a transport's configuration and those of the transports inside of it."""
    yield config
    listed = config.get("transports") or ()
    inner = [*(listed.values() if isinstance(listed, Mapping) else listed), config.get("transport")]
    for each in inner:
        if isinstance(each, dict):
            yield from _all(each)


def _checked(name: str, config: dict[str, Any]) -> str:
    kind = str(config.get("type", ""))
    if not kind:
        raise ConfigurationError(
            f"Lineage target {name} has a transport without a type.",
            remedy="Write type: http, or another kind of transport of the OpenLineage client.",
        )
    if kind in _SILENT:
        raise ConfigurationError(
            f"Lineage target {name} has transport {kind}, which {_SILENT[kind]}.",
            remedy="Use one that says what became of each event, such as http.",
        )
    if kind == "composite" and config.setdefault("continue_on_failure", False):
        raise ConfigurationError(
            f"Lineage target {name} has a composite transport that goes on after a failure, and "
            "then tells nobody.",
            remedy="Leave continue_on_failure out, or make a target of each transport.",
        )
    return kind


def _made(name: str, config: dict[str, Any]) -> Transport:
    try:
        from openlineage.client.transport import NoopTransport, get_default_factory
    except ImportError as error:
        raise ConfigurationError(
            f"Lineage target {name} needs openlineage-python, which cannot be imported.",
            remedy="Install airflow-mlgov[lineage].",
        ) from error
    try:
        made = get_default_factory().create(config)
    except Exception as error:
        # Each transport refuses its configuration in its own way.
        raise ConfigurationError(
            f"Lineage target {name}: the OpenLineage client refuses its transport: "
            f"{_words(error)}.",
            remedy="Write it as the client's documentation says.",
        ) from error
    if isinstance(made, NoopTransport):
        raise ConfigurationError(
            f"Lineage target {name} would send nothing: OPENLINEAGE_DISABLED is set.",
            remedy="Unset it, or take the target out of the file.",
        )
    return made


def _run_event(said: Event) -> RunEvent:
    """Return an event as the client's object, its facets as they stand.

    Raises:
        KeyError, TypeError, ValueError: It is no run event.
    """
    from openlineage.client import event_v2

    run, job = said["run"], said["job"]
    facets = {**(run.get("facets") or {})}
    if "parent" in facets:
        facets["parent"] = _Parent(facets["parent"])
    made = event_v2.RunEvent(
        eventType=event_v2.RunState[said["eventType"]],
        eventTime=said["eventTime"],
        run=event_v2.Run(runId=run["runId"], facets=facets),
        job=event_v2.Job(job["namespace"], job["name"], facets=job.get("facets") or {}),
        inputs=[
            event_v2.InputDataset(**_fields(each, "inputFacets"))
            for each in said.get("inputs") or ()
        ],
        outputs=[
            event_v2.OutputDataset(**_fields(each, "outputFacets"))
            for each in said.get("outputs") or ()
        ],
        producer=said["producer"],
    )
    made.schemaURL = said["schemaURL"]
    return made


def _fields(dataset: Mapping[str, Any], own: str) -> dict[str, Any]:
    more = {key: dataset.get(key) for key in ("facets", own)}
    return {"namespace": dataset["namespace"], "name": dataset["name"], **more}


class _Parent(dict[str, Any]):
    """The parent facet; Kafka's transport makes a message's key of its job."""

    @property
    def job(self) -> Any:
        return self["job"]

    @property
    def root(self) -> Any:
        return None


class _Producer:
    """A Kafka producer that remembers what its broker did not take: the transport only logs it."""

    def __init__(self, producer: Any) -> None:
        self._producer = producer
        self._error: Any = None

    @classmethod
    def watch(cls, transport: Any) -> _Producer:
        transport.producer = made = cls(transport.producer)
        return made

    def produce(self, **message: Any) -> None:
        self._producer.produce(**message | {"on_delivery": self._told})

    def flush(self, timeout: float = -1) -> int:
        return int(self._producer.flush(timeout))

    def check(self) -> None:
        error, self._error = self._error, None
        if error:
            raise OSError(f"Kafka did not take the event: {error}")
        if self.flush(60):
            raise OSError("Kafka did not say in a minute whether it took the event")

    def _told(self, error: Any, _message: Any) -> None:
        self._error = self._error or error


def _is_kafka(transport: Any) -> bool:
    return getattr(transport, "producer", None) is not None


def _leaves(transport: Any) -> Iterator[Any]:
    inner = [*getattr(transport, "transports", ()), getattr(transport, "transport", None)]
    found = [each for each in inner if each is not None]
    if not found:
        yield transport
    for each in found:
        yield from _leaves(each)


def _status(error: BaseException | None) -> int | None:
    """Return the HTTP status that an error tells of, however its library says it."""
    while error is not None:
        answer = getattr(error, "response", None)
        if isinstance(answer, Mapping):  # botocore
            return int(answer.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)) or None
        for holder in (answer, error):  # requests; google.api_core
            for key in ("status_code", "code"):
                found = getattr(holder, key, None)
                if isinstance(found, int):
                    return int(found)
        error = error.__cause__
    return None


def _words(error: BaseException) -> str:
    told = [error, error.__cause__] if error.__cause__ else [error]
    return ": ".join(str(each).partition("\n")[0][:500].rstrip(".") for each in told)
