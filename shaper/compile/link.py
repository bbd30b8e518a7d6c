"""The link layer of an interface in the kernel's terms: the size table at the root, and the device as it counts."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from shaper.errors import UnavailableError
from shaper.model.link import Cells
from shaper.model.policy import Interface
from shaper.tree import Capabilities, LinkFacts, SizeTable, size_table
from shaper.units import format_percent, format_rate


def table_of(interface: Interface, capabilities: Capabilities, facts: LinkFacts) -> SizeTable | None:
    """None where the kernel's own count is right: the device's header on top of the packet, and nothing else.

    The policy counts the overhead from the IP packet, the kernel from the frame that the device is given. Raises
    UnavailableError where the kernel keeps no size table.
    """
    layer = interface.link
    if layer is None:
        return None
    atm = layer.cells is Cells.ATM
    overhead = layer.overhead - facts.header
    if not (overhead or layer.mpu or atm):
        return None
    if "stab" not in capabilities.features:
        raise UnavailableError(
            f"{interface.device}: the kernel ({capabilities.kernel}) keeps no size table, so it cannot count what "
            f"a {layer.name} link puts around a packet",
            hint="take `link` out and lower the bandwidth, or set a `margin`, by what small packets cost there",
            where=interface.where,
        )
    longest = facts.mtu + facts.header + max(0, overhead)
    return size_table(overhead=overhead, mpu=layer.mpu, atm=atm, longest=longest)


def counted(facts: LinkFacts, table: SizeTable | None) -> LinkFacts:
    """The device with its frames as large as the root counts them: what bursts, turns and queues are sized by."""
    if table is None:
        return facts
    frame = table.count(facts.mtu + facts.header)
    whole = facts.super_packet > facts.mtu + facts.header
    return replace(facts, header=frame - facts.mtu, super_packet=table.count(facts.super_packet) if whole else frame)


def link_notes(interface: Interface, facts: LinkFacts, table: SizeTable | None) -> Iterator[str]:
    """Which device it is, what of the bandwidth is used, and what a packet counts for."""
    if interface.wanted is not None and str(interface.wanted) != interface.device:
        said = f"name {interface.wanted}" if interface.wanted.name else str(interface.wanted)
        yield f"{interface.name} is {interface.device}, by its {said}"
    moves = interface.moving
    if moves is not None:
        yield (
            f"the link moves between {format_rate(moves.least)} and {format_rate(moves.most)}: `shaper run` finds its "
            f"rate by {moves.kind} probes to {', '.join(moves.reflectors)}; without it, it has "
            f"{format_rate(interface.bandwidth)}"
        )
    layer = interface.link
    if interface.bandwidth < interface.line_rate:
        reasons = []
        if interface.margin:
            reasons.append(f"a margin of {format_percent(interface.margin)}")
        if layer is not None and layer.efficiency != 1:
            reasons.append("the 64 of 65 bytes that PTM's coding leaves")
        used, whole = format_rate(interface.bandwidth), format_rate(interface.line_rate)
        yield f"{used} of {whole} are used: {' and '.join(reasons)}"
    if layer is not None and table is None:
        yield f"link {layer.name}: rates count {layer.overhead} bytes around each IP packet"
    if layer is not None and table is not None:
        small, large = (table.count(size) for size in (64, facts.mtu + facts.header))
        yield (
            f"link {layer.name}: rates, counters and queues count {layer.overhead} bytes around each IP packet"
            + (f", at least {layer.mpu} a packet" if layer.mpu else "")
            + (", in whole ATM cells" if layer.cells is Cells.ATM else "")
            + f"; a frame of 64 bytes counts for {small}, one of {facts.mtu + facts.header} for {large}"
        )
