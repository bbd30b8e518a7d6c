"""The last word is the checks': what they refuse is taken out and reported, until the policy is accepted."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from shaper.errors import PolicyError, Problem
from shaper.policy import parse_policy
from shaper.policy.importers.draft import Class, ImportFailedError, Interface, Report
from shaper.policy.importers.writer import policy_text

_ROUNDS = 200
_STEP = re.compile(r"[^.\[\]]+")


def accepted(interfaces: list[Interface], report: Report, *, tool: str, nothing: str) -> str:
    """The policy's text. Raises ImportFailedError where nothing is left; `nothing` says what should have been there."""
    for _ in range(_ROUNDS):
        if not any(interface.classes for interface in interfaces):
            break
        text = policy_text(interfaces, tool=tool, lost=len(report.lost()))
        try:
            parse_policy(text, source="import", files={})
        except PolicyError as error:
            _take_out(interfaces, error.problems(), report)
        else:
            return text
    raise ImportFailedError(f"nothing of it can be carried over: {nothing}", hint=_reasons(report))


def _reasons(report: Report) -> str:
    lost = report.lost()
    return "; ".join(f"{one.line.place}: {one.why}, mend: {one.mend}" for one in lost[:3]) or "name a file of that tool"


def _take_out(interfaces: list[Interface], problems: Sequence[Problem], report: Report) -> None:
    """Places are looked up before anything is taken out, so that indices stay true."""
    removals: dict[int, Callable[[], None]] = {}
    for problem in problems:
        steps = _STEP.findall(problem.path)
        one = next((each for each in interfaces if len(steps) > 1 and each.name == steps[1]), None)
        if one is None:
            raise ImportFailedError(f"what was read makes no policy: {problem.message}", hint=problem.hint)
        if steps[0] == "interfaces":
            report.lose(one.line, problem.message, problem.hint)
            removals[id(one)] = lambda one=one: interfaces.remove(one)  # type: ignore[misc]
        else:
            _of_class(one, steps[3:], problem, report, removals)
    for remove in removals.values():
        remove()


def _of_class(
    one: Interface, steps: list[str], problem: Problem, report: Report, removals: dict[int, Callable[[], None]]
) -> None:
    siblings, cls, rest = one.classes, None, steps
    while rest and (found := next((each for each in siblings if each.name == rest[0]), None)):
        holder, cls, rest = siblings, found, rest[1:]
        if rest[:1] != ["classes"]:
            break
        siblings, rest = cls.classes, rest[1:]
    if cls is None:
        raise ImportFailedError(f"what was read makes no policy: {problem.message}", hint=problem.hint)
    if len(rest) > 1 and rest[0] == "match":
        rule = cls.rules[int(rest[1])]
        report.lose(rule.line, problem.message, problem.hint)
        removals[id(rule)] = _remover(cls.rules, rule)
    elif rest[:1] == ["limit"]:
        report.lose(cls.line, problem.message, problem.hint)
        removals[id(cls)] = lambda: setattr(cls, "limit", None)
    elif rest[:1] in (["aqm"], ["fairness"]):
        report.lose(cls.line, problem.message, problem.hint)
        removals[id(cls)] = lambda: setattr(cls, rest[0], "")
    elif cls.default:
        _undress(cls, problem)
    else:
        report.lose(cls.line, problem.message, problem.hint)
        removals[id(cls)] = _remover(holder, cls)


def _undress(cls: Class, problem: Problem) -> None:
    """The default class stays, with nothing but that."""
    if not (cls.guarantee or cls.limit or cls.burst or cls.rules):
        raise ImportFailedError(f"what was read makes no policy: {problem.message}", hint=problem.hint)
    cls.guarantee, cls.limit, cls.burst, cls.rules = None, None, None, []


def _remover(holder: list, one: object) -> Callable[[], None]:  # type: ignore[type-arg]
    def remove() -> None:
        holder[:] = [each for each in holder if each is not one]

    return remove
