"""The CAKE backend: a policy whose classes are CAKE's own tins, on one qdisc.

There are no classes to make and nothing to classify: CAKE sorts by the DSCP into fixed tins, each with its own queues,
fair among hosts and flows. Its thresholds are what it guarantees; its shaper is the link. The policy's reader has seen
to it that the classes are the tins and that nothing is asked that a tin does not keep.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from shaper.compile.ground import Ground, whole_bytes
from shaper.compile.handles import ROOT_HANDLE
from shaper.compile.inside import translated
from shaper.compile.leaf import SHORTEST_TARGET
from shaper.compile.program import Program
from shaper.errors import ShaperError
from shaper.model.aqm import TURNED, CakeSettings
from shaper.model.cake import TINS, dscp_sets, fit
from shaper.model.decision import Bounds, Grant
from shaper.model.match import NETWORK_CONTROL, Rules
from shaper.model.policy import Direction
from shaper.tree import ROOT, RTT_TARGETS, CakeOptions, Cells, Diffserv, Handle, Qdisc
from shaper.units import format_rate

_LARGEST_RATE = 2**63 - 1
_RTT = 0.1
"""The round trip in seconds where the policy says none: CAKE's own."""


def compile_cake(ground: Ground, _previous: Mapping[str, Handle]) -> Program:
    """Raises UnavailableError when the kernel lacks CAKE or the bandwidth cannot be expressed."""
    ground.require("cake")
    ground.require_rates("CAKE's clock", _LARGEST_RATE)
    whole = ground.interface.rules()
    written = Rules(tuple(rule for rule in whole.ordered if rule.path != NETWORK_CONTROL), whole.default)
    # What the policy did not write has no tin of its own: each packet of it goes where its DSCP says.
    interface = replace(ground.interface, classes=tuple(cls for cls in ground.interface.classes if not cls.implied))
    found = fit(dscp_sets(written, (leaf.path for leaf in interface.leaves())))
    if found is None:  # the reader refuses such a policy
        raise ShaperError(f"the classes of {interface.policy} are not CAKE's tins", hint="write `backend: htb`")
    tins = TINS[found.diffserv]
    thresholds = {path: whole_bytes(int(ground.bandwidth * tins.thresholds[tin])) for path, tin in found.tins.items()}
    options = _options(ground, found.diffserv)
    low, high = targets = _targets(ground, options)
    return ground.program(
        [Qdisc(ROOT_HANDLE, ROOT, "cake", options)],
        interface=interface,
        handles={path: ROOT_HANDLE | found.handle_minor(path) for path in found.tins},
        bounds={
            path: Bounds((rate, rate), (ground.bandwidth,) * 2, (0, 0), targets) for path, rate in thresholds.items()
        },
        static={path: Grant(rate, ground.bandwidth, 0, high) for path, rate in thresholds.items()},
        rules=found.rules(interface.cake.fwmark if interface.cake else 0),
        notes=(
            f"cake: the classes are the tins of {found.diffserv}: "
            + ", ".join(
                f"{path} is {tins.names[tin]} (first up to {format_rate(thresholds[path])})"
                for path, tin in found.tins.items()
            ),
            "cake: network control has no tin of its own: ARP goes as cs7 does, the rest by its DSCP",
        ),
        movable=low < high,
    )


def _targets(ground: Ground, options: CakeOptions) -> tuple[int, int]:
    """The least and the compiled target in microseconds: the same where the policy says `rtt`, or promises no delay."""
    said = ground.interface.cake is not None and ground.interface.cake.rtt is not None
    moves = not said and any(leaf.sla.bounds for leaf in ground.interface.leaves())
    return min(SHORTEST_TARGET, options.target) if moves else options.target, options.target


def _options(ground: Ground, diffserv: Diffserv) -> CakeOptions:
    """CAKE counts the link's overhead from the IP packet, as the policy does; PTM's coding is off the bandwidth."""
    layer, said = ground.interface.link, ground.interface.cake or CakeSettings()
    washed = all(leaf.marking.dscp == 0 for leaf in ground.interface.leaves() if not leaf.implied)
    fairness, rtt = said.fairness, round((said.rtt or _RTT) * 1e6)
    if ground.interface.direction is Direction.INGRESS:
        fairness = TURNED.get(fairness, fairness)
    options = CakeOptions(
        ground.bandwidth,
        diffserv,
        fairness,
        rtt=rtt,
        target=rtt // RTT_TARGETS,
        nat=said.nat or bool(translated(ground.interface, ground.facts)),
        wash=said.wash or washed,
        ack_filter=said.ack_filter,
        split_gso=said.split_gso,
        memory=said.size or 0,
        fwmark=said.fwmark,
    )
    if layer is None:
        return options
    cells = layer.cells if layer.cells is Cells.ATM else Cells.NONE
    return options._replace(overhead=layer.overhead, mpu=layer.mpu, cells=cells)
