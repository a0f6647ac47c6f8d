from __future__ import annotations

import getpass


def test_a_model_is_stopped_by_whoever_runs_it(governed, airflow, monkeypatch):
    monkeypatch.setattr(getpass, "getuser", lambda: "zoe")
    ended = airflow("stop", "retail_pd", "--reason", "it scores nonsense", "--output", "json")
    (stopped,) = governed.kinds("model.stopped")
    assert (stopped.model, stopped.text("reason")) == ("retail_pd", "it scores nonsense")
    assert stopped.person("stopped_by").id == "zoe"
    assert (ended.code, ended.json) == (
        0,
        [{"model": "retail_pd", "entry": str(stopped.index), "stopped_by": "zoe"}],
    )


def test_an_unknown_model(governed, airflow):
    ended = airflow("stop", "unknown", "--reason", "it scores nonsense")
    assert ended.code == 64
    assert "'unknown' is not in the inventory" in ended.err
    assert governed.kinds("model.stopped") == []
