"""Jobs on Vertex AI: asked for, found again, watched, ended and fetched, against the fake."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import vertex_server

from airflow_mlgov.errors import ArtefactError, ConfigurationError, PlatformError
from airflow_mlgov.platforms.vertex import VertexPlatform
from airflow_mlgov.policy.platform_controls import PlatformRules, Verdict, examine
from airflow_mlgov.policy.platforms_file import Instance, Network
from airflow_mlgov.records.digest import Digest
from airflow_mlgov.service.artefacts import hash_directory
from airflow_mlgov.service.container import entry_archive, spec_document
from airflow_mlgov.service.job_platform import JobHandle, JobSpec, JobState

KEY = "mlgov-0123456789abcdef0123"
SPEC = Digest.of(b"spec")
SCRIPT = """
import json, os, pathlib
out = pathlib.Path(os.environ["MLGOV_OUTPUT_DIR"])
(out / "model").mkdir()
rows = pathlib.Path(os.environ["MLGOV_INPUT_CLIENTS"]).read_text()
(out / "model" / "model.json").write_text(json.dumps({"rows": len(rows.splitlines())}))
(out / "metrics.json").write_text('{"auc": 0.5}')
(out / "signature.json").write_text(
    '{"inputs": [{"name": "a", "type": "long"}], "output": "pd"}'
)
print("trained")
"""


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> Iterator[vertex_server.VertexFake]:
    with vertex_server.start() as running:
        for name, value in running.environment().items():
            monkeypatch.setenv(name, value)
        yield running


def platform(fake: vertex_server.VertexFake, **changes: Any) -> VertexPlatform:
    return VertexPlatform(fake.terms(**changes), sleep=lambda _: None)


def job_spec(jobs: VertexPlatform, key: str = KEY, **changes: Any) -> JobSpec:
    said = {
        "key": key,
        "spec": SPEC,
        "code_uri": jobs.output_uri("staged/code"),
        "inputs": {"clients": jobs.output_uri("staged/data") + "/dev.csv"},
        "output_uri": jobs.output_uri(f"jobs/{key}"),
        "timeout_s": 3600,
        "labels": {"mlgov-model": "retail_pd"},
    }
    return JobSpec(**{**said, **changes})


def submitted(jobs: VertexPlatform) -> JobHandle:
    return jobs.submit(jobs.render(job_spec(jobs)))


def test_a_request_says_all_that_the_entry_does(fake) -> None:
    jobs = platform(fake, instance=Instance("n2-standard-4", disk_gb=200, spot=True))
    request = jobs.render(job_spec(jobs))
    job = request["customJob"]
    assert request["parent"] == "projects/bank-models/locations/europe-west3"
    assert job["labels"].items() >= {"cost-centre": "risk", "mlgov-key": KEY}.items()
    assert job["encryptionSpec"] == {"kmsKeyName": vertex_server.KEY}
    spec = job["jobSpec"]
    assert spec["scheduling"] == {"timeout": "3600s", "strategy": "SPOT", "disableRetries": True}
    assert spec["serviceAccount"] == vertex_server.ACCOUNT
    assert spec["network"] == vertex_server.NETWORK
    assert spec["baseOutputDirectory"] == {"outputUriPrefix": f"gs://bank-mlgov/mlgov/jobs/{KEY}"}
    (pool,) = spec["workerPoolSpecs"]
    assert pool["diskSpec"]["bootDiskSizeGb"] == 200
    assert pool["containerSpec"]["imageUri"] == vertex_server.IMAGE
    assert pool["containerSpec"]["command"] == ["python"]
    assert pool["containerSpec"]["args"] == [
        "/gcs/bank-mlgov/mlgov/staged/code/mlgov-entry.pyz",
        "--spec", "/gcs/bank-mlgov/mlgov/staged/code/spec.json",
        "--spec-sha256", SPEC.hex,
        "--input", "clients=/gcs/bank-mlgov/mlgov/staged/data/dev.csv",
        "--output", f"/gcs/bank-mlgov/mlgov/jobs/{KEY}",
        "--failure", f"/gcs/bank-mlgov/mlgov/jobs/{KEY}.failure",
    ]  # fmt: skip


def test_a_network_attachment_stands_where_vertex_wants_it(fake) -> None:
    name = "projects/p/regions/europe-west3/networkAttachments/bank"
    jobs = platform(fake, network=Network(name=name))
    request = jobs.render(job_spec(jobs))
    assert request["customJob"]["jobSpec"]["pscInterfaceConfig"] == {"networkAttachment": name}
    assert {s.subject: s.value for s in jobs.stated(request)}["network.private"] is True
    jobs.submit(request)


ALL_RULES = PlatformRules(
    regions=("europe-west3",),
    customer_keys=("output", "volume", "model"),
    private_network=True,
    named_identity=True,
    max_hours=2,
    max_instances=1,
    spot=False,
    required_tags=("cost-centre",),
    image_registries=("europe-west3-docker.pkg.dev/bank",),
    pinned_images=True,
)


def failed(jobs: VertexPlatform, rules: PlatformRules = ALL_RULES) -> dict[str, str]:
    request = jobs.render(job_spec(jobs))
    results = examine(rules, [*jobs.stated(request), *jobs.preflight(request)])
    return {r.subject: r.verdict for r in results if r.verdict is not Verdict.PASSED}


def test_a_bank_s_own_entry_passes_every_control_but_those_nobody_can_answer(fake) -> None:
    assert failed(platform(fake)) == {}
    shut = PlatformRules(isolated=True, encrypted_traffic=True)
    assert failed(platform(fake), shut) == {"network.isolated": "unchecked"}
    several = platform(fake, instance=Instance("n2-standard-4", count=2))
    assert failed(several, PlatformRules(encrypted_traffic=True)) == {
        "network.encrypted": "unchecked"
    }


@pytest.mark.parametrize(
    ("changes", "subject"),
    [
        ({"keys": {"output": vertex_server.KEY}}, "key.volume"),
        ({"network": Network()}, "network.private"),
        ({"identity": ""}, "identity"),
        ({"instance": Instance("n2-standard-4", count=3)}, "instances"),
        ({"instance": Instance("n2-standard-4", spot=True)}, "spot"),
        ({"tags": {}}, "tags"),
        ({"image": "europe-west3-docker.pkg.dev/bank/train:latest"}, "image"),
        ({"region": "us-central1"}, "region"),
    ],
)
def test_each_control_looks_at_the_field_that_breaks_it(fake, changes, subject) -> None:
    assert failed(platform(fake, **changes)) == {subject: "failed"}


@pytest.mark.parametrize(
    ("changes", "subject", "verdict"),
    [
        ({"location": "US"}, "region.data", "failed"),
        ({"encryption": {"defaultKmsKeyName": ""}}, "key.output", "unchecked"),
        ({"encryption": {"defaultKmsKeyName": "other"}}, "key.model", "unchecked"),
        (
            {"iamConfiguration": {"uniformBucketLevelAccess": {"enabled": True}}},
            "network.public",
            "unchecked",
        ),
        (
            {"iamConfiguration": {"publicAccessPrevention": "enforced"}},
            "network.public",
            "unchecked",
        ),
    ],
)
def test_the_preflight_reads_the_bucket(fake, changes, subject, verdict) -> None:
    vertex_server.change_bucket(fake, **changes)
    assert failed(platform(fake))[subject] == verdict


def test_a_bucket_without_a_key_fails_where_the_entry_names_none(fake) -> None:
    vertex_server.change_bucket(fake, encryption={"defaultKmsKeyName": ""})
    jobs = platform(fake, keys={"volume": vertex_server.KEY})
    assert failed(jobs) == {"key.output": "failed", "key.model": "failed"}


def test_what_cannot_be_asked_has_not_passed(fake) -> None:
    subjects = {"region.data", "key.output", "key.model", "network.public"}
    assert failed(platform(fake, output="gs://bank-none/mlgov")) == dict.fromkeys(
        subjects, "unchecked"
    )


def test_one_job_is_found_by_its_key_whoever_asks(fake) -> None:
    assert platform(fake).find(KEY) is None
    handle = submitted(platform(fake))
    assert (handle.spec, handle.key, handle.platform) == (SPEC, KEY, "gcp")
    assert "training/1000?project=bank-models" in handle.console_url
    assert platform(fake).find(KEY) == handle == submitted(platform(fake))
    assert platform(fake).find("mlgov-other") is None
    assert fake.started == 1


def test_a_job_is_found_among_many_pages(fake) -> None:
    fake.jobs.page_most = 1
    mine = submitted(platform(fake))
    fake.taken(KEY)
    fake.taken(KEY)
    assert platform(fake).find(KEY) == mine


def test_somebody_else_s_job_under_our_key_carries_no_digest(fake) -> None:
    fake.taken(KEY)
    handle = platform(fake).find(KEY)
    assert handle is not None
    assert handle.spec is None
    assert submitted(platform(fake)) == handle
    assert fake.started == 0
    assert fake.jobs.all[0].state == "JOB_STATE_PENDING"  # and nobody cancelled it


@pytest.mark.parametrize(
    ("native", "state"),
    [
        ("queued", JobState.QUEUED),
        ("JOB_STATE_QUEUED", JobState.QUEUED),
        ("running", JobState.RUNNING),
        ("JOB_STATE_UPDATING", JobState.RUNNING),
        ("succeeded", JobState.SUCCEEDED),
        ("failed", JobState.FAILED),
        ("JOB_STATE_EXPIRED", JobState.FAILED),
        ("JOB_STATE_PARTIALLY_SUCCEEDED", JobState.FAILED),
        ("JOB_STATE_CANCELLING", JobState.CANCELLING),
        ("JOB_STATE_CANCELLED", JobState.CANCELLED),
        ("paused", JobState.PAUSED),
        ("JOB_STATE_UNSPECIFIED", JobState.UNKNOWN),
        ("unknown", JobState.UNKNOWN),
    ],
)
def test_every_state_has_a_word_of_ours(fake, native, state) -> None:
    fake.script(native)
    jobs = platform(fake)
    status = jobs.poll(submitted(jobs))
    assert status.state is state
    assert bool(status.reason) == (state is JobState.FAILED)


def test_no_state_of_the_client_is_left_out() -> None:
    from google.cloud.aiplatform_v1 import JobState as Native

    from airflow_mlgov.platforms.vertex.status import _STATES

    assert {each.name for each in Native} - set(_STATES) == {"JOB_STATE_UNSPECIFIED"}


def test_a_status_says_what_was_used_and_for_how_long(fake) -> None:
    jobs = platform(fake)
    handle = submitted(jobs)
    assert jobs.poll(handle).billable_s is None
    status = jobs.poll(handle)
    assert status.billable_s == 90.0
    assert (
        status.facts.items()
        >= {
            "image": vertex_server.IMAGE,
            "region": "europe-west3",
            "key": vertex_server.KEY,
            "identity": vertex_server.ACCOUNT,
            "instance": "n2-standard-4",
        }.items()
    )
    assert status.facts["ended_at"] > status.facts["started_at"]


def test_a_job_that_is_gone_is_missing(fake) -> None:
    jobs = platform(fake)
    handle = submitted(jobs)
    fake.vanish()
    assert jobs.poll(handle).state is JobState.MISSING
    jobs.cancel(handle)


def test_a_job_is_cancelled_and_one_that_has_ended_is_fine(fake) -> None:
    fake.script("running")
    jobs = platform(fake)
    handle = submitted(jobs)
    assert fake.running == 1
    jobs.cancel(handle)
    assert fake.running == 0
    assert [jobs.poll(handle).state for _ in range(2)] == ["cancelling", "cancelled"]
    jobs.cancel(handle)


def test_several_machines_would_write_one_output(fake) -> None:
    jobs = platform(fake, instance=Instance("n2-standard-4", count=2))
    with pytest.raises(PlatformError, match="would run 2 machines"):
        submitted(jobs)
    assert fake.started == 0


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"network": Network(subnets=("s",))}, "network.subnets"),
        ({"network": Network(security_groups=("s",))}, "network.security_groups"),
        ({"network": Network(isolated=True)}, "network.isolated"),
        ({"network": Network(encrypted=True)}, "network.encrypted"),
        ({"instance": Instance("n2", compute="c")}, "instance.compute"),
        ({"tags": {"CostCentre": "risk"}}, "CostCentre"),
        ({"tags": {"cost": "Risk"}}, "cost: Risk"),
        ({"tags": {"mlgov-key": "x"}}, "mlgov-key"),
    ],
)
def test_what_vertex_cannot_be_told_is_refused_at_once(fake, changes, said) -> None:
    with pytest.raises(ConfigurationError, match=r"platforms\.yaml:3.*" + said):
        platform(fake, **changes)


def test_a_log_is_read_from_where_the_last_call_ended(fake) -> None:
    fake.jobs.page_most = 2
    jobs = platform(fake)
    handle = submitted(jobs)
    assert jobs.log_lines(handle, None) == ([], None)
    fake.jobs.say("one", "two", "three")
    lines, cursor = jobs.log_lines(handle, None)
    assert [line.split()[1] for line in lines] == ["one", "two", "three"]
    assert jobs.log_lines(handle, cursor) == ([], cursor)
    fake.jobs.say("four", "five")  # "four" is of the same second as "three"
    fake.jobs.all[-1].log[-1]["insertId"] = "i2"  # as "three": an id is of its time only
    assert [line.split()[1] for line in jobs.log_lines(handle, cursor)[0]] == ["four", "five"]


def test_a_log_comes_a_thousand_lines_at_a_time(fake) -> None:
    jobs = platform(fake)
    handle = submitted(jobs)
    fake.jobs.say(*(f"line-{n}" for n in range(1500)))
    first, cursor = jobs.log_lines(handle, None)
    assert len(cursor) < 100  # it does not grow with what was read
    second, _ = jobs.log_lines(handle, cursor)
    assert (len(first), len(second)) == (1000, 500)
    assert second[0].endswith("line-1000")


def test_files_are_staged_once(fake, tmp_path: Path) -> None:
    file = tmp_path / "dev.csv"
    file.write_bytes(b"a,b\n1,2\n")
    jobs = platform(fake)
    uri = jobs.stage("staged/data", {"dev.csv": file})
    assert uri == "gs://bank-mlgov/mlgov/staged/data"
    assert jobs.first_object(uri) == f"{uri}/dev.csv"
    assert jobs.first_object(jobs.output_uri("staged/dat")) is None
    made = fake.bucket().get_blob("mlgov/staged/data/dev.csv").generation
    jobs.stage("staged/data", {"dev.csv": file})
    assert fake.bucket().get_blob("mlgov/staged/data/dev.csv").generation == made
    file.write_bytes(b"a,b\n1,3\n")  # as long as before
    jobs.stage("staged/data", {"dev.csv": file})
    assert fake.bucket().get_blob("mlgov/staged/data/dev.csv").download_as_bytes()[-2:] == b"3\n"


def test_what_leaves_its_folder_is_not_fetched(fake, tmp_path: Path) -> None:
    jobs = platform(fake)
    handle = submitted(jobs)
    output = jobs.output_uri(f"jobs/{KEY}")
    with pytest.raises(ArtefactError, match="Nothing stands in"):
        jobs.fetch(handle, output, tmp_path)
    blob = fake.bucket().blob(f"mlgov/jobs/{KEY}/model/link.json")
    blob.metadata = {"gcsfuse_symlink_target": "/etc/passwd"}
    blob.upload_from_string(b"")
    with pytest.raises(ArtefactError, match="symbolic link to '/etc/passwd'"):
        jobs.fetch(handle, output, tmp_path)
    blob.delete()
    fake.bucket().blob(f"mlgov/jobs/{KEY}/model").upload_from_string(b"a file")
    fake.bucket().blob(f"mlgov/jobs/{KEY}/model/a.json").upload_from_string(b"{}")
    with pytest.raises(ArtefactError, match="by the name"):
        jobs.fetch(handle, output, tmp_path)


@pytest.mark.parametrize("name", ["../x", "a//b", "./x", "a\\b", "a\0b"])
def test_names_that_are_no_paths_are_refused(name) -> None:
    from types import SimpleNamespace

    from airflow_mlgov.clouds.gcp.store import _check_name

    blob = SimpleNamespace(name=f"p/{name}", metadata=None, bucket=SimpleNamespace(name="b"))
    with pytest.raises(ArtefactError, match="leaves its folder"):
        _check_name(blob, name)


def trained(fake, jobs: VertexPlatform, tmp_path: Path, script: str) -> JobHandle:
    """Stage the real entry point, and let the fake run it when the job is polled."""
    data = tmp_path / "dev.csv"
    data.write_text("a\n1\n2\n")
    code = tmp_path / "train.py"
    code.write_text(script)
    archive, spec = tmp_path / "mlgov-entry.pyz", tmp_path / "spec.json"
    archive.write_bytes(entry_archive())
    digest = Digest.of(data.read_bytes())
    spec.write_bytes(
        spec_document(
            script="train.py",
            files={"train.py": Digest.of(code.read_bytes())},
            inputs={"clients": ("dev.csv", digest, data.stat().st_size)},
            parameters={},
            seed=42,
        )
    )
    code_uri = jobs.stage("staged/code", {each.name: each for each in (archive, spec, code)})
    input_uri = jobs.stage("staged/data", {"dev.csv": data})
    fake.container = lambda command, root: (
        subprocess.run([sys.executable, *command[1:]], cwd=root, check=False).returncode
    )
    asked = job_spec(
        jobs,
        spec=Digest.of(spec.read_bytes()),
        code_uri=code_uri,
        inputs={"clients": f"{input_uri}/dev.csv"},
    )
    return jobs.submit(jobs.render(asked))


def test_the_real_entry_point_runs_on_vertex_s_paths(fake, tmp_path: Path) -> None:
    jobs = platform(fake)
    handle = trained(fake, jobs, tmp_path, SCRIPT)
    assert [jobs.poll(handle).state for _ in range(2)] == ["running", "succeeded"]
    into = tmp_path / "into"
    into.mkdir(mode=0o700)
    jobs.fetch(handle, jobs.output_uri(f"jobs/{KEY}"), into)
    assert (into / "model" / "model.json").read_text() == '{"rows": 3}'
    assert {each.name for each in into.iterdir()} == {
        "model", "metrics.json", "signature.json", "environment.json", "manifest.json",
    }  # fmt: skip
    written = (into / "manifest.json").read_text()
    assert str(hash_directory(into / "model").digest) in written


@pytest.mark.parametrize("how", ["truncate", "change"])
def test_what_is_changed_in_the_store_is_fetched_as_it_is_there(fake, tmp_path, how) -> None:
    jobs = platform(fake)
    handle = trained(fake, jobs, tmp_path, SCRIPT)
    fake.corrupt(how)
    for _ in range(2):
        jobs.poll(handle)
    into = tmp_path / "into"
    into.mkdir()
    jobs.fetch(handle, jobs.output_uri(f"jobs/{KEY}"), into)
    assert str(hash_directory(into / "model").digest) not in (into / "manifest.json").read_text()


def test_a_script_that_fails_fails_the_job(fake, tmp_path: Path) -> None:
    jobs = platform(fake)
    handle = trained(fake, jobs, tmp_path, "raise SystemExit('no convergence')")
    jobs.poll(handle)
    status = jobs.poll(handle)
    assert (status.state, status.native_state) == (JobState.FAILED, "JOB_STATE_FAILED")
    assert "non-zero status" in status.reason
    assert "no convergence" in status.reason
    assert jobs.first_object(jobs.output_uri(f"jobs/{KEY}")) is None


def test_a_check_looks_at_jobs_and_bucket(fake, monkeypatch) -> None:
    from google.cloud.storage import Bucket

    jobs = platform(fake)
    assert jobs.check() == (
        "Vertex AI answers for projects/bank-models/locations/europe-west3, "
        "gs://bank-mlgov/mlgov is writable."
    )
    assert any("customJobs" in path for _, path, _, _ in fake.requests)
    with pytest.raises(PlatformError, match="bank-none"):
        platform(fake, output="gs://bank-none/x").check()
    monkeypatch.setattr(Bucket, "test_iam_permissions", lambda *_, **__: [])
    with pytest.raises(PlatformError, match="may not store files in gs://bank-mlgov/mlgov"):
        jobs.check()


def test_permissions_that_are_missing_are_named(fake) -> None:
    jobs = platform(fake)
    assert jobs.missing_permissions() == []
    fake.lacking = {"aiplatform.customJobs.cancel", "iam.serviceAccounts.actAs"}
    assert jobs.missing_permissions() == [
        "aiplatform.customJobs.cancel",
        f"iam.serviceAccounts.actAs on {vertex_server.ACCOUNT}",
    ]
    assert platform(fake, identity="").missing_permissions() == ["aiplatform.customJobs.cancel"]
    fake.lacking = {"aiplatform.batchPredictionJobs.create"}
    assert jobs.missing_permissions() == ["aiplatform.batchPredictionJobs.create"]
