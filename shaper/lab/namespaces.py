"""A throwaway network: client - router - server, three network namespaces joined by veth pairs."""

from __future__ import annotations

import itertools
import json
import os
import re
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from shaper.errors import ShaperError, UnavailableError
from shaper.lab.processes import is_alive
from shaper.lab.signals import deferred

PREFIX = "shaper-lab"
_NAME = re.compile(rf"^{PREFIX}-(\d+)-\d+-(?:client|router|internet|server)$")
_serial = itertools.count()

CLIENT_V4, SERVER_V4 = "10.77.0.2", "10.77.1.2"
CLIENT_V6, SERVER_V6 = "fd77:0:0:a::2", "fd77:0:0:b::2"
_ROUTER = {"lan": ("10.77.0.1", "fd77:0:0:a::1"), "wan": ("10.77.1.1", "fd77:0:0:b::1")}

_WIRE = "10gbit"
"""netem keeps the order of packets only where it has a rate; at this one a packet takes about a microsecond."""


@dataclass(frozen=True, slots=True)
class Wan:
    """The way between the router and the server, the same in both directions.

    Every packet takes `delay` seconds and up to `jitter` more, evenly spread, and none overtakes another; a share of
    `loss` (0..1) is lost. The kernel draws both, so they are repeatable in virtual time only.
    """

    delay: float
    jitter: float = 0.0
    loss: float = 0.0


@dataclass(frozen=True, slots=True)
class Narrow:
    """A link behind the shaped one that carries less: from each time in seconds on, a rate in bit/s.

    Before it waits a FIFO of `queue` bytes, as in a modem; nobody tells the router.
    """

    queue: int
    rates: tuple[tuple[float, int], ...]


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

    Packets from `client` to `server` leave the `router` by the device `wan`; with a `path` they then cross `internet`,
    a fourth namespace that passes them on as that says, and before that through a `narrow` link. With `incoming` they
    come in to the router by `wan` and leave it by its other device: then there is no path. Offloads are off and a
    packet is never larger than one segment on every veth, so that queues and taps see what is on the wire.
    """

    def __init__(
        self, *, wan: str = "wan0", path: Wan | None = None, narrow: Narrow | None = None, incoming: bool = False
    ) -> None:
        self.wan = wan
        self.path = path or (Wan(0.0) if narrow else None)
        self.narrow = narrow
        self.incoming = incoming
        base = f"{PREFIX}-{os.getpid()}-{next(_serial)}"
        roles = ("client", "router", "internet", "server")
        self.client, self.router, self.internet, self.server = (f"{base}-{role}" for role in roles)
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
        for name in (self.client, self.router, *([self.internet] if self.path else []), self.server):
            _run(["ip", "netns", "add", name])
            self._made.append(name)
        towards_client, towards_server = (self.wan, "lan0") if self.incoming else ("lan0", self.wan)
        self._pair(self.client, "eth0", self.router, towards_client)
        if self.path is None:
            self._pair(self.router, towards_server, self.server, "eth0")
        else:
            self._pair(self.router, self.wan, self.internet, "near")
            self._pair(self.internet, "far", self.server, "eth0")
            self._cross(self.path)
        self._host(self.client, CLIENT_V4, CLIENT_V6, _ROUTER["lan"])
        self._host(self.server, SERVER_V4, SERVER_V6, _ROUTER["wan"])
        self._batch(
            self.router,
            "link set lo up",
            *(
                line
                for device, (v4, v6) in ((towards_client, _ROUTER["lan"]), (towards_server, _ROUTER["wan"]))
                for line in (
                    f"link set {device} up",
                    f"addr add {v4}/24 dev {device}",
                    f"addr add {v6}/64 dev {device} nodad",
                )
            ),
        )
        self._sysctl(self.router, "ipv4/ip_forward=1", "ipv6/conf/all/forwarding=1")
        if self.path is not None:
            self._introduce((self.router, self.wan, _ROUTER["wan"]), (self.server, "eth0", (SERVER_V4, SERVER_V6)))

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

    def _cross(self, path: Wan) -> None:
        """A bridge from the router to the server that sends either way as the path does."""
        late = f"delay {round((path.delay + path.jitter / 2) * 1e6)}us {round(path.jitter / 2 * 1e6)}us"
        netem = f"netem limit 100000 {late} loss {path.loss:.6%} rate {_WIRE}".split()
        try:
            if self.narrow:  # two bridges: what leaves the first towards the second is what the link carries
                self._batch(self.internet, "link add narrow txqueuelen 1000 type veth peer name beyond txqueuelen 1000")
                self._bridge("first", "near", "narrow")
                self._bridge("second", "beyond", "far")
                inside = ["tc", "-netns", self.internet]
                _run([*inside, "qdisc", "add", "dev", "narrow", "root", "handle", "1:", "htb", "default", "1"])
                self._carries("add", self.narrow.rates[0][1])
                fifo = ["parent", "1:1", "bfifo", "limit", str(self.narrow.queue)]
                _run([*inside, "qdisc", "add", "dev", "narrow", *fifo])
            else:
                self._bridge("middle", "near", "far")
            for device in ("near", "far") if path.delay else ():
                _run(["tc", "-netns", self.internet, "qdisc", "add", "dev", device, "root", *netem])
        except ShaperError as error:
            raise UnavailableError(
                f"this kernel cannot play a WAN: {error.message}",
                hint="it needs netem and bridges, as the lab's kernel has them: scripts/demo --virtual-time",
            ) from error

    def _introduce(self, *ends: tuple[str, str, tuple[str, str]]) -> None:
        """Namespace, device and addresses of either end of the path: what that delays and loses is traffic, and not the
        question for the next hop, whose loss would cost a second of everything."""
        for (namespace, device, _), (other, towards, addresses) in (ends, ends[::-1]):
            (link,) = json.loads(_run(["ip", "-j", "-netns", other, "link", "show", "dev", towards]))
            known = (f"neigh add {address} lladdr {link['address']} dev {device}" for address in addresses)
            self._batch(namespace, *known)

    def _bridge(self, name: str, *ports: str) -> None:
        self._batch(
            self.internet,
            f"link add {name} type bridge forward_delay 0 mcast_snooping 0",
            *(f"link set {device} addrgenmode none up" for device in (name, *ports)),
            *(f"link set {device} master {name}" for device in ports),
        )

    def carry(self, rate: int) -> None:
        """The narrow link carries so many bit/s from now on."""
        self._carries("change", rate)

    def carried(self) -> int:
        """Bytes, with Ethernet headers, that have come out of the narrow link so far."""
        (link,) = json.loads(_run(["ip", "-j", "-s", "-netns", self.internet, "link", "show", "dev", "beyond"]))
        return int(link["stats64"]["rx"]["bytes"])

    def _carries(self, verb: str, rate: int) -> None:
        place = ["dev", "narrow", "parent", "1:", "classid", "1:1"]
        sized = ["rate", f"{rate}bit", "burst", "3028", "cburst", "3028", "quantum", "1514"]
        _run(["tc", "-netns", self.internet, "class", verb, *place, "htb", *sized])

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
        # One invocation must not warm up the next; and stamps in segments are the clock's, without a random offset.
        self._sysctl(namespace, "ipv4/tcp_no_metrics_save=1", "ipv4/tcp_timestamps=2")
        # A veth hands on the sender's hash of a packet, by which fq_codel sorts it: after a timeout a connection would
        # get another bucket, now and then somebody else's, as it never does from a wire. Before 5.18 it has to.
        if Path("/proc/sys/net/core/txrehash").exists():
            self._sysctl(namespace, "core/txrehash=0")

    @staticmethod
    def _batch(namespace: str, *lines: str) -> None:
        _run(["ip", "-netns", namespace, "-batch", "-"], text="\n".join(lines) + "\n")

    @staticmethod
    def _sysctl(namespace: str, *settings: str) -> None:
        lines = (f"echo {value} > /proc/sys/net/{key}" for key, value in (text.split("=") for text in settings))
        _run(["ip", "netns", "exec", namespace, "sh", "-ec", "\n".join(lines)])
