"""nftables as nft shows it: our table says what was meant, and rules of others that translate are found."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from conftest import Lab

from shaper.compile import compile_interface
from shaper.kernel.protocol import StepError
from shaper.model.policy import Direction
from shaper.plan.mark_words import nft_lines
from shaper.plan.steps import Step, Verb
from shaper.policy import parse_policy
from shaper.tree import MarkSet, MarkTable, tree

pytestmark = [
    pytest.mark.kernel,
    pytest.mark.skipif(shutil.which("nft") is None, reason="missing capability: nft"),
]
POLICY = """\
version: 1
interfaces:
  wan:
    device: eth1
    bandwidth: {egress: 20mbit, ingress: 20mbit}
    policy: office
    nat: yes
    connection: {restore-dscp: true}
policies:
  office:
    classes:
      hosts: {match: [{src: [10.0.0.0/24, 10.0.0.7, "fd00::/64", "::/1"]}, {sport: [80, 1000-2000, 65535]}]}
      rest: {default: true}
"""
OTHERS = """\
table ip nat {
  chain elsewhere {
    type nat hook postrouting priority 100
    oifname != "eth1" masquerade
    oifname "eth2" masquerade
    oifname "eth1" jump hosts
  }
  chain hosts {
    ip saddr 10.0.0.0/8 %s
  }
  chain in {
    type nat hook prerouting priority -100
    dnat to 10.0.0.1
  }
}
"""


def tables(netns: Lab) -> dict[Direction, MarkTable]:
    """What an apply would make of the policy here."""
    able = netns.kernel().capabilities()
    if "ctinfo" not in able.actions:  # the table itself needs none
        able = type(able)(able.kernel, able.qdiscs, able.filters, able.actions | {"ctinfo"}, able.links, able.features)
    netns.run("ip link add eth1 type veth peer name far")
    link = netns.kernel().link("eth1")
    interfaces = parse_policy(POLICY, source="office.yaml").interfaces
    return {one.direction: compile_interface(one, able, link).tree.tables[0] for one in interfaces}


def listed(netns: Lab, name: str) -> dict[str, list[dict[str, Any]]]:
    """Sets, chains and rules as `nft -j` prints them."""
    found: dict[str, list[dict[str, Any]]] = {"set": [], "chain": [], "rule": []}
    for one in json.loads(netns.run(f"nft -j list table inet {name}"))["nftables"]:
        for kind, held in one.items():
            found.setdefault(kind, []).append(held)
    return found


@pytest.mark.parametrize("way", list(Direction))
def test_the_table_comes_back_and_nft_reads_it_as_meant(netns: Lab, way: Direction, tmp_path: Path) -> None:
    table = tables(netns)[way]
    kernel = netns.kernel()
    kernel.send("eth1", [Step(Verb.ADD, None, table)])
    device = table.name.removeprefix("sla-shaper-")
    assert kernel.tables(device) == (table,)
    found = listed(netns, table.name)
    assert [one["name"] for one in found["set"]] == [held.name for held in table.sets]
    assert len(found["rule"]) == sum(len(chain.rules) for chain in table.chains)
    hooks = {one["name"]: (one["hook"], one["prio"], one["policy"]) for one in found["chain"]}
    assert hooks["leaving"] == ("postrouting", 90, "accept")
    shown = netns.run(f"nft list table inet {table.name}")
    kernel.send("eth1", [Step(Verb.DELETE, table, None)])
    assert kernel.tables(device) == ()
    script = tmp_path / "table.nft"
    script.write_text("\n".join(nft_lines(table)))
    netns.run(f"nft -f {script}")
    assert netns.run(f"nft list table inet {table.name}") == shown


def test_every_change_of_the_table_by_somebody_else_is_seen(netns: Lab) -> None:
    table = tables(netns)[Direction.EGRESS]
    kernel = netns.kernel()
    kernel.send("eth1", [Step(Verb.ADD, None, table)])
    others = (
        "add rule inet %s leaving counter",
        "insert rule inet %s leaving oifname eth1 drop",
        "add element inet %s ports-1 { 7 }",
        "delete element inet %s ports-1 { 80 }",
        "add chain inet %s more { type filter hook input priority 0 ; }",
        "add set inet %s more { type mark ; }",
        "flush chain inet %s leaving",
    )
    for command in others:
        netns.run(f"nft {command.replace('%s', table.name)}")
        (found,) = kernel.tables("eth1")
        assert found != table, command
        kernel.send("eth1", [Step(Verb.CHANGE, found, table)])
        assert kernel.tables("eth1") == (table,)
    netns.run("nft add table inet sla-shaper-eth2")
    netns.run("nft add table ip sla-shaper-eth1")
    kernel.send("eth1", [Step(Verb.DELETE, table, None)])
    left = netns.run("nft list tables").splitlines()
    assert sorted(left) == ["table inet sla-shaper-eth2", "table ip sla-shaper-eth1"]


def test_a_refused_change_leaves_the_table_as_it_was(netns: Lab) -> None:
    table = tables(netns)[Direction.EGRESS]
    kernel = netns.kernel()
    with pytest.raises(StepError, match="No such file"):
        kernel.send("eth1", [Step(Verb.DELETE, table, None)])
    kernel.send("eth1", [Step(Verb.ADD, None, table)])
    with pytest.raises(StepError, match="File exists"):
        kernel.send("eth1", [Step(Verb.ADD, None, table)])
    broken = MarkTable(table.name, table.sets[:1], table.chains)  # its rules ask for sets that are not there
    with pytest.raises(StepError, match="No such file"):
        kernel.send("eth1", [Step(Verb.CHANGE, table, broken)])
    assert kernel.tables("eth1") == (table,)
    assert tree("eth1", kernel.tables("eth1")).nodes() == (table,)


@pytest.mark.parametrize(
    ("act", "said"),
    [
        ("masquerade", "masquerades"),
        ("snat to 192.0.2.1", "translates sources"),
        ("counter accept", ""),
    ],
)
def test_rules_that_translate_are_found(netns: Lab, act: str, said: str, tmp_path: Path) -> None:
    for device in ("eth1", "eth2", "eth3"):
        netns.run(f"ip link add {device} type veth peer name far-{device}")
    kernel = netns.kernel()
    assert kernel.link("eth1").translates == ""
    script = tmp_path / "others.nft"
    script.write_text(OTHERS % act)
    netns.run(f"nft -f {script}")
    where = f"chain elsewhere of table ip nat {said}" if said else ""
    assert kernel.link("eth1").translates == where
    assert kernel.link("eth2").translates == "chain elsewhere of table ip nat masquerades"
    netns.run("nft delete table ip nat")
    assert kernel.link("eth1").translates == kernel.link("eth2").translates == ""


def test_a_table_with_many_networks(netns: Lab) -> None:
    """More than one message holds."""
    ranges = tuple((number << 8, (number << 8) + number % 200) for number in range(10_000))
    table = MarkTable("sla-shaper-eth1", (MarkSet("ip4-0", 32, ranges),), ())
    kernel = netns.kernel()
    kernel.send("eth1", [Step(Verb.ADD, None, table)])
    assert kernel.tables("eth1") == (table,)
