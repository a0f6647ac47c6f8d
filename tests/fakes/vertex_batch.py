"""What the fake makes of a batch prediction job: it runs its container, and writes what Vertex AI
does about it. One whose files were scored in part is called a success, as the worst that could be.

What it cannot prove: how often Vertex AI asks anew for what was refused, how long it lets a
prediction take, and how it names the files that it writes (the reference has two ways).
"""

from __future__ import annotations

import json
from typing import Any

from google.cloud import aiplatform_v1 as v1
from vertex_machines import Machines, Played, play

_SUCCEEDED, _FAILED = v1.JobState.JOB_STATE_SUCCEEDED, v1.JobState.JOB_STATE_FAILED


def run(job: Any, container: Any, bucket: Any, machines: Machines) -> Played:
    """Run a job's container to its end, store its results, and say in the job how it went."""
    instances = [
        json.loads(line)
        for uri in job.input_config.gcs_source.uris
        for line in bucket.blob(_path(bucket, uri)).download_as_text().splitlines()
    ]
    played = play(machines, container, instances)
    job.completion_stats = v1.CompletionStats(
        successful_count=len(played.predictions),
        failed_count=len(played.errors),
        incomplete_count=len(instances) if played.problem else 0,
    )
    if played.problem or not played.predictions:
        job.state = _FAILED
        return played
    job.state = _SUCCEEDED
    output = job.output_config.gcs_destination.output_uri_prefix
    folder = f"{output}/prediction-{job.display_name}-{job.create_time.isoformat()}"
    job.output_info = v1.BatchPredictionJob.OutputInfo(gcs_output_directory=folder)
    written = {
        "prediction.results": [
            {"instance": instance, "prediction": prediction}
            for instance, prediction in played.predictions
        ],
        "prediction.errors_stats": [
            {"instance": instance, "error": {"code": 3, "message": f"{status}: {text}"}}
            for instance, status, text in played.errors
        ],
    }
    for name, lines in written.items():
        text = "".join(f"{json.dumps(line)}\n" for line in lines)
        blob = bucket.blob(f"{_path(bucket, folder)}/{name}-00000-of-00001")
        blob.upload_from_string(text)
    return played


def package_of(job: Any, bucket: Any) -> str:
    """Return where a job's package is in the bucket."""
    return f"{_path(bucket, job.unmanaged_container_model.artifact_uri)}/"


def scores_of(job: Any, bucket: Any) -> str:
    """Return where a job's scores are in the bucket."""
    return f"{_path(bucket, job.output_config.gcs_destination.output_uri_prefix)}/scores/"


def _path(bucket: Any, uri: str) -> str:
    return uri.removeprefix(f"gs://{bucket.name}/")
