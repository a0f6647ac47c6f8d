"""Build the verifier that auditors run into one file, the same bytes every time; run by `make`.

Needs Python 3.11 or newer and nothing else. What goes in: `errors`, `records` and `ledger`, which
import the standard library and `cryptography` only (an import-linter contract holds them to that).
"""

from __future__ import annotations

import hashlib
import io
import sys
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = "airflow_mlgov"
ROOMS = ("records", "ledger")
DATE = (1980, 1, 1, 0, 0, 0)


def sources() -> dict[str, bytes]:
    """Return what the file holds, by name."""
    package = ROOT / PACKAGE
    files = [package / "__init__.py", package / "errors.py"]
    files += [path for room in ROOMS for path in (package / room).rglob("*.py")]
    held = {path.relative_to(ROOT).as_posix(): path.read_bytes() for path in files}
    return {**held, "__main__.py": (ROOT / "verifier" / "__main__.py").read_bytes()}


def build() -> bytes:
    """Return the file's bytes: the same for the same sources."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for name, content in sorted(sources().items()):
            info = zipfile.ZipInfo(name, DATE)
            info.create_system = 3
            info.external_attr = 0o100644 << 16
            archive.writestr(info, content)
    return b"#!/usr/bin/env python3\n" + buffer.getvalue()


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
