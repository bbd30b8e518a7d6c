"""What a policy says, resolved: every rate in bit/s, every default filled in, the order of matching kept."""

from __future__ import annotations

import enum
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple, Protocol

from shaper.errors import Where
from shaper.model.aqm import Aqm, CakeSettings
from shaper.model.device import Offloads, Selector, spot
from shaper.model.link import LinkLayer
from shaper.model.link_rate import Moving
from shaper.model.match import Match, Rule, Rules
from shaper.model.nat import Connection, Nat
from shaper.model.probe import Probe
from shaper.model.schedule import Phase, Timetable
from shaper.model.sla import Sla
from shaper.model.treatment import Marking, Policer
from shaper.tree import FlowMode


class Direction(enum.StrEnum):
    """Which packets of a device: those it sends, or those that come in by it."""

    EGRESS = "egress"
    INGRESS = "ingress"


class Incoming(enum.StrEnum):
    """What is done with what comes in: it waits in a queue, or is policed on the spot."""

    QUEUE = "queue"
    POLICE = "police"


class Tier(enum.IntEnum):
    """Who is served first when there is not enough; the value is the borrowing priority."""

    SPECIAL = 0
    PRIORITY = 1
    STANDARD = 2


STRICT = -1
"""The priority of a class that is served before every other, up to its limit."""


class Classifier(enum.StrEnum):
    """By which of the kernel's means packets are told apart; the meaning is the same. AUTO is the best there is."""

    AUTO = "auto"
    BPF = "bpf"
    FLOWER = "flower"
    U32 = "u32"


class Backend(enum.StrEnum):
    """The queueing discipline that carries a policy, by tc's name; `auto` leaves it to what the kernel has."""

    AUTO = "auto"
    HTB = "htb"
    HFSC = "hfsc"
    CAKE = "cake"
    ETS = "ets"
    PRIO = "prio"

    @property
    def rated(self) -> bool:
        """Whether it has a rate and a limit for every class; the others have an order of service."""
        return self in (Backend.AUTO, Backend.HTB, Backend.HFSC)


class Burst(NamedTuple):
    """How much may pass at once: bytes, or as long as `seconds` at the rate."""

    size: int = 0
    seconds: float = 0.0

    def of(self, rate: int) -> int:
        """In bytes, at a rate in bit/s."""
        return self.size or int(rate * self.seconds / 8)


@dataclass(frozen=True, slots=True)
class Contract:
    """What a class may send (`profile`): `rate` in bit/s, and `burst` bytes at once on top."""

    rate: int
    burst: int


@dataclass(frozen=True, slots=True)
class TrafficClass:
    """One class of a policy on one interface.

    `path` is the class's names from the top, joined by "/", and is its identity for life. Rates are bit/s of
    layer-2 bytes: `guarantee` what it has when nothing is in trouble, `floor` (`adapt.min`) what nothing takes,
    `limit` never more. `share` is its weight for borrowing among its siblings of the same tier. `default` marks the
    one leaf of the interface that takes what no rule matches; `implied` a class the policy did not write.

    `most` (`adapt.max`) is what the controller never grants beyond, 0 the limit; `step` the grid of its grants in
    bit/s, 0 none. `priority` orders borrowers of one tier, None as the tier says; a STRICT class is before all, and has
    one rate: guarantee and limit. `burst` and `cburst` stand for those that follow from the rates. `service` names the
    service class, `presets` what of it the class did not say itself. `aqm` says how its queue is kept short, None
    leaves it to the kernel's abilities and the targets; `fairness` among whom it is shared, None leaves that to it.
    `police` and `marking` are done to its packets before they wait, in this order: marked, then policed. `probe` is
    sent through it by a running shaper, `contract` is what it may send.
    """

    name: str
    path: str
    where: Where
    tier: Tier
    guarantee: int
    floor: int
    limit: int
    share: float
    default: bool = False
    matches: tuple[Match, ...] = ()
    sla: Sla = field(default_factory=Sla)
    children: tuple[TrafficClass, ...] = ()
    implied: bool = False
    most: int = 0
    step: int = 0
    priority: int | None = None
    burst: Burst | None = None
    cburst: Burst | None = None
    service: str = ""
    presets: tuple[str, ...] = ()
    aqm: Aqm | None = None
    fairness: FlowMode | None = None
    police: Policer | None = None
    marking: Marking = field(default_factory=Marking)
    probe: Probe | None = None
    contract: Contract | None = None

    @property
    def strict(self) -> bool:
        """Whether it is served before every class that is not, up to its limit."""
        return self.priority == STRICT

    def walk(self) -> Iterator[TrafficClass]:
        """This class and every class below it, parents first, in the file's order."""
        yield self
        for child in self.children:
            yield from child.walk()


class Drift(enum.StrEnum):
    """What a running shaper does about changes that somebody else makes: puts ours back, or only says so."""

    MEND = "mend"
    REPORT = "report"


class OnFlap(enum.StrEnum):
    """What becomes of the rates that a controller has found when the link went and came back."""

    KEEP = "keep"
    REAPPLY = "reapply"


@dataclass(frozen=True, slots=True)
class Interface:
    """A device and the class tree for one of its directions; `classes` in matching order.

    `bandwidth` in bit/s is what is used: the `line_rate` as written, less the `margin` (a ratio) and what the coding of
    the `link` takes. `device` is its name, and until it was looked up on a machine (`run/place.py`) what `wanted` says.
    `cake` says what the CAKE at the root has, None the usual. With `offloads` super-packets are kept from the queue;
    None leaves the devices as they are. `netns` names the network namespace that the device is in, "" for the one that
    the program runs in. `on_flap` says whether a link that comes back goes on with the rates that were found before,
    `drift` what becomes of changes that somebody else makes.
    A link that is `moving` has its bandwidth as the base that it begins with and goes back to.
    The two directions of one interface share name, device and policy, and have each a bandwidth of their own.

    What comes in may be `policed` instead of queued: then no class waits or borrows. `unused` is what its classes say
    that has no effect then, in words, and `prompt` are the paths of those whose targets of delay hold by themselves.

    With a `timetable` the numbers are those of one `phase` of it, and `variants` has those of every phase. As read from
    a policy it is in none (None), and must be asked for its numbers `at` an instant before they mean anything.
    """

    name: str
    device: str
    bandwidth: int
    policy: str
    classes: tuple[TrafficClass, ...]
    where: Where
    device_where: Where
    classifier: Classifier = Classifier.AUTO
    classifier_where: Where | None = None
    backend: Backend = Backend.AUTO
    line_rate: int = 0
    margin: float = 0.0
    link: LinkLayer | None = None
    wanted: Selector | None = None
    cake: CakeSettings | None = None
    direction: Direction = Direction.EGRESS
    offloads: Offloads | None = None
    netns: str = ""
    netns_where: Where | None = None
    nat: Nat = Nat.AUTO
    on_flap: OnFlap = OnFlap.KEEP
    drift: Drift = Drift.MEND
    connection: Connection = field(default_factory=Connection)
    moving: Moving | None = None
    policed: bool = False
    policed_where: Where | None = None
    unused: tuple[str, ...] = ()
    prompt: frozenset[str] = frozenset()
    timetable: Timetable | None = None
    variants: Mapping[Phase, Interface] = field(default_factory=dict)
    phase: Phase | None = ()

    def at(self, instant: float) -> Interface:
        """With the numbers of an instant (Unix time, s)."""
        return self if self.timetable is None else self.during(self.timetable.phase(instant))

    def during(self, phase: Phase) -> Interface:
        """With the numbers of a phase of its timetable. Raises ValueError for one that it has not."""
        if self.timetable is None or phase == self.phase:
            return self
        if phase not in self.variants:
            raise ValueError(f"{self.name} has no phase {phase}")
        then = self.variants[phase]
        return replace(
            self,
            bandwidth=then.bandwidth,
            line_rate=then.line_rate,
            classes=then.classes,
            moving=then.moving,
            phase=phase,
        )

    @property
    def most(self) -> int:
        """The most that it ever carries, in bit/s: its bandwidth, but for a link that moves."""
        return self.bandwidth if self.moving is None else max(self.bandwidth, self.moving.most)

    @property
    def spot(self) -> str:
        """Its device, with the network namespace."""
        return spot(self.netns, self.device)

    @property
    def key(self) -> str:
        """What tells it from every other: the shaped device, with the network namespace."""
        return spot(self.netns, self.shaped)

    @property
    def title(self) -> str:
        """For people: the name, and the direction where it is not the usual one."""
        return place_text(self.name, self.direction)

    @property
    def place(self) -> str:
        """For people: the device, and the direction where it is not the usual one."""
        return place_text(self.spot, self.direction)

    @property
    def shaped(self) -> str:
        """The device whose queue the classes are: its own, or the ifb that takes what comes in."""
        return shaped_device(self.device, self.direction)

    @property
    def fed_by(self) -> str:
        """The device whose incoming packets are sent to it, "" for what goes out."""
        return "" if self.direction is Direction.EGRESS else self.device

    def walk(self) -> Iterator[TrafficClass]:
        """Every class, parents before children, in the file's order."""
        for top in self.classes:
            yield from top.walk()

    def leaves(self) -> tuple[TrafficClass, ...]:
        """The classes that hold packets."""
        return tuple(cls for cls in self.walk() if not cls.children)

    def default(self) -> TrafficClass:
        """The one leaf that takes what no rule matches."""
        return next(leaf for leaf in self.leaves() if leaf.default)

    def rules(self) -> Rules:
        """The rules in the order they are asked: the implied network control first, then the file's order.

        A policy says what goes out; for what comes in its addresses and ports are turned round. Not those of network
        control: a routing protocol's packets go to the same port either way.
        """
        ordered = (
            rule.turned() if self.direction is Direction.INGRESS and not top.implied else rule
            for top in sorted(self.classes, key=lambda cls: not cls.implied)
            for rule in rules_below(top)
        )
        return Rules(tuple(ordered), self.default().path)


_NAME_LENGTH = 15


def ifb_name(prefix: str, device: str) -> str:
    """Of an ifb of ours for a device, such as `shp-eth1`; a hash where that is too long for a device's name."""
    name = f"{prefix}-{device}"
    return name if len(name) <= _NAME_LENGTH else f"{prefix}-{zlib.crc32(device.encode()):08x}"


def place_text(name: str, direction: Direction) -> str:
    """A name for people, with the direction where it is not the usual one."""
    return name if direction is Direction.EGRESS else f"{name} ({direction})"


def shaped_device(device: str, direction: Direction) -> str:
    """The device whose queue one direction's classes are."""
    return device if direction is Direction.EGRESS else ifb_name("shi", device)


class Branch(Protocol):
    """What of a class decides where packets go."""

    @property
    def path(self) -> str: ...
    @property
    def default(self) -> bool: ...
    @property
    def matches(self) -> tuple[Match, ...]: ...
    @property
    def children(self) -> Sequence[Branch]: ...


def rules_below(cls: Branch, above: tuple[tuple[Match, ...], ...] = ((),)) -> Iterator[Rule]:
    """The rules of one subtree, in order; `above` holds one conjunction for each way the ancestors can be met.

    A class's match is ANDed with its ancestors'. What matches an inner class and none of its children goes to that
    class's catch-all.
    """
    here = tuple((*conjunction, match) for conjunction in above for match in cls.matches) or above
    for child in cls.children:
        yield from rules_below(child, here)
    if cls.matches:
        leaf = catch_all(cls) if cls.children else cls
        if leaf is not None:
            yield from (Rule(conjunction, leaf.path) for conjunction in here)


def catch_all(cls: Branch) -> Branch | None:
    """The leaf for what matches an inner class and none of its children: its default, else the first without a match.

    Children that hold classes and ask nothing themselves are part of the class.
    """
    leaves = tuple(_open_leaves(cls))
    return next((leaf for leaf in leaves if leaf.default), leaves[0] if leaves else None)


def _open_leaves(cls: Branch) -> Iterator[Branch]:
    for child in cls.children:
        if child.children:
            yield from _open_leaves(child) if not child.matches else ()
        elif child.default or not child.matches:
            yield child


@dataclass(frozen=True, slots=True)
class Policy:
    """A whole policy file: its interfaces, where it was read from, the text and its hash.

    `files` are the texts of the address lists that it names; the hash is over them, too.
    """

    source: str
    sha256: str
    interfaces: tuple[Interface, ...]
    text: str = ""
    files: Mapping[str, str] = field(default_factory=dict)

    def at(self, instant: float) -> Policy:
        """With every interface's numbers of an instant (Unix time, s)."""
        return replace(self, interfaces=tuple(interface.at(instant) for interface in self.interfaces))
