"""What the routes in `tests/integration/test_page_forms.py` cannot show: forms side by side."""

from __future__ import annotations

import threading
from types import SimpleNamespace
from typing import Any

import pytest

from airflow_mlgov.api import forms
from airflow_mlgov.records.clock import SystemClock
from airflow_mlgov.records.people import Person


@pytest.mark.parametrize(("name", "waits"), [("_stop", False), ("_resume", True)])
def test_a_stop_waits_for_no_other_form(monkeypatch: Any, name: str, waits: bool) -> None:
    done = threading.Event()
    act = lambda sent: done.set() or 7  # noqa: E731
    monkeypatch.setattr(forms, name, act)
    monkeypatch.setattr(forms, "tokens_for", lambda *_: SimpleNamespace(check=lambda *_: 0))
    gov = SimpleNamespace(clock=SystemClock())
    monkeypatch.setattr("airflow_mlgov.wiring.open_governance", lambda: gov)
    request: Any = SimpleNamespace(path_params={"model": "retail_pd"})
    sent = threading.Thread(
        target=forms._done, args=(act, request, Person("zoe", "zoe"), {}), daemon=True
    )
    with forms._TURN:  # another form is under way
        sent.start()
        assert done.wait(1) is not waits
    assert done.wait(10)
    sent.join(10)
