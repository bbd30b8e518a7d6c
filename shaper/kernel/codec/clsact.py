"""clsact: the hook point of a device, a qdisc without options."""

from __future__ import annotations

from shaper.tree import Options


def encode() -> bytes | None:
    """There is nothing to send."""
    return None


def decode(_data: bytes) -> Options:
    """There is nothing to read: the kernel dumps an empty nest."""
    return None
