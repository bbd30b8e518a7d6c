"""Steps about u32 filters and their tables, which take more than a message where the kernel has its own mind.

It numbers the table that a preference begins with, and finds the filters in it by that number alone; and it lets go of
a table some time after the filter that linked to it.
"""

from __future__ import annotations

import errno as errors
import time

from collectors.netlink import RTM_GETTFILTER, Channel, NetlinkError, parse_tc
from shaper.kernel.encode import Message, place, u32_message
from shaper.plan.steps import Step, Verb
from shaper.tree import U32_ROOT, Handle, U32Filter, U32Table

_LONGEST, _PAUSE = 1.0, 0.002
"""Seconds: a grace period of RCU and a turn of a work queue are some ten milliseconds."""


_NO_FILTERS = "Cannot find specified filter chain"


def send(channel: Channel, step: Step, index: int) -> None:
    """Raises NetlinkError."""
    node = step.node
    assert isinstance(node, (U32Filter, U32Table))
    first = 0
    if step.verb is not Verb.ADD and node.handle > U32_ROOT:
        first = _first_table(channel, node, index)
    wanted = u32_message(step.verb, node, index, first)
    if isinstance(node, U32Table) and step.verb is Verb.DELETE:
        _remove(channel, wanted)
    else:
        channel.request(*wanted)


def _first_table(channel: Channel, node: U32Filter | U32Table, index: int) -> Handle:
    """The kernel's handle of the table that the node's preference begins with."""
    try:
        (answer,) = channel.request(RTM_GETTFILTER, 0, place(node, index, U32_ROOT))
    except NetlinkError as error:
        if error.errno == errors.EINVAL and error.strerror == _NO_FILTERS:  # of a change it would say ENOENT
            raise NetlinkError(errors.ENOENT, error.strerror) from error
        raise
    return parse_tc(answer).handle


def _remove(channel: Channel, wanted: Message) -> None:
    """A table; one that went with the last filter is gone already."""
    until = time.monotonic() + _LONGEST
    while True:
        try:
            channel.request(*wanted)
        except NetlinkError as error:
            if error.errno == errors.ENOENT:
                return
            if error.errno != errors.EBUSY or time.monotonic() >= until:
                raise
            time.sleep(_PAUSE)
        else:
            return
