"""One device of the fake kernel: its queues, and the rules by which the real kernel refuses a step.

The rules follow net/sched (tc_modify_qdisc, tc_ctl_tclass, htb_change_class, tc_new_tfilter and their kin). The
contract tests hold them against a real kernel, errno by errno.
"""

from __future__ import annotations

import errno as errors
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace

from shaper.kernel import fake_u32
from shaper.kernel.codec import encode_class, encode_qdisc
from shaper.kernel.codec.clock import codel_canonical, psched_canonical
from shaper.kernel.encode import Refused, only_counts_anew
from shaper.kernel.explain import UNKNOWN_ACTION, UNKNOWN_FILTER, UNKNOWN_QDISC
from shaper.plan.steps import Step, Verb
from shaper.tree import (
    CLSACT,
    MOST_BANDS,
    ROOT,
    Acting,
    CakeOptions,
    Capabilities,
    Class,
    CodelOptions,
    Curve,
    EtsOptions,
    Filter,
    FlowerFilter,
    FlowerKey,
    FqCodelOptions,
    FqPieOptions,
    Handle,
    HfscClass,
    HtbClass,
    HtbOptions,
    Insn,
    Occupancy,
    Options,
    PieOptions,
    PrioOptions,
    Qdisc,
    SizeTable,
    U32Filter,
    U32Table,
    bands_of,
    device_text,
    kind_of,
    kind_of_filter,
)
from shaper.tree import BpfFilter as Bpf
from shaper.tree.marks import restoring

_MAX_DEPTH = 8
_MAX_PRIO = 7
_RATE_TO_QUANTUM, _QUANTUM_MIN, _QUANTUM_MAX = 10, 1000, 200000
_MOST_FLOWS, _MOST_QUANTUM = 65536, 1 << 20
_MOST_LOG = 30
_CLASSFUL = ("htb", "hfsc")
_FLOWS = ("fq_codel", "cake", "sfq")
_FIXED = ("htb", "sfq")
"""Kinds that take no change of their options."""
_BANDS = ("ets", "prio")
_LEAST_BANDS, _LEAST_QUANTUM = {"ets": 1, "prio": 2}, 256
_BLOCKS = (*_CLASSFUL, *_BANDS, "clsact", "ingress", *_FLOWS)


def _major(handle: Handle) -> Handle:
    return handle & 0xFFFF0000


@dataclass(slots=True)
class Device:
    """The state of one device. `queue` is its transmit queue length; `index_of` finds the devices to send to."""

    able: Capabilities
    index_of: Callable[[str], int | None]
    queue: int = 1000
    qdiscs: dict[Handle, Qdisc] = field(default_factory=dict)
    """By parent, as a place holds one."""
    classes: dict[Handle, Class] = field(default_factory=dict)
    filters: dict[tuple[str, int, int], Filter] = field(default_factory=dict)
    bound: dict[tuple[str, int, int], Handle] = field(default_factory=dict)
    """Filters to the class they hold: the one they name, if it was there when they were set."""
    filled: dict[Handle, list[Occupancy]] = field(default_factory=dict)
    """What queues hold, look by look."""
    thrown: int = 0
    """Packets that were thrown away with lowered limits."""
    hooked: bool = False
    """Whether clsact was ever asked for: the kernel then keeps an empty place, and a delete gets another answer."""

    # qdiscs

    def qdisc(self, step: Step, node: Qdisc) -> None:
        """Raises Refused."""
        verb = step.verb
        held = self._held(node, verb)
        if verb is Verb.DELETE:
            self._delete_qdisc(node, held)
            return
        if held is not None and held.handle != node.handle:
            raise Refused(errors.EEXIST, "NLM_F_REPLACE needed to override")
        if verb is Verb.ADD:
            if held is not None or self._by_handle(node.handle) is not None:
                raise Refused(errors.EEXIST, "Exclusivity flag on, cannot modify")
            self._add_qdisc(node)
            return
        if held is None:
            if self._by_handle(node.handle) is not None:  # found by its number, and not to be put under an inner class
                raise Refused(errors.EINVAL, "")
            raise Refused(errors.ENOENT, "Qdisc not found. To create specify NLM_F_CREATE flag")
        if held.kind != node.kind:
            raise Refused(errors.EINVAL, "Invalid qdisc name: must match existing qdisc")
        if only_counts_anew(step):
            _sound(node.stab)
            self.qdiscs[node.parent] = replace(held, stab=node.stab)
            return
        if node.kind in _FIXED:
            raise Refused(errors.EINVAL, "Change operation not supported by specified qdisc")
        self.qdiscs[node.parent] = replace(node, options=self._kept(node, held.options))
        self._throw_away(self.qdiscs[node.parent])
        for leaf in self._in_bands(node, beyond=bands_of(node.options)):
            self._drop_qdisc(leaf)

    def look_into(self, handle: Handle) -> Occupancy:
        """What the queue holds; time goes on with every look."""
        looks = self.filled.get(handle, [Occupancy()])
        return looks.pop(0) if len(looks) > 1 else looks[0]

    def _throw_away(self, queue: Qdisc) -> None:
        """What it holds beyond its limits; of packets that are alike."""
        looks = self.filled.get(queue.handle)
        if not looks or not isinstance(queue.options, (FqCodelOptions, CodelOptions, PieOptions, FqPieOptions)):
            return
        packets, memory = looks[0]
        kept = min(packets, queue.options.limit)
        if isinstance(queue.options, FqCodelOptions) and memory:
            kept = min(kept, packets * queue.options.memory // memory)
        self.thrown += packets - kept
        looks[0] = Occupancy(kept, memory * kept // packets if packets else 0)

    def _in_bands(self, node: Qdisc, *, beyond: int = 0) -> list[Qdisc]:
        """The queues of a qdisc's bands from that one on."""
        major = _major(node.handle)
        below = (leaf for leaf in self.qdiscs.values() if node.kind in _BANDS and _major(leaf.parent) == major)
        return [leaf for leaf in below if leaf.parent & 0xFFFF > beyond]

    def _held(self, node: Qdisc, verb: Verb) -> Qdisc | None:
        """What stands where the step points; the kernel's own default counts as nothing. Raises Refused."""
        if node.parent == CLSACT:
            self.hooked = self.hooked or verb is not Verb.DELETE
        elif node.parent != ROOT:
            above = self._by_handle(_major(node.parent))
            if above is None:
                raise Refused(errors.ENOENT, "Failed to find specified qdisc")
            if above.kind not in (*_CLASSFUL, *_FLOWS, *_BANDS):
                raise Refused(errors.EOPNOTSUPP, "Parent qdisc is not classful")
            if node.parent not in self.classes and not 0 < node.parent & 0xFFFF <= bands_of(above.options):
                raise Refused(errors.ENOENT, "Specified class not found")
        if isinstance(self.classes.get(node.parent), HfscClass) and self._children(node.parent):
            return None  # HFSC keeps the queue of a class that became inner, and shows it to nobody
        return self.qdiscs.get(node.parent)

    def _add_qdisc(self, node: Qdisc) -> None:
        if node.kind not in self.able.qdiscs:
            raise Refused(errors.ENOENT, UNKNOWN_QDISC)
        options = self._kept(node, None)
        _sound(node.stab)
        if self._children(node.parent):
            raise Refused(errors.EINVAL, "")
        self.qdiscs[node.parent] = replace(node, options=options)

    def _kept(self, node: Qdisc, held: Options) -> Options:
        """The options as the kernel would keep them. Raises Refused."""
        try:
            encode_qdisc(node.kind, node.options, creating=held is None)
        except ValueError as error:
            raise Refused(errors.EINVAL, str(error)) from error
        match node.options:
            case FqCodelOptions(flows=flows, quantum=quantum) | FqPieOptions(flows=flows, quantum=quantum) if (
                not 0 < flows <= _MOST_FLOWS or quantum > _MOST_QUANTUM
            ):
                raise Refused(errors.EINVAL, "")
            case EtsOptions() | PrioOptions():
                return _banded(node.kind, node.options)
            case CakeOptions(rtt=rtt, target=target):
                return node.options._replace(rtt=max(1, rtt), target=max(1, target))
            case HtbOptions(direct_queue=length) if length == self.queue:
                return node.options._replace(direct_queue=0)
            case CodelOptions(target=target, interval=interval):
                return node.options._replace(target=codel_canonical(target), interval=codel_canonical(interval))
            case PieOptions(target=target):
                return node.options._replace(target=psched_canonical(target))
            case FqPieOptions(target=target, flows=flows, quantum=quantum):
                flows = held.flows if isinstance(held, FqPieOptions) else flows
                return node.options._replace(
                    target=psched_canonical(target), flows=flows, quantum=max(_LEAST_QUANTUM, quantum)
                )
            case FqCodelOptions():
                return node.options._replace(
                    target=codel_canonical(node.options.target),
                    interval=codel_canonical(node.options.interval),
                    quantum=max(_LEAST_QUANTUM, node.options.quantum),
                    flows=held.flows if isinstance(held, FqCodelOptions) else node.options.flows,
                )
        return node.options

    def _delete_qdisc(self, node: Qdisc, held: Qdisc | None) -> None:
        if held is None:
            if (node.parent == CLSACT and not self.hooked) or self._children(node.parent):
                raise Refused(errors.ENOENT, "Cannot find specified qdisc on specified device")
            raise Refused(errors.EINVAL, "Invalid handle")  # the kernel's default stands there, with handle 0:
        if held.handle != node.handle:
            raise Refused(errors.EINVAL, "Invalid handle")
        if held.kind != node.kind:
            raise Refused(errors.EINVAL, "Invalid qdisc name: must match existing qdisc")
        self._drop_qdisc(held)

    def _drop_qdisc(self, gone: Qdisc) -> None:
        """With all that stands under it, and its filters."""
        del self.qdiscs[gone.parent]
        for leaf in self._in_bands(gone):
            self._drop_qdisc(leaf)
        major = _major(gone.handle)
        for cls in [cls for cls in self.classes if _major(cls) == major]:
            self._drop_class(cls)
        for key in [key for key, node in self.filters.items() if _major(node.parent) == major]:
            self._drop_filter(key)

    def _by_handle(self, handle: Handle) -> Qdisc | None:
        return next((qdisc for qdisc in self.qdiscs.values() if qdisc.handle == handle), None)

    # classes

    def cls(self, verb: Verb, node: Class) -> None:
        """Raises Refused."""
        if node.parent != ROOT and _major(node.parent) != _major(node.handle):
            raise Refused(errors.EINVAL, "")
        above = self._by_handle(_major(node.handle))
        if above is None:
            raise Refused(errors.ENOENT, "")
        if above.kind in (*_FLOWS, *_BANDS):
            raise Refused(errors.EOPNOTSUPP, "")  # it has classes of its own, and takes none
        if above.kind not in _CLASSFUL:
            raise Refused(errors.EINVAL, "")
        held = self.classes.get(node.handle)
        if held is None and verb is not Verb.ADD:
            raise Refused(errors.ENOENT, "")
        if held is not None and verb is Verb.ADD:
            raise Refused(errors.EEXIST, "")
        if held is not None and verb is Verb.DELETE:
            in_use = self._children(held.handle) or held.handle in self.bound.values()
            if above.kind == "hfsc":  # whose filters the kernel unbinds when it is asked, whatever it answers
                self.bound = {key: bound for key, bound in self.bound.items() if bound != held.handle}
            if in_use:
                raise Refused(errors.EBUSY, f"{above.kind.upper()} class in use")
            self._drop_class(held.handle)
            return
        try:
            kind, _ = encode_class(node)
        except ValueError as error:
            raise Refused(errors.EINVAL, str(error)) from error
        if kind != above.kind:
            raise Refused(errors.EINVAL, "")
        if isinstance(node, HfscClass):
            self._keep_hfsc(node, held if isinstance(held, HfscClass) else None)
            return
        if node.rate < 8 or node.ceil < 8:
            raise Refused(errors.EINVAL, "")
        self._keep_htb(node, held if isinstance(held, HtbClass) else None)

    def _keep_hfsc(self, node: HfscClass, held: HfscClass | None) -> None:
        rt, ls, ul = (_curve(curve) for curve in (node.rt, node.ls, node.ul))
        if held is not None:  # what a change leaves out stays
            if node.parent != held.parent:
                raise Refused(errors.EINVAL, "")
            self.classes[node.handle] = replace(held, rt=rt or held.rt, ls=ls or held.ls, ul=ul or held.ul)
            return
        parent = self.classes.get(node.parent)
        if parent is None and node.parent != _major(node.handle):
            raise Refused(errors.ENOENT, "")
        if rt is None and ls is None:
            raise Refused(errors.EINVAL, "")
        if isinstance(parent, HfscClass) and parent.ls is None:  # a real-time class can't have classes: it shares now
            self.classes[parent.handle] = replace(parent, ls=parent.rt)
        self.classes[node.handle] = replace(node, rt=rt, ls=ls, ul=ul)
        named = (key for key, one in self.filters.items() if isinstance(one, Acting) and one.classid == node.handle)
        self.bound |= dict.fromkeys(named, node.handle)  # HTB's filters hold no class that came after them

    def _keep_htb(self, node: HtbClass, held: HtbClass | None) -> None:
        kept = replace(node, prio=min(node.prio, _MAX_PRIO), quantum=node.quantum or _default_quantum(node.rate))
        if held is not None:
            if self._children(held.handle):  # an inner class has no queue for these to act on
                kept = replace(kept, prio=held.prio, quantum=held.quantum)
            self.classes[node.handle] = replace(kept, parent=held.parent)
            return
        if node.parent not in self.classes:
            kept = replace(kept, parent=_major(node.handle))  # the kernel takes a missing parent for the top
        elif self._depth(node.parent) >= _MAX_DEPTH:
            raise Refused(errors.EINVAL, "tree is too deep")
        leaf = self.qdiscs.get(kept.parent)
        if leaf is not None:  # the class above ceases to be a leaf
            self._drop_qdisc(leaf)
        self.classes[node.handle] = kept

    def _drop_class(self, handle: Handle) -> None:
        del self.classes[handle]
        leaf = self.qdiscs.get(handle)
        if leaf is not None:
            self._drop_qdisc(leaf)

    def _children(self, handle: Handle) -> bool:
        return handle in self.classes and any(cls.parent == handle for cls in self.classes.values())

    def _depth(self, handle: Handle) -> int:
        depth = 0
        while handle in self.classes:
            handle = self.classes[handle].parent
            depth += 1
        return depth

    # filters

    def filter(self, verb: Verb, node: Acting | U32Table) -> None:
        """Raises Refused."""
        kind = kind_of_filter(node)
        if verb is not Verb.DELETE and isinstance(node, Bpf) and node.target and self.index_of(node.target) is None:
            raise Refused(errors.ENODEV, f"there is no device {node.target!r} to send to")
        above = self._by_handle(_major(node.parent))
        if above is None:
            raise Refused(errors.EINVAL, "Parent Qdisc doesn't exists")
        if above.kind not in _BLOCKS:
            raise Refused(errors.EINVAL, "Parent Qdisc is not classful")
        if node.parent & 0xFFFF and above.kind in _CLASSFUL and node.parent not in self.classes:
            raise Refused(errors.ENOENT, "Specified class doesn't exist")
        if verb is not Verb.DELETE and isinstance(node, FlowerFilter) and not all(map(self._is_there, node.keys)):
            raise Refused(errors.ENODEV, "Network device not found")
        held = self.filters.get(node.key)
        beside = [other for other in self.filters.values() if _place(other) == _place(node)]
        for other in beside:
            if other.protocol != node.protocol:
                raise Refused(errors.EINVAL, "")
            if kind_of_filter(other) != kind:
                raise Refused(errors.EINVAL, "Specified filter kind does not match existing one")
        if held is None and verb is not Verb.ADD:
            if isinstance(node, U32Table):
                return  # it went with the last filter
            raise Refused(errors.ENOENT, "Specified filter not found")
        if isinstance(node, (U32Filter, U32Table)):
            fake_u32.check(verb, node, self.filters)
        if verb is Verb.DELETE:
            along = fake_u32.gone_with(node, self.filters) if isinstance(node, (U32Filter, U32Table)) else []
            for key in (node.key, *(one.key for one in along)):
                self._drop_filter(key)
            return
        if kind not in self.able.filters:
            raise Refused(errors.ENOENT, UNKNOWN_FILTER)
        if isinstance(node, (U32Filter, U32Table)):
            head = fake_u32.with_head(node)
            self.filters[head.key] = head
        elif held is not None and verb is Verb.ADD:
            raise Refused(errors.EEXIST, "Filter already exists")
        if isinstance(node, U32Table):
            self.filters[node.key] = node
            return
        if any(kind_of(action).kind not in self.able.actions for action in node.actions):
            raise Refused(errors.ENOENT, UNKNOWN_ACTION)
        if isinstance(node, Bpf):
            self._check_bpf(node)
        elif isinstance(node, FlowerFilter):
            _check_flower(node, held, beside)
        self._drop_filter(node.key)
        self.filters[node.key] = node
        if node.classid in self.classes and _major(node.classid) == above.handle:
            self.bound[node.key] = node.classid

    def _is_there(self, key: FlowerKey) -> bool:
        return key.field != "indev" or self.index_of(device_text(key.value)) is not None

    def _check_bpf(self, node: Bpf) -> None:
        if node.target and "mirred" not in self.able.actions:
            raise Refused(errors.ENOENT, UNKNOWN_ACTION)
        if node.restore and not restoring(node.restore) <= self.able.actions:
            raise Refused(errors.ENOENT, UNKNOWN_ACTION)
        if not _runs(node.program):
            raise Refused(errors.EINVAL, "")

    def _drop_filter(self, key: tuple[str, int, int]) -> None:
        self.filters.pop(key, None)
        self.bound.pop(key, None)


def _place(node: Filter) -> tuple[Handle, int]:
    return node.parent, node.preference


def _check_flower(node: FlowerFilter, held: Filter | None, beside: Iterable[Filter]) -> None:
    """A filter keeps its masks for life; a new one must not ask what another of its preference asks."""
    masks = {(key.field, key.mask) for key in node.keys}
    if isinstance(held, FlowerFilter) and {(key.field, key.mask) for key in held.keys} != masks:
        raise Refused(errors.EINVAL, "")
    if held is None and any(isinstance(other, FlowerFilter) and other.keys == node.keys for other in beside):
        raise Refused(errors.EEXIST, "")


def _banded(kind: str, options: EtsOptions | PrioOptions) -> EtsOptions | PrioOptions:
    """As the kernel would keep it. Raises Refused."""
    if not _LEAST_BANDS[kind] <= options.bands <= MOST_BANDS or max(options.priomap) >= options.bands:
        raise Refused(errors.EINVAL, "")
    if isinstance(options, PrioOptions):
        return options
    return options._replace(quanta=tuple(max(_LEAST_QUANTUM, quantum) for quantum in options.quanta))


def _curve(curve: Curve | None) -> Curve | None:
    """No slopes are no curve."""
    return curve if curve and (curve.m1 >= 8 or curve.m2 >= 8) else None


def _sound(table: SizeTable | None) -> None:
    """Raises Refused."""
    if table is not None and max(table.cell_log, table.size_log) > _MOST_LOG:
        raise Refused(errors.EINVAL, "Invalid logarithmic size of size table")


def _default_quantum(rate: int) -> int:
    return max(_QUANTUM_MIN, min(_QUANTUM_MAX, rate // 8 // _RATE_TO_QUANTUM))


def _runs(program: tuple[Insn, ...]) -> bool:
    """What of the kernel's check of classic BPF a compiler may get wrong: jumps, and a return at the end."""
    if not program or program[-1].code & 0x07 != 0x06:
        return False
    for place, insn in enumerate(program):
        if insn.code & 0x07 != 0x05:
            continue
        steps = (insn.k,) if insn.code == 0x05 else (insn.jt, insn.jf)
        if any(place + 1 + step >= len(program) for step in steps):
            return False
    return True
