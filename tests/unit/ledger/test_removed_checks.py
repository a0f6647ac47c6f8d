"""Threat 37: each check of the verifiers, taken out, lets something through.

A check is found by what it says, and taken out of the running code. What it guards against is then
found fine: so there is a ledger or a bundle that this check alone refuses.
"""

from __future__ import annotations

import ast
import inspect
import textwrap
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from types import CodeType, FunctionType
from typing import Any

import pytest

from airflow_mlgov.ledger import bundle, bundle_check, checkpoint, dsse, keyring, merkle, verify
from airflow_mlgov.ledger.bundle_report import Verdict
from airflow_mlgov.ledger.checkpoint import open_checkpoint
from airflow_mlgov.ledger.merkle import MerkleTree, leaf_hash
from airflow_mlgov.ledger.proof import TlogProof
from airflow_mlgov.ledger.signatures import keyid
from airflow_mlgov.ledger.verify import verify_ledger
from airflow_mlgov.records.canonical import canonical_bytes
from airflow_mlgov.records.digest import Digest
from airflow_mlgov.records.people import Disclosure

SIMPLE = ast.Raise | ast.Expr


def without_check(function: FunctionType, said: str) -> CodeType:
    """Return a function's code without the one statement that says this, and without its `if`."""
    (tree,) = ast.parse(textwrap.dedent(inspect.getsource(function))).body
    assert isinstance(tree, ast.FunctionDef)
    tree.decorator_list = []
    parents = {child: node for node in ast.walk(tree) for child in ast.iter_child_nodes(node)}
    (found,) = (n for n in ast.walk(tree) if isinstance(n, SIMPLE) and said in ast.unparse(n))
    parent = parents[found]
    if isinstance(parent, ast.If) and found in parent.body:
        parent.test = ast.Constant(value=False)
    else:
        body = next(b for _, b in ast.iter_fields(parent) if isinstance(b, list) and found in b)
        body[body.index(found)] = ast.Pass()
    module = ast.fix_missing_locations(ast.Module([tree], []))
    made = compile(module, inspect.getfile(function), "exec").co_consts
    return next(code for code in made if isinstance(code, CodeType) and code.co_name == tree.name)


@contextmanager
def removed(function: Any, said: str) -> Iterator[None]:
    before = function.__code__
    function.__code__ = without_check(function, said)
    try:
        yield
    finally:
        function.__code__ = before


def test_only_the_one_check_is_taken_out() -> None:
    with removed(merkle.verify_inclusion, "too few hashes"):
        with pytest.raises(Exception, match="too many"):
            merkle.verify_inclusion(b"x" * 32, 0, 1, [b"y" * 32], b"x" * 32)
        merkle.verify_inclusion(b"x" * 32, 0, 2, [], b"x" * 32)
    with pytest.raises(Exception, match="too few"):
        merkle.verify_inclusion(b"x" * 32, 0, 2, [], b"x" * 32)
    with pytest.raises(ValueError, match="unpack"):
        without_check(merkle.verify_inclusion, "never said")  # type: ignore[arg-type]


# --- the ledger's verifier


def altered_payload(leaf: bytes) -> bytes:
    """The leaf with the same signature over something else."""
    envelope = dsse.open_envelope(leaf)
    payload = envelope.payload.replace(b'"production"', b'"elsewhere!"')
    assert payload != envelope.payload
    return dsse.seal_envelope(payload, b"", lambda _: envelope.signature).replace(
        keyid(b"").encode(), envelope.keyid.encode()
    )


def signed_elsewhere(golden: Any) -> dict[str, Any]:
    """Another ledger, whose checkpoint carries the log's old signature."""
    leaves = [*golden.leaves[:2], golden.leaf("writer")]
    text = golden.sign(leaves, role="mallory").decode().split("\n\n")[0]
    return {"leaves": leaves, "note": f"{text}\n\n{golden.note.decode().split(chr(10) * 2)[1]}"}


def of_another_log(golden: Any) -> dict[str, Any]:
    note = checkpoint.sign_checkpoint(
        "other/log", 3, b"r" * 32, golden.trust.log_keys[0], golden.key("log").sign
    )
    return {"leaves": golden.leaves, "note": note}


def appended(golden: Any, *leaves: bytes) -> dict[str, Any]:
    return {"leaves": [*golden.leaves, *leaves], "note": golden.sign([*golden.leaves, *leaves])}


def counted(golden: Any) -> dict[str, Any]:
    body = {"size": 1, "count": 1, "leaves_sha256": "sha256:" + "0" * 64}
    return appended(golden, golden.leaf("log", "model.indexed", version=None, body=body))


def kept(golden: Any, leaves: list[bytes], *, origin: str = "") -> list[Any]:
    held = open_checkpoint(golden.sign(leaves), golden.trust.log_keys, origin=golden.origin)
    return [replace(held, origin=origin or held.origin)]


LEDGER: dict[str, tuple[Any, str, Callable[[Any], dict[str, Any]]]] = {
    "the log signed the checkpoint's text": (
        checkpoint.open_checkpoint,
        "check_signature(",
        signed_elsewhere,
    ),
    "who signed an entry signed its bytes": (
        dsse.Envelope._check,
        "check_signature(",
        lambda g: appended(g, altered_payload(g.leaf("writer"))),
    ),
    "a key signs what it may": (
        keyring.Keyring._read,
        "may not sign",
        lambda g: appended(g, g.leaf("attestor")),
    ),
    "an entry is of this log": (
        keyring.Keyring._read,
        "another log",
        lambda g: appended(g, g.leaf("writer", origin="airflow-mlgov/other")),
    ),
    "an entry stands there once": (
        verify._Reading._add_entry,
        "twice",
        lambda g: appended(g, g.leaves[2]),
    ),
    "only the first is genesis": (
        verify._Reading._add_entry,
        "genesis entry",
        lambda g: {"leaves": g.leaves[1:], "note": g.sign(g.leaves[1:])},
    ),
    "a count is so": (verify._Reading._check_count, "which is not so", counted),
    "the root is the signed one": (
        verify._Reading._compare,
        "another root hash",
        lambda g: {"leaves": [*g.leaves[:2], g.leaf("writer")], "note": g.note},
    ),
    "what was kept is of this log": (
        verify._Reading._compare,
        "of another log",
        lambda g: {
            "leaves": g.leaves,
            "note": g.note,
            "earlier": kept(g, g.leaves, origin="other/log"),
        },
    ),
    "a name is the one that was committed to": (
        Disclosure.check,
        "A disclosed name",
        lambda g: {
            "leaves": g.leaves,
            "note": g.note,
            "disclose": lambda key: {
                name: replace(opened, salt=b"x" * 32) for name, opened in g.disclose(key).items()
            },
        },
    ),
}


@pytest.mark.attack(37)
@pytest.mark.parametrize("name", LEDGER)
def test_threat_37_each_check_of_the_ledger_s_verifier_is_needed(golden: Any, name: str) -> None:
    function, said, attack = LEDGER[name]
    state = {"disclose": golden.disclose, "earlier": [], **attack(golden)}
    leaves, note = state.pop("leaves"), state.pop("note")
    note = note if isinstance(note, bytes) else note.encode()

    def exit_code() -> int:
        return verify_ledger(iter(leaves), note, golden.trust, **state).exit_code

    assert exit_code() == 1
    with removed(function, said):
        assert exit_code() == 0
    assert exit_code() == 1


# --- the bundle's verifier


def another_proof(b: Any) -> None:
    """The right hashes for the right entry, under a note that is not the bundle's."""
    proof = TlogProof.parse(b.files["proofs/3.tlog-proof"])
    b.files["proofs/3.tlog-proof"] = replace(proof, checkpoint=b"x\n" + proof.checkpoint).as_bytes()


def cut_proof(b: Any) -> None:
    proof = TlogProof.parse(b.files["proofs/3.tlog-proof"])
    turned = replace(proof, hashes=(b"\0" * 32, *proof.hashes[1:]))
    b.files["proofs/3.tlog-proof"] = turned.as_bytes()


def of_another_model(b: Any) -> None:
    tree = MerkleTree(leaf_hash(leaf) for leaf in b.leaves)
    proof = TlogProof(2, tuple(tree.inclusion_proof(2)), b.files["checkpoint"])
    b.files |= {"entries/2.dsse": b.leaves[2], "proofs/2.tlog-proof": proof.as_bytes()}


def again(b: Any) -> None:
    b.leaves.append(b.leaves[4])
    resealed(b)


def resealed(b: Any) -> None:
    opened = b.files["disclosures/1.json"]
    b.seal()
    b.files["disclosures/1.json"] = opened


def second_genesis(b: Any) -> None:
    body = {"origin": b.golden.origin}
    b.leaves.append(b.golden.leaf("log", "genesis", version=None, body=body, model="retail_pd"))
    resealed(b)


def miscounted(**changes: Any) -> Callable[[Any], None]:
    def attack(b: Any) -> None:
        b.append_count(**changes)
        resealed(b)

    return attack


def disclosed(b: Any, **opened: Any) -> None:
    value = {"salt": "05" * 32, "value": {"id": "7", "name": "Ada"}}
    b.files["disclosures/1.json"] = canonical_bytes({"people.developer": {**value, **opened}})


def names_nobody(b: Any) -> None:
    value = {"salt": "05" * 32, "value": {"id": "7", "name": "Ada"}}
    b.files["disclosures/4.json"] = canonical_bytes({"people.nobody": value})


def altered_document(b: Any) -> None:
    (name,) = (name for name in b.files if name.startswith("evidence/"))
    b.files[name] += b" "


def no_document(b: Any) -> None:
    (name,) = (name for name in b.files if name.startswith("evidence/"))
    del b.files[name]


def one_document_more(b: Any) -> None:
    b.files[f"evidence/{Digest.of(b'{}').hex}"] = b"{}"


def another_version(b: Any) -> None:
    b.header = replace(b.header, version=Digest("ef" * 32))


def another_header(b: Any) -> None:
    b.header = replace(b.header, root_hash="00" * 32)


def waiting(b: Any) -> None:
    key = "sha256:" + "7" * 64
    b.files[f"waiting/{'7' * 64}.dsse"] = b.golden.leaf("writer", key=key)


def stray(b: Any) -> None:
    b.files["disclosures/2.json"] = b"{}"


CHECK = bundle_check._Check
BUNDLE: dict[str, tuple[Any, str, Callable[[Any], None]]] = {
    "the list says what is signed": (CHECK._checkpoint, "something else", another_header),
    "a proof is of the bundle's note": (
        bundle_check._check_included,
        "entry or checkpoint",
        another_proof,
    ),
    "an entry is in the tree": (merkle.verify_inclusion, "is not in the tree", cut_proof),
    "an entry is of the model": (CHECK._check_entries, "another model", of_another_model),
    "an entry stands there once": (CHECK._check_entries, "twice", again),
    "a name was committed to": (CHECK._open, "does not commit to", names_nobody),
    "a name is the one": (
        Disclosure.check,
        "A disclosed name",
        lambda b: disclosed(b, value={"id": "7", "name": "Eve"}),
    ),
    "disclosures are of an entry": (CHECK._check_strays, "is not in the bundle", stray),
    "one genesis": (CHECK._check_genesis, "and no other", second_genesis),
    "a count of more": (CHECK._check_count, "of them: ", miscounted(count=9)),
    "a count of others": (
        CHECK._check_count,
        "are not those",
        miscounted(leaves_sha256="sha256:" + "0" * 64),
    ),
    "a document is as its name": (bundle_check._check_document, "altered", altered_document),
    "a document is there": (CHECK._check_documents, "lacks", no_document),
    "a document is named": (CHECK._check_documents, "names it", one_document_more),
    "a version is known": (CHECK._check_documents, "is about version", another_version),
    "what waits is told": (CHECK._check_waiting, "was acknowledged", waiting),
}


@pytest.mark.attack(37)
@pytest.mark.parametrize("name", BUNDLE)
def test_threat_37_each_check_of_the_bundle_s_verifier_is_needed(bundled: Any, name: str) -> None:
    function, said, attack = BUNDLE[name]
    assert bundled.check().verdict is Verdict.FINE
    attack(bundled)
    verdict = bundled.check().verdict
    assert verdict is not Verdict.FINE
    # Entries that were left out are others than those that were counted, too.
    then = Verdict.ALTERED if name == "a count of more" else Verdict.FINE
    with removed(function, said):
        assert bundled.check().verdict is then
    assert bundled.check().verdict is verdict


@pytest.mark.attack(37)
@pytest.mark.parametrize(
    ("said", "days", "verdict"), [("is still to come", -365, 4), ("was asked for", 365, 4)]
)
def test_threat_37_both_checks_of_the_age_are_needed(
    bundled: Any, said: str, days: int, verdict: int
) -> None:
    def check() -> Verdict:
        now = bundled.now + timedelta(days=days)
        found = bundle_check.check_bundle(
            bundled.data(), bundled.golden.trust, now=now, max_age=timedelta(days=7)
        )
        return found.verdict

    assert check() == verdict
    with removed(CHECK._check_age, said):
        assert check() is Verdict.FINE


def renamed(data: bytes) -> bytes:
    return data.replace(b"evidence/", b"evidencE/")


@pytest.mark.attack(37)
@pytest.mark.parametrize(
    ("function", "said", "alter"),
    [
        (bundle._unpack, "one form", lambda data: data + b"\n"),
        (bundle._check_name, "may not be in a bundle", renamed),
    ],
)
def test_threat_37_checks_of_the_file_s_form_are_needed(
    bundled: Any, function: Any, said: str, alter: Callable[[bytes], bytes]
) -> None:
    """Whatever else refuses it then, this check was what refused it first."""
    data = alter(bundled.data())
    first = bundle_check.check_bundle(data, bundled.golden.trust, now=bundled.now)
    assert first.verdict is Verdict.ALTERED
    assert said in first.findings[0].text
    with removed(function, said):
        second = bundle_check.check_bundle(data, bundled.golden.trust, now=bundled.now)
    assert second.findings != first.findings
