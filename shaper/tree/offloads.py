"""What decides how large the packets come that reach a queue: settings of devices, ours or not."""

from __future__ import annotations

from dataclasses import dataclass

GSO_MAX_SEGS = "gso_max_segs"
JOINING = ("gro", "lro", "gro-hw")
"""Ways to join received packets, as ethtool -K names them: in software, in the driver, in hardware; 0 is off, 1 on."""


@dataclass(frozen=True, slots=True)
class Offload:
    """A setting that a device always has: it is never added or removed, only changed.

    `name` is one of JOINING, or GSO_MAX_SEGS: how many segments a packet of this machine's own TCP may have.
    """

    device: str
    name: str
    value: int

    @property
    def key(self) -> tuple[str, int, int]:
        return (f"offload:{self.device}:{self.name}", 0, 0)

    @property
    def text(self) -> str:
        """The value in words."""
        return str(self.value) if self.name == GSO_MAX_SEGS else "on" if self.value else "off"
