"""Requests and answers held against botocore's own service models, the bounds included.

botocore itself checks types, names and least lengths only; patterns, enumerations and greatest
lengths stand in the same models and are checked here.
"""

from __future__ import annotations

import re
from datetime import datetime
from functools import cache
from typing import Any

import botocore.session
from botocore.validate import ParamValidator


@cache
def operation(service: str, name: str) -> Any:
    loader = botocore.session.get_session()
    return loader.get_service_model(service).operation_model(name)


def problems(shape: Any, value: Any) -> list[str]:
    """Return what is wrong with a request or an answer."""
    report = ParamValidator().validate(value, shape)
    return [report.generate_report()] if report.has_errors() else list(_walk(shape, value, ""))


def as_json(value: Any) -> Any:
    """Return an answer as the JSON protocol writes it: times are seconds."""
    if isinstance(value, dict):
        return {key: as_json(each) for key, each in value.items()}
    if isinstance(value, list):
        return [as_json(each) for each in value]
    return value.timestamp() if isinstance(value, datetime) else value


def _walk(shape: Any, value: Any, where: str):
    if shape.type_name == "structure":
        for name, each in value.items():
            yield from _walk(shape.members[name], each, f"{where}.{name}")
    elif shape.type_name == "list":
        yield from _bounds(shape, len(value), where)
        for each in value:
            yield from _walk(shape.member, each, f"{where}[]")
    elif shape.type_name == "map":
        yield from _bounds(shape, len(value), where)
        for name, each in value.items():
            yield from _walk(shape.key, name, f"{where} key")
            yield from _walk(shape.value, each, f"{where}.{name}")
    elif shape.type_name == "string":
        yield from _text(shape, value, where)
    elif shape.type_name in {"integer", "long"}:
        yield from _bounds(shape, value, where)


def _bounds(shape: Any, size: int, where: str):
    low, high = shape.metadata.get("min"), shape.metadata.get("max")
    if (low is not None and size < low) or (high is not None and size > high):
        yield f"{where}: {size} is not within {low} and {high}"


def _text(shape: Any, value: str, where: str):
    yield from _bounds(shape, len(value), where)
    if shape.enum and value not in shape.enum:
        yield f"{where}: {value!r} is none of {shape.enum}"
    pattern = shape.metadata.get("pattern")
    if pattern and not _pattern(pattern).fullmatch(value):
        yield f"{where}: {value!r} does not match {pattern}"


@cache
def _pattern(text: str) -> re.Pattern[str]:
    """Return a pattern in Python's words: it has no classes of Unicode, and `$` ends a text."""
    for theirs, ours in ((r"\p{L}", r"\w"), (r"\p{N}", r"\d"), (r"\p{Z}", r"\s")):
        text = text.replace(theirs, ours)
    text = re.sub(r"\\p\{[MSP]\}", r"\\W", text)
    return re.compile(re.sub(r"\$\{\d+,\d+\}$", "", text))
