"""Fairness among hosts in virtual time, by what arrives: a host with eight flows beside a host with one."""

from __future__ import annotations

import collections
import contextlib
import socket
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from backend_bench import Bench

if TYPE_CHECKING:
    from conftest import Lab, LinkPair

pytestmark = pytest.mark.virtual

FLOWS = 8
SECONDS, WARM_UP = 2.0, 1.2
PAYLOAD = 958
"""Frames of 1000 bytes."""
ROUNDS = 220
"""A second: each flow offers 1.76 Mbit/s of a link of 2."""
CAKE = "aqm: {kind: cake, limit: 1mb}, fairness: dual-srchost"
"""With room for nine flows: in the few packets that 2 Mbit/s are sized for, drops come between (54 to 46)."""


def sources(pair: LinkPair, *, version: int) -> tuple[str, str, str, socket.AddressFamily]:
    """Two hosts behind the queue, and where they send to."""
    if version == 4:
        return pair.a_v4, pair.a_v4.rpartition(".")[0] + ".77", pair.b_v4, socket.AF_INET
    return pair.a_v6, pair.a_v6.rpartition(":")[0] + ":77", pair.b_v6, socket.AF_INET6


def arrived(lab: Lab, pair: LinkPair, *, version: int = 4) -> dict[str, int]:
    """Datagrams by host, after the queue has filled: of the one with eight flows ("many") and of the other ("one")."""
    many, one, to, family = sources(pair, version=version)
    length = 24 if version == 4 else 64
    lab.run(f"ip addr add {one}/{length} dev {pair.a}" + (" nodad" if version == 6 else ""))
    with contextlib.ExitStack() as stack:

        def opened(address: str, port: int, *, peer: bool = False) -> socket.socket:
            sock = lab.inside(lambda: socket.socket(family, socket.SOCK_DGRAM), peer=peer)
            stack.enter_context(sock)
            sock.setblocking(False)
            sock.bind((address, port))
            return sock

        receiver = opened(to, 9999, peer=True)
        receiver.setsockopt(socket.SOL_SOCKET, 33, 1 << 24)
        flows = [opened(many, 4000 + number) for number in range(FLOWS)] + [opened(one, 4000)]
        seen = collections.Counter({"many": 0, "one": 0})
        began = time.monotonic()
        number = 0
        while (passed := time.monotonic() - began) < WARM_UP + SECONDS:
            if passed * ROUNDS < number:
                time.sleep(0.001)
            else:
                number += 1
                for sock in flows:
                    with contextlib.suppress(BlockingIOError):
                        sock.sendto(bytes(PAYLOAD), (to, 9999))
            with contextlib.suppress(BlockingIOError):
                while True:
                    _, source = receiver.recvfrom(2048)
                    if passed > WARM_UP:
                        seen["one" if source[0] == one else "many"] += 1
    lab.run(f"ip addr del {one}/{length} dev {pair.a}")
    return dict(seen)


@pytest.mark.parametrize(
    ("queue", "version", "kind"),
    [
        (CAKE, 4, "cake"),
        (CAKE, 6, "cake"),
        ("aqm: fq_codel, fairness: srchost", 4, "fq_codel"),
        ("aqm: fq_codel, fairness: srchost", 6, "fq_codel"),
        ("aqm: {kind: sfq, limit: 120}, fairness: srchost", 4, "sfq"),
    ],
)
def test_two_hosts_get_the_same_however_many_flows_they_have(
    netns: Lab, tmp_path: Path, queue: str, version: int, kind: str
) -> None:
    pair = netns.link_pair()
    bench = Bench(netns, pair.a, tmp_path, backend="htb", bandwidth="2mbit")
    bench.apply(f"all: {{{queue}, default: true}}")
    assert f"qdisc {kind}" in bench.tc("qdisc")
    assert bench.apply(f"all: {{{queue}, default: true}}") == []
    found = arrived(netns, pair, version=version)
    total = sum(found.values())
    print(f"{queue}, IPv{version}: {found}")
    assert total * (PAYLOAD + 42) * 8 > 0.8 * 2_000_000 * SECONDS
    assert found["one"] == pytest.approx(total / 2, rel=0.1)
    assert found["many"] == pytest.approx(total / 2, rel=0.1)


@pytest.mark.parametrize("queue", ["aqm: fq_codel", "aqm: cake", "fairness: flows", "aqm: {kind: sfq, limit: 120}"])
def test_without_it_who_has_more_flows_gets_more(netns: Lab, tmp_path: Path, queue: str) -> None:
    pair = netns.link_pair()
    bench = Bench(netns, pair.a, tmp_path, backend="htb", bandwidth="2mbit")
    bench.apply(f"all: {{{queue}, default: true}}")
    found = arrived(netns, pair)
    print(f"{queue}: {found}")
    assert found["many"] > 3 * found["one"]
