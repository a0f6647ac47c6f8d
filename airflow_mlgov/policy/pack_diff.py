"""What differs between two policy packs, in plain words; comments and layout are left out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields, is_dataclass
from typing import Any, TypeAlias

from airflow_mlgov.policy.documents import PACK_SCHEMA, schema
from airflow_mlgov.policy.pack import PolicyPack

_NOT_SAID = frozenset({"digest", "source", "file"})
_NAMED_BY = ("role", "id", "test", "user")
_Node: TypeAlias = "dict[str, Any] | frozenset[str] | str"


@dataclass(frozen=True, slots=True)
class PackChange:
    """One thing in which a pack differs from an earlier one.

    Attributes:
        where: Keys down to it, with dots; items of a list by role, id, test or user.
        change: What became of it.
        meaning: What stands there, as the pack's schema says.
    """

    where: str
    change: str
    meaning: str


def pack_changes(old: PolicyPack, new: PolicyPack) -> list[PackChange]:
    """Return everything in which two packs differ, in the order of the newer one's rules."""
    said = schema(PACK_SCHEMA)
    return [
        PackChange(".".join(path), change, _meaning(said, said, path))
        for path, change in _differences(_tree(old), _tree(new), ())
    ]


def _tree(value: Any, skipped: str = "") -> _Node:
    """Return what a pack says as mappings, sets of texts and texts."""
    if is_dataclass(value) and not isinstance(value, type):
        named = {field.name: getattr(value, field.name) for field in fields(value)}
        value = {key: said for key, said in named.items() if key not in {skipped, *_NOT_SAID}}
    if isinstance(value, Mapping):
        return {
            str(key): _tree(part) for key, part in value.items() if part not in (None, "", (), {})
        }
    if isinstance(value, tuple | list):
        if value and is_dataclass(value[0]):
            return dict(map(_named, value))
        return frozenset(map(_group, value))
    return str(value).lower() if isinstance(value, bool) else str(value)


def _named(item: Any) -> tuple[str, _Node]:
    """Return by what an item of a list is known, and what else it says."""
    key = next(key for key in _NAMED_BY if hasattr(item, key))
    name, first_day = str(getattr(item, key)), getattr(item, "first_day", None)
    return (f"{name} from {first_day}" if first_day else name), _tree(item, key)


def _group(item: Any) -> str:
    return " = ".join(map(str, item)) if isinstance(item, tuple | list) else str(item)


def _differences(
    old: _Node | None, new: _Node | None, path: tuple[str, ...]
) -> Iterator[tuple[tuple[str, ...], str]]:
    if old == new:
        return
    if isinstance(old, dict) and isinstance(new, dict):
        for key in {**new, **old}:
            yield from _differences(old.get(key), new.get(key), (*path, key))
    elif old is None or new is None:
        yield path, f"is new: {_words(new)}" if new is not None else f"is gone: {_words(old)}"
    elif isinstance(old, frozenset) and isinstance(new, frozenset):
        moved = (("adds", new - old), ("drops", old - new))
        yield path, "; ".join(f"{verb} {_words(names)}" for verb, names in moved if names)
    else:
        yield path, f"{_words(old)} becomes {_words(new)}"


def _words(node: _Node | None) -> str:
    if isinstance(node, dict):
        return "; ".join(f"{key} {_words(part)}" for key, part in node.items())
    return ", ".join(sorted(node)) if isinstance(node, frozenset) else str(node)


def _meaning(whole: dict[str, Any], part: dict[str, Any], path: tuple[str, ...]) -> str:
    """Return what the schema says of the deepest part of a path that it describes."""
    if "$ref" in part:
        part = {**whole["$defs"][part["$ref"].rpartition("/")[2]], **part}
    if not path:
        return str(part.get("description", ""))
    below = part.get("properties", {}).get(path[0]) or part.get("items")
    below = below or part.get("additionalProperties")
    if not isinstance(below, dict):
        return str(part.get("description", ""))
    return _meaning(whole, below, path[1:])
