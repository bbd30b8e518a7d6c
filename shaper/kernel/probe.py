"""What this kernel can do, found by trying: every kind once, on the loopback of a throwaway network namespace.

The namespace belongs to a child process and vanishes with it, so nothing of this is ever seen in the caller's. A plain
user's child makes itself a user namespace first, where the system allows that.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno as errors
import json
import os
import struct
import subprocess
import sys

from collectors import link
from collectors.bpf import delays, lookup
from collectors.netlink import (
    NLM_F_CREATE,
    NLM_F_REPLACE,
    RTM_GETQDISC,
    RTM_NEWLINK,
    RTM_NEWQDISC,
    RTM_NEWTFILTER,
    TCA_KIND,
    TCA_OPTIONS,
    TCA_STAB,
    Channel,
    NetlinkError,
    attribute,
    open_socket,
    pack_tc,
    parse_tc,
)
from shaper.errors import NotPermittedError, UnavailableError
from shaper.kernel.codec import stab
from shaper.kernel.nft.channel import Nftables
from shaper.plan.steps import Step, Verb
from shaper.tree import (
    CLSACT,
    CLSACT_EGRESS,
    CLSACT_HANDLE,
    FAMILY_IPV4,
    OUTPUT,
    POSTROUTING,
    ROOT,
    Capabilities,
    MarkChain,
    MarkSet,
    MarkTable,
    Statement,
    size_table,
)

_QDISCS = (
    *("htb", "fq_codel", "bfifo", "pfifo", "cake", "hfsc", "tbf", "fq", "codel", "prio", "sfq"),
    *("netem", "ets", "drr", "red", "pie", "fq_pie", "dualpi2", "mqprio", "etf", "taprio", "clsact"),
)
_FILTERS = ("bpf", "u32", "flower", "matchall", "fw", "basic", "flow")
_ACTIONS = ("mirred", "gact", "police", "skbedit", "pedit", "csum", "ctinfo", "connmark", "bpf", "vlan", "sample")
_LINKS = ("ifb", "veth", "dummy", "vlan", "bridge", "macvlan", "wireguard", "vxlan")

_CLONE_NEWUSER, _CLONE_NEWNET = 0x10000000, 0x40000000
_LOOPBACK = 1
_TIMEOUT = 120.0  # a machine that is booting, or emulated, takes its time
_CREATE = NLM_F_CREATE | NLM_F_REPLACE
_ALL_PROTOCOLS = 0x0300  # ETH_P_ALL in network order
_RETURN_0 = struct.pack("=HBBI", 0x06, 0, 0, 0)


def capabilities() -> Capabilities:
    """Takes a fraction of a second. Raises NotPermittedError where no namespace may be made, UnavailableError."""
    try:
        done = subprocess.run(
            [sys.executable, "-m", __name__],
            capture_output=True,
            text=True,
            timeout=_TIMEOUT,
            check=False,
            start_new_session=True,  # a terminal's Ctrl-C is for this program, not for its probe
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise UnavailableError(
            f"the kernel could not be probed: {error}",
            hint=f"the probe is a program of its own: this user must be able to run {sys.executable}",
        ) from error
    if done.returncode:
        said = done.stderr.strip().splitlines()
        raise UnavailableError(f"the kernel could not be probed: {said[-1] if said else f'exit {done.returncode}'}")
    answer = json.loads(done.stdout)
    if "refused" in answer:
        raise NotPermittedError(
            f"the kernel could not be probed: {answer['refused']}",
            hint="it takes a network namespace: run as root, or allow unprivileged user namespaces",
        )
    return Capabilities(
        kernel=os.uname().release,
        **{group: frozenset(answer[group]) for group in ("qdiscs", "filters", "actions", "links", "features")},
    )


def _refused(channel: Channel, kind: int, body: bytes) -> int:
    """The errno of an attempt to create something, 0 when there was none."""
    try:
        channel.request(kind, _CREATE, body)
    except NetlinkError as error:
        if error.errno in (errors.EPERM, errors.EACCES):  # that says nothing about the kind
            raise OSError(error.errno, os.strerror(error.errno)) from error
        return error.errno or 0
    return 0


def _name(kind: str) -> bytes:
    return attribute(TCA_KIND, kind.encode() + b"\0")


def _has_qdisc(channel: Channel, kind: str, place: int) -> bool:
    """ENOENT means unknown; a kind that misses its options answers EINVAL. `place` is the major of its handle."""
    parent, handle = (CLSACT, CLSACT_HANDLE) if kind == "clsact" else (ROOT, place << 16)
    body = pack_tc(_LOOPBACK, parent=parent, handle=handle) + _name(kind)
    return _refused(channel, RTM_NEWQDISC, body) != errors.ENOENT


def _has_filter(channel: Channel, kind: str, place: int, options: bytes = b"") -> bool:
    """`place` is the preference: one holds filters of one kind only."""
    body = pack_tc(_LOOPBACK, parent=CLSACT_EGRESS, info=place << 16 | _ALL_PROTOCOLS) + _name(kind)
    return _refused(channel, RTM_NEWTFILTER, body + options) != errors.ENOENT


def _has_action(channel: Channel, kind: str, place: int) -> bool:
    """Inside a filter: actions on their own need root in the first user namespace."""
    action = attribute(1, attribute(1, kind.encode() + b"\0"))
    options = attribute(4, struct.pack("=H", 1)) + attribute(5, _RETURN_0) + attribute(1, action)
    return _has_filter(channel, "bpf", place, attribute(TCA_OPTIONS, options))


def _has_stab(channel: Channel, place: int) -> bool:
    """A size table must come back as it was sent, at the root, where it belongs."""
    table = size_table(overhead=4, mpu=64, atm=False, longest=1518)
    handle = place << 16
    body = pack_tc(_LOOPBACK, parent=ROOT, handle=handle) + _name("pfifo") + stab.encode(table)
    if _refused(channel, RTM_NEWQDISC, body):
        return False
    found = (parse_tc(each) for each in channel.dump(RTM_GETQDISC, pack_tc(0)))
    return any(one.handle == handle and stab.decode(one.attributes.get(TCA_STAB, b"")) == table for one in found)


_SOURCE = (Statement("nfproto", FAMILY_IPV4), Statement("oifname", text="lo"), Statement("saddr", 4, 0, "held"))
_BY_GROUP = (Statement("oifname", text="lo"), Statement("cgroup", 0, text="/"), Statement("mark", 1, 0xFFFFFFFE))
_TABLES = {
    "nft-ct": MarkTable(
        "probe",
        (MarkSet("held", 32, ((1, 2),)),),
        (MarkChain("out", POSTROUTING, 0, ((*_SOURCE, Statement("ct-mark", 1, 0xFFFFFFFE)),)),),
    ),
    "nft-cgroup": MarkTable("probe-groups", (), (MarkChain("out", OUTPUT, 0, (_BY_GROUP,)),)),
}
"""Features, and the tables by which they are found: a connection's mark, a socket's cgroup."""


def _has_table(table: MarkTable) -> bool:
    """Whether it comes back as it was sent."""
    with contextlib.closing(Nftables()) as nftables:
        try:
            nftables.send(Step(Verb.ADD, None, table))
            return nftables.read(table.name) == table
        except OSError as error:
            if error.errno in (errors.EPERM, errors.EACCES):
                raise
            return False


def _has_link(channel: Channel, kind: str) -> bool:
    body = link.pack_link() + attribute(link.IFLA_LINKINFO, attribute(link.IFLA_INFO_KIND, kind.encode() + b"\0"))
    return _refused(channel, RTM_NEWLINK, body) != errors.EOPNOTSUPP


def _enter_throwaway() -> None:
    """Raises OSError when neither this user nor a user namespace of its own may make a network namespace."""
    libc = ctypes.CDLL(None, use_errno=True)
    for flags in (_CLONE_NEWNET, _CLONE_NEWUSER | _CLONE_NEWNET):
        if not libc.unshare(flags):
            return
    code = ctypes.get_errno()
    raise OSError(code, f"no network namespace may be made here ({os.strerror(code)})")


def _probe(*, lookups: bool) -> dict[str, list[str]]:
    with open_socket() as sock:
        channel = Channel(sock)
        qdiscs = [kind for place, kind in enumerate(_QDISCS, 1) if _has_qdisc(channel, kind, place)]
        filters, actions = [], []
        if "clsact" in qdiscs:
            qdiscs.append("ingress")  # the same module; the two share one place, where the filters need clsact
            filters = [kind for place, kind in enumerate(_FILTERS, 1) if _has_filter(channel, kind, place)]
        if "bpf" in filters:
            actions = [kind for place, kind in enumerate(_ACTIONS, 100) if _has_action(channel, kind, place)]
        links = [kind for kind in _LINKS if _has_link(channel, kind)]
        features = ["stab"] if _has_stab(channel, len(_QDISCS) + 1) else []
    features += [name for name, table in _TABLES.items() if _has_table(table)]
    features += ["ebpf"] if not delays.refusal() else []
    features += ["lookup"] if lookups else []
    return {"qdiscs": qdiscs, "filters": filters, "actions": actions, "links": links, "features": features}


def main() -> None:
    """The child: one JSON object on standard output."""
    try:
        lookups = not lookup.refusal()  # in a user namespace of its own, nobody may load anything
        _enter_throwaway()
        answer: dict[str, object] = dict(_probe(lookups=lookups))
    except OSError as error:
        answer = {"refused": error.strerror or str(error)}
    json.dump(answer, sys.stdout)


if __name__ == "__main__":
    main()
