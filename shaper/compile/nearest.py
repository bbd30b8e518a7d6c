"""Which queue a leaf gets: the one that it asks for, else the nearest that this kernel has and that means the same.

A queue without flows of its own is the same discipline with one flow. A plain FIFO, sized in time, keeps the delay and
nothing else: it stands in for what keeps the delay, never for what shares among flows or hosts.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from shaper.errors import UnavailableError
from shaper.model.aqm import HOSTS_ALONE, Aqm, AqmKind
from shaper.model.policy import TrafficClass
from shaper.tree import Capabilities, FlowMode

_CODEL, _FQ_CODEL, _PIE, _FQ_PIE = AqmKind.CODEL, AqmKind.FQ_CODEL, AqmKind.PIE, AqmKind.FQ_PIE
_CAKE, _SFQ, _FIFO, _RED = AqmKind.CAKE, AqmKind.SFQ, AqmKind.FIFO, AqmKind.RED

_NEAREST: Mapping[AqmKind, tuple[AqmKind, ...]] = {
    _FQ_CODEL: (_CAKE, _FQ_PIE, _FIFO),
    _CAKE: (_FQ_CODEL, _FQ_PIE, _FIFO),
    _FQ_PIE: (_FQ_CODEL, _CAKE, _FIFO),
    _CODEL: (_FQ_CODEL, _PIE, _FQ_PIE, _FIFO),
    _PIE: (_FQ_PIE, _CODEL, _FQ_CODEL, _FIFO),
    _RED: (_PIE, _FQ_PIE, _CODEL, _FQ_CODEL, _FIFO),
    _SFQ: (_FQ_CODEL, _CAKE, _FQ_PIE),
    _FIFO: (),
}
_FAIR = (_CAKE, _FQ_CODEL, _FQ_PIE, _SFQ)
_HASHED = frozenset({_FQ_CODEL, _SFQ})
"""Those whose flows a filter may name: fq_pie takes no filter."""
_CODELS = frozenset({_CODEL, _FQ_CODEL, _CAKE})
_PIES = frozenset({_PIE, _FQ_PIE})


@dataclass(frozen=True, slots=True)
class Choice:
    """`aqm` as this kernel can have it, in place of `wanted`; `fairness` among hosts, None for flows.

    `one_flow` says that it has a single queue although its kind could have more; `hashed` that hosts are told apart by
    a filter of ours, not by the queue itself.
    """

    aqm: Aqm
    wanted: AqmKind
    one_flow: bool = False
    fairness: FlowMode | None = None
    hashed: bool = False


def choose_queue(cls: TrafficClass, have: Capabilities) -> Choice:
    """Raises UnavailableError where the kernel has nothing that means the same."""
    asked = cls.aqm or Aqm()
    if cls.fairness is not None:
        return _among_hosts(cls, asked, cls.fairness, have)
    for kind in (asked.kind, *_NEAREST[asked.kind]):
        if _has(kind, have):
            one_flow = kind.fair and not asked.kind.fair
            return Choice(_translated(asked, kind), asked.kind, one_flow)
    raise _lacking(cls, asked.kind, "for it shares among flows", have)


def _among_hosts(cls: TrafficClass, asked: Aqm, fairness: FlowMode, have: Capabilities) -> Choice:
    """CAKE knows hosts by itself; fq_codel and SFQ are told by a filter that gives each host a flow."""
    wanted = asked.kind if cls.aqm is not None else AqmKind.CAKE
    for kind in dict.fromkeys((wanted, *_FAIR)):
        if kind not in have.qdiscs:
            continue
        aqm = _translated(asked, kind)
        if kind is AqmKind.CAKE or fairness is FlowMode.FLOWS:
            return Choice(aqm, wanted, fairness=fairness)
        if kind in _HASHED and fairness in HOSTS_ALONE and "bpf" in have.filters:
            return Choice(aqm, wanted, fairness=HOSTS_ALONE[fairness], hashed=True)
    able = "cake" if fairness not in HOSTS_ALONE else "cake, fq_codel and sfq"
    raise _lacking(cls, AqmKind.CAKE, f"for `fairness: {fairness}`", have, all_of=able)


def _has(kind: AqmKind, have: Capabilities) -> bool:
    """FIFOs are in every kernel that has a packet scheduler."""
    return kind is AqmKind.FIFO or kind in have.qdiscs


def _translated(asked: Aqm, kind: AqmKind) -> Aqm:
    """What was said of one kind, as far as it means something in another: delay, marks and how much it holds."""
    if kind is asked.kind:
        return asked
    alike = {asked.kind, kind} <= _CODELS
    pies = {asked.kind, kind} <= _PIES
    return Aqm(
        kind,
        ecn=asked.ecn,
        target=asked.target,
        interval=asked.interval if alike else None,
        packets=asked.packets,
        size=asked.size,
        flows=asked.flows if kind.fair else None,
        quantum=asked.quantum if kind.fair else None,
        alpha=asked.alpha if pies else None,
        beta=asked.beta if pies else None,
    )


def _lacking(cls: TrafficClass, kind: AqmKind, why: str, have: Capabilities, *, all_of: str = "") -> UnavailableError:
    return UnavailableError(
        f"{cls.path}: the kernel ({have.kernel}) lacks {all_of or kind}, {why}, and nothing it has does the same",
        hint=f"`modprobe sch_{kind}`, a kernel built with CONFIG_NET_SCH_{kind.upper()}, or another `aqm`",
        where=cls.where,
    )
