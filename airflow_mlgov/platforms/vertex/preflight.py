"""What only the account knows about a job to come: where its bucket is, and who may look in."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from airflow_mlgov.clouds.gcp.session import CALL_S, GcpSession
from airflow_mlgov.clouds.gcp.store import bucket_of
from airflow_mlgov.errors import MlgovError
from airflow_mlgov.policy.platform_controls import Stated

if TYPE_CHECKING:
    from google.cloud.storage import Bucket

_OF_BUCKET = ("region.data", "key.output", "key.model", "network.public")
_UNASKED = (
    Stated(
        "network.isolated",
        "VPC Service Controls",
        unknown="a job of Vertex AI has no such switch; a perimeter around the project shuts it "
        "in, and that is not asked",
    ),
)


def preflight(session: GcpSession, output_uri: str) -> Sequence[Stated]:
    """Return what a bucket, and the lack of a switch, say about the subjects of controls.

    Args:
        session: Who asks.
        output_uri: Folder in the bucket that the job reads from and writes to.
    """
    try:
        with session.talking(f"asking about the bucket of {output_uri}"):
            bucket = bucket_of(session, output_uri)
            bucket.reload(timeout=CALL_S, retry=None)
            return [*_of_bucket(session, bucket), *_UNASKED]
    except MlgovError as error:
        where = f"bucket of {output_uri}"
        unasked = [Stated(subject, where, unknown=str(error)) for subject in _OF_BUCKET]
        return [*unasked, *_UNASKED]


def _of_bucket(session: GcpSession, bucket: Bucket) -> Iterator[Stated]:
    where = f"gs://{bucket.name}"
    yield Stated("region.data", f"{where} location", (bucket.location or "").lower() or None)
    key = bucket.default_kms_key_name
    wanted = session.terms.keys.get("output")
    for subject in ("key.output", "key.model"):
        # What a job writes through its mount is encrypted as the bucket says, whatever it asks.
        other = wanted and wanted != key
        yield Stated(
            subject,
            f"{where} encryption.defaultKmsKeyName",
            key,
            f"the entry names the key {wanted}, the bucket has {key or 'none'}" if other else "",
        )
    configuration = bucket.iam_configuration
    prevention = configuration.public_access_prevention
    yield Stated(
        "network.public",
        f"{where} iamConfiguration.publicAccessPrevention",
        False if prevention == "enforced" else None,
        ""
        if prevention == "enforced"
        else f"it is {prevention or 'not set'} on the bucket, and the organisation's policy was "
        "not asked",
    )
    uniform = configuration.uniform_bucket_level_access_enabled
    yield Stated(
        "network.public",
        f"{where} iamConfiguration.uniformBucketLevelAccess.enabled",
        False if uniform else None,
        "" if uniform else "it is off, and the access lists of single objects were not read",
    )
