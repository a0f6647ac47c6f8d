"""Fetches the entry point from Cloud Storage into a container that holds nothing of ours.

The text of this file is what ``python -c`` runs there: so it needs the standard library only, and
has no dollar sign, which Vertex AI would take for a variable. Its arguments are the ``gs://``
address of ``mlgov-entry.pyz``, the SHA-256 that it must have, and what it is to be run with.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
import tempfile
import time
import urllib.error
import urllib.parse
import urllib.request

PASSING = (408, 429, 500, 502, 503, 504)


def fetch(url: str, headers: dict[str, str]) -> bytes:
    """Return what an address answers; what may pass is waited for, a minute in all."""
    for pause_s in (1, 2, 4, 8, 16, 32):
        try:
            with urllib.request.urlopen(  # noqa: S310 - http or https, as the caller builds it
                urllib.request.Request(url, headers=headers),  # noqa: S310
                timeout=60,
            ) as answer:
                return answer.read()  # type: ignore[no-any-return]
        except OSError as error:  # URLError and time-outs are such
            if getattr(error, "code", 503) not in PASSING or pause_s == 32:
                raise SystemExit(f"{url} cannot be read: {error}.") from error
            time.sleep(pause_s)
    raise AssertionError


def main(uri: str, sha256: str, arguments: list[str]) -> None:
    """Replace this process by the entry point."""
    metadata = os.environ.get("GCE_METADATA_HOST", "metadata.google.internal")
    account = "computeMetadata/v1/instance/service-accounts/default/token"
    token = json.loads(fetch(f"http://{metadata}/{account}", {"Metadata-Flavor": "Google"}))
    store = os.environ.get("STORAGE_EMULATOR_HOST", "https://storage.googleapis.com").rstrip("/")
    bucket, _, path = uri[len("gs://") :].partition("/")
    url = f"{store}/storage/v1/b/{bucket}/o/{urllib.parse.quote(path, safe='')}?alt=media"
    archive = fetch(url, {"Authorization": f"Bearer {token['access_token']}"})
    found = hashlib.sha256(archive).hexdigest()
    if found != sha256:
        raise SystemExit(f"{uri} is sha256:{found}, and sha256:{sha256} was staged.")
    file = os.path.join(tempfile.mkdtemp(prefix="mlgov-"), "mlgov-entry.pyz")  # noqa: PTH118
    with open(file, "wb") as opened:  # noqa: PTH123
        opened.write(archive)
    os.execv(sys.executable, [sys.executable, file, *arguments])  # noqa: S606 - nothing but this


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], sys.argv[3:])
