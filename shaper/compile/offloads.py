"""Super-packets kept from a slow link's queue: what is set on the device, and on those that feed it.

Local TCP is told to make no packet of more than one segment (`gso_max_segs` of the device); what is received is not
joined any more (GRO, LRO of the devices that feed it; of the device itself for what comes in by it).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from shaper.errors import UnavailableError
from shaper.model.policy import Backend, Direction, Interface
from shaper.tree import GSO_MAX_SEGS, Feeder, LinkFacts, Offload
from shaper.units import format_rate

SLOW = 10**9
"""bit/s. From here on a super-packet of 64 KB holds the link for half a millisecond or less, and spares much work."""


def changes(interface: Interface, link: LinkFacts, backend: Backend) -> tuple[Offload, ...]:
    """What the devices are set to, sorted; nothing where the policy leaves them alone.

    Raises UnavailableError where it names a device that is not there.
    """
    if _why_not(interface, backend):
        return ()
    wanted = [Offload(feeder.device, name, 0) for feeder in _feeders(interface, link) for name in feeder.joins]
    if interface.direction is Direction.EGRESS:
        wanted.append(Offload(interface.device, GSO_MAX_SEGS, 1))
    return tuple(sorted(wanted, key=lambda one: one.key))


def without_super_packets(link: LinkFacts, interface: Interface, offloads: Sequence[Offload]) -> LinkFacts:
    """The link as it is once they are set."""
    if not offloads or any(feeder.fixed for feeder in _feeders(interface, link)):
        return link
    return replace(link, super_packet=link.mtu + link.header)


def offload_notes(interface: Interface, link: LinkFacts, backend: Backend) -> Iterator[str]:
    """What is done and why, or why not."""
    if interface.offloads is None:
        return
    if why := _why_not(interface, backend):
        yield f"offloads: nothing is changed, because {why}"
        return
    feeders = _feeders(interface, link)
    names = ", ".join(feeder.device for feeder in feeders)
    if link.own is None and not interface.offloads.feeding:
        yield f"offloads: no machine was looked at, so nobody knows what feeds {interface.device}"
    elif interface.direction is Direction.INGRESS:
        yield f"offloads: {interface.device} joins no received packets any more, which costs processor time"
    elif interface.offloads.feeding:
        yield f"offloads: {names} join no received packets any more, since the policy says that they feed this device"
    elif feeders:
        yield (
            f"offloads: {names} join no received packets any more, since they may be forwarded to {interface.device} "
            "(routing is on there, or they share its bridge); `offloads: {feeding: [..]}` names others"
        )
    else:
        yield f"offloads: no device feeds {interface.device}: routing is off, and it is part of no bridge"
    for feeder in feeders:
        if feeder.fixed:
            fixed = ", ".join(feeder.fixed)
            yield f"offloads: the driver of {feeder.device} cannot turn off {fixed}: the queues allow for it"
    if far := [feeder.device for feeder in feeders if feeder.far]:
        yield (
            f"offloads: what the other end of {', '.join(far)} sends in large packets stays so: set gso_max_segs to 1 "
            "there, too"
        )


def _why_not(interface: Interface, backend: Backend) -> str:
    offloads = interface.offloads
    if offloads is None:
        return "the policy does not ask for it"
    if backend is Backend.CAKE:
        return "CAKE cuts super-packets itself"
    if interface.bandwidth >= SLOW and not offloads.feeding:
        return f"at {format_rate(interface.bandwidth)} super-packets hold nobody up; below {format_rate(SLOW)} they do"
    return ""


def _feeders(interface: Interface, link: LinkFacts) -> tuple[Feeder, ...]:
    if interface.direction is Direction.INGRESS:
        return (link.own,) if link.own else ()
    named = interface.offloads.feeding if interface.offloads else ()
    if not named:
        return tuple(feeder for feeder in link.feeders if feeder.feeds)
    if link.own is None:  # no machine was looked at
        return tuple(Feeder(name, ("gro",)) for name in named)
    known = {feeder.device: feeder for feeder in link.feeders}
    for name in named:
        if name not in known:
            raise UnavailableError(
                f"{interface.device} cannot be fed by {name}: there is no such device beside it",
                hint=f"there are {', '.join(known) or 'none'}",
                where=interface.offloads.where if interface.offloads else None,
            )
    return tuple(known[name] for name in named)
