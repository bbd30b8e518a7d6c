"""What `shaper apply` and `shaper clear` do on one device, by the same calls, without a process for each."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from shaper.kernel.protocol import Kernel
from shaper.model.change import Who
from shaper.plan.steps import Step
from shaper.policy import parse_policy
from shaper.run import apply, changes, confirm
from shaper.run.apply import Prepared
from shaper.run.changes import Order
from shaper.run.state import DeviceState

ORDER = Order(Who(0), 1.0)


class Product:
    """One device and its state folder; what is made is planned, recorded, sent, and read back."""

    def __init__(self, kernel: Kernel, device: str, folder: Path) -> None:
        self.kernel = kernel
        self.device = device
        self.state = DeviceState(folder, device, namespace="here")

    def apply(self, text: str, files: Mapping[str, str] | None = None) -> Prepared:
        """From whatever stands there to this policy; what was prepared, with the steps that were taken."""
        policy = parse_policy(text, source="policy.yaml", files=files or {})
        with self.state.lock():
            confirm.tidy(self.kernel, self.state, now=0.0, order=ORDER)
            prepared = apply.prepare(self.kernel, self.state, policy, policy.interfaces[0])
            return changes.make(self.kernel, self.state, prepared, what="apply", order=ORDER)

    def clear(self) -> tuple[Step, ...]:
        """The steps that it took."""
        with self.state.lock():
            return changes.clear(self.kernel, self.state, order=ORDER).steps
