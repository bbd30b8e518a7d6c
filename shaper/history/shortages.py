"""Shortages as rows: one each, written when it begins and again when it ends."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from shaper.model.shortage import Shortage

SHORTAGE = "INSERT OR REPLACE INTO shortage VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
LEFT_OPEN = """UPDATE shortage SET ended = max(began, coalesce(
    (SELECT max(at) FROM observation WHERE observation.device = shortage.device), began))
    WHERE device = ? AND ended IS NULL"""
"""Ends those of a run that was killed with the last second that anybody watched."""


def shortage_row(device: str, one: Shortage) -> tuple[Any, ...]:
    given_up = json.dumps(one.given_up)
    figures = (one.need, one.granted, one.capacity)
    return (device, one.path, one.target, one.began, one.ended, *figures, given_up, one.bound)


def to_shortage(row: Sequence[Any]) -> Shortage:
    """A row of the table as a value. Raises ValueError when it is none."""
    _, path, target, began, ended, need, granted, capacity, given_up, bound = row
    return Shortage(path, target, began, need, granted, capacity, tuple(json.loads(given_up)), ended, bound)
