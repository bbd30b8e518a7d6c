"""The ETS and prio backends: an order of service without rates, for a link that is the bottleneck itself.

Both have a fixed number of bands, so that a class more or less changes options in place and takes no queue along; band
1 is network control, then strict classes, then the tiers in order. ETS shares the lowest tier by turns, of quanta in
proportion to `share`; prio has strict bands only. The policy's reader refuses what needs a rate.
"""

from __future__ import annotations

from collections.abc import Mapping

from shaper.compile.ground import Ground
from shaper.compile.handles import ROOT_HANDLE
from shaper.compile.program import Program
from shaper.compile.share import quanta
from shaper.errors import ShaperError
from shaper.model.decision import Bounds, Grant
from shaper.model.policy import Backend, TrafficClass
from shaper.tree import MOST_BANDS, PRIORITIES, ROOT, EtsOptions, Handle, PrioOptions, Qdisc


def compile_bands(ground: Ground, _previous: Mapping[str, Handle]) -> Program:
    """Raises UnavailableError when the kernel lacks the qdisc or a classifier, or the rules are too many."""
    interface = ground.interface
    kind = interface.backend.value
    ground.require(kind)
    ordered = sorted(interface.leaves(), key=lambda leaf: (not leaf.implied, not leaf.strict, leaf.tier))
    if len(ordered) > MOST_BANDS:  # the reader refuses such a policy
        raise ShaperError(f"{interface.policy} has more classes than {kind} has bands", hint="write `backend: htb`")
    handles = {leaf.path: ROOT_HANDLE | band for band, leaf in enumerate(ordered, 1)}
    rules = interface.rules()
    priomap = (handles[rules.default] % 0x10000 - 1,) * PRIORITIES  # what the filter does not name, should it ever
    options: EtsOptions | PrioOptions = PrioOptions(MOST_BANDS, priomap)
    if interface.backend is Backend.ETS:
        options = _ets(ground, ordered, priomap)
    queues = ground.queues(handles)
    classification = ground.classify(rules, handles)
    return ground.program(
        [
            Qdisc(ROOT_HANDLE, ROOT, kind, options),
            *(node for queue in queues.values() for node in queue.nodes),
            *classification.filters,
        ],
        handles=handles,
        bounds={
            path: Bounds((0, 0), (ground.bandwidth,) * 2, (queue.limit,) * 2, (queue.target,) * 2)
            for path, queue in queues.items()
        },
        static={path: Grant(0, ground.bandwidth, queue.limit, queue.target) for path, queue in queues.items()},
        rules=rules,
        lookups=classification.lookups,
        notes=(
            *classification.notes,
            *ground.notes(queues),
            f"{kind}: no rate is held and nothing is shaped: it orders what waits for {interface.device} itself, and "
            "each strict class can starve all after it",
        ),
        movable=False,
    )


def _ets(ground: Ground, ordered: list[TrafficClass], priomap: tuple[int, ...]) -> EtsOptions:
    """Strict down to the lowest tier, which shares; bands that nobody uses have a turn of one frame."""
    lowest = max(leaf.tier for leaf in ordered)
    sharing = [leaf for leaf in ordered if leaf.tier is lowest and not (leaf.implied or leaf.strict)]
    strict = len(ordered) - len(sharing)
    turns = quanta(ground.interface, ground.facts, tiers=True)
    idle = MOST_BANDS - len(ordered)
    return EtsOptions(MOST_BANDS, strict, (*(turns[leaf.path] for leaf in sharing), *(ground.frame,) * idle), priomap)
