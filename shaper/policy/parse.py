"""Every step from a policy's text to the model, in their order."""

from __future__ import annotations

from collections.abc import Iterable

from shaper.errors import PolicyError, Problem, Where
from shaper.model.policy import Direction, Interface, Policy
from shaper.model.schedule import Phase
from shaper.policy.backends import backend_problems
from shaper.policy.checks import file_problems, policy_problems
from shaper.policy.defaults import with_defaults
from shaper.policy.directions import directions_of, seen_from, told_apart
from shaper.policy.draft import Drafter
from shaper.policy.groups import Groups
from shaper.policy.hash import policy_hash
from shaper.policy.include import gather
from shaper.policy.probe import with_probes
from shaper.policy.reader import Document
from shaper.policy.resolve import interface, unplaced_problems
from shaper.policy.schedule import idle_periods, scheduled, seen_during, timetable_of, told_when
from shaper.policy.schema import FileSpec
from shaper.policy.sources import Fetch
from shaper.policy.spelling import respelt
from shaper.policy.validate import Lost, validate
from shaper.policy.variables import substitute


def policy(text: str, source: str, fetch: Fetch) -> Policy:
    """The policy in a text. Raises PolicyError with every problem in it, sorted by place."""
    document, problems, files = gather(text, source, fetch)
    if document is None:
        raise PolicyError(_sorted(problems))
    for step in (substitute, respelt, with_defaults):
        document, more = step(document)
        problems += more
    problems += idle_periods(document)
    directions, more = directions_of(document)
    problems += more
    views = {direction: _view(seen_from(document, direction), direction) for direction in directions}
    problems += told_apart({direction: found for direction, (_, found) in views.items()})
    if problems:
        raise PolicyError(_sorted(problems))
    resolved = {(one.name, one.direction): one for interfaces, _ in views.values() for one in interfaces}
    names = dict.fromkeys(name for name, _ in resolved)
    ordered = tuple(resolved[name, way] for name in names for way in directions if (name, way) in resolved)
    return Policy(source=source, sha256=policy_hash(text, files), interfaces=ordered, text=text, files=files)


def _view(document: Document, direction: Direction) -> tuple[list[Interface], list[Problem]]:
    """The interfaces that are shaped in one direction, and what is wrong with the document as it is seen from there."""
    spec, lost, problems = validate(document)
    timetable, phases, more = timetable_of(spec, document, lost, direction)
    if not timetable:
        return _resolved(document, spec, lost, [*problems, *more], direction)
    problems += more
    found: dict[Phase, list[Problem]] = {}
    variants: dict[str, dict[Phase, Interface]] = {}
    for phase in phases:
        seen = seen_during(document, phase)
        resolved, found[phase] = _resolved(seen, *validate(seen), direction)
        for one in resolved:
            variants.setdefault(one.name, {})[phase] = one
    problems += told_when(found, timetable, problems)
    return [scheduled(each, timetable) for each in variants.values()], problems


def _resolved(
    document: Document, spec: FileSpec, lost: Lost, problems: list[Problem], direction: Direction
) -> tuple[list[Interface], list[Problem]]:
    """The same of a document without schedules, which has the right shape but for what is lost and said."""
    groups = Groups(spec.match_groups, document, lost)
    drafter = Drafter(document, lost, groups)
    drafts = {
        name: [drafter.draft(cls, below, ("policies", name, "classes", cls)) for cls, below in policy.classes.items()]
        for name, policy in spec.policies.items()
    }
    problems += [*groups.problems, *drafter.problems, *file_problems(spec, document, lost)]
    shaped = {name: wanted for name, wanted in spec.interfaces.items() if wanted.bandwidth.of(direction) is not None}
    unused = drafts.keys() - {wanted.policy for wanted in spec.interfaces.values()}
    for name, classes in drafts.items():
        users = [wanted for wanted in shaped.values() if wanted.policy == name]
        if users or name in unused:
            limits = not users or any(wanted.backend.rated for wanted in users)
            problems += policy_problems(name, classes, document, lost, limits=limits)
    interfaces = []
    for name, wanted in shaped.items():
        resolved, ill_rated = interface(name, wanted, direction, drafts.get(wanted.policy, []), document, lost)
        interfaces.append(resolved)
        problems += ill_rated
    for name in unused:
        problems += unplaced_problems(name, drafts[name], document, lost)
    if not problems:
        for resolved in interfaces:
            problems += backend_problems(resolved, drafts[resolved.policy], document)
    if not problems:
        for place, resolved in enumerate(interfaces):
            goes_out = shaped[resolved.name].bandwidth.egress is not None
            probed, astray = with_probes(resolved, drafts[resolved.policy], document, goes_out=goes_out)
            interfaces[place] = probed
            problems += astray
    return interfaces, problems


def _sorted(problems: Iterable[Problem]) -> list[Problem]:
    """By place; what is wrong at one place for two interfaces, or two classes, in the same words is said once."""
    nowhere = Where("", 0, 0)
    once: dict[tuple[Where, str, str], Problem] = {}
    for problem in problems:
        once.setdefault((problem.where or nowhere, problem.kind, problem.message), problem)
    return [once[key] for key in sorted(once)]
