"""Scoring by HTTP, as a container is started for it: a process of its own on a free port."""

from __future__ import annotations

import http.client
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import pytest
from scoring_package import GOOD, Package, make_package

from airflow_mlgov.service.container_scoring import SpecData

SCORES = b"row,score\r\n0,5.25\r\n1,10.25\r\n"


@dataclass
class Served:
    """A container; `start` waits until it answers, or has ended."""

    package: Package
    output: Path
    port: int = 0
    process: subprocess.Popen[bytes] | None = None
    command: list[str] = field(default_factory=list)

    def start(self, spec_sha256: str = "") -> Served:
        with socket.socket() as taken:
            taken.bind(("", 0))
            self.port = taken.getsockname()[1]
        entry = str(self.package.folder / "mlgov-entry.pyz")
        self.command = [sys.executable, "-P", "-S", entry, "serve"]
        self.command += ["--package", str(self.package.folder), "--port", str(self.port)]
        self.command += ["--spec-sha256", spec_sha256 or str(self.package.digest)]
        with self.output.open("wb") as output:
            self.process = subprocess.Popen(
                self.command,
                cwd=self.output.parent,
                env={"PATH": os.environ["PATH"], "TMPDIR": str(self.output.parent / "tmp")},
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        deadline = time.monotonic() + 30
        while self.process.poll() is None and not self.answers():
            assert time.monotonic() < deadline, "it never answered"
            time.sleep(0.05)
        return self

    def answers(self) -> bool:
        try:
            return self.ask("GET", "/ping")[0] == 200
        except OSError:
            return False

    def ask(self, method: str, path: str, body=None, **more) -> tuple[int, bytes]:
        with closing(http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)) as server:
            server.request(method, path, body, **more)
            said = server.getresponse()
            return said.status, said.read()

    def post(self, body, **more) -> tuple[int, bytes]:
        return self.ask("POST", "/invocations", body, **more)

    def end(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(20)

    @property
    def lines(self) -> list[str]:
        return self.output.read_text().splitlines()


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    (tmp_path / "tmp").mkdir()
    it = Served(make_package(tmp_path / "package"), tmp_path / "output")
    yield it
    if it.process is not None:
        it.process.kill()
        it.process.wait(10)


def with_script(served: Served, source: str) -> Served:
    served.package = make_package(served.output.parent / "other", source)
    return served


def test_files_are_scored_one_after_the_other_in_one_connection(served) -> None:
    served.start()
    with closing(http.client.HTTPConnection("127.0.0.1", served.port, timeout=30)) as server:
        for name, scores in (("loans.csv", SCORES), ("cards.csv", b"row,score\r\n0,15.25\r\n")):
            server.request("POST", "/invocations", served.package.data[name])
            said = server.getresponse()
            assert (said.status, said.read()) == (200, scores)
            assert said.headers["Content-Type"] == "text/csv; charset=utf-8"
            server.request("GET", "/ping?")
            health = server.getresponse()
            assert (health.status, health.read()) == (200, b"")
    assert served.end() == 0
    assert served.lines == [
        f"The model's files are version {served.package.spec.version}.",
        "scoring loans.csv",
        "loans.csv: 2 rows are scored.",
        "scoring cards.csv",
        "cards.csv: 1 rows are scored.",
        "The platform ended the container.",
    ]
    assert list((served.output.parent / "tmp").iterdir()) == []


@pytest.mark.parametrize("bare", [True, False], ids=["hex", "sha256:hex"])
def test_the_digest_may_be_written_either_way(served, bare: bool) -> None:
    digest = served.package.digest
    assert served.start(digest.hex if bare else str(digest)).answers()


def test_a_body_in_chunks_is_one_file(served) -> None:
    data = served.package.data["loans.csv"]
    chunks = (data[:1], data[1:4], data[4:])
    assert served.start().post(iter(chunks), encode_chunked=True) == (200, SCORES)


def test_chunks_may_have_extensions_and_trailers(served) -> None:
    served.start()
    with closing(socket.create_connection(("127.0.0.1", served.port), timeout=30)) as raw:
        raw.sendall(
            b"POST /invocations HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n"
            b"Connection: close\r\n\r\n"
            b"6;sig=1\r\nx\n1\n2\n\r\n0\r\nX-Sum: 1\r\nY: 2\r\n\r\n"
        )
        said = raw.makefile("rb").read()
    assert said.startswith(b"HTTP/1.1 200 OK\r\n")
    assert said.endswith(SCORES)


def test_a_client_that_waits_for_permission_gets_it(served) -> None:
    served.start()
    with closing(socket.create_connection(("127.0.0.1", served.port), timeout=30)) as raw:
        raw.sendall(
            b"POST /invocations HTTP/1.1\r\nHost: x\r\nContent-Length: 6\r\n"
            b"Expect: 100-continue\r\nConnection: close\r\n\r\n"
        )
        assert raw.recv(100).startswith(b"HTTP/1.1 100 Continue")
        raw.sendall(b"x\n1\n2\n")
        assert raw.makefile("rb").read().endswith(SCORES)


@pytest.mark.parametrize("name", ["model/deep/m.json", "score.py", "beside.py", "spec.json"])
def test_a_package_that_was_changed_does_not_answer(served, name: str) -> None:
    file = served.package.folder / name
    file.write_bytes(file.read_bytes() + b"\n")
    served.start()
    assert served.process.wait(20) == 1
    assert not served.answers()
    wanted = "was approved" if name.startswith("model/") else "is not what was staged"
    assert wanted in served.lines[-1]


def test_a_model_with_a_file_more_does_not_answer(served) -> None:
    (served.package.folder / "model" / "more.json").write_text("{}")
    served.start()
    assert served.process.wait(20) == 1
    assert "was approved" in served.lines[-1]


def test_a_model_that_changes_later_scores_no_more(served) -> None:
    served.start()
    (served.package.folder / "model" / "deep" / "m.json").write_text('{"weight": 11}')
    status, said = served.post(served.package.data["loans.csv"])
    assert status == 400
    assert b"was approved" in said


@pytest.mark.parametrize("body", [b"x\n1\n3\n", b"", b"x\n1\n2"])
def test_what_the_specification_does_not_name_is_refused(served, body: bytes) -> None:
    status, said = served.start().post(body)
    assert status == 400
    assert said.startswith(b"What was sent is none of this job's files: it is sha256:")
    assert served.post(served.package.data["loans.csv"]) == (200, SCORES), "it goes on"
    assert said.decode() in served.lines


def test_a_file_that_only_the_store_knows_is_told_by_its_length(served) -> None:
    served.package = served.package.with_spec(data={"loans.csv": SpecData(None, 6, "v1")})
    assert served.start().post(b"x\n1\n2\n") == (200, SCORES)
    assert served.post(b"x\n1\n2\n3\n")[0] == 400


def test_a_script_that_fails_is_told_with_its_reason(served) -> None:
    source = "import sys; print('looking'); sys.exit('no such column')"
    status, said = with_script(served, source).start().post(b"x\n1\n2\n")
    assert status == 400
    assert said.startswith(b"Scoring script score.py exited with status 1.")
    assert said.endswith(b"no such column")
    assert "looking" in served.lines


def test_a_disk_that_cannot_be_written_is_told(served) -> None:
    served.start()
    temporary = served.output.parent / "tmp"
    temporary.rmdir()
    status, said = served.post(b"x\n1\n2\n")
    assert status == 500
    assert said.startswith(b"The entry point failed: FileNotFoundError")
    temporary.mkdir()
    assert served.post(b"x\n1\n2\n") == (200, SCORES), "it goes on"


@pytest.mark.parametrize(("method", "path"), [("GET", "/invocations"), ("POST", "/ping")])
def test_there_are_no_other_doors(served, method: str, path: str) -> None:
    assert served.start().ask(method, path, b"x" if method == "POST" else None) == (404, b"")


@pytest.mark.parametrize("head", [b"Content-Length: 600", b"Transfer-Encoding: chunked"])
def test_a_body_that_is_cut_short_is_not_scored(served, head: bytes) -> None:
    served.start()
    with closing(socket.create_connection(("127.0.0.1", served.port), timeout=30)) as raw:
        raw.sendall(b"POST /invocations HTTP/1.1\r\nHost: x\r\n" + head + b"\r\n\r\n6\r\nx\n1")
        raw.shutdown(socket.SHUT_WR)
        said = raw.makefile("rb").read()
    assert said.startswith(b"HTTP/1.1 500 ")
    assert said.count(b"HTTP/1.1") == 1
    assert not [line for line in served.lines if line.startswith("scoring")]
    assert served.post(b"x\n1\n2\n") == (200, SCORES), "it goes on"


def test_the_rest_of_a_body_that_makes_no_sense_is_no_other_request(served) -> None:
    served.start()
    with closing(socket.create_connection(("127.0.0.1", served.port), timeout=30)) as raw:
        head = b"POST /invocations HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
        raw.sendall(head + b"zz\r\nGET /ping HTTP/1.1\r\n\r\n")
        said = raw.makefile("rb").read()
    assert said.startswith(b"HTTP/1.1 500 ")
    assert said.count(b"HTTP/1.1") == 1


def test_health_is_told_while_a_file_is_scored_and_files_wait_for_each_other(served) -> None:
    slow = "import time; print('begun', flush=True); time.sleep(1.5); print('done', flush=True)\n"
    with_script(served, slow + GOOD).start()
    found: list[tuple[int, bytes]] = []
    data = served.package.data
    threads = [
        threading.Thread(target=lambda name=name: found.append(served.post(data[name])))
        for name in data
    ]
    for thread in threads:
        thread.start()
    while "begun" not in served.lines:
        time.sleep(0.02)
    assert served.answers()
    for thread in threads:
        thread.join()
    assert [status for status, _ in found] == [200, 200]
    order = [line for line in served.lines if line in {"begun", "done"}]
    assert order == ["begun", "done", "begun", "done"]


def test_the_platforms_stop_ends_it_and_the_script(served) -> None:
    slow = "import os, time; print(os.getpid(), flush=True); time.sleep(300)"
    with_script(served, slow).start()
    thread = threading.Thread(target=lambda: _ignore(served))
    thread.start()
    while len(served.lines) < 2:
        time.sleep(0.02)
    started = time.monotonic()
    assert served.end() == 0
    assert time.monotonic() - started < 5
    thread.join(10)
    pid = int(served.lines[1])
    deadline = time.monotonic() + 10
    while psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE:
        assert time.monotonic() < deadline, "the script runs on"
        time.sleep(0.05)


def _ignore(served: Served) -> None:
    try:
        served.post(b"x\n1\n2\n")
    except (OSError, http.client.HTTPException):
        return


def test_a_port_that_is_taken_is_said(served) -> None:
    first = served.start()
    done = subprocess.run(first.command, capture_output=True, text=True, check=False, timeout=30)
    assert done.returncode == 1
    assert "Address already in use" in done.stderr
