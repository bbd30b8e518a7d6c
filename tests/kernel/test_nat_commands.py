"""The commands on a device that masquerades: what they say, what they make, and that it goes again."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from test_cli_kernel import Box

pytestmark = [
    pytest.mark.kernel,
    pytest.mark.skipif(shutil.which("nft") is None, reason="missing capability: nft"),
]
POLICY = """\
version: 1
interfaces:
  wan: {device: %s, bandwidth: {egress: 20mbit%s}, policy: office}
policies:
  office:
    classes:
      boss: {guarantee: 1mbit, match: [{src: 192.168.1.10}]}
      rest: {default: true}
"""
OTHERS = """\
table ip nat {
  chain leaving {
    type nat hook postrouting priority 100
    oifname "%s" masquerade
  }
}
"""


@pytest.fixture
def box(netns: Any, tmp_path: Path) -> Box:
    made = Box(netns, tmp_path)
    made.policy.write_text(POLICY % (made.pair.a, ""))
    script = tmp_path / "others.nft"
    script.write_text(OTHERS % made.pair.a)
    netns.run(f"nft -f {script}")
    return made


def test_a_policy_about_hosts_inside(box: Box) -> None:
    others, before = box.lab.run("nft list ruleset"), box.tc()
    name = f"sla-shaper-{box.pair.a}"
    code, out, err = box.shaper(f"plan {box.policy}")
    assert code == 2, err
    assert f"+ nftables table inet {name}: rules " in out
    said = " ".join(out.split())
    assert "note: chain leaving of table ip nat masquerades: addresses and ports inside are told by 0x00030000" in said
    assert box.shaper(f"apply {box.policy}")[0] == 0
    ours = box.lab.run(f"nft list table inet {name}")
    assert "192.168.1.10" in ours
    assert box.shaper(f"plan {box.policy}")[0] == 0
    box.lab.run(f"nft flush chain inet {name} leaving")
    _, out, _ = box.shaper("status --json")
    (found,) = json.loads(out)["interfaces"][0]["drift"]
    assert found.startswith(f"nftables table inet {name}: rules is 0 with ")
    assert box.shaper(f"apply {box.policy}")[0] == 0
    assert box.lab.run(f"nft list table inet {name}") == ours
    assert box.shaper(f"clear {box.policy}")[0] == 0
    assert box.lab.run("nft list ruleset") == others
    assert box.tc() == before


def test_rules_that_come_later_are_followed(box: Box) -> None:
    name = f"sla-shaper-{box.pair.a}"
    box.lab.run("nft flush chain ip nat leaving")
    assert box.shaper(f"apply {box.policy}")[0] == 0
    assert name not in box.lab.run("nft list tables")
    box.lab.run(f"nft add rule ip nat leaving oifname {box.pair.a} masquerade")
    code, out, _ = box.shaper(f"plan {box.policy}")
    assert code == 2
    assert name in out
    assert box.shaper(f"apply {box.policy}")[0] == 0
    assert box.shaper("rollback")[0] == 69  # there was no other policy
    assert name in box.lab.run("nft list tables")


def test_what_comes_in_is_refused_with_its_line_where_ctinfo_lacks(box: Box) -> None:
    box.policy.write_text(POLICY % (box.pair.a, ", ingress: 20mbit"))
    code, _, err = box.shaper(f"plan {box.policy}")
    if "ctinfo" in box.lab.kernel().capabilities().actions:
        assert code == 2, err
        return
    assert code == 69
    assert f"{box.policy}:7:40: error: wan (ingress): chain leaving of table ip nat masquerades" in err
    assert "lacks the ctinfo action" in err
    assert "mend: " in err


@pytest.mark.skipif(shutil.which("iptables-legacy") is None, reason="missing capability: iptables-legacy")
def test_masquerading_by_iptables_legacy_is_said_to_be_unread(box: Box) -> None:
    box.lab.run("nft flush ruleset")
    box.lab.run("iptables-legacy -t filter -L -n", check=False)
    said = " ".join(box.shaper(f"plan {box.policy}")[1].split())
    assert "iptables-legacy" not in said
    box.lab.run(f"iptables-legacy -t nat -A POSTROUTING -o {box.pair.a} -j MASQUERADE", check=False)
    if "MASQUERADE" not in box.lab.run("iptables-legacy -t nat -S", check=False):
        assert "iptables-legacy" not in " ".join(box.shaper(f"plan {box.policy}")[1].split())
        return  # this kernel has no such table, and so there is nothing to say of it
    said = " ".join(box.shaper(f"plan {box.policy}")[1].split())
    assert "warning: the nat table of iptables-legacy is in use" in said
    rows = json.loads(box.shaper("doctor --json")[1])["findings"]
    (row,) = (one for one in rows if one["name"] == "masquerading")
    assert "nat: yes" in row["instead"]
    box.policy.write_text(box.policy.read_text().replace("policy: office}", "policy: office, nat: yes}"))
    said = " ".join(box.shaper(f"plan {box.policy}")[1].split())
    assert "iptables-legacy" not in said
