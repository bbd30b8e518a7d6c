"""A throwaway network for a test on the real kernel: `netns` is made for one test and gone after it.

The pytest process never leaves its own namespace: commands run by `ip netns exec`, Python code in a thread that enters
the namespace and ends there.
"""

from __future__ import annotations

import itertools
import os
import shlex
import shutil
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TypeVar

import pytest

from collectors.netlink import inside
from shaper.kernel.netlink import NetlinkKernel
from shaper.tree import Capabilities

T = TypeVar("T")
_serial = itertools.count()
_TOOLS = ("ip", "tc", "ethtool")


@dataclass(frozen=True, slots=True)
class LinkPair:
    """Device `a` in the lab's namespace, `b` in its peer's, with their addresses (/24 and /64)."""

    a: str
    b: str
    a_v4: str
    b_v4: str
    a_v6: str
    b_v6: str


class Lab:
    """A network namespace `name`, and a second one `peer` for the other end of the cable."""

    def __init__(self) -> None:
        base = f"slat-{os.getpid()}-{next(_serial)}"
        self.name = base
        self.peer = f"{base}-peer"
        self._made: list[str] = []
        self._kernels: list[NetlinkKernel] = []
        self._processes: list[subprocess.Popen[str]] = []
        self._pairs = itertools.count(1)

    def open(self) -> None:
        """Makes both namespaces, with loopback up."""
        for name in (self.name, self.peer):
            _execute(f"ip netns add {name}")
            self._made.append(name)
            _execute(f"ip -netns {name} link set lo up")

    def close(self) -> None:
        """Ends what was started and removes the namespaces with all that is in them."""
        for process in self._processes:
            process.kill()
            process.communicate()
        for kernel in self._kernels:
            kernel.close()
        for name in self._made:
            _execute(f"ip netns del {name}")

    def run(self, command: str, *, peer: bool = False, check: bool = True, timeout: float = 60) -> str:
        """The output of a command inside; with `check` it must succeed."""
        return _execute(f"ip netns exec {self.peer if peer else self.name} {command}", check=check, timeout=timeout)

    def start(self, command: str, *, peer: bool = False) -> subprocess.Popen[str]:
        """A command left running inside; killed at the end of the test if it still runs.

        Its pipes hold what a `shaper run --json` says in a quarter of an hour: when they are full it stands still.
        """
        argv = ["ip", "netns", "exec", self.peer if peer else self.name, *shlex.split(command)]
        process = subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, pipesize=1 << 20)
        self._processes.append(process)
        return process

    def inside(self, action: Callable[[], T], *, peer: bool = False) -> T:
        """Runs Python code inside; a socket that it opens stays there."""
        return inside(self.peer if peer else self.name, action)

    def kernel(self, *, peer: bool = False, known: Capabilities | None = None) -> NetlinkKernel:
        """The kernel as the namespace sees it; closed at the end of the test. What is `known` is not probed."""
        kernel = NetlinkKernel(self.peer if peer else self.name, known=known)
        self._kernels.append(kernel)
        return kernel

    def link_pair(self) -> LinkPair:
        """A new cable between the two namespaces: veth, up, addressed, no offloads, one packet a segment."""
        number = next(self._pairs)
        pair = LinkPair(
            *(f"a{number}", f"b{number}"),
            *(f"10.99.{number}.1", f"10.99.{number}.2"),
            *(f"fd99:0:0:{number}::1", f"fd99:0:0:{number}::2"),
        )
        _execute(f"ip -netns {self.name} link add {pair.a} type veth peer name {pair.b} netns {self.peer}")
        for name, device, v4, v6 in (
            (self.name, pair.a, pair.a_v4, pair.a_v6),
            (self.peer, pair.b, pair.b_v4, pair.b_v6),
        ):
            _execute(f"ip netns exec {name} ethtool -K {device} tso off gso off gro off")
            _execute(f"ip -netns {name} link set dev {device} gso_max_segs 1 up")
            _execute(f"ip -netns {name} addr add {v4}/24 dev {device}")
            _execute(f"ip -netns {name} addr add {v6}/64 dev {device} nodad")
        return pair


def _execute(command: str, *, check: bool = True, timeout: float = 60) -> str:
    done = subprocess.run(shlex.split(command), capture_output=True, text=True, timeout=timeout, check=False)
    if check and done.returncode:
        raise RuntimeError(f"`{command}`: {done.stderr.strip() or f'exit {done.returncode}'}")
    return done.stdout


@pytest.fixture
def netns() -> Iterator[Lab]:
    """A fresh pair of namespaces. Skips where none may be made, naming what is missing."""
    for tool in _TOOLS:
        if shutil.which(tool) is None:
            pytest.skip(f"missing capability: {tool}")
    lab = Lab()
    try:
        lab.open()
    except RuntimeError as error:
        lab.close()
        pytest.skip(f"missing capability: CAP_SYS_ADMIN, to make network namespaces ({error})")
    try:
        yield lab
    finally:
        lab.close()
