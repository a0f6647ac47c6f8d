"""Make the secret files of docker-compose.yml that are missing; none is replaced.

To change one, delete its file and run this again. The ledger's keys are not made here but by
`docker compose run --rm keys`. Standard library only.
"""

from __future__ import annotations

import base64
import os
import secrets
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
AIRFLOWS_USER = 50000
HEX = (
    "postgres_password",
    "airflow_db_password",
    "mlflow_db_password",
    "ledger_owner_password",
    "ledger_writer_password",
    "ledger_reader_password",
    "ledger_sequencer_password",
    "redis_password",
    "api_secret_key",
    "jwt_secret",
    "marquez_db_password",
    "marquez_write_token",
)


def main(folder: Path, settings: Path) -> list[str]:
    """Make what is missing, readable by its owner only.

    Args:
        folder: Where the files go.
        settings: Compose's ``.env``, which is told as whom Airflow runs: whoever owns the files.

    Returns:
        The names of the files that were made.
    """
    values = {name: secrets.token_hex(32) for name in HEX}
    values["fernet_key"] = base64.urlsafe_b64encode(os.urandom(32)).decode()
    user = os.getuid() or AIRFLOWS_USER
    for place in (folder, folder / "ledger"):
        place.mkdir(mode=0o700, parents=True, exist_ok=True)
        _give(place, user)
    made = [name for name, value in values.items() if _make(folder / name, value, user)]
    known = settings.read_text("utf-8") if settings.exists() else ""
    if "AIRFLOW_UID=" not in known:
        with settings.open("a", encoding="utf-8") as file:
            file.write(f"AIRFLOW_UID={user}\n")
    return made


def _make(path: Path, value: str, user: int) -> bool:
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        return False
    with os.fdopen(descriptor, "w", encoding="ascii") as file:
        file.write(value)
    _give(path, user)
    return True


def _give(path: Path, user: int) -> None:
    if os.getuid() == 0:
        os.chown(path, user, 0)


if __name__ == "__main__":
    done = main(HERE / "secrets", HERE.parent / ".env")
    print("\n".join(done) or "Nothing was missing.", file=sys.stderr)
