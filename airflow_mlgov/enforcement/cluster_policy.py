"""What is refused when a DAG is parsed (Airflow's cluster policy, entry point ``airflow.policy``).

Only DAGs that promote a governed model are looked at more closely. A DAG author can avoid what is
seen here; that is why promotion and every guarded task verify the approval for themselves.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from airflow.policies import hookimpl

GATE = "ApprovalGateOperator"
PROMOTION = "PromoteModelOperator"
STOCK_FORM = "HITLOperator"


@hookimpl
def dag_policy(dag: Any) -> None:
    """Refuse a DAG whose promotion does not stand behind a gate.

    Raises:
        AirflowClusterPolicyViolation: With file, task and remedy.
    """
    promotions = [task for task in dag.tasks if is_a(task, PROMOTION)]
    if not promotions:
        return
    problems = [problem for task in promotions for problem in _promotion_problems(task)]
    problems += [problem for task in dag.tasks for problem in _default_answer_problems(task)]
    if problems:
        from airflow.exceptions import AirflowClusterPolicyViolation

        raise AirflowClusterPolicyViolation(f"{dag.fileloc}: " + " ".join(problems))


def is_a(task: Any, class_name: str) -> bool:
    """Tell whether a task, mapped or not, is of a class of that name, which is not imported."""
    operator_class = getattr(task, "operator_class", type(task))
    return isinstance(operator_class, type) and class_name in {
        c.__name__ for c in operator_class.__mro__
    }


def _promotion_problems(task: Any) -> Iterable[str]:
    upstream = task.get_flat_relatives(upstream=True)
    if not any(is_a(other, GATE) for other in upstream):
        yield (
            f"Task {task.task_id!r} promotes a model, but no {GATE} is upstream of it in this DAG: "
            f"put one there ('gate >> {task.task_id}')."
        )
    rule = getattr(task.trigger_rule, "value", task.trigger_rule)
    if rule != "all_success":
        yield (
            f"Task {task.task_id!r} promotes a model under trigger rule {rule!r}, which can run "
            "past a gate that did not pass: leave it at 'all_success'."
        )


def _default_answer_problems(task: Any) -> Iterable[str]:
    if is_a(task, STOCK_FORM) and not is_a(task, GATE) and getattr(task, "defaults", None):
        yield (
            f"Task {task.task_id!r} answers itself with {task.defaults!r} when nobody does, in a "
            "DAG that promotes a "
            "governed model: remove 'defaults'."
        )
