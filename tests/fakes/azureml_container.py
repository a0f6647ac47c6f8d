"""Playing a job's container: paths in the place of names, inputs from the store, outputs to it."""

from __future__ import annotations

import re
import shlex
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from azureml_blobs import Blob

_NAMED = re.compile(r"\$\{\{(inputs|outputs)\.(\w+)\}\}")


def play(
    properties: dict[str, Any],
    container: Callable[[list[str], Path], int],
    find: Callable[[str], tuple[dict[str, Blob], str]],
) -> tuple[int, list[tuple[str, str, bytes]]]:
    """Return a container's exit status, and name of output, path and bytes of what it left.

    Args:
        properties: Of the job.
        container: Called with the command and the folder that all of its paths are beneath.
        find: Returns the container of blobs, and the path in it, of an ``azureml://`` address.
    """
    with tempfile.TemporaryDirectory(prefix="fake-azureml-") as folder:
        root = Path(folder)
        places: dict[tuple[str, str], Path] = {}
        for name, each in properties.get("inputs", {}).items():
            places["inputs", name] = _laid_out(each, root / "inputs" / name, find)
        for name in properties.get("outputs", {}):
            places["outputs", name] = root / "outputs" / name
            places["outputs", name].mkdir(parents=True)
        line = _NAMED.sub(lambda m: str(places[m[1], m[2]]), properties["command"])
        status = container(shlex.split(line), root)
        written = [
            (name, str(file.relative_to(place)), file.read_bytes())
            for (kind, name), place in places.items()
            if kind == "outputs"
            for file in sorted(place.rglob("*"))
            if file.is_file()
        ]
        return status, written


def _laid_out(
    given: dict[str, Any], place: Path, find: Callable[[str], tuple[dict[str, Blob], str]]
) -> Path:
    held, path = find(given["uri"])
    place.mkdir(parents=True)
    if given["jobInputType"] == "uri_file":
        target = place / path.rpartition("/")[2]
        target.write_bytes(held[path].data)
        return target
    for name in [name for name in held if name.startswith(f"{path}/")]:
        target = place / name.removeprefix(f"{path}/")
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(held[name].data)
    return place
