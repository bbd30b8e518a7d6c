"""From the devices that a policy describes to those that this machine has."""

from __future__ import annotations

from dataclasses import replace

from shaper.errors import ShaperError, UnavailableError
from shaper.kernel.protocol import Kernel, within
from shaper.model.device import DeviceName
from shaper.model.policy import Interface, Policy


def placed(policy: Policy, kernel: Kernel) -> Policy:
    """The policy with the present name of every interface's device.

    A plain name that is not there stays, for who needs the device to say. Raises UnavailableError, with the policy
    line, where a description fits no device or several, and where two interfaces come to one device.
    """
    interfaces = tuple(_placed(interface, _devices(kernel, interface)) for interface in policy.interfaces)
    holders: dict[str, Interface] = {}
    for interface in interfaces:
        first = holders.setdefault(interface.spot, interface)
        if first.name != interface.name:
            raise UnavailableError(
                f"{first.name} and {interface.name} are both {interface.spot}",
                hint="take one of them out, or say more exactly which device it is",
                where=interface.device_where,
            )
    return replace(policy, interfaces=interfaces)


def _devices(kernel: Kernel, interface: Interface) -> tuple[DeviceName, ...]:
    """Of the interface's network namespace. Raises UnavailableError, NotPermittedError at the line that names it."""
    try:
        return within(kernel, interface.netns).devices()
    except ShaperError as error:
        error.where = error.where or interface.netns_where
        raise


def _placed(interface: Interface, devices: tuple[DeviceName, ...]) -> Interface:
    wanted = interface.wanted
    if wanted is None:
        return interface
    found = wanted.among(devices)
    if len(found) == 1:
        return replace(interface, device=found[0])
    if not found and wanted.name:
        return interface
    named = ", ".join(found or sorted(device.name for device in devices)[:10])
    if found:
        message, hint = f"the {wanted} fits several devices: {named}", "say more exactly which one"
    else:
        message, hint = f"the {wanted} fits no device here", f"there are {named}"
    raise UnavailableError(f"{interface.name}: {message}", hint=hint, where=interface.device_where)
