from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from airflow_mlgov.errors import TrainingError
from airflow_mlgov.platforms.local import LocalPlatform
from airflow_mlgov.service.training_platform import ScriptJob


@pytest.fixture
def job(tmp_path: Path) -> Callable[..., ScriptJob]:
    (tmp_path / "out").mkdir()

    def make(source: str, **changes) -> ScriptJob:
        script = tmp_path / "script.py"
        script.write_text(textwrap.dedent(source))
        given = {
            "script": script,
            "inputs": {"development": str(tmp_path / "dev.csv")},
            "parameters": {"depth": 3, "rate": 0.5},
            "seed": 7,
            "output_dir": tmp_path / "out",
            "timeout_s": 60.0,
            "memory_mb": None,
            "env": {},
        }
        return ScriptJob(**{**given, **changes})

    return make


def _wait_until(holds: Callable[[], object], seconds: float = 10.0) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, "it never happened"
        time.sleep(0.05)


def _alive(pid: int) -> bool:
    return psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE


def test_the_script_is_told_everything_by_file_and_variables(job, tmp_path: Path) -> None:
    lines: list[str] = []
    made = job("""
        import json, os, sys
        told = json.load(open(os.environ["MLGOV_JOB_FILE"]))
        names = [n for n in os.environ if n.startswith("MLGOV_")]
        seen = {n: os.environ[n] for n in names + ["PYTHONHASHSEED", "OMP_NUM_THREADS"]}
        json.dump([told, seen, os.getcwd(), sys.argv[1:]], open(told["output_dir"] + "/seen", "w"))
    """)
    LocalPlatform().run(made, lines.append)
    told, seen, cwd, arguments = json.loads((tmp_path / "out" / "seen").read_text())
    data, out = str(tmp_path / "dev.csv"), str(tmp_path / "out")
    assert told == {
        "v": 1,
        "inputs": {"development": data},
        "parameters": {"depth": 3, "rate": 0.5},
        "seed": 7,
        "output_dir": out,
    }
    assert seen.pop("MLGOV_JOB_FILE").startswith("/")
    assert seen == {
        "MLGOV_INPUT_DEVELOPMENT": data,
        "MLGOV_OUTPUT_DIR": out,
        "MLGOV_SEED": "7",
        "PYTHONHASHSEED": "7",
        "OMP_NUM_THREADS": "1",
    }
    assert cwd != str(Path.cwd())
    assert not Path(cwd).exists(), "the working directory goes with the script"
    assert (arguments, lines) == ([], [])


def test_the_environment_is_clean(job, monkeypatch: pytest.MonkeyPatch) -> None:
    secrets = {
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": "postgresql://u:p@h/d",
        "AIRFLOW_CONN_MLFLOW_DEFAULT": "mlflow://u:p@h",
        "AWS_SECRET_ACCESS_KEY": "x",
        "MLFLOW_TRACKING_PASSWORD": "x",
        "MY_TOKEN": "x",
    }
    for name, value in secrets.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("LANG", "C.UTF-8")
    lines: list[str] = []
    LocalPlatform().run(
        job("import os; print(sorted(os.environ))", env={"OMP_NUM_THREADS": "2", "MINE": "1"}),
        lines.append,
    )
    names = set(eval(lines[0]))
    assert not names & set(secrets)
    assert not [name for name in names if name.startswith("AIRFLOW")]
    assert {"PATH", "LANG", "MINE", "OMP_NUM_THREADS"} <= names


def test_extra_variables_win_over_the_single_thread_defaults(job) -> None:
    lines: list[str] = []
    made = job("import os; print(os.environ['OMP_NUM_THREADS'])", env={"OMP_NUM_THREADS": "2"})
    LocalPlatform().run(made, lines.append)
    assert lines == ["2"]


def test_output_arrives_while_the_script_runs(job, tmp_path: Path) -> None:
    go_on = tmp_path / "go-on"
    lines: list[str] = []

    def log(line: str) -> None:
        lines.append(line)
        go_on.touch()  # the script waits for this: it ends only if its line came before its end

    made = job(f"""
        import pathlib, sys, time
        print("first")
        while not pathlib.Path({str(go_on)!r}).exists():
            time.sleep(0.02)
        print("second", file=sys.stderr)
    """)
    LocalPlatform().run(made, log)
    assert lines == ["first", "second"]


def test_hostile_output_is_made_harmless(job) -> None:
    lines: list[str] = []
    made = job(r"""
        import sys
        out = sys.stdout.buffer
        out.write(b"bad \xff byte\n" + b"x" * 10_000 + b"\n" + b"y" * 100_000 + b"\n")
        out.write(b"\x1b[31mred\x1b[0m \x00null\x07\none\rtwo\r\nno line end")
    """)
    LocalPlatform().run(made, lines.append)
    assert lines[0] == "bad \ufffd byte"
    assert lines[1] == "x" * 4000 + " [... 6000 bytes cut]"
    assert lines[2] == "y" * 4000 + " [... 96000 bytes cut]"
    assert lines[3:] == ["red null", "one", "two", "no line end"]


@pytest.mark.parametrize(
    ("source", "says"),
    [
        ("import sys; print('why'); sys.exit(3)", r"exited with status 3\. It said last:\n    why"),
        ("1 / 0", r"exited with status 1(.|\n)*ZeroDivisionError"),
        ("import os; os.kill(os.getpid(), 9)", r"ended by signal SIGKILL"),
        ("import os; os.kill(os.getpid(), 15)", r"ended by signal SIGTERM"),
        ("def broken(", r"exited with status 1(.|\n)*SyntaxError"),
    ],
)
def test_failures_say_how_and_what_was_said_last(job, source: str, says: str) -> None:
    with pytest.raises(TrainingError, match=says):
        LocalPlatform().run(job(source), lambda _: None)


def test_a_missing_script_is_named(job, tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match=r"no training script .*none\.py"):
        LocalPlatform().run(job("", script=tmp_path / "none.py"), lambda _: None)


def test_a_script_that_runs_too_long_is_ended(job) -> None:
    started = time.monotonic()
    with pytest.raises(TrainingError, match=r"ran longer than 0\.5 s"):
        LocalPlatform(grace_s=0.2).run(
            job("""
                import signal, time
                signal.signal(signal.SIGTERM, signal.SIG_IGN)
                time.sleep(60)
            """, timeout_s=0.5),
            lambda _: None,
        )  # fmt: skip
    assert time.monotonic() - started < 15


def test_a_script_that_never_stops_talking_is_ended_in_time_too(job) -> None:
    with pytest.raises(TrainingError, match="ran longer than"):
        LocalPlatform(grace_s=0.2).run(
            job("while True: print('x' * 100)", timeout_s=0.5), lambda _: None
        )


@pytest.mark.skipif(sys.platform != "linux", reason="macOS does not enforce RLIMIT_AS")
def test_the_memory_limit_holds(job) -> None:
    greedy = "held = bytearray(600 * 1024 * 1024); print(len(held))"
    with pytest.raises(TrainingError, match="needed more memory than its limit of 400 MiB"):
        LocalPlatform().run(job(greedy, memory_mb=400), lambda _: None)
    LocalPlatform().run(job(greedy, memory_mb=1200), lambda _: None)


def test_a_full_disk_is_called_one(job, tmp_path: Path) -> None:
    full = """
        import resource, pathlib
        resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
        import signal; signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        (pathlib.Path({out!r}) / "big").write_bytes(b"x" * 10_000)
    """
    with pytest.raises(TrainingError, match=r"the disk under .* is full"):
        LocalPlatform().run(job(full.format(out=str(tmp_path / "out"))), lambda _: None)


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small file system needs root")
def test_a_really_full_disk_is_called_one(job, tmp_path: Path) -> None:
    small = tmp_path / "small"
    small.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(small)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("this machine does not let us mount")
    try:
        with pytest.raises(TrainingError, match=r"the disk under .* is full"):
            LocalPlatform().run(
                job(
                    """
                    import os
                    out = os.open(os.environ["MLGOV_OUTPUT_DIR"] + "/big", os.O_CREAT | os.O_WRONLY)
                    try:
                        while True: os.write(out, bytes(4096))
                    except OSError:
                        raise SystemExit(2)  # and says nothing about why
                    """,
                    output_dir=small,
                ),
                lambda _: None,
            )
    finally:
        subprocess.run(["umount", str(small)], check=True)


GRANDCHILDREN = """
    import os, subprocess, sys, time
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(300)"])
    if os.fork() == 0:  # a daemon that leaves session and group
        os.setsid()
        if os.fork() == 0:
            os.write(1, f"daemon {{os.getpid()}}\\n".encode())
            time.sleep(300)
        os._exit(0)
    os.write(1, f"child {{child.pid}}\\n".encode())
    os.write(1, f"self {{os.getpid()}}\\n".encode())
    {then}
"""


def _pids(lines: list[str]) -> list[int]:
    return [int(line.split()[1]) for line in lines]


def test_cancel_ends_the_script_and_everything_below_it(job) -> None:
    lines: list[str] = []
    failures: list[BaseException] = []
    platform = LocalPlatform(grace_s=0.5)
    made = job(GRANDCHILDREN.format(then="time.sleep(300)"))

    def run() -> None:
        try:
            platform.run(made, lines.append)
        except TrainingError as error:
            failures.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    _wait_until(lambda: len(lines) == 3)
    pids = _pids(lines)
    assert all(_alive(pid) for pid in pids)
    platform.cancel()
    thread.join(15)
    assert "was cancelled" in str(failures[0])
    assert not [pid for pid in pids if _alive(pid)]


def test_cancel_works_from_a_signal_handler_of_the_waiting_thread(job) -> None:
    platform = LocalPlatform(grace_s=0.5)
    before = signal.signal(signal.SIGALRM, lambda *_: platform.cancel())
    try:
        signal.setitimer(signal.ITIMER_REAL, 1.0)
        with pytest.raises(TrainingError, match="was cancelled"):
            platform.run(job("import time; time.sleep(60)"), lambda _: None)
    finally:
        signal.signal(signal.SIGALRM, before)


def test_a_platform_cancelled_before_it_starts_runs_nothing(job, tmp_path: Path) -> None:
    platform = LocalPlatform()
    platform.cancel()
    with pytest.raises(TrainingError, match="was cancelled"):
        platform.run(job("open(__file__ + '.ran', 'w')"), lambda _: None)
    assert not list(tmp_path.glob("*.ran"))


def test_what_a_script_leaves_running_ends_with_it(job) -> None:
    lines: list[str] = []
    LocalPlatform().run(job(GRANDCHILDREN.format(then="")), lines.append)
    _wait_until(lambda: not [pid for pid in _pids(lines) if _alive(pid)])


def test_an_error_in_the_log_callback_ends_the_script(job) -> None:
    seen: list[int] = []

    def log(line: str) -> None:
        seen.append(int(line))
        raise RuntimeError("log is closed")

    with pytest.raises(RuntimeError):
        LocalPlatform(grace_s=0.5).run(
            job("import os, time; print(os.getpid()); time.sleep(300)"), log
        )
    assert not _alive(seen[0])


@pytest.mark.parametrize("group_too", [False, True], ids=["worker", "worker's group"])
def test_a_killed_worker_leaves_no_orphan(job, tmp_path: Path, group_too: bool) -> None:
    made = job(GRANDCHILDREN.format(then="time.sleep(300)"))
    worker_source = f"""
import sys
from pathlib import Path
from airflow_mlgov.platforms.local import LocalPlatform
from airflow_mlgov.service.training_platform import ScriptJob
script, out = Path({str(made.script)!r}), Path({str(made.output_dir)!r})
job = ScriptJob(script, {{}}, {{}}, 1, out, None, None, {{}})
LocalPlatform(grace_s=0.5).run(job, lambda line: print(line, flush=True))
"""
    worker = subprocess.Popen(
        [sys.executable, "-c", worker_source],
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert worker.stdout is not None
    pids = _pids([worker.stdout.readline() for _ in range(3)])
    assert all(_alive(pid) for pid in pids)
    kill = os.killpg if group_too else os.kill
    kill(worker.pid, signal.SIGKILL)
    worker.wait(10)
    _wait_until(lambda: not [pid for pid in pids if _alive(pid)])


def test_the_environment_on_record_is_that_of_the_python_that_runs_scripts() -> None:
    bare = str(
        Path(sys.executable).resolve()
    )  # below the virtual environment, without its packages
    mine, theirs = LocalPlatform().environment(), LocalPlatform("house", python=bare).environment()
    assert any(package.startswith("apache-airflow==") for package in mine["packages"])
    assert not any(package.startswith("apache-airflow==") for package in theirs["packages"])
    assert theirs["python"] == mine["python"]
