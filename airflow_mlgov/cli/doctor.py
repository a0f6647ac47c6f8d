"""``airflow mlgov doctor``: what is installed, set and reachable; never a secret."""

from __future__ import annotations

import os
import re
import stat
from argparse import Namespace
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from pathlib import Path

from airflow_mlgov.cli.doctor_platforms import diagnose_platforms
from airflow_mlgov.cli.installed import MISSING, OK, REMARK, WRONG, Diagnosis, diagnose_packages
from airflow_mlgov.cli.run import print_rows, reports_errors
from airflow_mlgov.errors import EvidenceError, MlgovError, VersionNotFoundError
from airflow_mlgov.records.digest import Digest

SETTINGS = ("ledger_url", "evidence_url", "inventory_path", "policy_path", "keys_dir")
WITH_DEFAULT = "seen_dir"
OPTIONAL = "trust_path"
_SQLITE = "sqlite:///"
_LOGIN = re.compile(r"(?<=://)[^\s/]*@")


@reports_errors
def doctor(args: Namespace) -> None:
    """Print a row for each thing that was looked at; exit with 1 if something is wrong."""
    found = [
        *diagnose_packages(),
        *_diagnose_settings(),
        *_diagnose_reach(args.registry),
        *diagnose_platforms(),
    ]
    shown = [_without_secrets(diagnosis) for diagnosis in found]
    print_rows([asdict(diagnosis) for diagnosis in shown], args.output)
    if any(diagnosis.state == WRONG for diagnosis in shown):
        raise SystemExit(1)


def _diagnose_settings() -> Iterator[Diagnosis]:
    for name in (*SETTINGS, WITH_DEFAULT):
        check = f"setting {name}"
        value = _setting(name)
        if not value:
            remedy = f"Set it in airflow.cfg or as AIRFLOW__MLGOV__{name.upper()}."
            yield Diagnosis(check, WRONG, "not set", remedy)
        elif name == "ledger_url":  # the only one that may hold a password
            yield Diagnosis(check, OK, f"set ({value.partition(':')[0]})")
        else:
            yield Diagnosis(check, OK, value)

    trust = _setting(OPTIONAL)
    yield Diagnosis(f"setting {OPTIONAL}", OK, trust or "not set: keys are made where they lack")


def _diagnose_reach(conn_id: str) -> Iterator[Diagnosis]:
    found = list(_tried("ledger store", "ledger_url", _see_ledger))
    yield from found
    if all(diagnosis.state == OK for diagnosis in found):
        yield from _tried("heartbeats", "ledger_url", _see_heartbeats)
    yield from _tried("remembered checkpoints", "seen_dir", _see_remembered)
    yield from _attempt("anchors", _see_anchors)
    yield from _tried("keys", "keys_dir", _see_keys)
    yield from _tried("evidence store", "evidence_url", lambda _: _see_evidence())
    yield from _tried("inventory", "inventory_path", _see_inventory)
    yield from _tried("policy packs", "policy_path", _see_packs)
    yield from _attempt(f"registry {conn_id}", lambda: _see_registry(conn_id))
    yield from _attempt("lineage", _see_lineage)


def _tried(check: str, name: str, see: Callable[[str], Diagnosis]) -> Iterator[Diagnosis]:
    """Look at what a setting names; a setting that is missing was said already."""
    value = _setting(name)
    if value:
        yield from _attempt(check, lambda: see(value))


def _attempt(check: str, see: Callable[[], Diagnosis]) -> Iterator[Diagnosis]:
    try:
        yield replace(see(), check=check)
    except MlgovError as error:
        yield Diagnosis(check, WRONG, error.problem, error.remedy)


def _setting(name: str) -> str:
    from airflow_mlgov.errors import ConfigurationError
    from airflow_mlgov.wiring import setting

    try:
        return setting(name)
    except ConfigurationError:
        return ""


def _see_ledger(url: str) -> Diagnosis:
    from airflow_mlgov.wiring import open_ledger_store

    store = open_ledger_store(url)
    file = Path(url.removeprefix(_SQLITE))
    if url.startswith(_SQLITE) and not file.exists():
        return _to_be_made(file)
    size = store.head().size
    return Diagnosis("", OK, f"{size} entries under a signed checkpoint; not verified here")


def _see_heartbeats(url: str) -> Diagnosis:
    from airflow_mlgov.ledger.heartbeats import in_words, is_silent, overdue
    from airflow_mlgov.records.clock import SystemClock
    from airflow_mlgov.service.sequencer import newest_heartbeat
    from airflow_mlgov.wiring import open_ledger_store

    store = open_ledger_store(url)
    file = Path(url.removeprefix(_SQLITE))
    if url.startswith(_SQLITE) and not file.exists():
        return _to_be_made(file)
    newest = newest_heartbeat(store)
    if newest is None:
        return Diagnosis("", OK, "none of late: only `airflow mlgov sequencer` writes them")
    now, interval_s = SystemClock().now(), int(newest.body["interval_s"])
    if is_silent(newest.at, interval_s, now):
        said = overdue(newest.at, interval_s, now)
        return Diagnosis("", REMARK, said, "See whether `airflow mlgov sequencer` runs.")
    return Diagnosis("", OK, f"newest {in_words(now - newest.at)} ago; not verified here")


def _see_remembered(folder: str) -> Diagnosis:
    from airflow_mlgov.wiring import open_seen

    place, seen = Path(folder), open_seen()
    evidence = [] if seen is None else seen.evidence()
    if evidence:
        remedy = "docs/explanation/ledger.md says what this means and how to go on."
        return Diagnosis("", WRONG, f"the ledger contradicted itself: {evidence[0]}", remedy)
    if not place.exists():
        return _to_be_made(place)
    if not place.is_dir() or not os.access(place, os.W_OK | os.X_OK):
        return Diagnosis("", WRONG, f"{place} cannot be written", "Check [mlgov] seen_dir.")
    return Diagnosis("", OK, f"in {place}")


def _see_anchors() -> Diagnosis:
    from airflow_mlgov.records.clock import SystemClock
    from airflow_mlgov.wiring import open_anchors, open_ledger_store

    configured = open_anchors()
    if not configured:
        return Diagnosis("", OK, "none: whoever holds database and log key is trusted")
    url = _setting("ledger_url")
    if not url or (url.startswith(_SQLITE) and not Path(url.removeprefix(_SQLITE)).exists()):
        return Diagnosis("", OK, f"{len(configured)} configured")
    store, now = open_ledger_store(url), SystemClock().now()
    last, size = {row.anchor: row for row in store.anchored(newest=True)}, store.head().size
    said, late = [], []
    for due in configured:
        row = last.get(due.anchor.name)
        said.append(f"{due.anchor.name}: {row.size if row else 0} of {size} entries")
        grown = size > (row.size if row else 0)
        if grown and (row is None or now - row.at > 2 * due.every):
            late.append(due.anchor.name)
    if late:
        remedy = "`airflow mlgov ledger anchor` says what is wrong with it."
        return Diagnosis("", REMARK, f"{', '.join(said)}; overdue: {', '.join(late)}", remedy)
    return Diagnosis("", OK, ", ".join(said))


def _see_keys(folder: str) -> Diagnosis:
    from airflow_mlgov.wiring import open_keys

    place, is_given = Path(folder), bool(_setting(OPTIONAL))
    if not place.exists() and not is_given:
        return _to_be_made(place)
    keys = sorted(place.glob("*.key"))
    uris = sorted(place.glob("*.uri"))
    try:
        open_to_others = [key.name for key in keys if stat.S_IMODE(key.stat().st_mode) & 0o077]
    except OSError as error:
        return Diagnosis("", WRONG, f"{place}: {error.strerror}", "Check its permissions.")
    if open_to_others:
        detail = f"others may read {', '.join(open_to_others)}"
        return Diagnosis("", WRONG, detail, f"chmod 600 {place}/*.key")
    if is_given or uris:
        held = ", ".join(sorted(open_keys()[0]))
        return Diagnosis("", OK, f"{held or 'none'}; {_whose_keys(is_given)}")
    return Diagnosis("", OK, ", ".join(key.name for key in keys) or "none yet: made on first use")


def _whose_keys(is_given: bool) -> str:
    return "the trust file names those of all processes" if is_given else "no trust file"


def _see_evidence() -> Diagnosis:
    from airflow_mlgov.wiring import open_evidence

    store = open_evidence()
    try:
        store.get(Digest.of(b""))  # nobody keeps an empty document: missing is the right answer
    except EvidenceError as error:
        if not isinstance(error.__cause__, FileNotFoundError):
            raise
    return Diagnosis("", OK, "can be read; writing was not tried")


def _see_inventory(path: str) -> Diagnosis:
    from airflow_mlgov.policy.checks import check_inventory

    found = check_inventory(path, None)
    return _counted(len(found.good), len(found.errors), "inventory")


def _see_packs(path: str) -> Diagnosis:
    from airflow_mlgov.policy.checks import check_packs

    found = check_packs(path)
    return _counted(len(found.good), len(found.errors), "policy")


def _counted(good: int, errors: int, command: str) -> Diagnosis:
    if errors:
        remedy = f"airflow mlgov {command} check"
        return Diagnosis("", WRONG, f"{good} fit for use, {errors} error(s)", remedy)
    if not good:
        return Diagnosis("", WRONG, "no *.yaml or *.yml file", "airflow mlgov init")
    return Diagnosis("", OK, f"{good} fit for use")


def _see_registry(conn_id: str) -> Diagnosis:
    from airflow_mlgov.wiring import open_registry

    registry = open_registry(conn_id)
    try:
        registry.by_alias("airflow-mlgov-doctor", "none")
    except VersionNotFoundError:
        return Diagnosis("", OK, "answers")
    return Diagnosis("", OK, "answers")


def _see_lineage() -> Diagnosis:
    """See what the deployment's own configuration makes of lineage; no DAG can change that."""
    from airflow_mlgov.enforcement.lineage_rules import SILENCING

    try:
        from airflow.providers.openlineage import conf
    except ImportError:
        detail = "off: apache-airflow-providers-openlineage is not installed"
        return Diagnosis("", MISSING, detail, "pip install 'airflow-mlgov[lineage]'")
    if conf.is_disabled():
        detail = "off: [openlineage] has 'disabled', or no transport"
        return Diagnosis("", MISSING, detail, "Set [openlineage] transport.")
    controls = [rule.get("controls", {}) for rule in conf.emission_policy()]
    silent = sum(any(said.get(name) is False for name in SILENCING) for said in controls)
    left_out = [f"{silent} rule(s) of emission_policy"] if silent else []
    left_out += ["disabled_for_operators"] if conf.disabled_operators() else []
    if left_out:
        detail = f"on, but for what [openlineage] leaves out: {', '.join(left_out)}"
        return Diagnosis("", REMARK, detail, "See that it leaves out no governed DAG.")
    return Diagnosis("", OK, f"on, transport {conf.transport().get('type', 'of its own file')}")


def _to_be_made(path: Path) -> Diagnosis:
    above = next(folder for folder in path.parents if folder.exists())
    if os.access(above, os.W_OK | os.X_OK):
        return Diagnosis("", OK, "not there yet: made on first use")
    return Diagnosis("", WRONG, f"{above} cannot be written", "Let the Airflow user write there.")


def _without_secrets(diagnosis: Diagnosis) -> Diagnosis:
    """Take logins out of addresses, and the ledger's address out altogether."""
    ledger_url = _setting("ledger_url")

    def clean(text: str) -> str:
        hidden = text.replace(ledger_url, "(ledger_url)") if ledger_url else text
        return _LOGIN.sub("***@", hidden)

    return replace(diagnosis, detail=clean(diagnosis.detail), remedy=clean(diagnosis.remedy))
