"""A gate and what it protects, which can be held where the tests want to interrupt them."""

from __future__ import annotations

import os
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

from airflow.sdk import BaseNotifier, Param, dag

from airflow_mlgov import ApprovalGateOperator, PromoteModelOperator

HOLDS = Path(os.environ["MLGOV_TEST_HOLDS"])
MODEL = "{{ params.model }}"


def hold(context: Any, point: str) -> None:
    """Wait while there is a file of the model and the point; say beside it who waits."""
    flag = HOLDS / f"{context['params']['model']}.{point}"
    while flag.exists():
        flag.with_suffix(".pid").write_text(str(os.getpid()))
        time.sleep(0.1)


class HoldBeforeParking(BaseNotifier):
    """Holds the gate when it has opened its form and counted."""

    def notify(self, context: Any) -> None:
        """Hold."""
        hold(context, "counted")


@dag(
    schedule=None,
    params={"model": Param("", type="string"), "version": Param("", type="string")},
)
def governed() -> None:
    gate = ApprovalGateOperator(
        task_id="gate",
        model=MODEL,
        version="{{ params.version }}",
        retry_delay=timedelta(seconds=1),
        pre_execute=lambda context: hold(context, "begun"),
        notifiers=[HoldBeforeParking()],
        post_execute=lambda context, _: hold(context, "decided"),
    )
    promote = PromoteModelOperator(
        task_id="promote", model=MODEL, version="{{ params.version }}", pool="promotions"
    )
    gate >> promote


governed()
