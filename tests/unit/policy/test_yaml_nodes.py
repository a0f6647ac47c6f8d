from __future__ import annotations

import time

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from airflow_mlgov.errors import DocumentError
from airflow_mlgov.policy import yaml_nodes
from airflow_mlgov.policy.yaml_nodes import MAX_BYTES, MAX_DEPTH, MAX_NODES, compose


def refused(source: bytes) -> DocumentError:
    with pytest.raises(DocumentError) as caught:
        compose(source, "f.yaml")
    assert caught.value.file == "f.yaml"
    assert caught.value.remedy
    return caught.value


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("yes", "yes"),
        ("NO", "NO"),
        ("on", "on"),
        ("true", True),
        ("False", False),
        ("~", None),
        ("", None),
        ("2026-05-04", "2026-05-04"),
        ("12:30:00", "12:30:00"),
        ("0o17", "0o17"),
        ("007", 7),
        ("-3", -3),
        ("1_000", "1_000"),
        ("1e3", 1000.0),
        (".5", 0.5),
        ("'17'", "17"),
        ("!!str 17", "17"),
        ("|-\n    a\n    b", "a\nb"),
    ],
)
def test_words_are_those_of_yaml_1_2(text: str, value: object) -> None:
    assert compose(f"key: {text}\n".encode(), "f.yaml").value == {"key": value}


def test_lines_are_kept_for_keys_and_items() -> None:
    root = compose(b"a: 1\nb:\n  - x\n  -\n    c: 2\n", "f.yaml")
    line_b, b = root.members["b"]
    assert (root.line, line_b, b.members[0][0], b.members[1][1].members["c"][0]) == (1, 2, 3, 5)


@pytest.mark.parametrize(
    ("source", "line", "said"),
    [
        (b"", 0, "the file is empty"),
        (b"# only a comment\n\n", 0, "the file is empty"),
        (b"---\n...\n", 0, "the file is empty"),
        (b"\xef\xbb\xbfa: 1\n", 1, "byte-order mark"),
        (b"a: 1\nb: \xe9\n", 2, "byte 0xe9 is not UTF-8"),
        ("a: 1\n".encode("utf-16"), 1, "byte 0xff is not UTF-8"),
        (b"a: 1\nb: \xed\xa0\x80\n", 2, "not UTF-8"),
        (b"a:\n\tb: 1\n", 2, "indented with a tab"),
        (b"a: [1, 2\nb: 3\n", 2, "not YAML"),
        (b"a: 1\n b: 2\n", 2, "not YAML"),
        (b"a: 1\nb: 2\na: 3\n", 3, "the key 'a' stands here and on line 1"),
        (b"a: 1\n? [x]\n: 2\n", 2, "a key must be plain text"),
        (b"a: 1\n---\nb: 2\n", 2, "a second document"),
        (b"a: !!python/object/apply:os.system [id]\n", 1, "the tag"),
        (b"a: !!binary aGk=\n", 1, "the tag"),
        (b"a: *b\n", 1, "refers to nothing"),
        (b"a: &x [1, *x]\n", 1, "refers to nothing above it, or to what it is part of"),
        (b"a: .nan\n", 1, "not a finite number"),
        (b"a: 1\nb: -.Inf\n", 2, "not a finite number"),
        (b"a: 1e400\n", 1, "too long to be read exactly"),
        (b"a: 9007199254740993\n", 1, "too long to be read exactly"),
        (b"a: " + b"9" * 5000 + b"\n", 1, "too long to be read exactly"),
        ("a: 1\nb: er\u200bin\n".encode(), 2, "U+200B"),
        ("a: 1\n# \u202e hidden\n".encode(), 2, "U+202E"),
        (b'a: 1\nb: "er\\u200bin"\n', 2, "U+200B"),
        (b'"a\\u2028": 1\n', 1, "U+2028"),
        ("b: 1\na: e\u0301\n".encode(), 2, "separate accent"),
        (b"a: x\x00y\n", 1, "U+0000"),
        (b"a: 1\nb: \x1b[31m\n", 2, "U+001B"),
    ],
)
def test_refuses_with_the_line(source: bytes, line: int, said: str) -> None:
    error = refused(source)
    assert said in error.problem
    assert error.line == line


def test_depth_size_and_expansion_are_bounded() -> None:
    deep = b"[" * (MAX_DEPTH + 1) + b"1" + b"]" * (MAX_DEPTH + 1)
    assert f"more than {MAX_DEPTH} levels" in refused(deep).problem
    assert "levels" in refused(b"[" * 100_000).problem
    assert f"at most {MAX_BYTES}" in refused(b"a: " + b"x" * MAX_BYTES).problem
    assert f"more than {MAX_NODES} values" in refused(b"- 1\n" * (MAX_NODES + 1)).problem


def test_an_alias_bomb_is_refused_at_once() -> None:
    levels = [b"a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    levels += [
        b"a%d: &a%d [%s]" % (n, n, b", ".join([b"*a%d" % (n - 1)] * 10)) for n in range(1, 25)
    ]
    started = time.monotonic()
    assert "once its aliases are written out" in refused(b"\n".join(levels)).problem
    assert time.monotonic() - started < 5


def test_the_limits_themselves_are_allowed() -> None:
    compose(b"[" * MAX_DEPTH + b"1" + b"]" * MAX_DEPTH, "f.yaml")
    assert len(compose(b"- 1\n" * (MAX_NODES - 1), "f.yaml").value) == MAX_NODES - 1


def test_without_libyaml_the_answers_are_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    sources = [b"a: 1\nb: [x, {c: 'd'}]\n", b"a:\n\tb: 1\n", b"a: [1\nb: 2\n", b"a: 1\na: 2\n"]

    def answers() -> list[object]:
        found: list[object] = []
        for source in sources:
            try:
                found.append(compose(source, "f.yaml"))
            except DocumentError as error:
                found.append((error.line, error.problem.split(":")[1]))
        return found

    with_it = answers()
    monkeypatch.delattr(yaml_nodes.yaml, "CSafeLoader")
    assert answers() == with_it


_TEXT = st.text(max_size=300).map(lambda text: text.encode("utf-8", "surrogatepass"))
_NEAR_YAML = st.text(alphabet="ab:-[]{}#&*!|>'\"%@`, \n\t?~0.", max_size=60).map(str.encode)


@given(st.binary(max_size=300) | _TEXT | _NEAR_YAML)
@example(b"? ")
@example(b"%YAML 9.9\n---\na")
@example(b"- !<> x")
@example(b"&a &b c")
@example(b"{")
@example(b"a: 'x\n")
@example(b"!<tag:yaml.org,2002:str> {a: 1}")
def test_arbitrary_bytes_give_a_document_or_one_clear_error(source: bytes) -> None:
    error = None
    try:
        compose(source, "f.yaml")
    except DocumentError as raised:  # and nothing else: that would fail the test
        error = raised
    assert error is None or (error.problem.startswith("f.yaml") and error.remedy)
