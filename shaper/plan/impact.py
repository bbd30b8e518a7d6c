"""What each step of a plan costs the traffic: hitless, or disruptive and why."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from shaper.model.cake import TINS
from shaper.plan.lowering import lowers
from shaper.plan.steps import Plan, Step, Verb
from shaper.plan.trees import is_hook
from shaper.tree import (
    GSO_MAX_SEGS,
    LEAF_MAJORS,
    ROOT,
    BpfFilter,
    CakeOptions,
    Class,
    FifoOptions,
    Filter,
    FlowerFilter,
    Handle,
    HtbClass,
    LoadedFilter,
    MarkTable,
    Offload,
    OtherFilter,
    Qdisc,
    RedOptions,
    U32Filter,
    U32Table,
    bands_of,
    handle_text,
    qdisc_of,
)

_EMPTY_ROOT = {
    "htb": ", and until its classes are there packets pass unshaped",
    "hfsc": ", and until its classes are there packets are dropped",
}
_NO_NAMES: Mapping[Handle, str] = {}


@dataclass(frozen=True, slots=True)
class Impact:
    """`reason` says in words what a disruptive step costs, and of a hitless one why it costs nothing.

    `late` is what is in force some time after it was sent.
    """

    disruptive: bool
    reason: str
    late: bool = False

    def __str__(self) -> str:
        return f"{'disruptive' if self.disruptive else 'hitless'}: {self.reason}"


def impacts(plan: Plan, names: Mapping[Handle, str] = _NO_NAMES) -> tuple[Impact, ...]:
    """One for each step, in their order; `names` has the paths of class handles.

    A step is judged by its neighbours too: a queue under a class that the same plan adds holds no packets yet.
    """
    surroundings = _Surroundings(plan, names)
    return tuple(surroundings.impact(step) for step in plan.steps)


class _Surroundings:
    """What the other steps of a plan say of one: which handles are new, which filters move together."""

    def __init__(self, plan: Plan, names: Mapping[Handle, str]) -> None:
        self._names = names
        nodes = [(step.verb, step.node) for step in plan.steps]
        self._added = {node.handle for verb, node in nodes if verb is Verb.ADD and isinstance(node, (Qdisc, Class))}
        # A band comes with its qdisc, and is no node of its own.
        self._banded = {
            node.handle
            for verb, node in nodes
            if verb is Verb.ADD and isinstance(node, Qdisc) and bands_of(node.options)
        }
        self._rooted = any(isinstance(node, Qdisc) and node.parent == ROOT for _, node in nodes)
        self._readded = {node.key for verb, node in nodes if verb is Verb.ADD}
        filters = [node for _, node in nodes if isinstance(node, Filter) and not isinstance(node, U32Table)]
        classifiers = [node.parent for node in filters if not _treats(node)]
        self._policing_steps = sum(is_hook(node.parent) and _acts(node) for node in filters)
        self._moving = {parent: classifiers.count(parent) for parent in classifiers if not is_hook(parent)}

    def impact(self, step: Step) -> Impact:
        node = step.node
        if isinstance(node, Qdisc):
            return self._qdisc(step, node)
        if isinstance(node, Class):
            return self._class(step, node)
        if isinstance(node, Filter):
            return self._filter(step, node)
        if isinstance(node, Offload):
            return _sized(node)
        if isinstance(node, MarkTable):
            return self._table(step)
        return Impact(False, "a device of the measurement's own; no packet of yours passes it")

    def _qdisc(self, step: Step, node: Qdisc) -> Impact:
        if is_hook(node.parent):
            return Impact(False, "a hook beside the queue holds no packets")
        if node.parent == ROOT:
            return self._root(step, node)
        queue = f"the queue of {self._name(node.parent)}"
        if step.verb is Verb.CHANGE:
            return _sorted_anew(step, queue) or _requeued(step, queue)
        if step.verb is Verb.DELETE:
            instead = "; another takes its place" if node.key in self._readded else ""
            return Impact(True, f"what waits in {queue} is lost{instead}")
        if node.parent in self._added or qdisc_of(node.parent) in self._banded:
            return Impact(False, "its class is new and holds no packets yet")
        return Impact(True, f"it takes the place of {queue}: what waits there is lost")

    def _table(self, step: Step) -> Impact:
        """The marks and what reads them change one after the other."""
        if self._rooted:
            return Impact(False, "the root that reads its marks comes or goes with it")
        return Impact(
            True,
            "not atomic: marks and the classifier that reads them change one after the other, and between the two "
            "packets are classed by neither the rules before nor those after",
        )

    def _root(self, step: Step, node: Qdisc) -> Impact:
        name = f"the root {node.kind} {handle_text(node.handle)}"
        if step.verb is Verb.DELETE:
            return Impact(
                True,
                f"{name} goes: what waits in it is lost, uncounted, and until another is there the device sends "
                "unshaped",
            )
        if step.verb is Verb.ADD:
            return Impact(
                True,
                f"{name} takes the place of the device's queue: what waits there is lost"
                f"{_EMPTY_ROOT.get(node.kind, '')}",
            )
        return _sorted_anew(step, name) or Impact(False, "changed in place")

    def _class(self, step: Step, node: Class) -> Impact:
        if step.verb is Verb.DELETE:
            return Impact(True, f"what waits in {self._name(node.handle)} is lost with its queue")
        if step.verb is Verb.ADD:
            return Impact(False, "no filter names it yet")
        before = step.before
        if isinstance(before, HtbClass) and isinstance(node, HtbClass) and before.prio != node.prio:
            return Impact(False, "changed in place; the new tier counts from when its queue is next empty", late=True)
        return Impact(False, "changed in place, its queue stays")

    def _filter(self, step: Step, node: Filter) -> Impact:
        if isinstance(node, OtherFilter) and step.verb is Verb.DELETE:
            return Impact(True, f"a {node.kind} filter that is not the shaper's goes")
        if isinstance(node, U32Table):
            return Impact(False, "a list that holds filters and takes no packet")
        if is_hook(node.parent) and _acts(node):
            return self._policing(step)
        if is_hook(node.parent):
            does = "measures" if isinstance(node, LoadedFilter) else "copies packets for the measurement"
            return Impact(False, f"it {does} and turns none away")
        if node.parent >> 16 in LEAF_MAJORS:
            return Impact(False, "it tells a queue's hosts apart; what waits there stays where it is")
        if node.parent in self._added:
            return Impact(False, "its root is new")
        if _treats(node):
            return Impact(
                False,
                "not atomic with the classifier: a packet's class is always of the rules before or after; one whose "
                "class changes may between two steps be marked and policed as in neither",
            )
        if self._moving[node.parent] > 1:
            return Impact(
                True,
                f"not atomic: {self._moving[node.parent]} filters change one after the other, and between them packets "
                "are classed as neither the rules before nor those after say",
            )
        if step.verb is Verb.CHANGE:
            return Impact(False, "atomic: the whole classifier is replaced in one message")
        if step.verb is Verb.ADD:
            return Impact(False, "atomic: one filter in one message")
        if isinstance(node, (FlowerFilter, U32Filter)):
            return Impact(False, "atomic: one filter in one message, those after it are asked instead")
        return Impact(True, "packets are classed by nothing but the default from here on")

    def _policing(self, step: Step) -> Impact:
        """Of filters on a hook that police: each is replaced in one message, all of them in several."""
        if self._policing_steps == 1 and step.verb is Verb.CHANGE:
            return Impact(False, "replaced in one message; nothing waits here, and counters and other buckets go on")
        if step.verb is Verb.DELETE:
            return Impact(False, "nothing waits here; what it policed meets the filters behind it, or passes")
        return Impact(
            False,
            "nothing waits here; not atomic: filters change one after the other, and between two of them a packet may "
            "be policed as neither the rules before nor those after say, or not at all",
        )

    def _name(self, number: Handle) -> str:
        path = self._names.get(number)
        return f"class {path} {handle_text(number)}" if path else f"class {handle_text(number)}"


def _sized(node: Offload) -> Impact:
    if node.name == GSO_MAX_SEGS:
        return Impact(False, "no packet waits for it; it counts for connections that are made from then on")
    if node.name == "gro":
        return Impact(False, "packets are joined or not from the next on; it costs or spares processor time")
    return Impact(True, f"some drivers start {node.device} anew when {node.name} changes: it may be down for a while")


def _acts(node: Filter) -> bool:
    """Whether it does something to packets, and does not only copy them."""
    return isinstance(node, (BpfFilter, LoadedFilter, FlowerFilter)) and bool(node.actions)


def _treats(node: Filter) -> bool:
    """Whether it does something to packets of which the classifier beside it would say the same class."""
    return isinstance(node, (BpfFilter, LoadedFilter)) and bool(node.actions)


def _sorted_anew(step: Step, queue: str) -> Impact | None:
    """CAKE with other tins; None for all else. The kernel empties the tins that go, and counts nothing as dropped."""
    if not (isinstance(step.before, Qdisc) and isinstance(step.after, Qdisc)):
        return None
    old, new = step.before.options, step.after.options
    if not (isinstance(old, CakeOptions) and isinstance(new, CakeOptions)) or old.diffserv == new.diffserv:
        return None
    if len(TINS[new.diffserv].names) < len(TINS[old.diffserv].names):
        return Impact(True, f"what waits in those tins of {queue} that go is lost, uncounted")
    return Impact(True, f"packets go to other tins of {queue} and may overtake those of their flow that wait")


def _requeued(step: Step, queue: str) -> Impact:
    """A limit goes down as its queue drains (`run/ebbing.py`); a FIFO only takes no more until it has drained."""
    assert isinstance(step.before, Qdisc)
    assert isinstance(step.after, Qdisc)
    old, new = step.before.options, step.after.options
    if lowers(step):
        return Impact(False, "changed in place; the limit goes down as the queue drains, and nothing is thrown away")
    if isinstance(old, RedOptions):
        return Impact(True, f"what waits in {queue} is lost: RED takes its numbers with an empty queue")
    if isinstance(old, FifoOptions) and isinstance(new, FifoOptions) and new.limit < old.limit:
        return Impact(False, "changed in place; what waits beyond the new limit is still sent")
    return Impact(False, "changed in place, what waits in it stays")
