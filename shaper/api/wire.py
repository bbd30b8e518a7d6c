"""What goes over the socket: versioned JSON, the same objects as `--json`."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from shaper.errors import Exit, Problem, ShaperError, Where
from shaper.model.policy import Direction
from shaper.model.status import InterfaceStatus
from shaper.plan.steps import Plan
from shaper.report.as_json import plan_json, problems_json, status_json
from shaper.run.answers import Applied, Lending, Measured

SCHEMA = 1
MAX_REQUEST = 16 * 2**20


class RemoteError(ShaperError):
    """What the running shaper answered instead of a result."""

    def __init__(self, code: int, problems: tuple[Problem, ...]) -> None:
        first = problems[0] if problems else Problem("unknown", None, "", "the running shaper gave no reason")
        super().__init__(first.message, hint=first.hint, where=first.where)
        self.exit = Exit(code)
        self._problems = problems

    def problems(self) -> tuple[Problem, ...]:
        return self._problems


def answer_json(result: object) -> dict[str, Any]:
    """A result of the loop as JSON."""
    return {"schema": SCHEMA, "exit": int(Exit.OK), "result": _plain(result)}


def refusal_json(error: ShaperError) -> dict[str, Any]:
    """A failure of the loop as JSON."""
    return {"schema": SCHEMA, "exit": int(error.exit), **problems_json(error.problems())}


def refusal(data: dict[str, Any]) -> RemoteError:
    """The failure back from its JSON."""
    return RemoteError(
        int(data["exit"]),
        tuple(
            Problem(
                one["kind"],
                Where(one["file"], one["line"], one["column"]) if one.get("file") else None,
                one.get("path", ""),
                one["message"],
                one.get("hint", ""),
            )
            for one in data.get("problems", ())
        ),
    )


def applied_json(applied: Applied) -> dict[str, Any]:
    """What an apply did to one direction of an interface."""
    return {
        "interface": applied.interface,
        **plan_json(applied.plan),
        "device": applied.device,
        "direction": applied.direction.value,
        "notes": list(applied.notes),
        "change": applied.change,
        "confirmation": applied.confirmation or None,
    }


def lending(data: dict[str, Any]) -> Lending:
    """How a running shaper prepares a direction, back from its JSON."""
    return Lending(Direction(data["direction"]), data["structure"], data["instance"], data["copies"])


def _plain(result: object) -> object:
    if isinstance(result, InterfaceStatus):
        return status_json(result)
    if isinstance(result, Measured):
        delays = {path: one.as_json() for path, one in result.delays.items()}
        return {"status": status_json(result.status), "delays": delays, "sliced": dict(result.sliced)}
    if isinstance(result, Applied):
        return applied_json(result)
    if isinstance(result, Plan):
        return plan_json(result)
    if isinstance(result, Lending):
        return asdict(result)
    if isinstance(result, tuple):
        return [_plain(one) for one in result]
    return result
