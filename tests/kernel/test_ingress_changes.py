"""Changes of both directions on a real kernel: confirmed, rolled back, planned in a file, by hand and inside a run."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from test_ingress import SHAPER, Site, ended, running

pytestmark = pytest.mark.kernel

BOTH, OUT, IN = "egress: 20mbit, ingress: 8mbit", "egress: 20mbit", "ingress: 8mbit"


class Shapes(Site):
    """A site of which one can ask what is shaped there."""

    def shaped(self) -> str:
        """Such as `egress ingress`; a ping must come back whatever it is."""
        self.lab.run(f"ping -c 1 -W 2 {self.pair.b_v4}")
        there = {
            "egress": "htb" in self.lab.run(f"tc qdisc show dev {self.pair.a}"),
            "ingress": f"shi-{self.pair.a}" in self.lab.run("ip -br link"),
        }
        return " ".join(way for way, here in there.items() if here)

    def shaper_alone(self, command: str) -> tuple[int, str]:
        """A command without a state folder: its exit code and what it printed."""
        argv = f"ip netns exec {self.lab.name} {SHAPER} {command}".split()
        done = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False)
        return done.returncode, done.stdout

    def do(self, command: str, code: int = 0) -> str:
        found, text = self.shaper(command)
        assert found == code, text
        return text

    def apply(self, bandwidth: str, *options: str) -> dict[str, Any]:
        self.bandwidth(bandwidth)
        data: dict[str, Any] = json.loads(self.do(f"apply {self.policy} --json {' '.join(options)}"))
        return data

    def until(self, condition: Callable[[], bool], seconds: float = 20.0) -> None:
        limit = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < limit
            time.sleep(0.1)


@pytest.fixture
def site(netns: Any, tmp_path: Path) -> Iterator[Shapes]:
    yield Shapes(netns, tmp_path)


@pytest.mark.parametrize("first", [BOTH, OUT, IN])
@pytest.mark.parametrize("then", [BOTH, OUT, IN])
def test_what_nobody_confirms_comes_back_in_both_directions(site: Shapes, first: str, then: str) -> None:
    site.apply(first)
    before = site.shaped()
    (site.policy.parent / "other").write_text("")
    data = site.apply(then.replace("8mbit", "7mbit").replace("20mbit", "19mbit"), "--confirm", "3s")
    ident = data["confirmation"]["id"]
    assert site.shaped() == " ".join(way for way in ("egress", "ingress") if way in then)
    site.do(f"apply {site.policy}", code=75)
    site.until(lambda: "waits" not in site.shaper("history")[1] and site.shaped() == before)
    site.bandwidth(first)
    site.do(f"plan {site.policy}")
    site.do(f"confirm {ident}", code=69)
    site.do("clear")
    assert site.bare()


def test_a_confirmation_keeps_both_and_a_rollback_goes_back_and_forth(site: Shapes) -> None:
    site.apply(OUT)
    ident = site.apply(BOTH, "--confirm", "60s")["confirmation"]["id"]
    site.do(f"extend {ident} 60s")
    site.do(f"confirm {ident}")
    assert site.shaped() == "egress ingress"
    site.do("rollback")
    assert site.shaped() == "egress"
    site.do("rollback")
    assert site.shaped() == "egress ingress"
    site.apply(IN)
    assert site.shaped() == "ingress"
    site.do("rollback")
    assert site.shaped() == "egress ingress"
    titles = site.do("history").splitlines()
    assert any("(ingress)" in line for line in titles)
    assert "ingress" in site.do("history show 1 --direction ingress")


def test_inside_a_run_changes_wait_and_go_back_in_both_directions(site: Shapes) -> None:
    site.bandwidth(BOTH)
    run = running(site)
    ident = site.apply(BOTH.replace("8mbit", "7mbit"), "--confirm", "60s")["confirmation"]["id"]
    statuses = json.loads(site.shaper("status --json")[1])["interfaces"]
    assert [one["confirmation"]["id"] for one in statuses] == [ident, ident]
    site.do("rollback")
    statuses = json.loads(site.shaper("status --json")[1])["interfaces"]
    assert [(one["direction"], one["bandwidth_bit_s"]) for one in statuses] == [
        ("egress", 20_000_000),
        ("ingress", 8_000_000),
    ]
    site.bandwidth(OUT)
    assert "cannot let a direction" in site.do(f"apply {site.policy} --confirm 60s", code=69)
    site.do(f"apply {site.policy}")
    assert site.shaped() == "egress"
    site.do("rollback")
    assert site.shaped() == "egress ingress"
    site.until(lambda: len(json.loads(site.shaper("status --json")[1])["interfaces"]) == 2)
    ended(run)
    site.do("clear")
    assert site.bare()


def test_the_exported_commands_make_what_an_apply_makes(site: Shapes) -> None:
    """The shared hook is made once, and what comes in is redirected last."""
    site.bandwidth(BOTH)
    found, script = site.shaper_alone(f"export tc {site.policy} --here")
    assert found == 0
    assert script.count("clsact") == 1
    assert "redirect" in script.splitlines()[-1]
    (site.folder / "made.sh").write_text(script)
    site.lab.run(f"sh {site.folder / 'made.sh'}")
    assert site.shaped() == "egress ingress"


def test_a_saved_plan_covers_both_directions(site: Shapes) -> None:
    plan, caps, tree = (site.folder / name for name in ("plan.json", "caps.json", "tree.json"))
    site.bandwidth(BOTH)
    site.do(f"plan {site.policy} -o {plan}", code=2)
    site.do(f"apply {plan}")
    assert site.shaped() == "egress ingress"
    site.bandwidth(OUT)
    site.do(f"plan {site.policy} -o {plan}", code=2)
    site.do(f"apply {plan}")
    assert site.shaped() == "egress"
    site.do(f"apply {plan}", code=75)
    site.apply(BOTH)
    tree.write_text(site.do(f"plan {site.policy} --json"))
    caps.write_text(site.do("doctor --json"))
    site.do("clear")
    site.do(f"plan {site.policy} --capabilities {caps} --against {tree}")
