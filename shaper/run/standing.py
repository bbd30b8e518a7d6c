"""The policy that stands on a device, from the record of its apply."""

from __future__ import annotations

from dataclasses import replace

from shaper.compile import compile_interface
from shaper.compile.program import Program
from shaper.errors import UnavailableError
from shaper.model.policy import Direction, Interface, Policy
from shaper.policy import parse_policy
from shaper.run.state import Record
from shaper.tree import Capabilities, LinkFacts


def policy_of(record: Record) -> Policy:
    """The policy as it was applied, in the phase of its schedule that it had then.

    Raises PolicyError where this version refuses what an older one took.
    """
    policy = parse_policy(record.text, source=record.source, files=record.files)
    policy = settled(policy, record.interface, record.device)
    place = record.interface, record.direction
    interfaces = (one.during(record.phase) if (one.name, one.direction) == place else one for one in policy.interfaces)
    try:
        return replace(policy, interfaces=tuple(interfaces))
    except ValueError as error:
        raise UnavailableError(f"the record of {record.device}: {error}", hint="apply the policy again") from error


def settled(policy: Policy, interface: str, device: str) -> Policy:
    """A policy from the past with one interface on the device that it had then, whatever its description fits now."""
    interfaces = (replace(one, device=device) if one.name == interface else one for one in policy.interfaces)
    return replace(policy, interfaces=tuple(interfaces))


def shapes(policy: Policy, device: str, direction: Direction) -> bool:
    """Whether the policy has that direction of a device, which is named with its network namespace."""
    return any((one.spot, one.direction) == (device, direction) for one in policy.interfaces)


def interface_on(policy: Policy, device: str, direction: Direction = Direction.EGRESS) -> Interface:
    """The policy's interface on a device, in one direction. Raises UnavailableError when it has none."""
    for one in policy.interfaces:
        if (one.spot, one.direction) == (device, direction):
            return one
    raise UnavailableError(
        f"{policy.source} shapes no {direction} of {device}", hint="name a device that the policy shapes"
    )


def interface_of(record: Record) -> Interface:
    """The interface that the record is about."""
    policy = policy_of(record)
    named = (one for one in policy.interfaces if (one.name, one.direction) == (record.interface, record.direction))
    return next(named, None) or interface_on(policy, record.device, record.direction)


def program_of(record: Record, interface: Interface, capabilities: Capabilities, link: LinkFacts) -> Program:
    """What the record's policy compiles to here and now."""
    return compile_interface(
        interface,
        capabilities,
        link,
        previous=record.handles,
        structure=record.structure,
        tap=record.hooked,
        stamp=record.stamp,
        adopted=record.adopted,
    )
