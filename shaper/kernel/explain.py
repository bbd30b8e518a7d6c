"""What the kernel's answer means to a person, and the way out of it."""

from __future__ import annotations

import errno as errors
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager

from collectors.netlink import DumpInterruptedError, NetlinkError
from shaper.errors import Exit, NotPermittedError, ShaperError, TryAgainError, UnavailableError
from shaper.kernel.protocol import StepError
from shaper.plan.steps import Step, Verb
from shaper.tree import (
    BpfFilter,
    Filter,
    FlowerFilter,
    HfscClass,
    HtbClass,
    Ifb,
    LoadedFilter,
    MarkTable,
    Node,
    Offload,
    OtherFilter,
    Qdisc,
    U32Filter,
    U32Table,
    handle_text,
    kind_of_filter,
)

UNKNOWN_QDISC = "Specified qdisc kind is unknown"
UNKNOWN_FILTER = "TC classifier not found"
UNKNOWN_ACTION = "Failed to load TC action module"
UNKNOWN_LINK = "Unknown device type"

_PERMISSION = "it needs CAP_NET_ADMIN in this network namespace: run it as root, or try it out inside `unshare -rn`"
_CONFIG = {
    "htb": "CONFIG_NET_SCH_HTB",
    "bfifo": "CONFIG_NET_SCHED",
    "pfifo": "CONFIG_NET_SCHED",
    "fq_codel": "CONFIG_NET_SCH_FQ_CODEL",
    "clsact": "CONFIG_NET_SCH_INGRESS",
    "bpf": "CONFIG_NET_CLS_BPF",
    "flower": "CONFIG_NET_CLS_FLOWER",
    "u32": "CONFIG_NET_CLS_U32",
    "mirred": "CONFIG_NET_ACT_MIRRED",
    "ctinfo": "CONFIG_NET_ACT_CTINFO",
    "connmark": "CONFIG_NET_ACT_CONNMARK",
    "ifb": "CONFIG_IFB",
}
_MODULES = {
    "clsact": "sch_ingress",
    "bpf": "cls_bpf",
    "flower": "cls_flower",
    "u32": "cls_u32",
    "mirred": "act_mirred",
    "ctinfo": "act_ctinfo",
    "connmark": "act_connmark",
    "ifb": "ifb",
}


def describe(node: Node) -> str:
    """A node in a few words: `class 5a00:10`, `bfifo qdisc 5b10: under 5a00:10`."""
    match node:
        case Qdisc():
            return f"{node.kind} qdisc {handle_text(node.handle)} under {handle_text(node.parent)}{_on(node.device)}"
        case HtbClass() | HfscClass():
            return f"class {handle_text(node.handle)} under {handle_text(node.parent)}"
        case U32Table():
            what = f"table {node.handle >> 20:x}: of u32 filters" if node.handle else "the list of u32 filters"
            return f"{what} pref {node.preference} on {handle_text(node.parent)}{_on(node.device)}"
        case BpfFilter() | LoadedFilter() | FlowerFilter() | U32Filter() | OtherFilter():
            return f"filter {node.handle:#x} pref {node.preference} on {handle_text(node.parent)}{_on(node.device)}"
        case Ifb():
            return f"device {node.name}"
        case Offload():
            return f"{node.name} to {node.text}"
        case MarkTable():
            return f"nftables table inet {node.name}"


def _on(device: str) -> str:
    return f" of {device}" if device else ""


def missing_kind(kind: str) -> str:
    """The way out when the kernel does not know a kind."""
    module = _MODULES.get(kind, f"sch_{kind}")
    config = _CONFIG.get(kind, f"CONFIG_NET_SCH_{kind.upper()}")
    return f"this kernel lacks {kind}: load the module with `modprobe {module}`, or boot a kernel with {config}"


def refusal(device: str, step: Step, *, done: int, errno: int, said: str) -> StepError:
    """The error for a step that the kernel refused with `errno`, `said` being its own words."""
    what = os.strerror(errno)
    if said and said != what:
        what = f"{what}: {said}"
    node = step.node
    missing = _unknown_kind(node, said)
    error = StepError(
        f"the kernel refused to {step.verb} {describe(node)} on {_place(node) or device}: {what}",
        done=done,
        errno=errno,
        hint=missing_kind(missing) if missing else _way_out(device, step, errno),
    )
    if missing:
        error.exit = Exit.UNAVAILABLE
    return error


def _place(node: Node) -> str:
    """The device of a setting, which need not be the one that is shaped."""
    return node.device if isinstance(node, Offload) else ""


def _restoring(node: Node) -> str:
    restore = node.restore if isinstance(node, BpfFilter) else None
    return "" if restore is None else "connmark" if restore.connmark else "ctinfo"


def _unknown_kind(node: Node, said: str) -> str:
    if said == UNKNOWN_QDISC and isinstance(node, Qdisc):
        return node.kind
    kinds = {
        UNKNOWN_FILTER: kind_of_filter(node) if isinstance(node, Filter) else "bpf",
        UNKNOWN_ACTION: _restoring(node) or "mirred",
        UNKNOWN_LINK: "ifb",
    }
    return kinds.get(said, "")


def _way_out(device: str, step: Step, errno: int) -> str:
    match errno:
        case errors.EPERM | errors.EACCES:
            return _PERMISSION
        case errors.EBADF if isinstance(step.node, LoadedFilter):
            return "its program ended with the process that had loaded it: `shaper run` loads another"
        case _ if isinstance(step.node, MarkTable):
            return f"see `nft list table inet {step.node.name}` and `shaper doctor`, then plan again"
        case errors.EEXIST:
            return f"something else holds that place: see `tc qdisc show dev {device}`, then plan again"
        case errors.ENOENT if step.verb is Verb.ADD:
            return "what it should stand under is not there: somebody else changed the interface; plan again"
        case errors.ENOENT:
            return "it is not there any more: somebody else changed the interface; plan again"
        case errors.EBUSY if isinstance(step.node, Ifb):
            return "its alias does not say that it is ours; remove it by hand, or give it back its alias"
        case errors.EBUSY:
            return "classes or filters still refer to it: remove those first; plan again"
        case errors.EOPNOTSUPP if isinstance(step.node, Offload):
            return "its driver cannot change that: write `offloads: keep`, or name the devices that feed it without it"
        case errors.ENODEV:
            return "a device has gone away meanwhile; see `ip link`, then plan again"
        case errors.ENOMEM | errors.ENOBUFS:
            return "the kernel has no memory for it: free some and try again"
    return (
        "the kernel does not take it as it is: what is there has changed (plan again), or this kernel is too old for it"
    )


def no_device(device: str, others: Iterable[str]) -> UnavailableError:
    """There is no such device; the hint names those there are."""
    names = ", ".join(sorted(others)) or "none"
    return UnavailableError(f"there is no interface {device!r}", hint=f"this network namespace has: {names}")


def no_namespace(netns: str, error: OSError, names: Sequence[str]) -> ShaperError:
    """A network namespace cannot be entered: it is not there, or may not be."""
    if error.errno in (errors.EPERM, errors.EACCES):
        return NotPermittedError(
            f"the network namespace {netns!r} may not be entered: {error.strerror}",
            hint="it takes CAP_SYS_ADMIN: run as root; a service gets it from `shaper install-service POLICY`",
        )
    if error.errno in (errors.ENOENT, errors.ENOTDIR):
        there = f"there are: {', '.join(names)}" if names else "none has a name here"
        return UnavailableError(
            f"there is no network namespace {netns!r}", hint=f"{there}; `ip netns add {netns}` makes it"
        )
    return UnavailableError(
        f"the network namespace {netns!r} cannot be entered: {error.strerror}", hint="see `ip netns list`"
    )


def unloadable(message: str, hint: str, errno: int) -> ShaperError:
    """A program with tables cannot be loaded."""
    kind = NotPermittedError if errno in (errors.EPERM, errors.EACCES) else UnavailableError
    return kind(f"the table of addresses cannot be loaded: {message}", hint=hint)


def failure(action: str, errno: int, said: str) -> ShaperError:
    """The error for a request that is not a step, such as a dump or a device's facts."""
    message = f"could not {action}: {said or os.strerror(errno)}"
    if errno in (errors.EPERM, errors.EACCES):
        return NotPermittedError(message, hint=_PERMISSION)
    return UnavailableError(message, hint="`shaper doctor` says what this kernel can do")


@contextmanager
def asking(what: str) -> Iterator[None]:
    """Turns what goes wrong in a request of ethtool's into a ShaperError."""
    try:
        yield
    except OSError as error:
        raise failure(f"read {what}", error.errno or 0, error.strerror or "") from error


@contextmanager
def reading(what: str) -> Iterator[None]:
    """Turns what goes wrong while reading `what` from the kernel into a ShaperError."""
    try:
        yield
    except NetlinkError as error:
        raise failure(f"read {what}", error.errno or 0, error.strerror or "") from error
    except DumpInterruptedError as error:
        raise TryAgainError(
            f"{what} cannot be read: it changes faster than that ({error})",
            hint="somebody else is changing it: wait until it has finished, then try again",
        ) from error
