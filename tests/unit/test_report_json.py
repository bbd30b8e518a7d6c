"""The JSON objects against golden files, and back."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
from report_golden import golden
from report_samples import DECISION, HELD, PROBED, READ_ONCE, RUNNING
from report_trees import NAMES, PLAN

from shaper.errors import Problem, ShaperError, Where
from shaper.model.status import InterfaceStatus
from shaper.plan.steps import Plan
from shaper.report.as_json import decision_json, plan_json, problems_json, status_from_json, status_json

STATUSES = {"running": RUNNING, "held": HELD, "read-once": READ_ONCE, "probed": PROBED}


def text(data: dict[str, Any]) -> str:
    return json.dumps(data, indent=2, allow_nan=False) + "\n"


def keys(data: Any) -> Iterator[str]:
    if isinstance(data, dict):
        yield from data
        for value in data.values():
            yield from keys(value)
    if isinstance(data, list):
        for value in data:
            yield from keys(value)


@pytest.mark.parametrize("name", STATUSES)
def test_status(name: str) -> None:
    golden(f"status-{name}.json", text(status_json(STATUSES[name])))


@pytest.mark.parametrize("status", STATUSES.values(), ids=STATUSES)
def test_a_status_comes_back_over_the_socket(status: InterfaceStatus) -> None:
    assert status_from_json(json.loads(text(status_json(status)))) == status


def test_a_rate_that_was_not_measured_is_null() -> None:
    for one in status_json(READ_ONCE)["classes"]:
        assert one["throughput_bit_s"] is one["offered_bit_s"] is one["delay"] is one["loss_ratio"] is None


def test_units_are_in_the_keys() -> None:
    for key in keys(status_json(RUNNING)):
        assert not re.search(r"rate$|ceil$|queue$|bandwidth$|throughput$|seconds$", key), key


def test_another_schema_is_refused() -> None:
    with pytest.raises(ShaperError, match="schema 2"):
        status_from_json({**status_json(RUNNING), "schema": 2})


def test_what_is_no_status_is_refused() -> None:
    with pytest.raises(ShaperError, match="cannot be read"):
        status_from_json({"schema": 1, "interface": "wan"})


def test_decision() -> None:
    golden("decision.json", text(decision_json(DECISION)))


def test_plan() -> None:
    golden("plan.json", text(plan_json(PLAN, names=NAMES)))


def test_an_empty_plan_has_no_steps() -> None:
    assert plan_json(Plan("eth1")) == {"schema": 1, "device": "eth1", "steps": []}


def test_problems() -> None:
    found = (
        Problem("unknown-key", Where("p.yaml", 3, 5), "policies.x", "unknown key 'limitt'", "did you mean limit?"),
        Problem("UnavailableError", None, "", "no such interface"),
    )
    assert problems_json(found) == {
        "schema": 1,
        "problems": [
            {
                "kind": "unknown-key",
                "file": "p.yaml",
                "line": 3,
                "column": 5,
                "path": "policies.x",
                "message": "unknown key 'limitt'",
                "hint": "did you mean limit?",
            },
            {
                "kind": "UnavailableError",
                "file": None,
                "line": None,
                "column": None,
                "path": "",
                "message": "no such interface",
                "hint": "",
            },
        ],
    }
