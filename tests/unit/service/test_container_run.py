"""The entry point as a container starts it: in a process without our package."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest

from airflow_mlgov.errors import ArtefactError, TrainingError
from airflow_mlgov.platforms.local import LocalPlatform
from airflow_mlgov.records.digest import Digest
from airflow_mlgov.records.manifest import Manifest
from airflow_mlgov.service import container_run
from airflow_mlgov.service.artefacts import fingerprint_file, hash_directory
from airflow_mlgov.service.container import (
    OUTPUTS,
    entry_archive,
    entry_command,
    spec_document,
)
from airflow_mlgov.service.container_script import ContainerScript
from airflow_mlgov.service.contract import PASSED_ON, Outputs
from airflow_mlgov.service.durable_file import replace_file
from airflow_mlgov.service.training_platform import ScriptJob

GOOD = """
import json, os
from pathlib import Path
from beside import RATE
job = json.load(open(os.environ["MLGOV_JOB_FILE"]))
out = Path(job["output_dir"])
print("learning from", Path(job["inputs"]["development"]).name)
(out / "model" / "deep").mkdir(parents=True)
data = Path(os.environ["MLGOV_INPUT_DEVELOPMENT"]).read_text()
learnt = json.dumps([data, job["parameters"], job["seed"], RATE])
(out / "model" / "deep" / "m.json").write_text(learnt)
(out / "metrics.json").write_text('{"auc": 0.75}')
(out / "signature.json").write_text(
    '{"inputs": [{"name": "x", "type": "long"}], "output": "p"}')
(out / "scratch").write_text("dropped")
"""


@dataclass
class Job:
    root: Path
    command: list[str]
    output: Path
    failure: Path

    def start(self, **variables: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-P", "-S", *self.command[1:]],
            cwd=self.root,
            env={"PATH": os.environ["PATH"], **variables},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, **variables: str) -> tuple[int, str, str]:
        with self.start(**variables) as process:
            out, err = process.communicate(timeout=60)
        return process.returncode, out, err

    def fails(self) -> str:
        """Run it to its failure; return what it says."""
        status, _, said = self.run()
        assert status == 1
        assert said.endswith(self.failure.read_text() + "\n")
        assert not [name for name in OUTPUTS if (self.output / name).exists()]
        return self.failure.read_text()


@pytest.fixture
def staged(tmp_path: Path) -> Callable[..., Job]:
    def stage(
        source: str = GOOD, *, inputs: Mapping[str, str] | None = None, **changes: Any
    ) -> Job:
        code, data = tmp_path / "code", tmp_path / "data"
        code.mkdir()
        data.mkdir()
        (data / "dev.csv").write_text("x,y\n1,0\n")
        files = {"train.py": textwrap.dedent(source), "beside.py": "RATE = 0.5\n"}
        for name, text in files.items():
            (code / name).write_text(text)
        (code / "mlgov-entry.pyz").write_bytes(entry_archive())
        spec = spec_document(
            "train.py",
            {name: Digest.of(text.encode()) for name, text in files.items()},
            {"development": ("dev.csv", *fingerprint_file(data / "dev.csv"))},
            {"depth": 3, "rate": 0.1},
            7,
        )
        (code / "spec.json").write_bytes(spec)
        output, failure = tmp_path / "output", tmp_path / "said" / "failure"
        told = {
            "code": str(code),
            "spec_sha256": Digest.of(spec),
            "inputs": inputs or {"development": str(data / "dev.csv")},
            "output": str(output),
            "failure": str(failure),
        }
        return Job(tmp_path, entry_command(**{**told, **changes}), output, failure)

    return stage


def _wait_until(holds: Callable[[], object], seconds: float = 20.0) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, "it never happened"
        time.sleep(0.05)


def _alive(pid: int) -> bool:
    return psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE


def test_it_leaves_what_the_contract_asks_for_and_no_more(staged) -> None:
    job = staged(f"{GOOD}\nprint('done', end='')")
    status, out, err = job.run()
    assert (status, err) == (0, "")
    manifest = hash_directory(job.output / "model")
    assert out.splitlines() == [
        "learning from dev.csv",
        "done",
        f"Model version {manifest.digest} is complete in {job.output}.",
    ]
    assert sorted(path.name for path in job.output.iterdir()) == sorted(OUTPUTS)
    said = {path.stem: json.loads(path.read_text()) for path in job.output.glob("*.json")}
    assert said["manifest"] == {**manifest.as_json(), "digest": str(manifest.digest)}
    assert Manifest.from_json(said["manifest"]) == manifest
    assert said["metrics"] == {"auc": 0.75}
    assert said["signature"]["output"] == "p"
    assert said["environment"]["python"].startswith("3.")
    learnt = json.loads((job.output / "model" / "deep" / "m.json").read_text())
    assert learnt == ["x,y\n1,0\n", {"depth": 3, "rate": 0.1}, 7, 0.5]
    assert not job.failure.exists()


def test_a_script_sees_the_same_variables_as_on_a_worker(
    staged, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = 'import os, json\njson.dump(dict(os.environ), open("{}", "w"))\nraise SystemExit(1)'
    theirs, ours = tmp_path / "there.json", tmp_path / "here.json"
    given = dict.fromkeys(PASSED_ON - {"PATH", "PYTHONPATH", "LC_ALL"}, "x")
    secrets = {
        "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI": "/s",
        "AZUREML_RUN_TOKEN": "s",
        "SM_X": "1",
    }
    staged(source.format(theirs)).run(**given, **secrets)
    script = tmp_path / "here.py"
    script.write_text(source.format(ours))
    for name in set(os.environ) - {"PATH"}:
        monkeypatch.delenv(name)
    for name, value in {**given, **secrets}.items():
        monkeypatch.setenv(name, value)
    data = {"development": str(tmp_path / "data" / "dev.csv")}
    (tmp_path / "out").mkdir()
    with pytest.raises(Exception, match="exited with status 1"):
        LocalPlatform().run(
            ScriptJob(script, data, {}, 7, tmp_path / "out", 60.0, None, {}), lambda _: None
        )
    there, here = json.loads(theirs.read_text()), json.loads(ours.read_text())
    elsewhere = {"MLGOV_JOB_FILE", "MLGOV_OUTPUT_DIR", "TMPDIR"}
    assert there.keys() == here.keys()
    assert not there.keys() & secrets.keys()
    assert {name for name in there if there[name] != here[name]} == elsewhere
    assert all(Path(there[name]).is_absolute() for name in elsewhere)


@pytest.mark.parametrize("name", ["train.py", "beside.py", "dev.csv", "spec.json"])
def test_what_is_not_what_was_staged_is_not_trained_on(staged, name: str) -> None:
    job = staged()
    file = next(job.root.rglob(name))
    file.write_bytes(file.read_bytes() + b"\n")
    assert name in (said := job.fails())
    assert "is not what was staged" in said


@pytest.mark.parametrize("name", ["train.py", "beside.py", "dev.csv", "spec.json"])
def test_what_is_missing_is_named(staged, name: str) -> None:
    job = staged()
    next(job.root.rglob(name)).unlink()
    assert f"{name} cannot be read" in job.fails() or f"{name}: No such file" in job.fails()


def test_the_code_that_runs_is_a_private_copy(staged) -> None:
    job = staged("import sys; print(sys.path[0]); raise SystemExit(3)")
    _, out, _ = job.run()
    assert Path(out.strip()).name == "code"
    assert job.root not in Path(out.strip()).parents
    assert not Path(out.strip()).exists(), "it stays behind"


def test_an_input_may_be_a_folder_that_holds_the_file(staged, tmp_path: Path) -> None:
    job = staged(inputs={"development": str(tmp_path / "data")})
    (tmp_path / "data" / "dev.csv.bak").write_text("of a channel that is a prefix")
    status, _, err = job.run()
    assert (status, err) == (0, "")


def test_paths_may_be_relative(staged) -> None:
    job = staged(code="code", inputs={"development": "data/dev.csv"}, output="output")
    status, _, err = job.run()
    assert (status, err) == (0, "")
    assert (job.output / "manifest.json").exists()


@pytest.mark.parametrize(
    ("inputs", "said"),
    [
        ({"other": "/x"}, "The job's inputs are development; the container was given other."),
        ({"development": "/x", "more": "/y"}, "was given development, more."),
    ],
)
def test_inputs_are_those_of_the_specification(staged, inputs, said: str) -> None:
    assert said in staged(inputs=inputs).fails()


def test_an_input_that_changes_while_it_is_learnt_from_counts_for_nothing(staged) -> None:
    change = 'open(os.environ["MLGOV_INPUT_DEVELOPMENT"], "a").write("2,1\\n")'
    assert "changed while the script learnt from it" in staged(GOOD + change).fails()


@pytest.mark.parametrize("name", OUTPUTS)
def test_an_output_folder_that_is_used_is_left_alone(staged, name: str) -> None:
    job = staged()
    job.output.mkdir()
    (job.output / name).symlink_to("nowhere")
    (job.output / "else").write_text("of the platform")
    status, out, err = job.run()
    assert (status, out) == (1, "")
    assert f"holds {name} already" in err
    assert sorted(path.name for path in job.output.iterdir()) == sorted(["else", name])


def test_a_model_that_may_not_be_leaves_nothing(staged) -> None:
    pickle = '(out / "model" / "m.pkl").write_bytes(b"x")'
    assert "is called a pickle" in staged(GOOD + pickle).fails()


def test_an_output_that_cannot_be_written_is_said(staged) -> None:
    job = staged()
    job.output.write_text("a file")
    status, _, err = job.run()
    assert status == 1
    assert f"files cannot be used: [Errno 17] File exists: '{job.output}'" in err
    assert job.output.read_text() == "a file"
    assert job.failure.read_text() in err


@pytest.fixture
def trained(tmp_path: Path) -> Outputs:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "m.json").write_text("{}")
    return Outputs(tmp_path / "model", {"auc": 0.5}, {"inputs": [], "output": "p"})


@pytest.mark.parametrize("name", OUTPUTS[1:])
def test_what_was_copied_goes_when_the_rest_cannot_be(
    trained: Outputs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    def full(path: Path, data: bytes, mode: int) -> None:
        assert (tmp_path / "output" / "model" / "m.json").exists()
        if path.name == name:
            raise OSError(28, "No space left on device")
        replace_file(path, data, mode)

    monkeypatch.setattr(container_run, "replace_file", full)
    manifest = hash_directory(trained.model_dir)
    with pytest.raises(OSError, match="No space left"):
        container_run._hand_over(
            trained,
            manifest,
            tmp_path / "output",
            ContainerScript("Training script", TrainingError),
        )
    assert list((tmp_path / "output").iterdir()) == []


def test_a_job_that_is_stopped_while_it_is_copied_leaves_nothing(
    trained: Outputs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = ContainerScript("Training script", TrainingError)

    def stopped(path: Path, data: bytes, mode: int) -> None:
        replace_file(path, data, mode)
        script.stop()

    monkeypatch.setattr(container_run, "replace_file", stopped)
    manifest = hash_directory(trained.model_dir)
    with pytest.raises(TrainingError, match="stopped the job"):
        container_run._hand_over(trained, manifest, tmp_path / "output", script)
    assert list((tmp_path / "output").iterdir()) == []


def test_a_copy_that_differs_is_no_model(trained: Outputs, tmp_path: Path) -> None:
    manifest = hash_directory(trained.model_dir)
    (trained.model_dir / "m.json").write_text("{ }")
    with pytest.raises(ArtefactError, match="changed while it was copied"):
        container_run._hand_over(
            trained,
            manifest,
            tmp_path / "output",
            ContainerScript("Training script", TrainingError),
        )
    assert list((tmp_path / "output").iterdir()) == []


def test_files_of_another_job_that_came_meanwhile_stay(staged, tmp_path: Path) -> None:
    job = staged(f"{GOOD}\nPath({str(tmp_path / 'output' / 'model')!r}).mkdir(parents=True)")
    status, _, err = job.run()
    assert (status, "holds model already" in err) == (1, True)
    assert [path.name for path in job.output.iterdir()] == ["model"]


def test_a_job_that_is_stopped_before_its_script_starts_does_not_start_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = ContainerScript("Training script", TrainingError)
    script.stop()
    (tmp_path / "train.py").write_text("open('started', 'w')")
    monkeypatch.setattr(script, "_signal", lambda number: None)
    with pytest.raises(TrainingError, match="stopped the job"):
        script.run(tmp_path / "train.py", tmp_path, {})
    assert not (tmp_path / "started").exists()


def test_a_failure_is_told_by_its_reason_and_by_what_was_said_last(staged) -> None:
    job = staged("""
        for i in range(500): print("line", i, "ä" * 40)
        raise ValueError("no good rows")
    """)
    said = job.fails()
    assert said.startswith("Training script train.py exited with status 1. It said last:")
    assert said.endswith("ValueError: no good rows")
    assert len(said.encode()) <= 1000


def test_the_output_comes_line_by_line_while_the_script_runs(staged) -> None:
    job = staged("""
        import sys, time
        print("one", flush=True); print("\\x1b[31mtwo", file=sys.stderr); time.sleep(60)
    """)
    with job.start() as process:
        assert [process.stdout.readline() for _ in range(2)] == ["one\n", "two\n"]
        assert process.poll() is None
        process.send_signal(signal.SIGTERM)


def test_a_locale_that_cannot_say_it_is_no_failure(staged) -> None:
    source = 'import sys; sys.stdout.buffer.write("ä\\u20ac\\n".encode())\n' + GOOD
    status, out, err = staged(source).run(PYTHONIOENCODING="ascii")
    assert (status, err) == (0, "")
    assert out.startswith("\\xe4\\u20ac\n")


def test_a_stop_reaches_the_script_which_may_still_end_by_itself(staged, tmp_path: Path) -> None:
    job = staged("""
        import signal, sys, time
        signal.signal(signal.SIGTERM, lambda *_: (print("tidying up"), sys.exit(0)))
        print("ready", flush=True)
        time.sleep(60)
    """)
    with job.start() as process:
        assert process.stdout.readline() == "ready\n"
        process.send_signal(signal.SIGTERM)
        out, err = process.communicate(timeout=20)
    assert (process.returncode, out) == (1, "tidying up\n")
    assert err == "The platform stopped the job.\n"
    assert job.failure.read_text() + "\n" == err


def test_a_script_that_will_not_stop_is_killed_with_all_that_it_started(staged) -> None:
    job = staged("""
        import os, signal, subprocess, sys, time
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(300)"])
        print(os.getpid(), child.pid, flush=True)
        time.sleep(300)
    """)
    with job.start() as process:
        pids = [int(word) for word in process.stdout.readline().split()]
        started = time.monotonic()
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=30)
    assert process.returncode == 1
    assert 4.5 < time.monotonic() - started < 20
    _wait_until(lambda: not any(map(_alive, pids)))


def test_what_a_script_leaves_running_is_ended_and_not_waited_for(staged) -> None:
    job = staged(
        GOOD
        + textwrap.dedent("""
        import subprocess, sys
        child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(300)"])
        print(child.pid)
    """)
    )
    started = time.monotonic()
    status, out, _ = job.run()
    assert status == 0
    assert time.monotonic() - started < 60
    _wait_until(lambda: not _alive(int(out.splitlines()[1])))


def test_a_daemon_that_holds_the_pipe_does_not_hold_the_job(staged) -> None:
    job = staged(
        GOOD
        + textwrap.dedent("""
        import subprocess, sys
        code = "import time; time.sleep(40)"
        print(subprocess.Popen([sys.executable, "-c", code], start_new_session=True).pid)
    """)
    )
    started = time.monotonic()
    with job.start() as process:
        out = [process.stdout.readline() for _ in range(3)]
        assert process.wait(30) == 0
        os.kill(int(out[1]), signal.SIGKILL)
    assert time.monotonic() - started < 30


def test_what_runs_is_in_the_archive_or_in_the_standard_library(staged) -> None:
    job = staged()
    main = next(job.root.rglob("mlgov-entry.pyz"))
    shown = "import sys, json, runpy, atexit\natexit.register(lambda: json.dump("
    shown += "{n: getattr(m, '__file__', None) or '' for n, m in sys.modules.items()},"
    shown += f" open({str(job.root / 'seen.json')!r}, 'w')))\n"
    shown += f"sys.argv = {job.command[1:]!r}\nrunpy.run_path({str(main)!r}, run_name='__main__')\n"
    done = subprocess.run([sys.executable, "-I", "-S", "-c", shown], check=False, env={})
    assert done.returncode == 0
    seen = json.loads((job.root / "seen.json").read_text())
    ours = {name for name, file in seen.items() if file.startswith(str(main))}
    assert "airflow_mlgov.service.container_run" in ours
    assert not {n.partition(".")[0] for n in seen.keys() - ours} - {
        *sys.stdlib_module_names,
        "__main__",
    }
