"""``ledger anchor``, and what other commands say of anchors, by a user's own settings."""

from __future__ import annotations

import http.client
import importlib.util
import json
import sys
import threading
import time
from pathlib import Path

import pytest

from airflow_mlgov.cli import sequencer as command
from airflow_mlgov.cli import sequencer_status
from airflow_mlgov.ledger.trust import TrustRoot
from airflow_mlgov.service.anchor import AnchorProgress
from airflow_mlgov.stores.sqlite import SqliteStore

_PLACE = Path(__file__).parents[1] / "anchors" / "conftest.py"
_spec = importlib.util.spec_from_file_location("conftest_of_anchor_commands", _PLACE)
_anchors = importlib.util.module_from_spec(_spec)
sys.modules[_spec.name] = _anchors
_spec.loader.exec_module(_anchors)
place = _anchors.place
new_witness, witness = _anchors.new_witness, _anchors.witness
new_authority, authority = _anchors.new_authority, _anchors.authority

VAULT = """\
version: 1
anchors:
  - {{name: vault, kind: directory, path: {vault}, every: 1s}}
"""
ALL = (
    VAULT
    + """\
  - {{name: tsa, kind: timestamp, url: {tsa}, certificates: {root}, every: 1h}}
  - {{name: w1, kind: witness, url: {witness}, key: {key}, every: 10m}}
"""
)


@pytest.fixture
def home(place, tmp_path, configure, monkeypatch):
    """Settings of a ledger, with one anchor."""
    (tmp_path / "vault").mkdir()
    file = tmp_path / "anchors.yaml"
    configure(
        ledger_url=f"sqlite:///{place.store.path}",
        keys_dir=place.folder / "keys",
        seen_dir=tmp_path / "seen",
        anchors_path=file,
    )
    file.write_text(VAULT.format(vault=tmp_path / "vault"))
    yield tmp_path
    monkeypatch.delenv("AIRFLOW__MLGOV__ANCHORS_PATH", raising=False)


@pytest.fixture
def three(home, authority, witness):
    text = ALL.format(
        vault=home / "vault",
        tsa=authority.url,
        root=authority.root,
        witness=witness.url,
        key=witness.vkey,
    )
    (home / "anchors.yaml").write_text(text)
    return home


def test_all_anchors_take_what_is_acknowledged(airflow, place, three) -> None:
    place.grow(2)
    ended = airflow("ledger", "anchor", "--output", "json")
    assert (ended.code, ended.err) == (0, "")
    assert [(row["anchor"], row["entries"], row["problem"]) for row in ended.json] == [
        ("vault", "3", ""),
        ("tsa", "3", ""),
        ("w1", "3", ""),
    ]
    place.grow()
    assert airflow("ledger", "anchor", "--due").code == 0  # none but the folder has come due
    sizes = {row.anchor: row.size for row in place.store.anchored(newest=True)}
    assert (sizes["tsa"], sizes["w1"]) == (3, 3)
    verified = airflow("ledger", "verify")
    assert verified.code == 0
    assert "anchor tsa (timestamp): 1 checkpoint(s), the newest over 3 entries" in verified.out
    assert "anchor w1 (witness): 1 checkpoint(s), the newest over 3 entries" in verified.out


def test_one_that_fails_is_told_and_the_others_are_asked(airflow, place, three, authority) -> None:
    authority.lie = lambda query: (503, "text/plain", b"")
    ended = airflow("ledger", "anchor", "--output", "json")
    assert ended.code == 1
    assert "Anchor tsa took no checkpoint. Authority tsa answered HTTP 503." in ended.err
    assert [row["entries"] for row in ended.json] == ["1", "0", "1"]


def test_verify_finds_a_rewritten_ledger_by_the_folder(airflow, place, home) -> None:
    place.grow(3)
    assert airflow("ledger", "anchor").code == 0
    place.rewrite(keep=2, then=4)
    ended = airflow("ledger", "verify")
    assert ended.code == 1
    assert "A checkpoint kept elsewhere over 4 entries has another root hash" in ended.out


def test_a_trust_file_names_the_witnesses_and_then_only_those_count(
    airflow, place, three, witness
) -> None:
    assert airflow("ledger", "anchor").code == 0
    trust = three / "trust.json"
    assert airflow("ledger", "trust", "--file", trust).code == 0
    root = TrustRoot.parse(trust.read_bytes())
    assert [str(key) for key in root.witnesses] == [witness.vkey]
    assert "(witness): 1 checkpoint(s)" in airflow("ledger", "verify", "--trust", trust).out
    trust.write_bytes(TrustRoot(root.origin, root.log_keys).as_bytes())
    ended = airflow("ledger", "verify", "--trust", trust)
    assert "(witness): 0 checkpoint(s); 1 not checked" in ended.out


def test_without_anchors_it_says_so(airflow, place, home, monkeypatch) -> None:
    monkeypatch.delenv("AIRFLOW__MLGOV__ANCHORS_PATH")
    ended = airflow("ledger", "anchor")
    assert (ended.code, ended.out) == (64, "")
    assert "No anchor is configured." in ended.err
    assert airflow("ledger", "verify").code == 0


def test_a_malformed_file_is_told_with_its_line(airflow, place, home) -> None:
    (home / "anchors.yaml").write_text(
        "version: 1\nanchors:\n  - name: w\n    kind: witness\n    url: http://x\n"
        "    key: witness.example+00000000+AAAA\n    every: 10m\n"
    )
    for words in (("ledger", "anchor"), ("ledger", "verify"), ("ledger", "trust", "--file", "x")):
        ended = airflow(*words)
        assert ended.code == 65
        assert "anchors.yaml:6: anchors.w.key: Key 'witness.example'" in ended.err
    assert not Path("x").exists()


def test_the_doctor_says_how_far_each_anchor_is(airflow, place, home) -> None:
    def said():
        rows = airflow("doctor", "--output", "json").json
        return next((r["state"], r["detail"]) for r in rows if r["check"] == "anchors")

    assert said() == ("remark", "vault: 0 of 1 entries; overdue: vault")
    airflow("ledger", "anchor")
    assert said() == ("ok", "vault: 1 of 1 entries")
    time.sleep(2.1)
    place.grow()
    assert said() == ("remark", "vault: 1 of 2 entries; overdue: vault")
    (home / "anchors.yaml").write_text("version: 1\n")
    assert said()[0] == "wrong"


def test_the_sequencer_anchors_beside_its_rounds(airflow, place, home, monkeypatch) -> None:
    monkeypatch.setattr("airflow_mlgov.service.anchor.LOOK_S", 0.05)
    stopping, address = threading.Event(), []

    def stopped_by_test(service):
        threading.Thread(target=lambda: (stopping.wait(60), service.stop()), daemon=True).start()
        return _Nothing()

    real = sequencer_status.serving

    def serving(*args):
        context = real(*args)
        return _Noting(context, address)

    monkeypatch.setattr(command, "_stopped_by_signals", stopped_by_test)
    monkeypatch.setattr(sequencer_status, "serving", serving)
    words = ("sequencer", "--tick", "0.01", "--heartbeat", "0", "--listen", "127.0.0.1:0")
    ended = []
    thread = threading.Thread(target=lambda: ended.append(airflow(*words)), daemon=True)
    thread.start()
    try:
        wait_for(lambda: address and ask(address[0], "/health")["anchors"][0]["entries"] == 1)
        place.grow(2)
        wait_for(lambda: ask(address[0], "/health")["anchors"][0]["entries"] == 3)
        said = ask(address[0], "/health")
        assert said["status"] == "ok"
        assert (said["anchors"][0]["name"], said["anchors"][0]["failing"]) == ("vault", False)
        assert 'mlgov_anchor_entries{anchor="vault"} 3\n' in ask(address[0], "/metrics")
    finally:
        stopping.set()
        thread.join(20)
    assert ended[0].code == 0
    assert SqliteStore(place.store.path).anchored(newest=True)[0].size == 3


class _Nothing:
    def __enter__(self):
        return None

    def __exit__(self, *_):
        return None


class _Noting:
    def __init__(self, context, address):
        self._context, self._address = context, address

    def __enter__(self):
        found = self._context.__enter__()
        self._address.append(found)
        return found

    def __exit__(self, *error):
        return self._context.__exit__(*error)


def ask(address, path: str):
    connection = http.client.HTTPConnection(*address, timeout=10)
    connection.request("GET", path)
    text = connection.getresponse().read().decode()
    return json.loads(text) if path == "/health" else text


def wait_for(condition) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_metrics_of_anchors() -> None:
    assert sequencer_status.anchors_metrics([]) == ""
    text = sequencer_status.anchors_metrics(
        [AnchorProgress("a"), AnchorProgress("b", 7, _anchors.SettableClock().now(), 3, "x", True)]
    )
    samples = [line for line in text.splitlines() if not line.startswith("#")]
    assert samples == [
        'mlgov_anchor_entries{anchor="a"} 0',
        'mlgov_anchor_entries{anchor="b"} 7',
        'mlgov_anchor_last_success_timestamp_seconds{anchor="b"} 1780315200.0',
        'mlgov_anchor_failures_total{anchor="a"} 0',
        'mlgov_anchor_failures_total{anchor="b"} 3',
        'mlgov_anchor_contradicts{anchor="a"} 0',
        'mlgov_anchor_contradicts{anchor="b"} 1',
    ]
    assert text.count("# HELP") == text.count("# TYPE") == 4
