"""A policy's schedules: the timetable, a document seen in one phase of it, and what is wrong in some phases only.

Seen in a phase, a class or interface says what the period says that holds; what follows never meets a schedule, and
looks at the policy once for everything that can hold together.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import islice

from shaper.errors import Problem, Where
from shaper.model.policy import Direction, Interface
from shaper.model.schedule import DAY, Period, Phase, Timetable
from shaper.policy.kinds import Kind
from shaper.policy.reader import Document, Node
from shaper.policy.schema import BandwidthSpec, ClassSpec, FileSpec, LinkPeriodSpec, PeriodSpec, WhenSpec
from shaper.policy.text import Loc, named, path_text, quoted
from shaper.policy.validate import Lost
from shaper.policy.when import Zone

MAX_PHASES = 100
_ANY_DAY = frozenset(range(7))
_SHARED = ("bandwidth",)
"""Keys of which a period may say a part, the directions that it changes."""

_Place = tuple[Loc, Sequence[PeriodSpec | LinkPeriodSpec | None]]


def idle_periods(document: Document) -> Iterator[Problem]:
    """Periods that say nothing but when, as written: seen from one direction they may say nothing of it."""
    for loc, node in _written(document.root):
        schedule = _held(node, "schedule")
        for number, item in enumerate(schedule.value if schedule and isinstance(schedule.value, list) else ()):
            if isinstance(item.value, dict) and item.value.keys() == {"when"}:
                hint = f"say what is, such as `{'limit: 5mbit' if 'classes' in loc else 'bandwidth: {egress: 10mbit}'}`"
                place = (*loc, "schedule", number)
                yield document.problem(Kind.EMPTY, place, "nothing is other in this period", hint)


def _written(root: Node) -> Iterator[tuple[Loc, Node]]:
    """Every interface and class of a document of any shape."""
    for key in ("interfaces", "policies"):
        held = _held(root, key)
        for name, node in _items(held) if held else ():
            yield (key, name), node
            yield from _classes_in(node, (key, name))


def _classes_in(node: Node, loc: Loc) -> Iterator[tuple[Loc, Node]]:
    classes = _held(node, "classes")
    for name, cls in _items(classes) if classes else ():
        place = (*loc, "classes", name)
        yield place, cls
        yield from _classes_in(cls, place)


def timetable_of(
    spec: FileSpec, document: Document, lost: Lost, direction: Direction
) -> tuple[Timetable, list[Phase], list[Problem]]:
    """The periods that change something in one direction, all that can hold together, and what is wrong with when.

    Without any there is one phase, in which nothing holds.
    """
    problems: list[Problem] = []
    places = []
    for loc, specs in _places(spec):
        if not any(each and _changes(each, direction) for each in specs):
            continue
        found = []
        for number, each in enumerate(specs):
            place = (*loc, "schedule", number)
            zone = each and (each.when.zone or spec.zone)
            if each and zone:
                found.append(_period(each.when, zone, place, document))
            elif each and ("zone",) not in lost:
                message, hint = "whose clocks are meant is not said", "`zone: Europe/Paris` here, or at the file's top"
                problems.append(document.problem(Kind.NO_ZONE, (*place, "when"), message, hint))
        places.append(tuple(found))
    timetable = Timetable(tuple(filter(None, places)))
    phases = list(islice(dict.fromkeys(islice(timetable.phases(), MAX_PHASES**2)), MAX_PHASES + 1))
    if len(phases) > MAX_PHASES:
        message = f"the periods can hold together in more than {MAX_PHASES} ways"
        hint = "let them begin and end at the same times, and name one time zone"
        problems.append(document.problem(Kind.TOO_LARGE, _first_place(spec), message, hint, at_key=True))
        return Timetable(()), [()], problems
    problems += _never(timetable, phases)
    problems += _without_a_base(spec, document)
    return timetable, sorted(phases), problems


def _places(spec: FileSpec) -> Iterator[_Place]:
    """What has a schedule: its place, and its periods (None for one that was wrong)."""
    for name, interface in spec.interfaces.items():
        if interface.schedule:
            yield ("interfaces", name), interface.schedule
    for name, policy in spec.policies.items():
        yield from _classes(policy.classes, ("policies", name, "classes"))


def _changes(period: PeriodSpec | LinkPeriodSpec, direction: Direction) -> bool:
    """Whether a period says anything for a direction; of a class what was said for the other one is gone already."""
    if isinstance(period, LinkPeriodSpec):
        return period.bandwidth.of(direction) is not None
    return period.model_fields_set != {"when"}


def _classes(classes: Mapping[str, ClassSpec], loc: Loc) -> Iterator[_Place]:
    for name, cls in classes.items():
        if cls.schedule:
            yield (*loc, name), cls.schedule
        yield from _classes(cls.classes, (*loc, name, "classes"))


def _first_place(spec: FileSpec) -> Loc:
    return (*next(iter(_places(spec)))[0], "schedule")


def _period(when: WhenSpec, zone: Zone, loc: Loc, document: Document) -> Period:
    return Period(
        path=path_text(loc),
        of=str(loc[-3]),
        days=frozenset().union(*when.days) if when.days else _ANY_DAY,
        begin=when.begin,
        end=when.end + (DAY if when.end < when.begin else 0),
        zone=zone.clock,
        zone_name=zone.name,
        where=document.value((*loc, "when")),
    )


def _never(timetable: Timetable, phases: Iterable[Phase]) -> Iterator[Problem]:
    """The first period that holds counts, so one whose whole time others take is a mistake."""
    held = {path for phase in phases for path in phase}
    for periods in timetable.places:
        for number, period in enumerate(periods):
            if period.path not in held:
                before = named(f"line {other.where.line}" for other in periods[:number] if _meet(other, period))
                message = f"this never holds: {before} take{'s' if ' and ' not in before else ''} all of its time first"
                hint = "the first period that holds counts: put the narrower one first, or take it out"
                yield Problem(Kind.SHADOWED_PERIOD, period.where, f"{period.path}.when", message, hint)


def _meet(one: Period, other: Period) -> bool:
    """Whether there is a time at which both hold; of different zones there may be."""
    return one.zone is not other.zone or any(
        one.holds(edge) and other.holds(edge) for edge in (*one.edges(), *other.edges())
    )


def _without_a_base(spec: FileSpec, document: Document) -> Iterator[Problem]:
    """A direction that is shaped is always shaped: coming and going it would lose packets."""
    for name, interface in spec.interfaces.items():
        for number, period in enumerate(interface.schedule):
            if period is None:
                continue
            for key in BandwidthSpec.model_fields:
                if getattr(period.bandwidth, key) is not None and getattr(interface.bandwidth, key) is None:
                    loc: Loc = ("interfaces", name, "schedule", number, "bandwidth", key)
                    message = f"{quoted(name)} has no {key} bandwidth outside this period"
                    hint = "say it in the interface's own `bandwidth`, too; what has none is not shaped, ever"
                    yield document.problem(Kind.NOT_ALWAYS_SHAPED, loc, message, hint, at_key=True)


def seen_during(document: Document, phase: Phase) -> Document:
    """The document as it is while these periods hold, without schedules."""
    root = document.root
    interfaces, policies = _held(root, "interfaces"), _held(root, "policies")
    changed = {}
    if interfaces is not None:
        seen = {name: _numbers(one, ("interfaces", name), phase) for name, one in _items(interfaces)}
        changed["interfaces"] = _with(interfaces, seen)
    if policies is not None:
        seen = {name: _with_classes(one, ("policies", name), phase) for name, one in _items(policies)}
        changed["policies"] = _with(policies, seen)
    return Document(_with(root, changed))


def _with_classes(node: Node, loc: Loc, phase: Phase) -> Node:
    classes = _held(node, "classes")
    if classes is None:
        return node
    seen = {
        name: _with_classes(_numbers(cls, (*loc, "classes", name), phase), (*loc, "classes", name), phase)
        for name, cls in _items(classes)
    }
    return _with(node, {"classes": _with(classes, seen)})


def _numbers(node: Node, loc: Loc, phase: Phase) -> Node:
    """A class or an interface with the numbers of the period that holds, and without its schedule."""
    schedule = _held(node, "schedule")
    if schedule is None or not isinstance(node.value, dict):
        return node
    value = {key: each for key, each in node.value.items() if key != "schedule"}
    keys = {key: where for key, where in node.keys.items() if key != "schedule"}
    for number, item in enumerate(schedule.value if isinstance(schedule.value, list) else ()):
        if path_text((*loc, "schedule", number)) in phase:
            for key, each in _items(item):
                if key != "when":
                    value[key] = _with(value[key], dict(_items(each))) if key in _SHARED and key in value else each
                    keys[key] = item.keys[key]
    return replace(node, value=value, keys=keys)


def _items(node: Node) -> Iterable[tuple[str, Node]]:
    return node.value.items() if isinstance(node.value, dict) else ()


def _held(node: Node, key: str) -> Node | None:
    return node.value.get(key) if isinstance(node.value, dict) else None


def _with(node: Node, changed: Mapping[str, Node]) -> Node:
    """The mapping with other values under some keys; what is no mapping stays."""
    if not isinstance(node.value, dict):
        return node
    fresh = {key: each.where for key, each in changed.items() if key not in node.keys}
    return replace(node, value={**node.value, **changed}, keys={**node.keys, **fresh})


def told_when(
    found: Mapping[Phase, Sequence[Problem]], timetable: Timetable, said: Iterable[Problem]
) -> Iterator[Problem]:
    """The problems of every phase; those that not all of them have say in which. What was `said` is left out."""
    known = {_identity(problem) for problem in said}
    holders: dict[tuple[Where | None, str, str], tuple[Problem, list[Phase]]] = {}
    for phase, problems in found.items():
        for problem in problems:
            holders.setdefault(_identity(problem), (problem, []))[1].append(phase)
    for identity, (problem, phases) in holders.items():
        if identity in known:
            continue
        if len(phases) == len(found):
            yield problem
            continue
        more = f", and {len(phases) - 1} more" if len(phases) > 1 else ""
        yield replace(problem, message=f"{problem.message} (while: {timetable.words(phases[0])}{more})")


def _identity(problem: Problem) -> tuple[Where | None, str, str]:
    return problem.where, problem.kind, problem.message


def scheduled(variants: Mapping[Phase, Interface], timetable: Timetable) -> Interface:
    """One direction of an interface from what it is in every phase; in none of them, where it has a timetable."""
    one = next(iter(variants.values()))
    about = (f"interfaces.{one.name}.schedule[", f"policies.{one.policy}.classes.")
    own = Timetable(tuple(periods for periods in timetable.places if periods[0].path.startswith(about)))
    if not own:
        return one
    paths = {period.path for period in own.periods()}
    by_own = {tuple(path for path in phase if path in paths): each for phase, each in variants.items()}
    return replace(one, timetable=own, variants=by_own, phase=None)
