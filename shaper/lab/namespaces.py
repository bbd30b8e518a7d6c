"""A throwaway network: client - router - server, three network namespaces joined by veth pairs."""

from __future__ import annotations

import itertools
import os
import re
import subprocess
from collections.abc import Sequence
from types import TracebackType

from shaper.errors import ShaperError, UnavailableError
from shaper.lab.processes import is_alive
from shaper.lab.signals import deferred

PREFIX = "shaper-lab"
_NAME = re.compile(rf"^{PREFIX}-(\d+)-\d+-(?:client|router|server)$")
_serial = itertools.count()

CLIENT_V4, SERVER_V4 = "10.77.0.2", "10.77.1.2"
CLIENT_V6, SERVER_V6 = "fd77:0:0:a::2", "fd77:0:0:b::2"
_ROUTER = {"lan": ("10.77.0.1", "fd77:0:0:a::1"), "wan": ("10.77.1.1", "fd77:0:0:b::1")}


def _run(argv: Sequence[str], *, text: str | None = None) -> str:
    """Output of a short command. Raises ShaperError with what it said when it fails, UnavailableError without it."""
    try:
        done = subprocess.run(argv, input=text, capture_output=True, text=True, timeout=30, check=False)
    except FileNotFoundError as error:
        raise UnavailableError(f"{argv[0]} is not installed", hint="install iproute2 and ethtool") from error
    if done.returncode:
        said = (done.stderr or done.stdout).strip().splitlines()
        raise ShaperError(
            f"`{' '.join(argv)}` failed: {said[0] if said else f'exit {done.returncode}'}",
            hint="network namespaces need root, or `unshare -rnm` on a system that allows it",
        )
    return done.stdout


def existing() -> tuple[str, ...]:
    """The names of all network namespaces of this lab, of any process."""
    names = (line.split()[0] for line in _run(["ip", "netns", "list"]).splitlines() if line.strip())
    return tuple(name for name in names if _NAME.match(name))


def sweep(*, own: bool = False) -> tuple[str, ...]:
    """Removes the namespaces that processes now dead left behind (SIGKILL), and `own` ones; returns their names."""
    found = [(name, int(match[1])) for name in existing() if (match := _NAME.match(name))]
    dead = tuple(name for name, pid in found if not is_alive(pid) or (own and pid == os.getpid()))
    with deferred():
        for name in dead:
            _run(["ip", "netns", "del", name])
    return dead


class Topology:
    """`with Topology() as net:` and afterwards there is nothing left of it, whatever happened inside.

    Packets from `client` to `server` leave the `router` by the device `wan`. Offloads are off and a packet is never
    larger than one segment on every veth, so that queues and taps see what is on the wire.
    """

    def __init__(self, *, wan: str = "wan0") -> None:
        self.wan = wan
        base = f"{PREFIX}-{os.getpid()}-{next(_serial)}"
        self.client, self.router, self.server = (f"{base}-{role}" for role in ("client", "router", "server"))
        self._made: list[str] = []

    def __enter__(self) -> Topology:
        try:
            with deferred():
                self._make()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Removes the namespaces and with them every device and qdisc in them. Harmless when done twice."""
        with deferred():
            while self._made:
                _run(["ip", "netns", "del", self._made[-1]])
                self._made.pop()

    def left_on_router(self) -> tuple[str, ...]:
        """Qdiscs and devices on the router that this topology did not make, as `tc` and `ip` print them."""
        qdiscs = _run(["tc", "-netns", self.router, "qdisc", "show"]).splitlines()
        links = _run(["ip", "-netns", self.router, "-br", "link", "show"]).splitlines()
        made = {"lo", "lan0", self.wan}
        strange = [line for line in links if line.split()[0].partition("@")[0] not in made]
        return (*(line for line in qdiscs if not line.startswith("qdisc noqueue 0:")), *strange)

    def _make(self) -> None:
        for name in (self.client, self.router, self.server):
            _run(["ip", "netns", "add", name])
            self._made.append(name)
        self._pair(self.client, "eth0", self.router, "lan0")
        self._pair(self.router, self.wan, self.server, "eth0")
        self._host(self.client, CLIENT_V4, CLIENT_V6, _ROUTER["lan"])
        self._host(self.server, SERVER_V4, SERVER_V6, _ROUTER["wan"])
        self._batch(
            self.router,
            "link set lo up",
            *(
                line
                for device, (v4, v6) in (("lan0", _ROUTER["lan"]), (self.wan, _ROUTER["wan"]))
                for line in (
                    f"link set {device} up",
                    f"addr add {v4}/24 dev {device}",
                    f"addr add {v6}/64 dev {device} nodad",
                )
            ),
        )
        self._sysctl(self.router, "ipv4/ip_forward=1", "ipv6/conf/all/forwarding=1")

    def _pair(self, left: str, left_device: str, right: str, right_device: str) -> None:
        self._batch(
            left,
            f"link add {left_device} txqueuelen 1000 type veth peer name {right_device} netns {right} txqueuelen 1000",
        )
        for namespace, device in ((left, left_device), (right, right_device)):
            self._sysctl(namespace, f"ipv6/conf/{device}/accept_dad=0")
            inside = ["ip", "netns", "exec", namespace]
            _run([*inside, "ethtool", "-K", device, "tso", "off", "gso", "off", "gro", "off"])
            _run(["ip", "-netns", namespace, "link", "set", "dev", device, "gso_max_segs", "1"])

    def _host(self, namespace: str, v4: str, v6: str, router: tuple[str, str]) -> None:
        self._batch(
            namespace,
            "link set lo up",
            "link set eth0 up",
            f"addr add {v4}/24 dev eth0",
            f"addr add {v6}/64 dev eth0 nodad",
            f"route add default via {router[0]}",
            f"route add default via {router[1]}",
        )
        self._sysctl(namespace, "ipv4/tcp_no_metrics_save=1")  # one invocation must not warm up the next

    @staticmethod
    def _batch(namespace: str, *lines: str) -> None:
        _run(["ip", "-netns", namespace, "-batch", "-"], text="\n".join(lines) + "\n")

    @staticmethod
    def _sysctl(namespace: str, *settings: str) -> None:
        lines = (f"echo {value} > /proc/sys/net/{key}" for key, value in (text.split("=") for text in settings))
        _run(["ip", "netns", "exec", namespace, "sh", "-ec", "\n".join(lines)])
