"""What comes in by a device: all of it goes to an ifb of ours, whose queue is shaped, and then on its way as if it had
just come in.

The kernel's receiving side has no queue to shape. A packet is redirected with its link-layer header in front, so the
classes count the same bytes as they do for what goes out; taps of the device see it once, before.
"""

from __future__ import annotations

from shaper.compile.tap import missing
from shaper.errors import UnavailableError
from shaper.model.match import Rules
from shaper.model.policy import Interface
from shaper.tree import (
    CLSACT,
    CLSACT_HANDLE,
    CLSACT_INGRESS,
    BpfFilter,
    Capabilities,
    Ifb,
    Insn,
    Node,
    Qdisc,
    Restore,
    handle,
)

PREFERENCE, FILTER_HANDLE = 40, 1
_CLASSID = handle(0, 1)
"""What a match stands for on the hook; it selects nothing there, but must not be 0."""
_EVERYTHING = (Insn(0x06, 0, 0, 0xFFFFFFFF),)
_MODULES = {"clsact": "sch_ingress", "bpf": "cls_bpf", "mirred": "act_mirred", "ifb": "ifb"}


def require(interface: Interface, capabilities: Capabilities) -> None:
    """Raises UnavailableError when the kernel lacks a part of the way."""
    lacking = missing(capabilities)
    if lacking:
        modules = " ".join(module for kind, module in _MODULES.items() if any(kind in name for name in lacking))
        raise UnavailableError(
            f"what comes in by {interface.device} can't be shaped: the kernel ({capabilities.kernel}) lacks "
            f"{', '.join(lacking)}",
            hint=f"`modprobe {modules}`, have it policed (`ingress: police`) where the kernel can do that, or take "
            "`ingress` out of the interface's bandwidth",
            where=interface.device_where,
        )


def refuse_unknown(interface: Interface, rules: Rules) -> None:
    """Raises UnavailableError when a rule asks for what is not known yet of what comes in."""
    for name, where in rules.asked().items():
        if name == "iif":
            raise UnavailableError(
                f"all of this came in by {interface.device}, and where it will go out is not known yet",
                hint="take the condition out, or take `ingress` out of the interface's bandwidth",
                where=where,
            )
        if name == "cgroup":
            raise UnavailableError(
                f"what comes in by {interface.device} has no socket yet: it is sorted before anybody knows whose it is",
                hint="match what the packet itself shows, or take `ingress` out of the interface's bandwidth",
                where=where,
            )
        if name == "mark":
            raise UnavailableError(
                f"what comes in by {interface.device} has no mark yet: it is sorted before nftables sees it",
                hint="match what the packet itself shows, or take `ingress` out of the interface's bandwidth",
                where=where,
            )


def nodes(interface: Interface, restore: Restore | None = None) -> tuple[Node, ...]:
    """The ifb, and the hook of the device with the filter that feeds it: the filter is the last to be added.

    `restore` is what packets get of their connections on the way.
    """
    device = interface.device
    return (
        Ifb(interface.shaped, f"sla-shaper {device} ingress"),
        Qdisc(CLSACT_HANDLE, CLSACT, "clsact", device=device),
        BpfFilter(
            CLSACT_INGRESS,
            PREFERENCE,
            FILTER_HANDLE,
            _EVERYTHING,
            classid=_CLASSID,
            redirect=interface.shaped,
            device=device,
            restore=restore,
        ),
    )
