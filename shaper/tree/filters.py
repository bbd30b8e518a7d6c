"""Filters as values: classic BPF, loaded programs, flower, and what is somebody else's."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

from shaper.tree.actions import Action
from shaper.tree.handles import Handle, kind_at
from shaper.tree.marks import Restore

ETH_P_ALL = 0x0003


class Insn(NamedTuple):
    """One classic-BPF instruction (struct sock_filter)."""

    code: int
    jt: int
    jf: int
    k: int


@dataclass(frozen=True, slots=True)
class BpfFilter:
    """A classic cls_bpf filter. Its return value names the class; with `mirror` a match is copied to that device, with
    `redirect` it goes there instead, and no filter behind sees it.

    `classid` is what a return value of -1 stands for; 0 where the program names classes itself. What meets it is done
    to by its `actions`. `device` is where the filter stands, "" for the tree's own device. `restore` is what a match
    gets of its connection before it is sent.
    """

    parent: Handle
    preference: int
    handle: Handle
    program: tuple[Insn, ...]
    protocol: int = ETH_P_ALL
    classid: Handle = 0
    mirror: str = ""
    redirect: str = ""
    actions: tuple[Action, ...] = ()
    device: str = ""
    restore: Restore | None = None

    @property
    def key(self) -> tuple[str, int, int]:
        return (kind_at("filter", self.device), self.parent, self.preference << 32 | self.handle)

    @property
    def target(self) -> str:
        """The device that gets what matches, "" for none."""
        return self.mirror or self.redirect


PROGRAM_PREFIX = "shaper-"
"""With it begin the names of all loaded programs that are ours."""
FORGED = "?"
"""With it ends the name of a program that is not the one to which the name was given."""


@dataclass(frozen=True, slots=True)
class LoadedFilter:
    """A cls_bpf filter of extended BPF: a program that some process has loaded and lends (`Kernel.programs`).

    It is known by its `name`: the kernel keeps that beside the filter, and what it says of the program itself differs
    from kernel to kernel. The one that lends it gives another program another name. `direct`: the program says what
    becomes of the packet (TC_ACT_*); else it answers as a classic one does, and `classid` is what -1 stands for: then
    what meets it is done to by its `actions`. `device` is where the filter stands, "" for the tree's own device.
    """

    parent: Handle
    preference: int
    handle: Handle
    name: str
    protocol: int = ETH_P_ALL
    direct: bool = True
    classid: Handle = 0
    device: str = ""
    actions: tuple[Action, ...] = ()

    @property
    def key(self) -> tuple[str, int, int]:
        return (kind_at("filter", self.device), self.parent, self.preference << 32 | self.handle)


FLOWER_FIELDS: Mapping[str, int] = {
    "eth_type": 16,
    "ip_proto": 8,
    "ip_tos": 8,
    "ip_flags": 32,
    "icmpv6_type": 8,
    "src4": 32,
    "dst4": 32,
    "src6": 128,
    "dst6": 128,
    "sport": 16,
    "sport_min": 16,
    "sport_max": 16,
    "dport": 16,
    "dport_min": 16,
    "dport_max": 16,
    "indev": 128,
}
"""What flower can ask of a packet, as far as we ask it, with the bits of each; of a port range both ends are asked.

`indev` is the name of the device that the packet came in by, its bytes as a number (`device_value`).
"""
IS_FRAGMENT = 1
"""The bit of `ip_flags` that fragments have (TCA_FLOWER_KEY_FLAGS_IS_FRAGMENT)."""


class FlowerKey(NamedTuple):
    """One condition of flower: where `mask` has ones the field is as `value`, which has no other ones."""

    field: str
    value: int
    mask: int


def device_value(name: str) -> int:
    """A device's name as the value of `indev`."""
    return int.from_bytes(name.encode(), "big")


def device_text(value: int) -> str:
    """The name again."""
    return value.to_bytes(16, "big").lstrip(b"\0").decode(errors="replace")


def flower_key(field: str, value: int, mask: int | None = None) -> FlowerKey:
    """The condition in canonical form; without a mask the whole field is asked. Raises KeyError."""
    whole = (1 << FLOWER_FIELDS[field]) - 1
    mask = whole if mask is None else mask & whole
    return FlowerKey(field, value & mask, mask)


@dataclass(frozen=True, slots=True)
class FlowerFilter:
    """A flower filter: what meets all `keys` belongs to the class `classid`, unless its `actions` drop it. The keys are
    sorted.

    `protocol` is the ethertype that its preference belongs to, ETH_P_ALL for all. Flower takes what a packet does not
    have for 0: the ports of a fragment too. `device` is where it stands, "" for the tree's own device.
    """

    parent: Handle
    preference: int
    handle: Handle
    protocol: int
    keys: tuple[FlowerKey, ...]
    classid: Handle
    actions: tuple[Action, ...] = ()
    device: str = ""

    @property
    def key(self) -> tuple[str, int, int]:
        return (kind_at("filter", self.device), self.parent, self.preference << 32 | self.handle)


class U32Key(NamedTuple):
    """32 bits at `offset` bytes from where the filter's table looks: under `mask` they are as `value`."""

    offset: int
    value: int
    mask: int


class U32Link(NamedTuple):
    """To the table that is asked next, `skip` bytes on, and as many more as the 16 bits at `at` say: under `mask`,
    shifted right.
    """

    table: Handle
    skip: int
    at: int = 0
    mask: int = 0
    shift: int = 0


U32_ROOT: Handle = 0xFFF00000
"""What stands for the table that a preference of u32 begins with; the kernel numbers it at will. Its filters sort
behind all other tables, which they link to."""


def u32_place(protocol: int) -> int:
    """The preference of the u32 filters of an ethertype: its own number, so that no two ever meet; the last for all."""
    return 0xFFFF if protocol == ETH_P_ALL else protocol


@dataclass(frozen=True, slots=True)
class U32Table:
    """A list of u32 filters that others link to, with the handle TABLE:; 0 for the preference itself, with its first.

    The kernel takes all of them along with the last u32 filter of the place.
    """

    parent: Handle
    preference: int
    handle: Handle
    protocol: int
    device: str = ""

    @property
    def key(self) -> tuple[str, int, int]:
        return (kind_at("filter", self.device), self.parent, self.preference << 32 | self.handle)


@dataclass(frozen=True, slots=True)
class U32Filter:
    """A u32 filter in the table that its handle names: what meets all `keys` belongs to the class `classid`, unless its
    `actions` drop it, or is asked further by the table that it links to.

    A key outside the packet ends the whole preference.
    """

    parent: Handle
    preference: int
    handle: Handle
    protocol: int
    keys: tuple[U32Key, ...]
    classid: Handle = 0
    link: U32Link | None = None
    actions: tuple[Action, ...] = ()
    device: str = ""

    @property
    def key(self) -> tuple[str, int, int]:
        return (kind_at("filter", self.device), self.parent, self.preference << 32 | self.handle)


@dataclass(frozen=True, slots=True)
class OtherFilter:
    """A filter of a kind that we do not program; it is somebody else's, and named so."""

    parent: Handle
    preference: int
    handle: Handle
    protocol: int
    kind: str
    device: str = ""

    @property
    def key(self) -> tuple[str, int, int]:
        return (kind_at("filter", self.device), self.parent, self.preference << 32 | self.handle)


Filter = BpfFilter | LoadedFilter | FlowerFilter | U32Table | U32Filter | OtherFilter
Acting = BpfFilter | LoadedFilter | FlowerFilter | U32Filter
"""Those of ours that name a class, or do something to what they meet."""


def kind_of_filter(node: Filter) -> str:
    """As tc names it."""
    match node:
        case BpfFilter() | LoadedFilter():
            return "bpf"
        case FlowerFilter():
            return "flower"
        case U32Table() | U32Filter():
            return "u32"
    return node.kind
