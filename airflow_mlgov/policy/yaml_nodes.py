"""YAML bytes to plain values that remember their lines.

A document here decides who may approve a model, so it is read strictly: the YAML 1.2 core schema
only (``no`` is a word and a date is text), no tags, no key twice, no invisible characters, bounded
size, depth and expansion.

Source:
    YAML 1.2.2 section 10.3.2 (core schema), https://yaml.org/spec/1.2.2/#103-core-schema.
"""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TypeAlias

import yaml

from airflow_mlgov.errors import DocumentError

MAX_BYTES = 1024 * 1024
MAX_DEPTH = 32
MAX_NODES = 100_000

Plain: TypeAlias = "bool | int | float | str | list[Plain] | dict[str, Plain] | None"

_NULL = re.compile(r"null|Null|NULL|~|")
_BOOL = re.compile(r"true|True|TRUE|false|False|FALSE")
_INT = re.compile(r"[-+]?[0-9]+")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_NOT_FINITE = re.compile(r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)")
_MAX_DIGITS = 15  # every integer of so many digits is the same number in JSON
_STRING_TAGS = (None, "!", "tag:yaml.org,2002:str")
_INVISIBLE = frozenset({"Cc", "Cf", "Cs", "Co", "Zl", "Zp"})
_LAYOUT = frozenset("\n\r\t")


@dataclass(frozen=True, slots=True)
class Node:
    """A value and where it stands.

    Attributes:
        value: None, bool, int, float, str, or a dict or list of such.
        line: Line of its first character, counted from 1.
        size: Nodes in it with every alias written out, itself included.
        members: Line of the key (or item) and node, by key (or index).
    """

    value: Plain
    line: int
    size: int = 1
    members: dict[str | int, tuple[int, Node]] = field(default_factory=dict)


def compose(source: bytes, file: str) -> Node:
    """Return the one document in a YAML file.

    Args:
        source: The file's bytes, at most `MAX_BYTES`, UTF-8 without byte-order mark.
        file: Name for errors.

    Raises:
        DocumentError: Not such a document; a retry does not help.
    """
    text = _text(source, file)
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    try:
        return _Composer(yaml.parse(text, Loader=loader), file).document()
    except yaml.YAMLError as error:
        raise _syntax_error(error, text, file) from error


def _text(source: bytes, file: str) -> str:
    if len(source) > MAX_BYTES:
        raise DocumentError(
            f"the file has {len(source)} bytes; at most {MAX_BYTES} are read.",
            file=file,
            remedy="Split it, or keep large things elsewhere and refer to them.",
        )
    if source.startswith(b"\xef\xbb\xbf"):
        raise DocumentError(
            "the file starts with a byte-order mark.",
            file=file,
            line=1,
            remedy="Save it as UTF-8 without BOM.",
        )
    try:
        text = source.decode("utf-8")
    except UnicodeDecodeError as error:
        raise DocumentError(
            f"byte 0x{source[error.start]:02x} is not UTF-8 text.",
            file=file,
            line=source.count(b"\n", 0, error.start) + 1,
            remedy="Save the file as UTF-8.",
        ) from error
    _refuse_invisible(text, file, 1)
    return text


def _refuse_invisible(text: str, file: str, line: int) -> None:
    """Refuse what a reviewer cannot see: two names that look the same must be the same."""
    if text.isascii() and text.isprintable():
        return
    for position, character in enumerate(text):
        if unicodedata.category(character) in _INVISIBLE and character not in _LAYOUT:
            raise DocumentError(
                f"the character U+{ord(character):04X} cannot be seen by a reviewer.",
                file=file,
                line=line + text.count("\n", 0, position),
                remedy="Delete it.",
            )
    if not unicodedata.is_normalized("NFC", text):
        at = next(
            i
            for i, part in enumerate(text.split("\n"))
            if not unicodedata.is_normalized("NFC", part)
        )
        raise DocumentError(
            "a letter is written as a base letter and a separate accent.",
            file=file,
            line=line + at,
            remedy="Write it as one character (Unicode normalisation form NFC).",
        )


def _syntax_error(error: yaml.YAMLError, text: str, file: str) -> DocumentError:
    mark = getattr(error, "problem_mark", None)
    line = mark.line + 1 if mark else 0
    said = getattr(error, "problem", None) or str(error).splitlines()[0]
    shown = text.split("\n")[line - 1] if 0 < line <= text.count("\n") + 1 else ""
    if "\t" in shown[: len(shown) - len(shown.lstrip())] or "'\\t'" in said or "tab" in said:
        return DocumentError(
            "the line is indented with a tab.", file=file, line=line, remedy="Indent with spaces."
        )
    return DocumentError(
        f"not YAML: {said}.",
        file=file,
        line=line,
        remedy="Check indentation, colons and quotation marks on this line and the one above.",
    )


def _line(event: yaml.Event) -> int:
    return event.start_mark.line + 1 if event.start_mark else 0


class _Composer:
    """Builds nodes from parser events.

    PyYAML's own composer has no bounds, and its constructor keeps the last of two equal keys.
    """

    def __init__(self, events: Iterator[yaml.Event], file: str) -> None:
        self._events = events
        self._file = file
        self._anchors: dict[str, Node | None] = {}
        self._size = 0

    def document(self) -> Node:
        root: Node | None = None
        for event in self._events:
            if isinstance(event, yaml.DocumentStartEvent):
                if root is not None:
                    raise self._error(
                        event, "a second document begins here.", "Put it into a file of its own."
                    )
                root = self._node(next(self._events), 0)
        if root is None or root.value is None:
            raise DocumentError(
                "the file is empty.",
                file=self._file,
                remedy="`airflow mlgov init` writes a skeleton to start from.",
            )
        return root

    def _error(self, event: yaml.Event, problem: str, remedy: str) -> DocumentError:
        return DocumentError(problem, file=self._file, line=_line(event), remedy=remedy)

    def _node(self, event: yaml.Event, depth: int) -> Node:
        if depth > MAX_DEPTH:
            raise self._error(event, f"more than {MAX_DEPTH} levels deep.", "Write it flatter.")
        if isinstance(event, yaml.AliasEvent):
            return self._counted(event, self._alias(event))
        anchor = getattr(event, "anchor", None)
        if anchor:
            self._anchors[anchor] = None
        node = self._counted(event, self._fresh(event, depth))
        if anchor:
            self._anchors[anchor] = node
        return node

    def _fresh(self, event: yaml.Event, depth: int) -> Node:
        tag = getattr(event, "tag", None)
        if tag not in _STRING_TAGS:
            raise self._error(event, f"the tag {tag} is not read.", "Delete the tag.")
        if isinstance(event, yaml.ScalarEvent):
            return Node(self._scalar(event), _line(event))
        if isinstance(event, yaml.SequenceStartEvent):
            return self._sequence(event, depth)
        return self._mapping(event, depth)

    def _alias(self, event: yaml.AliasEvent) -> Node:
        node = self._anchors.get(str(event.anchor))
        if node is None:
            problem = f"*{event.anchor} refers to nothing above it, or to what it is part of."
            raise self._error(event, problem, "Write the value out.")
        return node

    def _counted(self, event: yaml.Event, node: Node) -> Node:
        self._size += node.size if isinstance(event, yaml.AliasEvent) else 1
        if self._size > MAX_NODES:
            problem = (
                f"the document has more than {MAX_NODES} values once its aliases are written out."
            )
            raise self._error(event, problem, "Use fewer aliases, or split the file.")
        return node

    def _sequence(self, start: yaml.Event, depth: int) -> Node:
        members: dict[str | int, tuple[int, Node]] = {}
        event = next(self._events)
        while not isinstance(event, yaml.SequenceEndEvent):
            members[len(members)] = (_line(event), self._node(event, depth + 1))
            event = next(self._events)
        value = [node.value for _, node in members.values()]
        return self._collection(value, start, members)

    def _mapping(self, start: yaml.Event, depth: int) -> Node:
        members: dict[str | int, tuple[int, Node]] = {}
        event = next(self._events)
        while not isinstance(event, yaml.MappingEndEvent):
            key, line = self._key(event), _line(event)
            if key in members:
                problem = f"the key {key!r} stands here and on line {members[key][0]}."
                raise self._error(event, problem, "Keep one of them.")
            members[key] = (line, self._node(next(self._events), depth + 1))
            event = next(self._events)
        value: Plain = {str(key): node.value for key, (_, node) in members.items()}
        return self._collection(value, start, members)

    @staticmethod
    def _collection(
        value: Plain, start: yaml.Event, members: dict[str | int, tuple[int, Node]]
    ) -> Node:
        size = 1 + sum(node.size for _, node in members.values())
        return Node(value, _line(start), size, members)

    def _key(self, event: yaml.Event) -> str:
        if not isinstance(event, yaml.ScalarEvent) or event.tag not in _STRING_TAGS:
            raise self._error(event, "a key must be plain text.", "Write `name: value`.")
        text = str(event.value)
        _refuse_invisible(text, self._file, _line(event))
        return text

    def _scalar(self, event: yaml.ScalarEvent) -> Plain:
        text = str(event.value)
        if not event.implicit[0]:  # quoted, or with a tag
            _refuse_invisible(text, self._file, _line(event))
            return text
        if _NULL.fullmatch(text):
            return None
        if _BOOL.fullmatch(text):
            return text.lower() == "true"
        if _INT.fullmatch(text) or _FLOAT.fullmatch(text) or _NOT_FINITE.fullmatch(text):
            return self._number(event, text)
        return text

    def _number(self, event: yaml.ScalarEvent, text: str) -> int | float:
        if _NOT_FINITE.fullmatch(text):
            raise self._error(event, f"{text} is not a finite number.", "Write a number.")
        if _INT.fullmatch(text) and len(text) <= _MAX_DIGITS:
            return int(text)
        number = float(text)
        if _INT.fullmatch(text) or not math.isfinite(number):
            problem = f"the number {text[:20]} is too long to be read exactly."
            raise self._error(event, problem, "Put it in quotation marks if it is an identifier.")
        return number
