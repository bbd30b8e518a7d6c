"""What this kernel and machine can do, and what the shaper does instead of what is missing."""

from __future__ import annotations

import os
import platform
import shutil
import socket
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from collectors.bpf import delays, lookup
from collectors.netlink import inside
from shaper.compile import stamp, tap
from shaper.errors import Exit, NotPermittedError, ShaperError
from shaper.kernel import legacy
from shaper.kernel.protocol import Kernel
from shaper.plan.steps import Step, Verb
from shaper.tree import ROOT, ROOT_MAJORS, Capabilities, Qdisc, handle
from shaper.tree.marks import CONNMARK

_NOBODYS = handle(ROOT_MAJORS[-1], 0)


class Finding(StrEnum):
    """`missing` has a substitute, `needed` has none: the shaper can't work without it."""

    OK = "ok"
    MISSING = "missing"
    NEEDED = "needed"


@dataclass(frozen=True, slots=True)
class Row:
    """One thing looked for. `instead` says what the shaper does without it, or how to get it."""

    name: str
    finding: Finding
    detail: str
    instead: str = ""


def examine(kernel: Kernel, folder: Path, *, netns: str = "") -> tuple[Row, ...]:
    """Everything that matters, in order of importance; `netns` names the namespace that `kernel` is inside of.

    Leaves nothing behind.
    """
    return (*_system(), *_permissions(kernel, folder, netns), *_tools())


def _system() -> Iterator[Row]:
    version = ".".join(map(str, sys.version_info[:3]))
    yield Row("system", Finding.OK, f"Linux {platform.release()}, Python {version}, {os.cpu_count()} CPUs")


def _permissions(kernel: Kernel, folder: Path, netns: str) -> Iterator[Row]:
    try:
        capabilities = kernel.capabilities()
    except ShaperError as error:
        yield Row("program tc", Finding.NEEDED, error.message, error.hint)
        return
    yield _may_change(kernel)
    yield from _kinds(capabilities)
    yield (programs := _programs())
    yield _lookups()
    yield (capture := _capture(netns))
    yield _rung(capabilities, programs, capture)
    if unread := legacy.nat_tables(netns or None):
        detail = f"the nat table of {' and of '.join(unread)} is in use, and its rules cannot be read"
        yield Row("masquerading", Finding.MISSING, detail, "say `nat: yes` or `nat: no` at the interface")
    there = next(parent for parent in (folder, *folder.parents) if parent.exists())
    if os.access(there, os.W_OK | os.X_OK):
        yield Row("state folder", Finding.OK, str(folder))
    else:
        yield Row("state folder", Finding.NEEDED, f"{folder} can't be written", "name one that can with --state DIR")


def _may_change(kernel: Kernel) -> Row:
    """Asks for the removal of what nobody has: the kernel looks at the permission before it looks for the thing."""
    try:
        kernel.send("lo", [Step(Verb.DELETE, Qdisc(_NOBODYS, ROOT, "htb"), None)])
    except NotPermittedError as error:
        return Row("program tc", Finding.NEEDED, error.message, error.hint)
    except ShaperError as error:
        if error.exit is Exit.NOT_PERMITTED:
            return Row("program tc", Finding.NEEDED, "tc may not be changed here", error.hint)
    return Row("program tc", Finding.OK, "netlink accepts changes (CAP_NET_ADMIN)")


_LEAVES = {
    "codel": "`aqm: codel` is fq_codel with one flow",
    "pie": "`aqm: pie` is fq_pie with one flow, or codel",
    "fq_pie": "`aqm: fq_pie` is fq_codel",
    "red": "`aqm: red` is pie, to the same delay",
    "sfq": "`aqm: sfq` is fq_codel; refused where no queue shares among flows",
}
"""What a leaf has in place of a queue that the kernel lacks (`compile/nearest.py`)."""


def _kinds(have: Capabilities) -> Iterator[Row]:
    def row(name: str, present: bool, without: str, *, vital: bool = False) -> Row:
        if present:
            return Row(name, Finding.OK, "")
        return Row(name, Finding.NEEDED if vital else Finding.MISSING, "not in this kernel", without)

    hfsc = "hfsc" in have.qdiscs
    without = "`backend: auto` is hfsc then" if hfsc else "load or build sch_htb; nothing can be shaped without"
    yield row("qdisc htb", "htb" in have.qdiscs, without, vital=not hfsc)
    yield row("qdisc hfsc", hfsc, "`backend: hfsc` is refused: no delay apart from the rate")
    yield row(
        "qdisc cake",
        "cake" in have.qdiscs,
        "`backend: cake` and `fairness: triple-isolate` are refused; fairness among hosts is by a filter, `aqm: cake` "
        "is fq_codel",
    )
    for kind in ("ets", "prio"):
        yield row(
            f"qdisc {kind}", kind in have.qdiscs, f"`backend: {kind}` is refused: no order of service without rates"
        )
    others = [kind for kind in ("flower", "u32") if kind in have.filters]
    yield row(
        "filter bpf",
        "bpf" in have.filters,
        f"packets are classified by {others[0]} filters, which an apply does not change in one step; delay is no data"
        if others
        else "load or build cls_bpf, cls_flower or cls_u32; nothing can be classified without",
        vital=not others,
    )
    for kind in ("flower", "u32"):
        rest = " or ".join(f"the {one} filter" for one in ("bpf", "flower", "u32") if one != kind)
        yield row(f"filter {kind}", kind in have.filters, f"`classifier: {kind}` is refused; packets need {rest}")
    yield row("qdisc fq_codel", "fq_codel" in have.qdiscs, "leaves are FIFOs sized in time by the class's delay target")
    for kind, without in _LEAVES.items():
        yield row(f"qdisc {kind}", kind in have.qdiscs, without)
    yield row("qdisc bfifo", "bfifo" in have.qdiscs, "leaves need fq_codel then")
    yield row("size table", "stab" in have.features, "a policy that says `link` is refused; use a `margin` instead")
    without = "delay is no data, loss from counters; what comes in can't be shaped"
    yield row("hook clsact", "clsact" in have.qdiscs, f"no stamp before the queue: {without}")
    yield row("action mirred", "mirred" in have.actions, f"no copy before the queue: {without}")
    without = "a policy that says `police` is refused, and so is `ingress: police`; an ifb queues what comes in"
    yield row("action police", "police" in have.actions, without)
    for kind, key in (("pedit", "set: {dscp: ..}"), ("csum", "set: {dscp: ..}")):
        yield row(f"action {kind}", kind in have.actions, f"a policy that says `{key}` is refused")
    yield row("action skbedit", "skbedit" in have.actions, "a policy that says `set: {mark: ..}` is refused")
    without = "a policy that marks colours of `police`, or says `ingress: police`, is refused"
    yield row("action gact", "gact" in have.actions, without)
    yield row("link ifb", "ifb" in have.links, f"no tap before the queue: {without}")
    without = "a policy that asks for inside addresses behind masquerading is refused"
    yield row("nftables ct mark", "nft-ct" in have.features, without)
    without = "a policy that asks for a `cgroup` is refused; it takes CONFIG_NFT_SOCKET and a mounted cgroup2"
    yield row("nftables cgroup", "nft-cgroup" in have.features, without)
    yield _connection_marks(have, row)


def _connection_marks(have: Capabilities, row: Callable[[str, bool, str], Row]) -> Row:
    """By which action what comes in is given the mark of its connection, and so told apart by inside addresses."""
    if "ctinfo" not in have.actions and have.actions >= CONNMARK:
        instead = "connmark and skbedit take its place behind masquerading; `restore-dscp` is refused"
    else:
        instead = "behind masquerading what comes in can't be told apart by inside addresses, nor its DSCP restored"
    return row("action ctinfo", "ctinfo" in have.actions, instead)


def _programs() -> Row:
    if why := delays.refusal():
        return Row("measuring programs", Finding.MISSING, why, "delay is measured by captured packets")
    counted = "delay and loss are counted in the kernel (eBPF)"
    if why := delays.copying():
        return Row("measuring programs", Finding.OK, f"{counted}, which copies every packet for it: {why}")
    return Row("measuring programs", Finding.OK, f"{counted}; at high rates it copies none for it")


def _lookups() -> Row:
    if why := lookup.refusal():
        instead = "lists are as long as a classic program holds: some 1,600 networks of IPv4; longer ones are refused"
        return Row("address tables", Finding.MISSING, why, instead)
    return Row("address tables", Finding.OK, "long lists of addresses are looked up in the kernel (eBPF)")


def _capture(netns: str) -> Row:
    try:
        with inside(netns or None, lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)):
            return Row("capture", Finding.OK, "packet sockets may be opened (CAP_NET_RAW)")
    except PermissionError:
        return Row(
            "capture", Finding.MISSING, "packet sockets are forbidden",
            "delay is no data, loss comes from counters; run as root or with CAP_NET_RAW",
        )  # fmt: skip
    except OSError as error:
        return Row("capture", Finding.MISSING, f"packet sockets fail: {error.strerror}", "delay is no data")


def _rung(have: Capabilities, programs: Row, capture: Row) -> Row:
    """By what `shaper run` measures delay here, and why by nothing better."""
    unstamped = _why_not(programs, stamp.missing(have))
    if not unstamped:
        return Row("measurement", Finding.OK, "`run` takes programs in the kernel (eBPF), the best there is")
    instead = f"no programs in the kernel: {unstamped}"
    if not (uncaptured := _why_not(capture, tap.missing(have))):
        return Row("measurement", Finding.MISSING, "`run` takes captured packets, the second best", instead)
    instead += f"; no captured packets: {uncaptured}"
    return Row("measurement", Finding.MISSING, "`run` takes counters alone: delay is no data", instead)


def _why_not(row: Row, lacking: Sequence[str]) -> str:
    return (
        row.detail if row.finding is not Finding.OK else f"the kernel lacks {' and '.join(lacking)}" if lacking else ""
    )


def _tools() -> Iterator[Row]:
    for tool, why in (
        ("iperf3", "the demo's TCP traffic needs it"),
        ("ethtool", "the demo turns offloads off with it"),
    ):
        found = shutil.which(tool)
        yield (
            Row(f"tool {tool}", Finding.OK, found)
            if found
            else Row(f"tool {tool}", Finding.MISSING, "not installed", f"{why}: scripts/demo installs it when root")
        )
