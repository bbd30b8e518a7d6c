"""The edge between the program and a kernel: what every kernel, real or fake, must be able to do."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Protocol

from shaper.errors import Exit, ShaperError
from shaper.model.device import DeviceName
from shaper.plan.steps import Step
from shaper.tree import Capabilities, Handle, LinkFacts, LookupProgram, MarkTable, Occupancy, Offload, Tree


@dataclass(frozen=True, slots=True)
class ClassCounters:
    """Of one leaf: bytes and packets the class sent; drops, backlog (bytes), queue (packets) and
    ECN marks of its leaf qdisc. Packets that HTB sent by the class's own rate (`lends`) and by another's (`borrows`)
    begin at zero again after 2^32; None of another backend."""

    sent_bytes: int
    sent_packets: int
    drops: int
    overlimits: int
    backlog_bytes: int
    queued_packets: int
    marked: int = 0
    lends: int | None = None
    borrows: int | None = None


@dataclass(frozen=True, slots=True)
class PolicerCounters:
    """Of one policer since it was made: `packets` that came, and those that `exceeded` it."""

    packets: int
    exceeded: int


@dataclass(frozen=True, slots=True)
class VerdictCounters:
    """Of one counted verdict since it was made: the packets that came to it, and their bytes as its hook sees them."""

    packets: int
    bytes: int


@dataclass(frozen=True, slots=True)
class DeviceCounters:
    """Counters of all leaf classes by handle; `unshaped` counts packets that no class took (HTB direct_packets).

    `policers` are all of ours in the namespace, by index, and so are `verdicts`, which are read where they are asked.
    """

    classes: Mapping[Handle, ClassCounters]
    unshaped: int
    policers: Mapping[int, PolicerCounters] = field(default_factory=dict)
    verdicts: Mapping[int, VerdictCounters] = field(default_factory=dict)


class StepError(ShaperError):
    """The kernel refused a step. `done` steps before it were carried out."""

    exit = Exit.FAILED

    def __init__(self, message: str, *, done: int, errno: int, hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.done = done
        self.errno = errno
        if errno in (1, 13):  # EPERM, EACCES
            self.exit = Exit.NOT_PERMITTED


class Kernel(Protocol):
    """One network namespace's kernel. Every method may raise ShaperError with what the kernel said and a way out."""

    programs: dict[str, int]
    """Descriptors of loaded programs by name, the same for all namespaces: who has loaded one enters it before a step
    puts it on a hook (LoadedFilter), and takes it out when it closes it."""

    def capabilities(self) -> Capabilities:
        """What this kernel can do. Adds nothing that stays."""

    def inside(self, netns: str) -> Kernel:
        """The kernel as the network namespace of that name sees it, closed with this one.

        Raises UnavailableError when there is none, NotPermittedError when it may not be entered.
        """

    def devices(self) -> tuple[DeviceName, ...]:
        """Every device but the ones of our own making."""

    def link(self, device: str) -> LinkFacts:
        """Raises UnavailableError when there is no such device."""

    def offloads(self, devices: Collection[str]) -> tuple[Offload, ...]:
        """What these devices are set to, without what is no device here."""

    def read(self, device: str, *, fed_by: str = "") -> Tree:
        """All qdiscs, classes and filters on the device, our table for it, and the ifbs whose alias says they are ours.

        The kernel's default qdisc (handle 0:) is nobody's and is left out. With `fed_by` the device is the ifb that
        takes what comes in by that one: the ifb itself, if it is there, all that stands on it, and what stands on the
        clsact or ingress hook of `fed_by`. Raises UnavailableError when there is neither of the two.
        """

    def tables(self, device: str) -> tuple[MarkTable, ...]:
        """Our nftables table for the device, which outlives it. None where there is none."""

    def cgroups(self, paths: Collection[str]) -> frozenset[str]:
        """Those of the cgroups, by their paths below the root, that are there."""

    def counters(self, device: str) -> DeviceCounters:
        """The counters of the leaf classes, bands or tins of the root."""

    def verdicts(self, device: str) -> DeviceCounters:
        """What is counted where nothing waits, on the hook of a device: policers and verdicts, and no classes."""

    def occupancy(self, device: str) -> Mapping[Handle, Occupancy]:
        """What each qdisc of the device holds at this moment, by its handle."""

    def send(self, device: str, steps: Sequence[Step]) -> None:
        """Carries out the steps in order, each on the device that its node names, else on `device`.

        Raises StepError at the first that the kernel refuses.
        """

    def lending(self, program: LookupProgram) -> AbstractContextManager[None]:
        """Within, the program is loaded and lent under its name; a filter that stands keeps it beyond.

        Raises UnavailableError, NotPermittedError.
        """

    def close(self) -> None:
        """Gives back the sockets."""


def within(kernel: Kernel, netns: str) -> Kernel:
    """The kernel inside a named network namespace; as it is where none is named."""
    return kernel.inside(netns) if netns else kernel
