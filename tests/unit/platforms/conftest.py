from __future__ import annotations

from collections.abc import Iterator

import azureml_server
import pytest


@pytest.fixture
def azure(monkeypatch: pytest.MonkeyPatch) -> Iterator[azureml_server.FakeAzure]:
    """A fake Azure, and the connection that works against it."""
    with azureml_server.start() as fake:
        for name, value in fake.environment().items():
            monkeypatch.setenv(name, value)
        yield fake
