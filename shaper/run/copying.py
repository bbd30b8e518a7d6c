"""Copies of packets in the place of what a shaper that has ended left on the hook, so that they can be captured."""

from __future__ import annotations

from shaper.compile.program import Program
from shaper.kernel.protocol import Kernel
from shaper.run import changes
from shaper.run.changes import Order
from shaper.run.prepare import prepare
from shaper.run.standing import interface_of, policy_of
from shaper.run.state import DeviceState, boot_id
from shaper.run.waiting import read_waiting


class _Nobody:
    """Lends no program."""

    instance = ""
    copies = True

    def lend(self, program: Program) -> bool:
        del program
        return False


def copy_again(kernel: Kernel, state: DeviceState, order: Order) -> bool:
    """Whether packets are copied now that were stamped for nobody; the live allocation stays.

    Nothing is changed where no copy would show to which class a packet belongs, and while a change waits for its
    confirmation. The caller holds the device's lock and has called `tidy`. Raises what `changes.make` raises.
    """
    record = state.record()
    if record is None or not record.stamp or record.boot != boot_id() or read_waiting(state) is not None:
        return False
    prepared = prepare(
        kernel, state, policy_of(record), interface_of(record), structure=record.structure, lender=_Nobody()
    )
    if not prepared.program.measured:
        return False
    changes.make(kernel, state, prepared, what="measure", order=order)
    return True
