from __future__ import annotations

from datetime import timedelta

import pytest
from airflow.providers.standard.operators.bash import BashOperator
from airflow.providers.standard.operators.hitl import (
    ApprovalOperator,
    HITLBranchOperator,
    HITLEntryOperator,
    HITLOperator,
)
from airflow.providers.standard.operators.python import PythonOperator
from airflow.sdk import TaskGroup, task

from airflow_mlgov import ApprovalGateOperator, PromoteModelOperator, ScoreBatchOperator
from airflow_mlgov.enforcement import cluster_policy, governed_dag
from airflow_mlgov.policy import inventory_file

SCORE = "tasks:\n  - {dag_id: d, task_id: score, does: score, target: production}\n"


class HousePromotion(PromoteModelOperator):
    """A bank's own subclass is a promotion too."""


class HouseForm(ApprovalOperator):
    """A bank's own subclass is a form too."""


def gate(model="retail_pd", **kwargs):
    return ApprovalGateOperator(task_id="gate", model=model, **kwargs)


def promotion(cls=PromoteModelOperator, model="retail_pd", **kwargs):
    return cls(task_id="promote", model=model, **kwargs)


def step(name="x", **kwargs):
    return PythonOperator(task_id=name, python_callable=print, **kwargs)


def scoring(model="retail_pd", **kwargs):
    @task.governed(model=model, task_id="score", **kwargs)
    def score(): ...

    return score()


def batch(model="retail_pd", **kwargs):
    return ScoreBatchOperator(
        task_id="score", model=model, script="s.py", data="d.csv", output_dir="scores", **kwargs
    )


def form(cls=ApprovalOperator, **kwargs):
    options = (
        {} if issubclass(cls, ApprovalOperator | HITLEntryOperator) else {"options": ["a", "b"]}
    )
    return cls(task_id="stock", subject="?", **options, **kwargs)


def test_a_promotion_behind_its_gate_is_fine(check):
    assert check(lambda: gate() >> promotion() >> scoring()) == ""


def test_a_gate_further_up_is_fine(check):
    assert check(lambda: gate() >> step() >> promotion()) == ""


@pytest.mark.parametrize("cls", [PromoteModelOperator, HousePromotion])
def test_no_gate_names_file_task_and_remedy(check, cls):
    problem = check(lambda: promotion(cls))
    assert problem.startswith(__file__.replace("test_cluster_policy", "conftest"))
    assert "'promote'" in problem
    assert "gate >> promote" in problem


def test_a_gate_beside_is_not_upstream(check):
    assert "no ApprovalGateOperator of that model" in check(lambda: (gate(), promotion()))


@pytest.mark.parametrize(
    ("asked", "promoted", "fits"),
    [
        ("retail_pd", "other", False),
        ("{{ params.a }}", "{{ params.b }}", True),
        ("{{ params.model }}", "retail_pd", True),
        ("retail_pd", "{{ params.model }}", True),
    ],
)
def test_a_gate_of_another_model_is_none(check, asked, promoted, fits):
    assert (check(lambda: gate(asked) >> promotion(model=promoted)) == "") is fits


@pytest.mark.parametrize("rule", ["all_done", "none_failed", "one_success", "always"])
def test_a_lenient_trigger_rule(check, rule):
    assert f"trigger rule '{rule}'" in check(lambda: gate() >> promotion(trigger_rule=rule))


def test_a_lenient_task_on_the_only_way(check):
    problem = check(lambda: gate() >> step(trigger_rule="all_done") >> promotion())
    assert "set 'x' (all_done) to 'all_success'" in problem


def test_a_lenient_task_on_one_of_two_ways_is_harmless(check):
    def build():
        asked, promoted = gate(), promotion()
        asked >> step(trigger_rule="all_done") >> promoted
        asked >> step("y") >> promoted

    assert check(build) == ""


@pytest.mark.parametrize("score", [scoring, batch])
def test_scoring_behind_a_promotion_is_protected_as_well(check, score):
    problem = check(lambda: gate() >> promotion() >> score(trigger_rule="all_done"))
    assert "Task 'score' scores with a model that this DAG promotes under trigger rule" in problem
    assert "'score'" in check(lambda: (gate() >> promotion(), score()))


def test_scoring_alone_verifies_for_itself(check):
    assert check(lambda: scoring(trigger_rule="all_done")) == ""
    assert check(lambda: (gate() >> promotion(), scoring("other"))) == ""


def test_a_mapped_promotion_without_a_gate(check):
    def build():
        PromoteModelOperator.partial(task_id="promote", model="m").expand(target=["a", "b"])

    assert "no ApprovalGateOperator" in check(build)


def test_a_mapped_gate_and_promotion(check):
    def build():
        models = ["a", "b"]
        asked = ApprovalGateOperator.partial(task_id="gate").expand(model=models)
        asked >> PromoteModelOperator.partial(task_id="promote").expand(model=models)

    assert check(build) == ""


@pytest.mark.parametrize("name", ["defaults", "response_timeout"])
def test_a_gate_that_would_decide_by_time_out(check, name):
    def build():
        asked = gate()
        setattr(asked, name, ["Approve"] if name == "defaults" else timedelta(hours=1))
        asked >> promotion()

    assert f"Gate 'gate' has {name}" in check(build)


def test_a_mapped_gate_that_would_decide_by_time_out(check):
    def build():
        asked = ApprovalGateOperator.partial(task_id="gate", model="retail_pd")
        asked.expand_kwargs([{"defaults": ["Approve"]}]) >> promotion()

    assert "Gate 'gate' has defaults" in check(build)


FORMS = [
    (ApprovalOperator, {"defaults": "Approve"}),
    (HouseForm, {"defaults": ["Approve"]}),
    (HITLOperator, {"defaults": "a"}),
    (HITLBranchOperator, {"defaults": ["b"]}),
    (HITLEntryOperator, {"response_timeout": timedelta(hours=1)}),
]


@pytest.mark.parametrize(("cls", "given"), FORMS, ids=lambda value: str(value)[:40])
def test_a_form_that_answers_itself_in_a_governed_dag(check, cls, given):
    problem = check(lambda: gate() >> form(cls, **given) >> promotion())
    assert "'stock' answers itself" in problem
    assert "remove 'defaults'" in problem


@pytest.mark.parametrize(
    ("cls", "given"),
    [(ApprovalOperator, {}), (ApprovalOperator, {"defaults": "Reject"}), (HITLEntryOperator, {})],
)
def test_a_form_that_approves_nothing_by_itself(check, cls, given):
    assert check(lambda: gate() >> form(cls, **given) >> promotion()) == ""


def test_a_mapped_form_that_answers_itself(check):
    def over():
        forms = ApprovalOperator.partial(task_id="stock", subject="?")
        [gate(), forms.expand(defaults=["Reject", "Approve"])] >> promotion()

    def fixed():
        forms = ApprovalOperator.partial(task_id="stock", defaults="Approve")
        gate() >> forms.expand(subject=["a", "b"]) >> promotion()

    assert "'stock' answers itself with Approve" in check(over)
    assert "'stock' answers itself with Approve" in check(fixed)


def test_a_form_that_asks_until_somebody_approves(check):
    again = {"fail_on_reject": True, "retries": 2}
    assert "until somebody approves" in check(lambda: gate() >> form(**again) >> promotion())
    once = {"fail_on_reject": True, "retries": 0}
    assert check(lambda: gate() >> form(**once) >> promotion()) == ""


def test_a_form_alone_before_a_task_that_the_inventory_names(check, inventory):
    inventory.write(more=SCORE)

    def build():
        form(defaults="Approve") >> BashOperator(task_id="score", bash_command="true")

    assert "'stock' answers itself" in check(build)
    assert check(build, "elsewhere") == ""


def test_ungoverned_dags_are_left_alone(check):
    assert check(lambda: form(defaults="Approve")) == ""


@pytest.mark.parametrize("mode", ["observe", "warn"])
def test_below_enforce_it_is_said_and_not_refused(check, inventory, caplog, mode):
    inventory.write(mode=mode)
    assert check(promotion) == ""
    assert f"Mode {mode}: Task 'promote' promotes a model" in caplog.text


def test_the_model_of_the_task_decides(check, inventory):
    inventory.write()
    inventory.write("watched", "observe")
    assert check(lambda: promotion(model="watched")) == ""
    assert check(lambda: promotion(model="retail_pd"))
    assert check(lambda: promotion(model="{{ params.model }}")), "the strictest counts"
    assert check(lambda: promotion(model="unknown")), "the strictest counts"


def test_where_every_model_is_watched_no_model_is_strict(check, inventory):
    inventory.write(mode="warn")
    assert check(lambda: promotion(model="{{ params.model }}")) == ""


def test_a_promotion_elsewhere_than_the_inventory_says(check, inventory):
    inventory.write(more="promoted_by: [retail_pd_run, other]\n")
    problem = check(lambda: gate() >> promotion())
    assert "which DAG 'd' may not do: promote it in retail_pd_run or other" in problem
    assert str(inventory.path / "retail_pd.yaml") in problem
    assert check(lambda: gate() >> promotion(), "other") == ""


def test_a_task_that_is_named_and_not_there(check, inventory):
    inventory.write(more=SCORE)
    problem = check(lambda: step("scoer"))
    assert "'score' is named in" in problem
    assert "no such task" in problem


def test_a_task_that_would_start_before_it_is_guarded(check, inventory):
    class Eager(BashOperator):
        start_from_trigger = True

    inventory.write(more=SCORE)
    problem = check(lambda: Eager(task_id="score", bash_command="true"))
    assert "starts in the triggerer, before it can be guarded" in problem
    inventory.write(more="tasks: [{dag_id: d, task_id: score, does: train}]\n")
    assert check(lambda: Eager(task_id="score", bash_command="true")) == ""


def test_tasks_of_groups_are_named_with_them(check, inventory):
    inventory.write(more=SCORE.replace("task_id: score", "task_id: batch.score"))

    def build():
        with TaskGroup("batch"):
            step("score")

    assert check(build) == ""
    assert "no such task" in check(lambda: step("score"))


class TestBrokenInventory:
    """Whoever is governed by what cannot be read is refused; everybody else is let alone."""

    @pytest.fixture(autouse=True)
    def _broken(self, inventory):
        inventory.write("good", more="tasks: [{dag_id: fine, task_id: x, does: train}]\n")
        broken = inventory.write("broken", more=SCORE)
        broken.write_text(broken.read_text().replace("mode: enforce", "mode: strict"))

    def test_others_pass(self, check):
        assert check(step, "elsewhere") == ""
        assert check(step, "fine") == ""
        assert check(lambda: gate("good") >> promotion(model="good"), "elsewhere") == ""

    @pytest.mark.parametrize(
        ("build", "dag_id"),
        [
            (lambda: step("score"), "d"),
            (lambda: gate("broken") >> promotion(model="broken"), "elsewhere"),
            (lambda: gate("{{ x }}") >> promotion(model="{{ x }}"), "elsewhere"),
        ],
    )
    def test_the_governed_are_refused_with_the_error(self, check, build, dag_id):
        problem = check(build, dag_id)
        assert f"DAG {dag_id!r} is governed, but the inventory cannot be read" in problem
        assert "broken.yaml:" in problem
        assert "mode: 'strict' is not one of the values known here" in problem


def test_without_the_folder_only_our_operators_are_refused(check, inventory, monkeypatch):
    monkeypatch.setenv("AIRFLOW__MLGOV__INVENTORY_PATH", str(inventory.path / "gone"))
    assert check(step) == ""
    assert "there is no such file or folder" in check(lambda: gate() >> promotion())


def test_of_an_ungoverned_dag_no_file_is_parsed(check, inventory, monkeypatch):
    inventory.write(more=SCORE)
    monkeypatch.setattr(inventory_file, "inspect_entry", lambda *_: pytest.fail("parsed"))
    monkeypatch.setattr(governed_dag, "govern", lambda *_: pytest.fail("judged"))
    assert check(step, "elsewhere") == ""


def test_airflow_finds_the_policy():
    from importlib.metadata import entry_points

    (found,) = [e for e in entry_points(group="airflow.policy") if e.name == "mlgov"]
    assert found.load() is cluster_policy
