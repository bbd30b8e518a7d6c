"""The device that a packet came in by, by extended BPF and by flower: what is forwarded, and what is made here."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from collectors.bpf import lookup
from shaper.model.match import NETWORK_CONTROL
from shaper.plan.steps import Plan, Verb
from shaper.policy import parse_policy
from shaper.run import apply
from shaper.run.look import look
from shaper.run.state import DeviceState
from shaper.tree import FlowerFilter, LoadedFilter

pytestmark = pytest.mark.kernel

POLICY = """\
version: 1
interfaces:
  wan: {device: a1, bandwidth: {egress: 20mbit}, policy: office, classifier: auto}
policies:
  office:
    classes:
      guests: {guarantee: 1mbit, match: [{iif: a2}]}
      cameras: {guarantee: 1mbit, match: [{iif: [a3, a9], proto: [udp, icmp, icmpv6]}]}
      rest: {guarantee: 10mbit, default: true}
"""


class Router:
    """`a1` leads to the world; `a2` and `a3` have hosts behind them that send by way of it."""

    def __init__(self, lab: Any, folder: Path, classifier: str) -> None:
        self.lab, self.classifier = lab, classifier
        self.world, self.guests, self.cameras = lab.link_pair(), lab.link_pair(), lab.link_pair()
        lab.run("sysctl -q -w net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1")
        self.kernel, self.state = lab.kernel(), DeviceState(folder, "a1", namespace="test")
        self.notes: tuple[str, ...] = ()

    def apply(self) -> Plan:
        policy = parse_policy(POLICY.replace("auto", self.classifier), source="office.yaml")
        prepared = apply.prepare(self.kernel, self.state, policy, policy.interfaces[0])
        apply.apply(self.kernel, self.state, prepared)
        self.notes, self.handles = prepared.program.notes, prepared.program.handles
        return prepared.plan

    def moved(self, send: str, *, here: bool = False) -> set[str]:
        """The classes that count packets while something is sent from behind the router, or by it; who asks for a
        neighbour besides is not meant."""
        before = self.kernel.counters("a1").classes
        self.lab.run(send, peer=not here, check=False)
        after = self.kernel.counters("a1").classes
        paths = {handle: path for path, handle in self.handles.items()}
        counted = {paths[one] for one in after if after[one].sent_packets - before[one].sent_packets >= 3}
        return counted - {NETWORK_CONTROL}


@pytest.fixture(params=["auto", pytest.param("flower", marks=pytest.mark.full)])
def router(request: pytest.FixtureRequest, netns: Any, tmp_path: Path) -> Router:
    if request.param == "auto" and (why := lookup.refusal()):
        pytest.skip(f"missing capability: eBPF ({why})")
    return Router(netns, tmp_path, request.param)


def test_forwarded_packets_are_told_apart_by_where_they_came_in(router: Router) -> None:
    lab = router.lab
    router.apply()
    filters = [one for one in router.kernel.read("a1").filters if one.parent == 0x5A000000]
    assert filters
    wanted = FlowerFilter if router.classifier == "flower" else LoadedFilter
    assert all(isinstance(one, wanted) for one in filters)
    # The far ends of all cables are in one namespace: a packet goes out by the cable that it is told to.
    for number, pair in enumerate((router.guests, router.cameras), 1):
        lab.run(f"ip route add 198.51.100.{number}/32 via {pair.a_v4}", peer=True)
        lab.run(f"ip -6 route add 2001:db8::{number}/128 via {pair.a_v6}", peer=True)
        lab.run(f"ip route add 198.51.100.{number}/32 via {router.world.b_v4}")
        lab.run(f"ip -6 route add 2001:db8::{number}/128 via {router.world.b_v6}")
    ping = "ping -q -c 4 -i 0.02 -W 0.1"
    lab.run(f"ping -q -c 1 -W 2 {router.world.b_v4}")
    lab.run(f"ping -q -c 1 -W 2 {router.world.b_v6}")
    assert router.moved(f"{ping} 198.51.100.1") == {"guests"}
    assert router.moved(f"{ping} 2001:db8::1") == {"guests"}
    assert router.moved(f"{ping} 198.51.100.2") == {"cameras"}
    assert router.moved(f"{ping} 2001:db8::2") == {"cameras"}
    assert router.moved(f"{ping} {router.world.b_v4}", here=True) == {"rest"}
    assert router.moved(f"{ping} {router.world.b_v6}", here=True) == {"rest"}


def test_a_device_that_goes_and_comes_back_is_known_again(router: Router) -> None:
    lab = router.lab
    router.apply()
    assert any("a9, which is not there" in note for note in router.notes)
    lab.run("ip link del a2")
    drift = look(router.kernel, router.state, now=0.0).drift
    kind = "flower" if router.classifier == "flower" else "bpf"
    assert any(f"filter {kind}" in line for line in drift), drift
    router.apply()
    assert not look(router.kernel, router.state, now=0.0).drift
    lab.run("ip link add a2 type veth peer name away")
    plan = router.apply()
    assert [step.verb for step in plan.steps] == [Verb.ADD if kind == "flower" else Verb.CHANGE]
    apply.clear(router.kernel, router.state)
    assert router.kernel.read("a1").root() is None
