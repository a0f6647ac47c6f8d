"""Change the verifier's code in every small way, one at a time, and see the tests fail; run by make.

Each mutant lives in a process of its own, forked from one that has read the test libraries and
nothing of `airflow_mlgov`. It must die by the tests of its own module. ``MODULES=merkle,proof``
runs some modules only.
"""

from __future__ import annotations

import gc
import importlib
import importlib.machinery
import importlib.util
import math
import os
import resource
import signal
import sys
import tempfile
import time
import tomllib
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
EQUAL = Path(__file__).with_name("equal.toml")
PROCESSES = 2
LONGER = 3
"""How many times what the tests take without a mutant is an endless loop."""
MEMORY_BYTES = 4 * 1024**3

LEDGER, RECORDS = "airflow_mlgov/ledger", "airflow_mlgov/records"
# Where every mutant dies, and the tests that kill.
MODULES = {
    "merkle": (f"{LEDGER}/merkle.py", ["ledger/test_merkle.py"]),
    "proof": (f"{LEDGER}/proof.py", ["ledger/test_proof.py"]),
    "signatures": (f"{LEDGER}/signatures.py", ["ledger/test_signatures.py", "ledger/test_dsse.py"]),
    "checkpoint": (
        f"{LEDGER}/checkpoint.py",
        ["ledger/test_checkpoint.py", "ledger/test_signatures.py", "ledger/test_cosignature.py"],
    ),
    "keyring": (f"{LEDGER}/keyring.py", ["ledger/test_keyring.py"]),
    "dsse": (f"{LEDGER}/dsse.py", ["ledger/test_dsse.py"]),
    "bundle_check": (f"{LEDGER}/bundle_check.py", ["ledger/test_bundle_check.py"]),
    "verify": (f"{LEDGER}/verify.py", ["ledger/test_verify.py"]),
    "model_index": (f"{LEDGER}/model_index.py", ["ledger/test_model_index.py"]),
    "seen": (f"{LEDGER}/seen.py", ["ledger/test_seen.py"]),
    "cosignature": (f"{LEDGER}/cosignature.py", ["ledger/test_cosignature.py"]),
    "entry": (f"{LEDGER}/entry.py", ["ledger/test_entry.py"]),
    "bundle": (f"{LEDGER}/bundle.py", ["ledger/test_bundle.py"]),
    "trust": (f"{LEDGER}/trust.py", ["ledger/test_trust.py"]),
    "canonical": (f"{RECORDS}/canonical.py", ["records/test_canonical.py"]),
    "timestamp": (f"{LEDGER}/timestamp.py", ["ledger/test_timestamp.py"]),
    "bundle_anchors": (f"{LEDGER}/bundle_anchors.py", ["ledger/test_bundle_anchors.py"]),
    "erasures": (f"{LEDGER}/erasures.py", ["ledger/test_verify.py"]),
    "view": (f"{LEDGER}/view.py", ["ledger/test_entry.py", "ledger/test_verify.py"]),
    "heartbeats": (f"{LEDGER}/heartbeats.py", ["ledger/test_heartbeats.py"]),
    "tiles": (f"{LEDGER}/tiles.py", ["ledger/test_tiles.py"]),
}
LIBRARIES = (
    "cryptography.x509",
    "cryptography.hazmat.asn1",
    "cryptography.hazmat.primitives.asymmetric.ec",
    "cryptography.hazmat.primitives.serialization.pkcs7",
    "hypothesis.strategies",
    "json",
    "pytest",
    "securesystemslib.dsse",
    "zipfile",
)


def _load(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module
    spec.loader.exec_module(module)
    return module


class Changed(importlib.machinery.SourceFileLoader):
    """Loads another source than the file's."""

    def __init__(self, name: str, path: str, source: str) -> None:
        super().__init__(name, path)
        self.source = source

    def get_code(self, fullname: str) -> CodeType:
        return compile(self.source, self.path, "exec", dont_inherit=True)


class Finder:
    """Finds one module in its changed source."""

    def __init__(self, path: str, source: str) -> None:
        self.name = path.removesuffix(".py").replace("/", ".")
        self.loader = Changed(self.name, str(ROOT / path), source)

    def find_spec(self, name: str, path: object, target: object = None) -> Any:
        if name != self.name:
            return None
        return importlib.util.spec_from_file_location(name, self.loader.path, loader=self.loader)


def lives(path: str, tests: Sequence[str], source: str, scratch: str, seconds: int) -> bool:
    """Run the tests over the changed source, in this process; return whether all pass."""
    import pytest
    from hypothesis import Phase, settings

    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds))
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    signal.alarm(20 * seconds)
    same = {"deadline": None, "derandomize": True, "database": None}
    settings.register_profile("mutants", phases=[Phase.explicit, Phase.generate], **same)
    settings.load_profile("mutants")
    sys.meta_path.insert(0, Finder(path, source))
    files = [str(ROOT / "tests" / "unit" / name) for name in tests]
    bare = ["-c", os.devnull, "-pno:cacheprovider", "-pno:unraisableexception"]
    told = ["-xq", "--assert=plain", "--import-mode=importlib", "--tb=line", "--disable-warnings"]
    places = [f"--rootdir={ROOT}", f"--basetemp={scratch}/{os.getpid()}"]
    return pytest.main([*bare, *told, *places, *files]) == pytest.ExitCode.OK


def fork(*work: Any, log: int) -> int:
    """Start `lives` in a process of its own, and return its number; it exits 0 if it lives."""
    number = os.fork()
    if number:
        return number
    code = 1
    try:
        os.dup2(log, 1)
        os.dup2(log, 2)
        code = 0 if lives(*work) else 1
    finally:
        os._exit(code)


def run(
    path: str, tests: Sequence[str], mutants: Sequence[Any], scratch: str, seconds: int
) -> Iterator[Any]:
    """Yield the mutants that live."""
    waiting, running = list(mutants[::-1]), {}
    with Path(os.devnull).open("w") as nowhere:
        while waiting or running:
            while waiting and len(running) < PROCESSES:
                mutant = waiting.pop()
                work = (path, tests, mutant.source, scratch, seconds)
                running[fork(*work, log=nowhere.fileno())] = mutant
            number, status = os.wait()
            mutant = running.pop(number)
            if status == 0:
                yield mutant


def seconds_of(path: str, tests: Sequence[str], scratch: str) -> int:
    """Return how long the tests may take, after they have passed without a mutant."""
    number = fork(path, tests, (ROOT / path).read_text("utf-8"), scratch, 600, log=1)
    _, status, used = os.wait4(number, 0)
    if status:
        sys.exit(f"{path}: its tests fail as it is, so they say nothing about mutants.")
    return 3 + math.ceil(LONGER * used.ru_utime)


def problems_of(name: str, scratch: str) -> Iterator[str]:
    """Run the mutants of a module; yield what is wrong."""
    path, tests = MODULES[name]
    began = time.monotonic()
    seconds = seconds_of(path, tests, scratch)
    made = list(_load(Path(__file__).with_name("mutants.py")).mutants_of((ROOT / path).read_text()))
    equal = {
        (e["where"], e["was"], e["now"]) for e in tomllib.loads(EQUAL.read_text()).get(name, [])
    }
    for where, was, now in equal - {(m.where, m.was, m.now) for m in made}:
        yield f"{path}, in {where}: listed as equal, but there is no such mutant:\n- {was}\n+ {now}"
    alive = set()
    for m in run(path, tests, made, scratch, seconds):
        alive.add((m.where, m.was, m.now))
        if (m.where, m.was, m.now) not in equal:
            yield f"{path}, in {m.where or 'the module'}: no test fails with\n- {m.was}\n+ {m.now}"
    for where, was, now in equal - alive:
        yield f"{path}, in {where}: listed as equal, but a test fails with\n- {was}\n+ {now}"
    took = time.monotonic() - began
    print(
        f"{name}: {len(made)} mutants, {len(alive)} live, {len(equal)} listed; {took:.0f} s",
        flush=True,
    )


def main() -> int:
    """Run the modules that MODULES names, or all; 1 if anything is wrong."""
    names = os.environ.get("MODULES", "").replace(",", " ").split() or list(MODULES)
    os.environ["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"
    for library in LIBRARIES:
        importlib.import_module(library)
    gc.freeze()
    os.chdir(ROOT)
    sys.path.insert(0, str(ROOT))
    found = 0
    with tempfile.TemporaryDirectory() as scratch:
        for name in names:
            for problem in problems_of(name, scratch):
                found += 1
                print(f"\n{problem}\n", flush=True)
    print(f"{found} things are wrong." if found else "Every mutant dies, but for those listed.")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
