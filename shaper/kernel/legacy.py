"""iptables-legacy: whether its nat tables are in use. Their rules are the kernel's own format, and are not read."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from collectors.netlink import inside

_HERE = Path("/proc/thread-self/net")
"""Of the thread that asks, which may have entered another network namespace."""
_NAMES: Mapping[str, str] = {"iptables-legacy": "ip_tables_names", "ip6tables-legacy": "ip6_tables_names"}


def nat_tables(netns: str | None = None) -> tuple[str, ...]:
    """The programs whose nat table is there in a network namespace; none where that may not be read."""
    return inside(netns, lambda: tuple(name for name, file in _NAMES.items() if "nat" in _words(_HERE / file)))


def _words(path: Path) -> list[str]:
    try:
        return path.read_text().split()
    except OSError:  # no such tables in this kernel, or not this user's to see
        return []
