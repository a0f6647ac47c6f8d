"""Change the code of verifier and controls in every small way, one at a time; see tests fail.

Run by make.

Each mutant lives in a process of its own, forked from one that has read the test libraries and
nothing of `airflow_mlgov`. It must die by the tests of its own module. ``MODULES=merkle,proof``
runs some modules only.
"""

from __future__ import annotations

import ast
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
PROCESSES = len(os.sched_getaffinity(0))
LONGER = 3
"""How many times what the tests take without a mutant is an endless loop."""
MEMORY_BYTES = 4 * 1024**3

# Where every mutant dies, and the tests of its folder that kill: its own first, then its users'.
MODULES = {
    "ledger/merkle": ["merkle"],
    "ledger/proof": ["proof"],
    "ledger/signatures": ["signatures", "dsse"],
    "ledger/checkpoint": ["checkpoint", "signatures", "cosignature"],
    "ledger/keyring": ["keyring"],
    "ledger/dsse": ["dsse"],
    "ledger/model_index": ["model_index"],
    "ledger/seen": ["seen"],
    "ledger/cosignature": ["cosignature"],
    "ledger/bundle_check": ["bundle_check", "keyring", "bundle_anchors"],
    "ledger/verify": ["verify", "erasures", "heartbeats", "keyring"],
    "ledger/view": ["verify", "keyring"],
    "ledger/entry": ["entry", "keyring"],
    "ledger/trust": ["trust"],
    "records/canonical": ["canonical"],
    "ledger/bundle_anchors": ["bundle_anchors"],
    "ledger/timestamp": ["timestamp"],
    "ledger/bundle": ["bundle", "bundle_check", "bundle_anchors"],
    "ledger/erasures": ["erasures"],
    "ledger/heartbeats": ["heartbeats"],
    "ledger/tiles": ["tiles"],
    "ledger/subtrees": ["subtrees"],
    "ledger/key_set": ["key_set"],
    "policy/platform_controls": ["platform_controls"],
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
    """Return how long the tests may take, after they have passed without a mutant.

    The source is written anew, as a mutant's is: a test that fails for that alone kills them all.
    """
    source = ast.unparse(ast.parse((ROOT / path).read_text("utf-8")))
    number = fork(path, tests, source, scratch, 600, log=1)
    _, status, used = os.wait4(number, 0)
    if status:
        sys.exit(f"{path}: its tests fail as it is, so they say nothing about mutants.")
    return 3 + math.ceil(LONGER * used.ru_utime)


def problems_of(module: str, scratch: str) -> Iterator[str]:
    """Run the mutants of a module; yield what is wrong."""
    folder, _, name = module.partition("/")
    path = f"airflow_mlgov/{module}.py"
    tests = [f"{folder}/test_{test}.py" for test in MODULES[module]]
    began = time.monotonic()
    seconds = seconds_of(path, tests, scratch)
    mutants = _load(Path(__file__).with_name("mutants.py"))
    made = {m.change: m for m in mutants.mutants_of((ROOT / path).read_text("utf-8"))}
    listed = tomllib.loads(EQUAL.read_text("utf-8")).get(name, [])
    equal = {(each["where"], each["was"], each["now"]) for each in listed}
    alive = {m.change for m in run(path, tests, list(made.values()), scratch, seconds)}
    for said, changes in (
        ("no test fails with", alive - equal),
        ("listed as equal, but a test fails with", (equal & made.keys()) - alive),
        ("listed as equal, but there is no such change:", equal - made.keys()),
    ):
        for where, was, now in sorted(changes):
            yield f"{path}, in {where or 'the module'}: {said}\n- {was}\n+ {now}"
    took = time.monotonic() - began
    print(f"{module}: {len(made)} mutants, {len(alive)} live, {len(equal)} listed; {took:.0f} s")


def main() -> int:
    """Run the modules that MODULES names, or all; 1 if anything is wrong."""
    sys.stdout.reconfigure(line_buffering=True)
    wanted = os.environ.get("MODULES", "").replace(",", " ").split()
    if unknown := set(wanted) - {module.partition("/")[2] for module in MODULES}:
        sys.exit(f"MODULES: no module {', '.join(sorted(unknown))} in {Path(__file__).name}.")
    os.environ["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"
    for library in LIBRARIES:
        importlib.import_module(library)
    gc.freeze()
    os.chdir(ROOT)
    sys.path.insert(0, str(ROOT))
    found = 0
    with tempfile.TemporaryDirectory() as scratch:
        for module in MODULES:
            if wanted and module.partition("/")[2] not in wanted:
                continue
            for problem in problems_of(module, scratch):
                found += 1
                print(f"\n{problem}\n")
    print(f"{found} things are wrong." if found else "Every mutant dies, but for those listed.")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
