"""URIs of models as Airflow assets: DAGs are scheduled on them, and they are datasets in lineage.

Airflow's provider discovery imports this in every process that makes an asset, so standard library
only. A URI without a version means the model, whatever its version: it can be scheduled on, and is
no dataset, since in lineage each version is one.
"""

from __future__ import annotations

import re
from types import MappingProxyType
from typing import TYPE_CHECKING, Any
from urllib.parse import SplitResult, urlsplit

if TYPE_CHECKING:
    from openlineage.client.event_v2 import Dataset

_NUMBER = r"[1-9][0-9]*"
_WORD = r"[A-Za-z0-9][A-Za-z0-9_.-]*"
_NAME = r"[A-Za-z][A-Za-z0-9_.-]*"

_FORMS = MappingProxyType(
    {
        # scheme: how it is written, what the place must match, what the version must match
        "mlflow": ("HOST:PORT/NAME/VERSION", r"local|[a-z0-9_.-]+:[0-9]{1,5}", _NUMBER),
        "sagemaker": ("REGION.ACCOUNT/GROUP/VERSION", r"[a-z0-9-]+\.[0-9]{12}", _NUMBER),
        "vertexai": ("PROJECT.LOCATION/MODEL/VERSION", r"[a-z][a-z0-9-]+\.[a-z0-9-]+", _NUMBER),
        "azureml": ("WORKSPACE.REGION/NAME/VERSION", r"[A-Za-z0-9_-]+\.[a-z0-9]+", _WORD),
    }
)


def sanitize_uri(uri: SplitResult) -> SplitResult:
    """Return the one form of a model's URI.

    Args:
        uri: As Airflow has split it: ``mlflow://host:5000/name/7``, ``mlflow://local/name/7`` for a
            registry in a database, ``sagemaker://eu-west-1.123456789012/group/7``,
            ``vertexai://project.europe-west3/model/7`` or ``azureml://workspace.westeurope/name/7``,
            each with or without the version.

    Raises:
        ValueError: It is not of that form. Names that begin with a digit are refused, because
            Marquez takes them for a port.
    """
    form, place, version = _FORMS[uri.scheme]
    netloc = uri.netloc.lower() if uri.scheme == "mlflow" else uri.netloc
    is_valid = re.fullmatch(place, netloc) and re.fullmatch(f"/{_NAME}(/{version})?", uri.path)
    if not is_valid or uri.query or uri.fragment:
        raise ValueError(
            f"{uri.geturl()!r} is no URI of a model: write {uri.scheme}://{form}, or leave the "
            "version out to mean any. Names begin with a letter and hold letters, digits, '_', '-' "
            "and '.' only."
        )
    return uri._replace(netloc=netloc)


def convert_to_openlineage(asset: Any, lineage_context: Any) -> Dataset | None:
    """Return the dataset that a model version is in lineage; None for a model without a version.

    Args:
        asset: Airflow's, with a URI from `sanitize_uri`.
        lineage_context: What reported it.
    """
    del lineage_context
    from openlineage.client.event_v2 import Dataset

    parts = urlsplit(asset.uri)
    name, _, version = parts.path.removeprefix("/").partition("/")
    return Dataset(f"{parts.scheme}://{parts.netloc}", f"{name}/{version}") if version else None
