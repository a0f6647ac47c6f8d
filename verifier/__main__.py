"""Where ``python mlgov-verify.pyz`` begins: says what is missing before anything is imported."""

from __future__ import annotations

import sys

if sys.version_info < (3, 11):
    sys.stderr.write("mlgov-verify.pyz needs Python 3.11 or newer.\n")
    raise SystemExit(64)
try:
    import cryptography  # noqa: F401
except ImportError:
    sys.stderr.write("mlgov-verify.pyz needs the Python package 'cryptography' beside it.\n")
    raise SystemExit(64) from None

from airflow_mlgov.ledger.bundle_main import main

raise SystemExit(main())
