"""What the backends beside HTB promise, in virtual time, by the packets before and after the queue."""

from __future__ import annotations

import collections
import contextlib
import socket
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from backend_bench import Bench
from test_virtual_queues import Tap, send, tap

from shaper.compile import compile_interface
from shaper.plan.steps import Step, Verb
from shaper.policy import parse_policy

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.virtual

__all__ = ["tap"]

_SO_RCVBUFFORCE, _SO_SNDBUFFORCE = 33, 32
LINK = 20_000_000
FRAME = 1514
METER, VIDEO, LOUD = 5010, 5020, 5030
FULL = 1472
"""Bytes of payload in a largest frame."""
BURST, SMALL = 7, 174
"""Datagrams of a burst and their payload: together as many bytes as a largest frame (7 x 216 of 1514)."""


def together(*senders: Callable[[], None]) -> None:
    threads = [threading.Thread(target=sender) for sender in senders]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def bursts(tap: Tap, port: int, *, count: int, gap: float) -> None:
    for number in range(count):
        send(tap, port, count=BURST, size=SMALL, gap=0.0, first=number * BURST)
        time.sleep(gap)


def delays_beside_a_flood(tap: Tap, folder: Path, sla: str) -> float:
    """The largest delay in seconds of the lowest tier's bursts, one every 100 ms, beside a flood of the highest."""
    bench = Bench(tap.lab, tap.pair.a, folder, backend="hfsc")
    bench.apply(f"""
        meter: {{guarantee: 128kbit, match: [{{proto: udp, dport: {METER}}}]{sla}}}
        video: {{tier: priority, guarantee: 3mbit, match: [{{proto: udp, dport: {VIDEO}}}]}}
        loud: {{tier: special, guarantee: 10mbit, limit: 20mbit, match: [{{proto: udp, dport: {LOUD}}}]}}
        rest: {{default: true}}
    """)
    with tap.listening():
        together(
            lambda: send(tap, LOUD, count=8000, size=FULL, gap=0.0005),
            lambda: send(tap, VIDEO, count=950, size=FULL, gap=0.0041),
            lambda: bursts(tap, METER, count=39, gap=0.1),
        )
    found = tap.delays(METER)
    assert len(found) == 39 * BURST
    return max(found)


def test_hfsc_keeps_a_delay_that_the_rate_alone_would_not(tap: Tap, tmp_path: Path) -> None:
    largest = delays_beside_a_flood(tap, tmp_path, ", sla: {delay-p99: 10ms}")
    bound = 0.010 + FRAME * 8 / LINK
    print(f"hfsc: largest delay {largest * 1000:.3f} ms, dmax + L/C {bound * 1000:.3f} ms")
    assert largest <= bound


def test_hfsc_without_a_delay_to_keep_serves_at_the_rate(tap: Tap, tmp_path: Path) -> None:
    largest = delays_beside_a_flood(tap, tmp_path, "")
    print(f"hfsc: largest delay {largest * 1000:.3f} ms of a burst that takes {FRAME * 8 / 128:.3f} ms at its rate")
    assert 0.020 < largest <= FRAME * 8 / 128_000 + FRAME * 8 / LINK


class Counter:
    """The datagrams that arrive at a port of the other end, by their DSCP."""

    def __init__(self, tap: Tap, port: int) -> None:
        self.seen: collections.Counter[int] = collections.Counter()
        self._sock = tap.lab.inside(lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM), peer=True)
        self._sock.setsockopt(socket.IPPROTO_IP, socket.IP_RECVTOS, 1)
        self._sock.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, 1 << 25)  # they are all read at the end
        self._sock.settimeout(0)
        self._sock.bind((tap.pair.b_v4, port))

    def read(self) -> collections.Counter[int]:
        """All that came."""
        with self._sock, contextlib.suppress(BlockingIOError):
            while True:
                _, ancillary, *_ = self._sock.recvmsg(2048, 64)
                self.seen[ancillary[0][2][0] >> 2] += 1
        return self.seen


def flood(tap: Tap, port: int, *, dscp: int, count: int, gap: float) -> None:
    """As `send`, with a DSCP."""
    with tap.lab.inside(lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) as sock:
        sock.setsockopt(socket.IPPROTO_IP, socket.IP_TOS, dscp << 2)
        sock.setsockopt(socket.SOL_SOCKET, _SO_SNDBUFFORCE, 1 << 23)
        began = time.monotonic()
        for number in range(count):
            sock.sendto(bytes(FULL), (tap.pair.b_v4, port))
            time.sleep(max(0.0, began + (number + 1) * gap - time.monotonic()))


CAKE = """
    voice: {tier: special, guarantee: 25%, match: [{dscp: [cs4, cs5, va, ef, cs6, cs7]}]}
    video: {tier: priority, guarantee: 50%, match: [{dscp: [4, cs2, 18, 20, 22, cs3, 26, 28, 30, 34, 36, 38]}]}
    bulk: {guarantee: 6.25%, match: [{dscp: [le, cs1]}]}
    rest: {guarantee: 17%, default: true}
"""
CAKES_DSCP = {"voice": 46, "video": 34, "bulk": 8, "rest": 0}


def test_cakes_packets_per_tin_are_the_receivers_by_dscp_and_each_tin_has_what_it_is_sure_of(
    tap: Tap, tmp_path: Path
) -> None:
    bench = Bench(tap.lab, tap.pair.a, tmp_path, backend="cake")
    bench.apply(CAKE)
    tap.lab.run(f"sh -c 'echo 1 > /proc/sys/net/ipv6/conf/{tap.pair.a}/disable_ipv6'")  # it solicits routers
    receiver, kernel = Counter(tap, VIDEO), tap.lab.kernel()
    handles = {"bulk": 1, "rest": 2, "voice": 4, "video": 3}

    def counted() -> dict[str, tuple[int, int, int]]:
        found = kernel.counters(tap.pair.a).classes
        classes = {path: found[0x5A000000 | number] for path, number in handles.items()}
        return {path: (one.sent_packets, one.drops, one.sent_bytes) for path, one in classes.items()}

    before = counted()
    held: dict[str, dict[str, tuple[int, int, int]]] = {}

    def look() -> None:
        for name, wait in (("early", 1.0), ("late", 2.0)):
            time.sleep(wait)
            held[name] = counted()

    together(
        look,
        *(
            lambda dscp=dscp: flood(tap, VIDEO, dscp=dscp, count=3500, gap=0.001)  # type: ignore[misc]
            for dscp in CAKES_DSCP.values()
        ),
    )
    time.sleep(3.0)  # it drains
    after, seen = counted(), receiver.read()
    sent = {path: after[path][0] - before[path][0] for path in handles}
    drops = {path: after[path][1] - before[path][1] for path in handles}
    rates = {path: (held["late"][path][2] - held["early"][path][2]) * 8 / 2.0 for path in handles}
    print(f"cake: packets by tin {sent}, received by dscp {dict(seen)}, drops {drops}")
    print("cake: mbit/s under four floods", {path: round(rate / 1e6, 3) for path, rate in rates.items()})
    assert min(drops.values()) > 100
    for path, dscp in CAKES_DSCP.items():
        assert sent[path] == seen[dscp], path
        assert sent[path] + drops[path] == 3500
    for path, sure in (("voice", 1 / 4), ("video", 1 / 2), ("bulk", 1 / 16), ("rest", 3 / 16)):
        assert rates[path] >= 0.97 * sure * LINK, path


def below_a_slow_root(tap: Tap, backend: str, classes: str) -> dict[str, int]:
    """The compiled tree under an HTB class of the link's rate, since a veth never makes wait; its handles by path."""
    device, kernel = tap.pair.a, tap.lab.kernel()
    head = f"{{device: {device}, bandwidth: {{egress: 20mbit}}, policy: p, backend: {backend}}}"
    text = f"version: 1\ninterfaces:\n  wan: {head}\npolicies:\n  p:\n    classes:\n{classes}"
    interface = parse_policy(text, source="p.yaml").interfaces[0]
    program = compile_interface(interface, kernel.capabilities(), kernel.link(device), tap=False)
    tap.lab.run(f"tc qdisc add dev {device} root handle 1: htb default 1")
    tap.lab.run(f"tc class add dev {device} parent 1: classid 1:1 htb rate 20mbit burst 2500 cburst 2500")
    root = program.tree.root()
    nodes = [replace(root, parent=0x10001) if node == root and root else node for node in program.tree.nodes()]
    kernel.send(device, [Step(Verb.ADD, None, node) for node in nodes])
    return dict(program.handles)


@pytest.mark.parametrize("backend", ["ets", "prio"])
def test_a_strict_band_is_served_before_all_below_and_the_rest_by_turns(tap: Tap, backend: str) -> None:
    first, second = ("share: 75%, ", "share: 25%, ") if backend == "ets" else ("tier: priority, ", "")
    handles = below_a_slow_root(
        tap,
        backend,
        f"""
      voice: {{tier: special, match: [{{proto: udp, dport: {METER}}}]}}
      web: {{{first}match: [{{proto: udp, dport: {VIDEO}}}]}}
      rest: {{{second}default: true}}
""",
    )
    kernel, held = tap.lab.kernel(), []

    def look() -> None:
        for wait in (0.2, 1.5):
            time.sleep(wait)
            found = kernel.counters(tap.pair.a).classes
            held.append({path: found[number].sent_bytes for path, number in handles.items()})

    together(
        look,
        lambda: send(tap, METER, count=2000, size=FULL, gap=0.001),
        lambda: send(tap, VIDEO, count=4000, size=FULL, gap=0.0005),
        lambda: send(tap, LOUD, count=4000, size=FULL, gap=0.0005),
    )
    rates = {path: (held[1][path] - held[0][path]) * 8 / 1.5 for path in handles}
    print(
        f"{backend}: mbit/s of 12.1, 24.2 and 24.2 offered:",
        {path: round(rate / 1e6, 3) for path, rate in rates.items()},
    )
    assert rates["voice"] == pytest.approx(FRAME * 8 / 0.001, rel=0.01)  # all that it offers
    assert sum(rates.values()) == pytest.approx(LINK, rel=0.01)
    if backend == "prio":
        assert rates["rest"] == 0
    else:
        assert rates["web"] / rates["rest"] == pytest.approx(3.0, rel=0.02)
