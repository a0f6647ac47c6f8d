"""Build the verifier that auditors run into one file, the same bytes every time; run by `make`.

Needs Python 3.11 or newer and nothing else. What goes in: `errors`, `records` and `ledger`, which
import the standard library and `cryptography` only (an import-linter contract holds them to that).
"""

from __future__ import annotations

import hashlib
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from airflow_mlgov.service.zip_application import zip_application  # noqa: E402

PACKAGE = "airflow_mlgov"
ROOMS = ("records", "ledger")


def sources() -> dict[str, bytes]:
    """Return what the file holds, by name."""
    package = ROOT / PACKAGE
    files = [package / "__init__.py", package / "errors.py"]
    files += [path for room in ROOMS for path in (package / room).rglob("*.py")]
    held = {path.relative_to(ROOT).as_posix(): path.read_bytes() for path in files}
    return {**held, "__main__.py": (ROOT / "verifier" / "__main__.py").read_bytes()}


def build() -> bytes:
    """Return the file's bytes: the same for the same sources."""
    return zip_application(sources())


def main(target: str) -> int:
    """Write the file, and print its SHA-256 for those who will check theirs."""
    path = Path(target)
    path.parent.mkdir(parents=True, exist_ok=True)
    data = build()
    path.write_bytes(data)
    path.chmod(0o755)
    print(f"{hashlib.sha256(data).hexdigest()}  {path.name}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1]))
