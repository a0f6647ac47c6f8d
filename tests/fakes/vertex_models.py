"""The fake's Model Registry: uploads, versions, aliases, labels.

Where the reference leaves a choice it takes the one that is harder for us: labels of the first
upload are the model's, and so are merged into every version's; see `Models.alias_moves`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import vertex_protos as protos
from google.cloud import aiplatform_v1 as v1


@dataclass
class Models:
    """Models by resource name.

    Attributes:
        alias_moves: Whether an alias that another version holds is moved, or refused.
        slow: How often an operation is asked for before it is done.
        operation_error: Message with which the next uploads end, after they were taken.
        page_most: Versions on a page.
    """

    alias_moves: bool = True
    slow: int = 0
    operation_error: str = ""
    page_most: int = 100
    versions: dict[str, list[v1.Model]] = field(default_factory=dict)
    labels: dict[str, dict[str, str]] = field(default_factory=dict)
    operations: dict[str, list[Any]] = field(default_factory=dict)

    def upload(self, location: str, body: Any) -> dict[str, Any]:
        asked = protos.parsed({**body, "parent": location}, v1.UploadModelRequest)
        model = asked.model
        if not model.display_name or not model.container_spec.image_uri:
            raise protos.invalid("A model needs display_name and container_spec.image_uri.")
        if not model.artifact_uri.startswith("gs://"):
            raise protos.invalid("artifact_uri must be in Cloud Storage.")
        protos.check_labels(dict(model.labels))
        name = asked.parent_model or self._new_name(location, asked.model_id)
        if asked.parent_model and asked.parent_model not in self.versions:
            raise protos.missing(f"Model {name}")
        number = f"{name}/operations/{len(self.operations) + 1}"
        response = None
        if not self.operation_error:
            version = self._add(name, model)
            response = v1.UploadModelResponse(model=name, model_version_id=version.version_id)
        self.operations[number] = [self.slow, response]
        return self.operation(number, waits=0)

    def operation(self, number: str, waits: int = 1) -> dict[str, Any]:
        if number not in self.operations:
            raise protos.missing(f"Operation {number}")
        left, response = self.operations[number]
        self.operations[number][0] = max(left - waits, 0)
        if response is None:
            error = {"code": 9, "message": self.operation_error}
            return {"name": number, "done": True, "error": error}
        done = response if left == 0 else None
        return protos.operation(number, done, v1.UploadModelOperationMetadata())

    def get(self, name: str) -> dict[str, Any]:
        return protos.written(self._merged(self._version(name)))

    def list_versions(self, name: str, query: dict[str, str]) -> dict[str, Any]:
        if name not in self.versions:
            raise protos.missing(f"Model {name}")
        wanted = query.get("filter", "")
        merged = [self._merged(each) for each in self.versions[name]]
        shown = [each for each in merged if protos.matches(wanted, dict(each.labels))]
        models, token = protos.page(shown, query, self.page_most)
        return protos.written(v1.ListModelVersionsResponse(models=models, next_page_token=token))

    def merge_aliases(self, name: str, body: Any) -> dict[str, Any]:
        asked = protos.parsed({**body, "name": name}, v1.MergeVersionAliasesRequest)
        version = self._version(name, exact=True)
        for alias in asked.version_aliases:
            if not protos.ALIAS.fullmatch(alias.removeprefix("-")):
                raise protos.invalid(f"Alias {alias} is invalid.")
            if alias == "-default":
                raise protos.invalid("There must be exactly one default version.")
            if alias.startswith("-"):
                self.drop(version, alias[1:])
            elif alias not in version.version_aliases:
                self._take(name.partition("@")[0], alias)
                version.version_aliases = [*version.version_aliases, alias]
        return self.get(name)

    def update(self, name: str, query: dict[str, str], body: Any) -> dict[str, Any]:
        asked = protos.parsed(body, v1.Model)
        if query.get("updateMask") != "labels":
            raise protos.invalid("The fake updates labels only.")
        protos.check_labels(dict(asked.labels))
        model, _, number = name.partition("@")
        if number:
            self._version(name, exact=True).labels = dict(asked.labels)
        else:
            self.labels[model] = dict(asked.labels)
        return self.get(name)

    def drop(self, version: v1.Model, alias: str) -> None:
        version.version_aliases = [each for each in version.version_aliases if each != alias]

    def _take(self, model: str, alias: str) -> None:
        for other in self.versions[model]:
            if alias in other.version_aliases:
                if not self.alias_moves:
                    raise protos.RefusedError(
                        400, "FAILED_PRECONDITION", f"Alias {alias} is held by another version."
                    )
                self.drop(other, alias)

    def _new_name(self, location: str, model_id: str) -> str:
        protos.check_model_id(model_id)
        name = f"{location}/models/{model_id}"
        if name in self.versions:
            raise protos.RefusedError(409, "ALREADY_EXISTS", f"Model {name} already exists.")
        return name

    def _add(self, name: str, asked: v1.Model) -> v1.Model:
        version = v1.Model(asked)
        others = self.versions.setdefault(name, [])
        version.name = name
        version.version_id = str(len(others) + 1)
        version.version_create_time = datetime.now(UTC)
        if not others:
            version.version_aliases = [*version.version_aliases, "default"]
            self.labels[name] = dict(version.labels)
            version.labels = {}
        others.append(version)
        return version

    def _version(self, name: str, *, exact: bool = False) -> v1.Model:
        model, _, which = name.partition("@")
        for version in self.versions.get(model, ()):
            if which == version.version_id or (
                not exact and (which or "default") in version.version_aliases
            ):
                return version
        raise protos.missing(f"Model {name}")

    def _merged(self, version: v1.Model) -> v1.Model:
        shown = v1.Model(version)
        shown.labels = {**self.labels[version.name], **dict(version.labels)}
        return shown
