"""What each request is answered: routes, checks and words of the real Marquez."""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from marquez import views
from marquez.state import BadNameError, Dataset, Job, Run, State, run_uuid

Answer = tuple[int, Any]

_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d(:\d\d(\.\d{1,9})?)?(Z|[+-]\d\d:\d\d)")
_AT = (
    "\n at [Source: (org.glassfish.jersey.message.internal.ReaderInterceptorExecutor"
    "$UnCloseableInputStream); line: 1, column: 3]"
)
_RUN_STATES = {
    "start": "RUNNING",
    "complete": "COMPLETED",
    "fail": "FAILED",
    "abort": "ABORTED",
}


class MalformedError(Exception):
    """The real one cannot read it: status 500, and code 400 in the body."""


def answer(state: State, method: str, target: str, body: bytes) -> Answer:
    """Return status and body (JSON, or text for the servlet's own pages)."""
    parts = urlsplit(target)
    path = [unquote(each) for each in parts.path.split("/")[1:]]
    query = {key: values[-1] for key, values in parse_qs(parts.query).items()}
    if path[:2] != ["api", "v1"]:
        return _said(404, "HTTP 404 Not Found")
    try:
        if (method, path[2:]) == ("POST", ["lineage"]):
            return _post(state, body)
        return _route(state, method, path[2:], query)
    except MalformedError as error:
        return 500, {"code": 400, "message": f"{error}{_AT}"}
    except BadNameError:
        return 400, _page(400, "Bad Request")
    except views.BrokenError:
        return broken()


def broken() -> Answer:
    said = f"There was an error processing your request. It has been logged (ID {_id()})."
    return 500, {"code": 500, "message": said}


def decoded(body: bytes) -> Any:
    """Return JSON of a request."""
    try:
        text = body.decode()
        return json.loads(text)
    except ValueError as error:
        found = re.match(r"\s*\{\s*([^\s\"}])", body.decode(errors="replace"))
        if found:
            char = found[1]
            raise MalformedError(
                f"Unexpected character ('{char}' (code {ord(char)})): "
                "was expecting double-quote to start field name"
            ) from error
        raise MalformedError("Unexpected end-of-input or character") from error


def _post(state: State, body: bytes) -> Answer:
    event = decoded(body)
    if not isinstance(event, dict):
        raise MalformedError("Cannot construct instance of `marquez.service.models.BaseEvent`")
    if str(event.get("schemaURL")).endswith(("/DatasetEvent", "/JobEvent")):
        return _unknown("events without a run")
    _check_types(event)
    missing = list(_missing(event))
    if missing:
        return 422, {"errors": [f"{each} must not be null" for each in missing]}
    if b"\\u0000" in body and "\\u0000" in json.dumps(event):
        return broken()
    if event.get("eventType") is None:
        return 500, _page(500, "Internal Server Error")
    state.apply(event)
    return 201, ""


def _check_types(event: Mapping[str, Any]) -> None:
    at = event.get("eventTime")
    if at is not None and not (isinstance(at, str) and _TIME.fullmatch(at)):
        raise MalformedError(
            f'Cannot deserialize value of type `java.time.ZonedDateTime` from String "{at}": '
            "Failed to deserialize java.time.ZonedDateTime: "
            f"(java.time.format.DateTimeParseException) Text '{at}' could not be parsed at index 0"
        )
    for key, kind in (("run", dict), ("job", dict), ("inputs", list), ("outputs", list)):
        if not isinstance(event.get(key), kind | None):
            raise MalformedError(f"Cannot deserialize value of `{key}`")


def _missing(event: Mapping[str, Any]) -> Any:
    """Yield what 422 names: fields that the classes of the real one demand."""
    wanted: dict[str, Any] = {
        "eventTime": event.get("eventTime"),
        "run": event.get("run"),
        "job": event.get("job"),
        "producer": event.get("producer"),
    }
    run, job = event.get("run") or {}, event.get("job") or {}
    if "run" in event:
        wanted["run.runId"] = run.get("runId")
    if "job" in event:
        wanted |= {"job.namespace": job.get("namespace"), "job.name": job.get("name")}
    for side in ("inputs", "outputs"):
        for index, each in enumerate(event.get(side) or []):
            wanted[f"{side}[{index}].namespace"] = each.get("namespace")
            wanted[f"{side}[{index}].name"] = each.get("name")
    wanted |= _of_facets(run.get("facets") or {}, job.get("facets") or {})
    return (name for name, value in wanted.items() if value is None)


def _of_facets(run: Mapping[str, Any], job: Mapping[str, Any]) -> dict[str, Any]:
    wanted: dict[str, Any] = {}
    if (parent := run.get("parent")) is not None:
        above = parent.get("job") or {}
        wanted["run.facets.parent.run.runId"] = (parent.get("run") or {}).get("runId")
        wanted["run.facets.parent.job.namespace"] = above.get("namespace")
        wanted["run.facets.parent.job.name"] = above.get("name")
    if (kind := job.get("jobType")) is not None:
        wanted["job.facets.jobType.processingType"] = kind.get("processingType")
        wanted["job.facets.jobType.integration"] = kind.get("integration")
    if (said := job.get("documentation")) is not None:
        wanted["job.facets.documentation.description"] = said.get("description")
    return wanted


def _route(state: State, method: str, path: list[str], query: Mapping[str, str]) -> Answer:
    routes: tuple[tuple[str, str, Callable[..., Answer]], ...] = (
        ("GET", "namespaces", _namespaces),
        ("GET", "namespaces/*", _namespace),
        ("DELETE", "namespaces/*", _delete_namespace),
        ("GET", "namespaces/*/jobs", _jobs),
        ("GET", "jobs", _jobs),
        ("GET", "namespaces/*/jobs/*", _job),
        ("DELETE", "namespaces/*/jobs/*", _delete_job),
        ("GET", "namespaces/*/jobs/*/runs", _job_runs),
        ("GET", "namespaces/*/datasets", _datasets),
        ("GET", "namespaces/*/datasets/*", _dataset),
        ("DELETE", "namespaces/*/datasets/*", _delete_dataset),
        ("GET", "namespaces/*/datasets/*/versions", _versions),
        ("GET", "jobs/runs/*", _run),
        ("GET", "jobs/runs/*/facets", _facets),
        ("POST", "jobs/runs/*/*", _set_run),
        ("GET", "runlineage/upstream", _upstream),
        ("GET", "lineage", _lineage),
        ("GET", "events/lineage", _events),
    )
    for verb, pattern, handler in routes:
        names = _match(pattern.split("/"), path)
        if verb == method and names is not None:
            return handler(state, query, *names)
    return _unknown(f"{method} /{'/'.join(path)}")


def _match(pattern: list[str], path: list[str]) -> list[str] | None:
    pairs = list(zip(pattern, path, strict=False))
    if len(pattern) != len(path) or any(want not in {"*", got} for want, got in pairs):
        return None
    return [got for want, got in pairs if want == "*"]


def _namespaces(state: State, _: Mapping[str, str]) -> Answer:
    if state.is_poisoned:
        return broken()
    found = [each for _, each in sorted(state.namespaces.items()) if not each.is_hidden]
    return 200, {"namespaces": [views.namespace_view(each) for each in found]}


def _namespace(state: State, _: Mapping[str, str], name: str) -> Answer:
    found = state.namespaces.get(name)
    return (200, views.namespace_view(found)) if found else _no("Namespace", name)


def _delete_namespace(state: State, _: Mapping[str, str], name: str) -> Answer:
    found = state.namespaces.get(name)
    if found is None:
        return _no("Namespace", name)
    found.is_hidden = True
    for job in state.jobs.values():
        job.is_hidden |= job.namespace == name
    for dataset in state.unique_datasets():
        dataset.is_deleted |= dataset.namespace == name
    return 200, views.namespace_view(found)


def _jobs(state: State, query: Mapping[str, str], namespace: str = "") -> Answer:
    if state.is_poisoned:
        return broken()
    found = [
        each
        for each in state.jobs.values()
        if not each.is_hidden and namespace in {"", each.namespace}
    ]
    found.sort(key=lambda job: job.updated_at, reverse=True)
    page = [views.job_view(state, each) for each in _page_of(found, query)]
    return 200, {"totalCount": len(found), "jobs": page}


def _job(state: State, _: Mapping[str, str], namespace: str, name: str) -> Answer:
    found = _known_job(state, namespace, name)
    return (200, views.job_view(state, found)) if found else _no("Job", name)


def _delete_job(state: State, _: Mapping[str, str], namespace: str, name: str) -> Answer:
    found = _known_job(state, namespace, name)
    if found is None:
        return _no("Job", name)
    found.is_hidden = True
    return 200, views.job_view(state, found)


def _job_runs(state: State, query: Mapping[str, str], namespace: str, name: str) -> Answer:
    found = _known_job(state, namespace, name)
    if found is None:
        return _no("Job", name)
    runs = views.runs_of(state, found)
    return 200, {"runs": _page_of(runs, query), "totalCount": len(runs)}


def _datasets(state: State, query: Mapping[str, str], namespace: str) -> Answer:
    found = [
        each
        for each in state.unique_datasets()
        if each.namespace == namespace and not each.is_deleted
    ]
    found.sort(key=lambda dataset: dataset.name)
    page = [views.dataset_view(each) for each in _page_of(found, query)]
    return 200, {"totalCount": len(found), "datasets": page}


def _dataset(state: State, _: Mapping[str, str], namespace: str, name: str) -> Answer:
    found = _known_dataset(state, namespace, name)
    return (200, views.dataset_view(found)) if found else _no("Dataset", name)


def _delete_dataset(state: State, _: Mapping[str, str], namespace: str, name: str) -> Answer:
    found = _known_dataset(state, namespace, name)
    if found is None:
        return _no("Dataset", name)
    found.is_deleted = True
    return 200, views.dataset_view(found)


def _versions(state: State, query: Mapping[str, str], namespace: str, name: str) -> Answer:
    found = _known_dataset(state, namespace, name)
    if found is None:
        return _no("Dataset", name)
    newest = sorted(found.versions, key=lambda version: version.created_at, reverse=True)
    page = [views.version_view(state, each) for each in _page_of(newest, query)]
    return 200, {"versions": page, "totalCount": len(newest)}


def _run(state: State, _: Mapping[str, str], run_id: str) -> Answer:
    found = _known_run(state, run_id)
    return (200, views.run_view(state, found)) if found else _no("Run", run_id)


def _facets(state: State, query: Mapping[str, str], run_id: str) -> Answer:
    found = _known_run(state, run_id)
    if found is None:
        return _no("Run", run_id)
    if query.get("type") == "job":
        mine = [
            each for job in state.jobs.values() for each in job.facets if each.run_id == found.id
        ]
    else:
        mine = found.facets
    return 200, {"runId": found.id, "facets": views.merged(mine)}


def _set_run(state: State, _: Mapping[str, str], run_id: str, word: str) -> Answer:
    """No authentication: whoever asks changes what a run came to."""
    found = _known_run(state, run_id)
    if word not in _RUN_STATES:
        return _said(404, "HTTP 404 Not Found")
    if found is None:
        return _no("Run", run_id)
    state.set_state(found, _RUN_STATES[word])
    return 200, views.run_view(state, found)


def _upstream(state: State, query: Mapping[str, str]) -> Answer:
    depth = int(query.get("depth", 10))
    return 200, views.upstream(state, run_uuid(query["runId"]), depth)


def _lineage(state: State, query: Mapping[str, str]) -> Answer:
    parts = views.node(query["nodeId"])
    if len(parts) != 3:
        return broken()
    kind, namespace, name = parts
    found: Dataset | Job | None = _known_dataset(state, namespace, name)
    if kind == "job":
        found = _known_job(state, namespace, name)
    if found is None:
        return _no(kind.title(), name)
    return 200, views.lineage(state, found, int(query.get("depth", 20)))


def _events(state: State, query: Mapping[str, str]) -> Answer:
    limit, offset = int(query.get("limit", 100)), int(query.get("offset", 0))
    return 200, views.events(state, limit, offset)


def _known_run(state: State, run_id: str) -> Run | None:
    return state.runs.get(run_uuid(run_id))


def _known_job(state: State, namespace: str, name: str) -> Job | None:
    found = state.jobs.get((namespace, name))
    return None if found is None or found.is_hidden else found


def _known_dataset(state: State, namespace: str, name: str) -> Dataset | None:
    found = state.datasets.get((namespace, name))
    return None if found is None or found.is_deleted else found


def _page_of(found: list[Any], query: Mapping[str, str]) -> list[Any]:
    offset = int(query.get("offset", 0))
    return found[offset : offset + int(query.get("limit", 100))]


def _no(kind: str, name: str) -> Answer:
    return _said(404, f"{kind} '{name}' not found.")


def _said(status: int, message: str) -> Answer:
    return status, {"code": status, "message": message}


def _unknown(what: str) -> Answer:
    return _said(501, f"The fake does not know what a real Marquez answers to {what}.")


def _id() -> str:
    return secrets.token_hex(8)


def _page(status: int, reason: str) -> str:
    return (
        '<html>\n<head>\n<meta http-equiv="Content-Type" content="text/html;charset=ISO-8859-1"/>\n'
        f"<title>Error {status} {reason}</title>\n</head>\n"
        f"<body><h2>HTTP ERROR {status} {reason}</h2>\n<table>\n"
        "<tr><th>URI:</th><td>/api/v1/lineage</td></tr>\n"
        f"<tr><th>STATUS:</th><td>{status}</td></tr>\n"
        f"<tr><th>MESSAGE:</th><td>{reason}</td></tr>\n"
        "<tr><th>SERVLET:</th><td>jersey</td></tr>\n</table>\n\n</body>\n</html>\n"
    )
