"""A thousand jobs waited for in one triggerer: ours against the Amazon provider's own trigger.

Both wait for the same jobs on the same fake of SageMaker, each in a process of its own, with one
event loop as in a triggerer, and look every ten seconds. What is compared is the time that the
processor was busy for one look; memory, looks a second and how late the loop was are told beside
it. The goal is missed as well if ours takes more memory or lets the loop wait longer.
"""

from __future__ import annotations

import asyncio
import json
import os
import pickle
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import psutil

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "fakes")]

JOBS = 1_000
POLL_S = 10
SECONDS = 60
GOAL = 1.0
PEER = "bench_amazon"


def main() -> None:
    """Print the ratio of busy seconds for a look."""
    import sagemaker_server

    with sagemaker_server.start() as fake:
        os.environ |= fake.environment()
        fake.script("running")
        handles = _submitted(fake)
        told = {side: _measured(fake, side, handles) for side in ("ours", "amazon")}
    ours, amazon = told["ours"], told["amazon"]
    ratio = ours["busy_ms_a_look"] / amazon["busy_ms_a_look"]
    better = all(ours[key] <= amazon[key] for key in ("memory_mb", "worst_lag_s"))
    print(
        json.dumps(
            {
                "name": "jobs",
                "ratio": ratio,
                "goal": f"<= {GOAL:g}, and no more memory or lag",
                "met": ratio <= GOAL and better,
                "jobs": JOBS,
                **told,
            }
        )
    )


def _submitted(fake: Any) -> list[dict[str, Any]]:
    from airflow_mlgov.records.digest import Digest
    from airflow_mlgov.service.job_platform import JobSpec
    from airflow_mlgov.wiring import open_jobs

    jobs, handles = open_jobs(fake.terms()), []
    for number in range(JOBS):
        key = f"mlgov-{number:020x}"
        code, data = jobs.output_uri("code"), {"development": jobs.output_uri("in")}
        output = jobs.output_uri(f"jobs/{key}")
        spec = JobSpec(key, Digest.of(b"spec"), code, data, output, 3600, {})
        handles.append(jobs.submit(jobs.render(spec)).as_json())
    return handles


def _measured(fake: Any, side: str, handles: list[dict[str, Any]]) -> dict[str, float]:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "said.pickle"
        file.write_bytes(pickle.dumps((fake.terms(), handles)))
        before = len(fake.requests)
        done = subprocess.run(
            [sys.executable, __file__, side, str(file)],
            stdout=subprocess.PIPE,
            text=True,
            check=True,
        )
    looks, told = len(fake.requests) - before, json.loads(done.stdout.splitlines()[-1])
    return {
        "looks_a_second": round(looks / SECONDS, 1),
        "busy_ms_a_look": round(1000 * told["busy_s"] / looks, 3),
        "memory_mb": told["memory_mb"],
        "worst_lag_s": told["worst_lag_s"],
    }


def wait_for_all(side: str, file: Path) -> None:
    """Wait as one triggerer, for a minute; print what that took."""
    terms, handles = pickle.loads(file.read_bytes())
    made = [_ours(each, terms) if side == "ours" else _amazon(each, terms) for each in handles]
    before_mb = _memory_mb()
    began = time.process_time()
    lag = asyncio.run(_run(made))
    took = {
        "busy_s": time.process_time() - began,
        "memory_mb": round(_memory_mb() - before_mb),
        "worst_lag_s": round(lag, 3),
    }
    print(json.dumps(took), flush=True)
    os._exit(0)  # a thousand clients need not be closed one by one


async def _run(triggers: list[Any]) -> float:
    """Run them all, and return how late the loop was at worst once all had begun."""
    waiting = [asyncio.create_task(anext(aiter(trigger.run()))) for trigger in triggers]
    end, worst = time.monotonic() + SECONDS, 0.0
    while time.monotonic() < end:
        before = time.monotonic()
        await asyncio.sleep(0.05)
        worst = max(worst, time.monotonic() - before - 0.05)
    ended = [task for task in waiting if task.done()]
    assert not ended, ended[0].result().payload
    return worst


def _ours(handle: dict[str, Any], terms: Any) -> Any:
    from airflow_mlgov.triggers import job
    from airflow_mlgov.wiring import open_jobs

    if not hasattr(job._opened, "bench"):
        opened = open_jobs(terms)
        job._opened = lambda _name, _purpose: opened
        job._opened.bench = True
    return job.JobTrigger(handle=handle, poll_s=POLL_S, outage_s=600)


def _amazon(handle: dict[str, Any], terms: Any) -> Any:
    from airflow.providers.amazon.aws.triggers.sagemaker import SageMakerTrigger

    extra = {"endpoint_url": terms.endpoint, "region_name": terms.region}
    login = {"conn_type": "aws", "login": "key", "password": "secret", "extra": extra}
    os.environ[f"AIRFLOW_CONN_{PEER.upper()}"] = json.dumps(login)
    return SageMakerTrigger(
        job_name=handle["key"],
        job_type="training",
        waiter_delay=POLL_S,
        waiter_max_attempts=480,
        aws_conn_id=PEER,
        region_name=terms.region,
    )


def _memory_mb() -> float:
    return psutil.Process().memory_info().rss / 2**20


if __name__ == "__main__":
    if len(sys.argv) > 1:
        wait_for_all(sys.argv[1], Path(sys.argv[2]))
    else:
        main()
