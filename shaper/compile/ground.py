"""What all backends stand on: the link, the rates and queues of a class, the classifier, the measurement's hook."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from shaper.compile import incoming
from shaper.compile import tap as measurement
from shaper.compile.filters import Classification, classify
from shaper.compile.handles import leaf_handle
from shaper.compile.inside import Inside
from shaper.compile.leaf import LeafQueue, leaf_queue
from shaper.compile.notes import notes, unmeasured
from shaper.compile.program import Program
from shaper.compile.treatment import Treatment, policers, treatment_notes, treatments
from shaper.errors import UnavailableError
from shaper.model.aqm import TURNED
from shaper.model.decision import Allocation, Bounds
from shaper.model.match import Rules
from shaper.model.policy import Backend, Direction, Interface, TrafficClass
from shaper.tree import ROOT, Capabilities, Handle, LinkFacts, LookupProgram, Node, Offload, Qdisc, SizeTable, tree
from shaper.units import format_rate

MIN_RATE = 8_000
"""bit/s. HTB takes no rate of 0, and at 8 kbit a 64 KB packet's burst still fits the kernel's 32-bit ticks."""


@dataclass(frozen=True, slots=True)
class Ground:
    """One interface on one link. `structure` off compiles plain guarantees; `tap` off leaves the measurement out.

    `least` is the rate in bit/s of a class that is guaranteed nothing. `table` is how the root counts packets, `facts`
    the device as it counts, `offloads` what it and others are set to, `said` what is to be said of all that. `marks`
    say what a translation of addresses hides.
    """

    interface: Interface
    capabilities: Capabilities
    facts: LinkFacts
    structure: bool
    tap: bool
    least: int = MIN_RATE
    table: SizeTable | None = None
    said: tuple[str, ...] = ()
    offloads: tuple[Offload, ...] = ()
    marks: Inside | None = None

    @property
    def bandwidth(self) -> int:
        """In bit/s, whole bytes a second."""
        return whole_bytes(self.interface.bandwidth)

    @property
    def frame(self) -> int:
        """The largest frame in bytes."""
        return self.facts.mtu + self.facts.header

    @property
    def moving(self) -> tuple[int, int] | None:
        """The least and the most that the link is given, in bit/s, whole bytes a second; None where that stands."""
        moves = self.interface.moving
        if moves is None:
            return None
        return min(self.bandwidth, whole_bytes(moves.least)), max(self.bandwidth, whole_bytes(moves.most))

    def rate(self, cls: TrafficClass) -> int:
        """The compiled rate: the floor where that is below the guarantee, else the guarantee."""
        wanted = min(cls.floor, cls.guarantee) if self.structure else cls.guarantee
        return max(self.least, whole_bytes(wanted))

    def ceil(self, cls: TrafficClass) -> int:
        return max(MIN_RATE, whole_bytes(min(cls.limit, self.interface.most)))

    def queues(self, handles: Mapping[str, Handle]) -> dict[str, LeafQueue]:
        """The queue under every leaf class, by its path. Raises UnavailableError."""
        return {
            leaf.path: leaf_queue(
                self._as_it_comes(leaf),
                rate=max(MIN_RATE, whole_bytes(leaf.guarantee)),
                ceil=self.ceil(leaf),
                handle=leaf_handle(handles[leaf.path]),
                parent=handles[leaf.path],
                link=self.facts,
                have=self.capabilities,
            )
            for leaf in self.interface.leaves()
        }

    def _as_it_comes(self, leaf: TrafficClass) -> TrafficClass:
        """A policy says what goes out: of what comes in, the hosts of a fairness are at the other end of the packet."""
        if leaf.fairness is None or self.interface.direction is Direction.EGRESS:
            return leaf
        return replace(leaf, fairness=TURNED.get(leaf.fairness, leaf.fairness))

    def bounds(self, leaf: TrafficClass, queue: LeafQueue) -> Bounds:
        """Within what a controller may move a leaf."""
        floor = max(self.least, whole_bytes(min(leaf.floor, leaf.guarantee)))
        guarantee = max(floor, whole_bytes(leaf.guarantee))
        ceil = max(guarantee, self.ceil(leaf))
        most = max(guarantee, whole_bytes(leaf.most)) if leaf.most else ceil
        if leaf.police is not None and leaf.police.most:  # what is dropped before it waits needs no rate
            most = max(guarantee, min(most, whole_bytes(leaf.police.most)))
        return Bounds((floor, most), (guarantee, ceil), (queue.smallest, queue.largest), queue.targets)

    def require(self, kind: str) -> None:
        """Raises UnavailableError when the kernel lacks the root's kind."""
        if kind not in self.capabilities.qdiscs:
            raise UnavailableError(
                f"{self.interface.device} can't be shaped: the kernel ({self.capabilities.kernel}) lacks the {kind} "
                "qdisc",
                hint=f"`modprobe sch_{kind}`, or a kernel built with CONFIG_NET_SCH_{kind.upper()}",
                where=self.interface.device_where,
            )

    def require_rates(self, clock: str, most: int) -> None:
        """Raises UnavailableError for a bandwidth or limit below MIN_RATE or above `most` bit/s."""
        rates = [(self.interface.name, self.interface.bandwidth, self.interface.where, "bandwidth")]
        rates.extend((cls.path, cls.limit, cls.where, "limit") for cls in self.interface.walk() if not cls.implied)
        for name, rate, where, key in rates:
            if not MIN_RATE <= rate <= most:
                bound = (
                    f"the least is {format_rate(MIN_RATE)}" if rate < MIN_RATE else f"the most is {format_rate(most)}"
                )
                raise UnavailableError(
                    f"{name}: a {key} of {format_rate(rate)} cannot be expressed in {clock}", hint=bound, where=where
                )

    def treated(self) -> dict[str, Treatment]:
        """What is done to the packets of the leaves by filters; CAKE has none. Raises UnavailableError."""
        if self.interface.backend is Backend.CAKE:
            return {}
        return treatments(self.interface, self.capabilities, self.facts)

    def classify(self, rules: Rules, handles: Mapping[str, Handle]) -> Classification:
        """The filters that name the class of every packet. Raises UnavailableError when they can't say it all."""
        facts = self.facts
        asked = self.marks.carried(rules) if self.marks else rules
        outgoing = self.interface.direction is Direction.EGRESS
        ethernet = not outgoing or (facts.header > 0 and facts.name != "lo")  # an ifb is as Ethernet, and lo is not
        have, treated = self.capabilities, self.treated()
        return classify(self.interface, asked, handles, have, treated, devices=self.devices, ethernet=ethernet)

    @property
    def devices(self) -> dict[str, int] | None:
        """The numbers of those by which a packet may have come in, by name; None where nobody has looked."""
        facts = self.facts
        if facts.own is None:
            return None
        return {facts.name: facts.index, **{one.device: one.number for one in facts.feeders}}

    def notes(self, queues: Mapping[str, LeafQueue]) -> tuple[str, ...]:
        """What is done instead of what the kernel lacks, in words."""
        said = notes(self.interface, self.facts, queues, structure=self.structure)
        return (*said, *treatment_notes(self.interface, self.facts))

    def program(
        self,
        nodes: Iterable[Node],
        *,
        interface: Interface | None = None,
        handles: Mapping[str, Handle],
        bounds: Mapping[str, Bounds],
        static: Allocation,
        rules: Rules,
        notes: tuple[str, ...],
        lookups: tuple[LookupProgram, ...] = (),
        reserved: int = 0,
        movable: bool = True,
    ) -> Program:
        """The program of these nodes with the measurement's beside them; `interface` where it is not compiled whole."""
        sampling = measurement.sampling_of(self.bandwidth)
        lacking, unseen = measurement.missing(self.capabilities), self._unseen(rules)
        comes_in = self.interface.direction is Direction.INGRESS
        measured = not unseen and (comes_in or (self.tap and not lacking))
        shaped = self.interface.shaped
        tap = shaped if comes_in else measurement.tap_name(shaped)
        hook: tuple[Node, ...] = measurement.nodes(shaped, sampling) if measured else ()
        if comes_in:
            hook = incoming.nodes(self.interface, self.marks.restore if self.marks else None)
        tables = (self.marks.table(),) if self.marks else ()
        return Program(
            interface=interface or self.interface,
            tree=tree(shaped, [*self.offloads, *(self._counting(node) for node in nodes), *hook, *tables]),
            handles=handles,
            bounds=bounds,
            static=static,
            rules=rules,
            carried=self.marks.carried(rules) if self.marks else rules,
            tap=tap if measured or comes_in else "",
            tap_filter=measurement.tap_filter(sampling) if measured else (),
            arriving_filter=measurement.arriving_filter(sampling) if measured and comes_in else (),
            sampling=sampling,
            notes=(*self.said, *notes, *(unmeasured(lacking, unseen) if self.tap else ())),
            reserved=reserved,
            movable=movable,
            frame=self.frame,
            policers=policers(self.interface, self.treated()),
            lookups=lookups,
            devices=self.devices or {},
            moving=self.moving,
        )

    def _unseen(self, rules: Rules) -> tuple[str, ...]:
        """What rules ask for that a captured packet does not show."""
        hidden = self.marks.hidden(rules) if self.marks else ()
        return (*measurement.unseen(rules), *hidden)

    def _counting(self, node: Node) -> Node:
        """A root with its size table."""
        return replace(node, stab=self.table) if isinstance(node, Qdisc) and node.parent == ROOT else node


def whole_bytes(rate: int) -> int:
    """A rate in bit/s as the kernel keeps it."""
    return rate // 8 * 8
