"""On a router that masquerades packets go to the class that their addresses before the translation name.

`scripts/bench classify --nat` runs it at full size, and with other seeds.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import replace

import pytest
from agreement import Totals
from conftest import Lab
from masquerade import Router, between_hosts, gives_marks, masqueraded, masquerading, turned
from scapy.layers.inet import IP, UDP
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import Ether
from scapy.packet import Raw

from shaper.policy import parse_policy

pytestmark = pytest.mark.kernel
POLICIES, PACKETS = 15, 20


@pytest.fixture
def router(netns: Lab) -> Iterator[Router]:
    if shutil.which("nft") is None:
        pytest.skip("missing capability: nft")
    with masquerading(netns) as made:
        yield made


def test_packets_are_known_by_what_they_are_inside(router: Router) -> None:
    """Where the kernel has ctinfo or connmark their answers, too."""
    totals = all_of(router)
    assert not totals.differences, "\n".join([str(totals), *totals.differences[:10]])
    assert totals.answers == (totals.packets if gives_marks(router.kernel) else 0)
    assert totals.by_rule > (totals.packets + totals.answers) / 4


@pytest.mark.full
def test_a_kernel_without_ctinfo_tells_answers_apart_by_connmark(netns: Lab) -> None:
    able = netns.kernel().capabilities()
    able = replace(able, actions=able.actions - {"ctinfo"})
    with masquerading(netns, known=able) as router:
        *_, totals = masqueraded(router, range(4), PACKETS)
        print(totals)
        assert not totals.differences, "\n".join([str(totals), *totals.differences[:10]])
        assert totals.answers == totals.packets == 4 * PACKETS
        shown = netns.run("tc filter show dev wan0 ingress")
        assert "connmark" in shown
        assert "ctinfo" not in shown


def test_without_the_marks_the_same_packets_go_elsewhere(router: Router) -> None:
    totals = all_of(router, nat="no")
    assert len(totals.differences) > totals.packets / 100


RESTORING = """\
version: 1
interfaces:
  wan:
    device: wan0
    bandwidth: {egress: 1gbit, ingress: 1gbit}
    policy: office
    connection: {restore-dscp: true}
policies:
  office:
    classes:
      voice: {match: [{dscp: ef, src: 10.0.0.0/16}, {dscp: ef, src: "2001:db8::/64"}]}
      rest: {default: true}
"""


@pytest.mark.full
@pytest.mark.parametrize(("source", "target"), [("10.0.0.1", "198.51.100.7"), ("2001:db8::1", "2001:db8:fffe::7")])
def test_an_answer_gets_the_dscp_that_its_connection_went_out_with(router: Router, source: str, target: str) -> None:
    programs = [router.obey(interface) for interface in parse_policy(RESTORING, source="office.yaml").interfaces]
    ip = (IPv6 if ":" in source else IP)(src=source, dst=target)
    for dscp in (46, 10, 0, 46):
        ip.setfieldval("tc" if ":" in source else "tos", dscp << 2 | 1)
        before = router.counts(programs[1])
        arrived = Ether(turned(router.send(between_hosts(ip / UDP(sport=5000, dport=5060) / Raw(bytes(20))))))
        answer = arrived[IPv6 if ":" in source else IP]
        answer.setfieldval("tc" if ":" in source else "tos", 2)
        if ":" not in source:
            del answer.chksum
        delivered = Ether(router.delivered(bytes(arrived)))[IPv6 if ":" in source else IP]
        assert delivered.dst == source
        assert delivered.getfieldval("tc" if ":" in source else "tos") == dscp << 2 | 2
        moved = {path for path, count in router.counts(programs[1]).items() if count != before[path]}
        assert moved == {"voice" if dscp == 46 else "rest"}


def all_of(router: Router, *, nat: str = "auto") -> Totals:
    *_, totals = masqueraded(router, range(POLICIES), PACKETS, nat=nat)
    print(totals)
    assert totals.policies == POLICIES
    assert totals.packets == POLICIES * PACKETS
    assert totals.translated == totals.packets
    assert totals.moved_ports > 10
    return totals
