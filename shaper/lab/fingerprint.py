"""What the figures of a run in virtual time depend on, besides the checkout and the options."""

from __future__ import annotations

import hashlib
import os
import platform
import subprocess
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

_COMMANDS = ("ip -V", "iperf3 --version", "ethtool --version")


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """`kernel` begins the image's build id; `packages` and `cpu` are short hashes, of name==version and of flags."""

    kernel: str
    python: str
    packages: str
    cpu: str

    def __str__(self) -> str:
        return f"virtual time: kernel {self.kernel}, Python {self.python}, packages {self.packages}, CPU {self.cpu}"


def fingerprint() -> Fingerprint | None:
    """That of this machine, None where time is real (see scripts/lab)."""
    if os.environ.get("LAB_KERNEL") != "virtual":
        return None
    return Fingerprint(
        kernel=build_id(Path("/sys/kernel/notes").read_bytes()).hex()[:12],
        python=platform.python_version(),
        packages=_short(_versions()),
        cpu=_short(cpu_flags(Path("/proc/cpuinfo").read_text())),
    )


def build_id(notes: bytes) -> bytes:
    """The hash of the kernel's image that the linker left in its notes (ELF); empty where it left none."""
    at = 0
    while at + 12 <= len(notes):
        name, size, kind = (int.from_bytes(notes[at + word : at + word + 4], "little") for word in (0, 4, 8))
        begin = at + 12 + -(-name // 4) * 4
        if kind == 3 and notes[at + 12 : at + 12 + name] == b"GNU\0":
            return notes[begin : begin + size]
        at = begin + -(-size // 4) * 4
    return b""


def cpu_flags(cpuinfo: str) -> list[str]:
    """What the first processor can do, in order of the alphabet."""
    line = next((line for line in cpuinfo.splitlines() if line.startswith("flags")), "")
    return sorted(line.partition(":")[2].split())


def _versions() -> Iterator[str]:
    """Of what runs in the demo, and where it looks for its parts: the packages, the commands and the C library."""
    yield sys.base_prefix
    yield from sorted({f"{one.name}=={one.version}" for one in metadata.distributions()})
    yield "==".join(platform.libc_ver())
    for command in _COMMANDS:
        done = subprocess.run(command.split(), capture_output=True, text=True, timeout=30, check=True)
        yield done.stdout.splitlines()[0]


def _short(parts: Iterable[str]) -> str:
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:8]
