"""The fields of an approval form in which conditions are set, and what stands in them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from airflow_mlgov.records.conditions import MAX_ROWS, Conditions

if TYPE_CHECKING:
    from airflow_mlgov.policy.pack import ConditionRules

END_DATE, MAX_ROWS_PER_RUN = "end_date", "max_rows_per_run"
DATA_VALIDATION, SEGMENT = "data_validation", "segment_"


def condition_fields(rules: ConditionRules | None) -> dict[str, dict[str, Any]]:
    """Return the fields that a pack calls for, as keyword arguments of Airflow's ``Param``.

    Args:
        rules: The pack's; None for none.
    """
    if rules is None:
        return {}
    fields: dict[str, dict[str, Any]] = {}
    only = "Only with Approve with conditions."
    if rules.end_date:
        fields[END_DATE] = {
            "default": None,
            "type": ["null", "string"],
            "format": "date",
            "title": "Condition: last day",
            "description": f"The approval ends with this day, in UTC. {only}",
        }
    if rules.max_rows_per_run:
        fields[MAX_ROWS_PER_RUN] = {
            "default": None,
            "type": ["null", "integer"],
            "minimum": 1,
            "maximum": MAX_ROWS,
            "title": "Condition: rows in one run",
            "description": f"How many rows one DAG run may score at most. {only}",
        }
    for column, values in rules.segments.items():
        fields[f"{SEGMENT}{column}"] = {
            "default": None,
            "type": ["null", "array"],
            "items": {"type": "string"},
            "examples": list(values),
            "title": f"Condition: only where {column} is",
            "description": f"The values that may stand there; none sets no condition. {only}",
        }
    if rules.data_validation:
        fields[DATA_VALIDATION] = {
            "default": False,
            "type": ["null", "boolean"],
            "title": "Condition: validated data",
            "description": f"Only in runs in which data were validated and passed. {only}",
        }
    return fields


def conditions_in(fields: Mapping[str, Any]) -> Conditions:
    """Return the conditions that an answer's fields set.

    Args:
        fields: As they came back; what is empty sets nothing.

    Raises:
        ValueError: A field holds what cannot stand there, in words; a retry does not help.
    """
    segments = {
        name.removeprefix(SEGMENT): values
        for name, values in fields.items()
        if name.startswith(SEGMENT) and values
    }
    rows = fields.get(MAX_ROWS_PER_RUN)
    if isinstance(rows, str) and rows.strip().isdecimal():
        rows = int(rows)
    try:
        return Conditions.from_json(
            {
                "end_date": fields.get(END_DATE) or None,
                "max_rows_per_run": None if rows in (None, "", []) else rows,
                "segments": segments,
                "data_validation": fields.get(DATA_VALIDATION) or False,
            }
        )
    except ValueError as error:
        raise ValueError(f"a condition cannot be read: {error}") from error
