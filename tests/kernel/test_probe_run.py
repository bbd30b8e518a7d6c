"""The probe of a class while `shaper run` is up: it takes the class's way, and judges only for want of own packets."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from test_cli_kernel import SHAPER, Box, end, send, until

from collectors.bpf.delays import refusal
from shaper.api.client import ask
from shaper.history.probes import ProbeRow
from shaper.history.store import History
from shaper.run.state import DeviceState

pytestmark = pytest.mark.kernel

EF = 46
POLICY = """\
version: 1
interfaces:
  wan: {{device: {device}, bandwidth: {{egress: 20mbit}}, policy: office}}
policies:
  office:
    classes:
      voice:
        tier: special
        guarantee: 1mbit
        limit: 2mbit
        match: [{{dscp: ef}}]
        sla: {{delay-p99: 20ms, loss: 1%}}
        probe: {{to: {to}, interval: 100ms, size: 172}}
      web: {{match: [{{proto: tcp, dport: 443}}], sla: {{loss: 1%}}, probe: {{to: {to}, kind: tcp, port: 443}}}}
      shop:
        match: [{{proto: tcp, dport: 80}}]
        sla: {{delay-p99: 20ms}}
        probe: {{to: {to}, kind: http, port: 80, interval: 200ms}}
      calls: {{match: [{{dscp: cs3}}], sla: {{delay-p99: 20ms}}, probe: {{to: {to}, kind: icmp, interval: 200ms}}}}
      mail: {{match: [{{dscp: cs2}}], sla: {{delay-p99: 20ms}}, probe: {{to: "{six}", kind: icmp, interval: 200ms}}}}
      rest: {{guarantee: 12mbit, default: true}}
"""


@pytest.fixture
def box(netns: Any, tmp_path: Path) -> Iterator[Box]:
    made = Box(netns, tmp_path)
    made.policy.write_text(POLICY.format(device=made.pair.a, to=made.pair.b_v4, six=made.pair.b_v6))
    yield made


def state_of(box: Box) -> DeviceState:
    """As a command inside the namespace would find it."""
    (record,) = box.state.rglob("record.json")
    namespace = record.relative_to(box.state).parts[0]
    return DeviceState(box.state, box.pair.a, namespace=namespace)


def cls(box: Box, path: str) -> dict[str, Any]:
    """A class as the running shaper sees it."""
    (status,) = ask(state_of(box), "status") or []
    (found,) = (one for one in status["classes"] if one["path"] == path)
    return dict(found)


def kept(box: Box) -> list[ProbeRow]:
    """What the history has of the class voice."""
    with History(state_of(box).history) as history:
        return [row for row in history.probes(device=box.pair.a, since=0) if row.path == "voice"]


@pytest.mark.parametrize("rung", ["ebpf", "capture"])
def test_an_idle_class_is_judged_by_its_probe_and_a_busy_one_by_its_packets(box: Box, rung: str) -> None:
    if rung == "ebpf" and (why := refusal()):
        pytest.skip(f"missing capability: eBPF ({why})")
    shop = box.lab.start(f"{sys.executable} -m http.server 80 --directory {box.policy.parent}", peer=True)
    until(lambda: ":80 " in box.lab.run("ss -Htln", peer=True))
    reflector = box.lab.start(f"{SHAPER} reflect", peer=True)
    assert reflector.stderr.readline().startswith("reflecting")
    process = box.start("--no-metrics", "--measure", rung)
    until(lambda: (cls(box, "voice")["probe"]["waited"] or {"count": 0})["count"] >= 30, seconds=30)
    voice = cls(box, "voice")
    probe = voice["probe"]
    assert (probe["resting"], probe["judges"], probe["lost_packets"], probe["says"]) == (False, True, 0, "")
    assert voice["sla"]["state"] == "met"
    assert voice["sent_packets"] >= probe["sent_packets"]  # it went by the class's own queue
    assert probe["round_trip"]["count"] >= 30
    # What the class's own packets waited is another source, and there are none.
    assert voice["delay"] is None
    assert voice["histogram"]["count"] == 0

    # Every packet of a connection is the probe's, the last ones too, which the kernel sends after its end.
    for path in ("shop", "calls", "mail"):
        until(lambda path=path: cls(box, path)["probe"]["sent_packets"] >= 10)  # type: ignore[misc]
        assert cls(box, path)["probe"]["lost_packets"] == 0
        assert (cls(box, path)["delay"], cls(box, path)["histogram"]["count"]) == (None, 0), path
    (status,) = ask(state_of(box), "status") or []
    assert (status["capture"]["rung"], status["capture"]["running"]) == (rung, True)

    until(lambda: bool(cls(box, "web")["probe"]["says"]))
    web = cls(box, "web")
    assert web["probe"]["lost_packets"] > 0
    assert web["probe"]["says"] == "Connection refused"
    assert (web["probe"]["idle"], web["probe"]["judges"]) == (True, False)
    assert web["sla"]["state"] == "no data"  # what was refused at the far end says nothing of this hop

    sender = send(box, rate=500_000, seconds=25, dscp=EF)
    until(lambda: cls(box, "voice")["probe"]["resting"], seconds=20)
    until(lambda: (cls(box, "voice")["delay"] or {"count": 0})["count"] > 0, seconds=20)
    busy = cls(box, "voice")
    assert not busy["probe"]["judges"]
    assert busy["sla"]["targets"][0]["samples"] == busy["delay"]["count"]
    # Both are in the history, once a second, and as rows of their own.
    until(lambda: [row.judges for row in kept(box)][-1:] == [False], seconds=20)
    assert any(row.judges and row.waited_count for row in kept(box))
    sender.kill()
    shop.kill()
    code, _, _ = end(process)
    assert code == 0


@pytest.mark.timing
def test_a_probe_waits_as_long_as_the_packets_beside_it(box: Box) -> None:
    """Two sources of one delay, in a FIFO that is sent twice its limit: the capture, and the kernel's stamps."""
    text = box.policy.read_text()
    box.policy.write_text(
        text.replace("interval: 100ms, size: 172}", "interval: 20ms, when: always}\n        aqm: fifo")
    )
    reflector = box.lab.start(f"{SHAPER} reflect", peer=True)
    assert reflector.stderr.readline().startswith("reflecting")
    process = box.start("--no-metrics", "--mode static")
    sender = send(box, rate=4_000_000, seconds=40, dscp=EF)

    def counted(view: dict[str, Any] | None) -> int:
        return view["count"] if view else 0

    def measured() -> bool:
        """Both at one moment: a capture may begin anew at any other."""
        seen.append(cls(box, "voice"))
        counts = [counted(view) for view in (seen[-1]["delay"], seen[-1]["probe"]["waited"])]
        return seen[-1]["dropped_packets"] > 300 and min(counts) >= 100

    seen: list[dict[str, Any]] = []
    until(measured, seconds=35)
    voice = seen[-1]
    sender.kill()
    waited, delay = (view["quantiles_s"]["0.5"] for view in (voice["probe"]["waited"], voice["delay"]))
    assert delay > 0.005  # there is a queue
    # A probe still fits into a full queue where a packet of 1042 bytes does not, and waits for one of those more.
    assert -0.002 < waited - delay < 1042 * 8 / 2_000_000 + 0.002
    probe = voice["probe"]
    assert (probe["idle"], probe["judges"]) == (False, False)
    # What the queue dropped of the probes is lost, and in the kernel's counter, too.
    assert probe["dropped_packets"] <= min(probe["lost_packets"], voice["dropped_packets"])
    assert end(process)[0] == 0
