"""Back to the static allocation of the policy in force, where no shaper runs: after a crash, or by hand."""

from __future__ import annotations

from shaper.kernel.protocol import Kernel
from shaper.run import changes, confirm
from shaper.run.changes import Order
from shaper.run.prepare import prepare
from shaper.run.standing import interface_of, policy_of
from shaper.run.state import DeviceState, boot_id


def to_static(kernel: Kernel, state: DeviceState, order: Order, *, now: float) -> int | None:
    """The steps that it took, 0 for none; None where nothing of ours stands since this boot. `now` is boot time.

    The caller holds the device's lock and has called `tidy`. Raises TryAgainError while a change waits for its
    confirmation, and what `changes.make` raises.
    """
    record = state.record()
    if record is None or record.boot != boot_id():
        return None
    confirm.refuse_while_waiting(state, now=now)
    interface = interface_of(record).at(order.at)
    prepared = prepare(kernel, state, policy_of(record), interface, structure=record.structure, keep_live=False)
    if prepared.plan.steps:
        changes.make(kernel, state, prepared, what="static", order=order)
    return len(prepared.plan.steps)
