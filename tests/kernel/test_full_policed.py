"""What comes in, policed on a kernel with policers: the receiver's account against theirs, to the packet."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from shaper.errors import Exit

if TYPE_CHECKING:
    from conftest import Lab

pytestmark = pytest.mark.full

SHAPER = Path(sys.executable).parent / "shaper"
HEADERS = 14 + 20 + 8
POLICY = """\
version: 1
interfaces:
  wan: {{device: {device}, bandwidth: {{{bandwidth}}}, {more}, policy: office}}
policies:
  office:
    classes:
      voice: {{tier: special, guarantee: 1mbit, limit: 2mbit, match: [{{proto: udp, dport: 5060}}]}}
      bulk: {{guarantee: 3mbit, match: [{{proto: udp, dport: 5070}}]}}
      marked:
        match: [{{proto: udp, dport: 5080}}]
        police: {{cir: 1mbit, cbs: 20kb, green: {{dscp: af11}}, red: {{dscp: af12}}}}
      rest: {{default: true}}
"""
PORTS = {"voice": 5060, "bulk": 5070, "marked": 5080, "rest": 5090}

# Offers frames of one size at a rate to several ports in turn, until the time is over; prints how many to each.
SENDER = """\
import json, socket, struct, sys, time
address, size, seconds, rates = sys.argv[1], int(sys.argv[2]), float(sys.argv[3]), json.loads(sys.argv[4])
version = socket.AF_INET6 if ":" in address else socket.AF_INET
socks = {}
for port in rates:
    socks[port] = socket.socket(version, socket.SOCK_DGRAM)
    socks[port].bind(("", int(port)))
sent, begin = dict.fromkeys(rates, 0), time.monotonic()
while (now := time.monotonic() - begin) < seconds:
    for port, rate in rates.items():
        while sent[port] * size * 8 / rate < now:
            socks[port].sendto(struct.pack("!I", sent[port]).ljust(size - 42, b"x"), (address, 40000 + int(port)))
            sent[port] += 1
    time.sleep(0.0005)
print(json.dumps(sent))
"""
# Counts what comes to each port, its layer-2 bytes between two moments, and the DSCPs.
RECEIVER = """\
import json, selectors, socket, sys, time
lead, end, quiet = map(float, sys.argv[2:5])
chosen, got, begun = selectors.DefaultSelector(), {}, None
for port in json.loads(sys.argv[1]):
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.setsockopt(socket.SOL_SOCKET, 33, 1 << 24)
    sock.setsockopt(socket.IPPROTO_IP, socket.IP_RECVTOS, 1)
    sock.bind(("", 40000 + port))
    chosen.register(sock, selectors.EVENT_READ, port)
    got[port] = {"packets": 0, "bytes": 0, "frames": 0, "dscps": {}}
print("ready", flush=True)
while ready := chosen.select(quiet if begun else 20):
    for key, _ in ready:
        data, control, _, _ = key.fileobj.recvmsg(2048, 64)
        begun = begun or time.monotonic()
        one, dscp = got[key.data], str(control[0][2][0] >> 2)
        one["packets"] += 1
        one["frames"] += len(data) + 42
        one["bytes"] += (len(data) + 42) * (lead <= time.monotonic() - begun < end)
        one["dscps"][dscp] = one["dscps"].get(dscp, 0) + 1
print(json.dumps(got))
"""


class Site:
    """A device whose incoming packets are policed, and who sends to it."""

    def __init__(self, lab: Lab, folder: Path) -> None:
        self.lab = lab
        self.folder = folder
        self.pair = lab.link_pair()
        self.policy = folder / "policy.yaml"
        self.says("ingress: 8mbit")
        for name, text in (("sender", SENDER), ("receiver", RECEIVER)):
            (folder / f"{name}.py").write_text(text)

    def says(self, bandwidth: str, more: str = "ingress: police", change: tuple[str, str] = ("", "")) -> None:
        text = POLICY.format(device=self.pair.a, bandwidth=bandwidth, more=more)
        self.policy.write_text(text.replace(*change) if change[0] else text)

    def shaper(self, command: str) -> tuple[int, Any]:
        """The exit code, and the JSON that it printed."""
        argv = f"ip netns exec {self.lab.name} {SHAPER} {command} --state {self.folder / 'state'} --json".split()
        done = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False)
        assert done.stdout, done.stderr
        return done.returncode, json.loads(done.stdout)

    def apply(self) -> None:
        code, answer = self.shaper(f"apply {self.policy}")
        assert code == 0, answer

    def status(self) -> dict[str, Any]:
        """Of what comes in; a shaper that runs on one busy core may ask to try again."""
        until = time.monotonic() + 60
        code, status = self.shaper("status")
        while code == Exit.TRY_AGAIN and time.monotonic() < until:
            code, status = self.shaper("status")
        assert "interfaces" in status, status
        (one,) = [one for one in status["interfaces"] if one["direction"] == "ingress"]
        found: dict[str, Any] = one
        return found

    def classes(self) -> dict[str, Any]:
        """By path, as `status` has them."""
        return {cls["path"]: cls for cls in self.status()["classes"]}

    def offer(self, seconds: float, lead: float, **rates: float) -> tuple[dict[str, int], dict[str, Any]]:
        """Packets sent to each class, and what came of them; bytes from `lead` seconds on."""
        ports = [PORTS[name] for name in rates]
        receiver = self._start("receiver", json.dumps(ports), lead, seconds - 0.2, 1.0, peer=False)
        assert receiver.stdout is not None
        assert receiver.stdout.readline() == "ready\n"
        asked = json.dumps({str(PORTS[name]): rate for name, rate in rates.items()})
        sent = json.loads(self._ended(self._start("sender", self.pair.a_v4, 1042, seconds, asked, peer=True)))
        got = json.loads(self._ended(receiver))
        names = {str(PORTS[name]): name for name in rates}
        return (
            {names[port]: count for port, count in sent.items()},
            {names[port]: one for port, one in got.items()},
        )

    def _start(self, name: str, *arguments: object, peer: bool) -> subprocess.Popen[str]:
        words = shlex.join(map(str, arguments))
        return self.lab.start(f"{sys.executable} {self.folder / name}.py {words}", peer=peer)

    def _ended(self, process: subprocess.Popen[str]) -> str:
        out, err = process.communicate(timeout=60)
        assert process.returncode == 0, err
        return out

    def found(self) -> str:
        """All that stands on the hook, and the devices."""
        shown = (f"tc qdisc show dev {self.pair.a}", f"tc filter show dev {self.pair.a} ingress", "ip -br link")
        return "\n".join(self.lab.run(one, check=False) for one in shown)


@pytest.fixture
def site(netns: Lab, tmp_path: Path) -> Site:
    return Site(netns, tmp_path)


@pytest.mark.parametrize("classifier", ["bpf", "flower"])
def test_the_policers_count_what_the_receiver_gets_and_keep_every_rate(site: Site, classifier: str) -> None:
    """8 Mbit/s, of which 80 kbit are network control's, 4 guaranteed, and 3.92 guaranteed to nobody."""
    seconds, lead = 5.0, 1.0
    site.says("ingress: 8mbit", f"ingress: police, classifier: {classifier}")
    site.apply()
    assert "shi-" not in site.lab.run("ip -br link"), "no ifb"
    sent, got = site.offer(seconds, lead, voice=4e6, bulk=8e6, rest=8e6)
    counted = site.classes()
    for name, count in sent.items():
        cls, came = counted[name], got[name]
        print(
            f"{classifier} {name}: sent {count}, came {came['packets']}, counted {cls['sent_packets']} passed and "
            f"{cls['dropped_packets']} dropped"
        )
        assert cls["sent_packets"] == came["packets"], name
        assert cls["dropped_packets"] == count - came["packets"], name
        assert cls["sent_bytes"] == came["frames"], name
    rates = {name: one["bytes"] * 8 / (seconds - 0.2 - lead) for name, one in got.items()}
    print({name: f"{rate / 1e6:.3f} Mbit/s" for name, rate in rates.items()}, f"{sum(rates.values()) / 1e6:.3f} in all")
    assert 1e6 * 0.98 <= rates["voice"] <= 2e6 * 1.02, "between its guarantee and its limit"
    assert rates["bulk"] >= 3e6 * 0.98, "its guarantee"
    assert sum(rates.values()) == pytest.approx(8e6 - 80e3, rel=0.02), "what network control is guaranteed is kept"


def test_a_limit_is_kept_and_colours_are_counted_and_a_change_keeps_the_counts(site: Site) -> None:
    seconds, lead = 4.0, 1.0
    site.apply()
    sent, got = site.offer(seconds, lead, voice=6e6, marked=2e6)
    rate = got["voice"]["bytes"] * 8 / (seconds - 0.2 - lead)
    print(f"{rate / 1e6:.4f} Mbit/s of a limit of 2")
    assert rate == pytest.approx(2e6, rel=0.015)
    before = site.classes()
    cls, dscps = before["marked"], got["marked"]["dscps"]
    assert got["marked"]["packets"] == sent["marked"] == cls["sent_packets"], "2 and 1 of 3.92 that are nobody's"
    assert dscps == {"10": cls["policed"]["green_packets"], "12": cls["policed"]["red_packets"]}, (
        "remarked, not dropped"
    )
    assert dscps["10"] * 1042 * 8 == pytest.approx(seconds * 1e6 + 20e3 * 8, rel=0.03)
    site.says("ingress: 8mbit", change=("limit: 2mbit", "limit: 3mbit"))
    code, answer = site.shaper(f"apply {site.policy}")
    (one,) = answer["interfaces"]
    assert code == 0 and [(step["verb"], step["impact"]) for step in one["steps"]] == [("change", "hitless")]
    assert site.classes()["voice"]["sent_packets"] == before["voice"]["sent_packets"]


def test_going_over_to_a_queue_and_back_and_clearing_leaves_nothing(site: Site) -> None:
    before = site.found()
    ping = f"ping -c 2 -i 0.05 -W 2 {site.pair.b_v4}"
    for more in ("ingress: police", "ingress: queue", "ingress: police, classifier: flower"):
        site.says("egress: 20mbit, ingress: 8mbit", more)
        site.apply()
        assert site.shaper(f"plan {site.policy}")[0] == 0, more
        assert ("shi-" in site.lab.run("ip -br link")) is (more == "ingress: queue")
        site.lab.run(ping)
    assert site.shaper("clear")[0] == 0
    assert site.found() == before
    assert not site.lab.run("tc actions ls action police").replace("total acts 0", "").strip()
    assert not site.lab.run("tc actions ls action gact").replace("total acts 0", "").strip()


def test_what_somebody_changes_is_drift_and_an_apply_puts_it_right(site: Site) -> None:
    site.apply()
    shown = site.lab.run("tc actions ls action police")
    index = next(words[words.index("police") + 1] for words in map(str.split, shown.splitlines()) if "police" in words)
    site.lab.run(
        f"tc actions change action police rate 9mbit burst 30k mtu 1mb conform-exceed drop/pipe index {int(index, 16)}"
    )
    assert site.status()["drift"], "named"
    site.apply()
    site.lab.run(f"tc filter del dev {site.pair.a} ingress pref 14")
    assert site.status()["drift"]
    site.apply()
    assert site.shaper(f"plan {site.policy}")[0] == 0


def test_run_leaves_it_alone_says_so_and_counts(site: Site) -> None:
    run = site.lab.start(f"{SHAPER} run {site.policy} --state {site.folder / 'state'} --json --listen 127.0.0.1:9917")
    assert run.stdout is not None
    assert json.loads(run.stdout.readline())["event"] == "ready"
    sent, got = site.offer(2.0, 1.0, voice=4e6)
    limit = time.monotonic() + 60
    while (cls := site.classes()["voice"])["sent_packets"] < got["voice"]["packets"]:
        assert time.monotonic() < limit, cls
    assert cls["dropped_packets"] == sent["voice"] - got["voice"]["packets"]
    one = site.status()
    assert one["controller"]["held"] == "what is policed lends nothing"
    assert one["controller"]["changes"] == 0 and not one["alarms"]
    assert one["capture"]["reason"].startswith("delay: no data, because nothing waits")
    text = site.lab.inside(lambda: urllib.request.urlopen("http://127.0.0.1:9917/metrics").read().decode())
    line = next(
        line
        for line in text.splitlines()
        if line.startswith("shaper_class_dropped_packets_total{") and '"ingress"' in line and '"voice"' in line
    )
    assert float(line.split()[-1]) == cls["dropped_packets"]
    run.terminate()
    _, err = run.communicate(timeout=30)
    assert run.returncode == 0, err
    assert site.shaper("clear")[0] == 0
    assert "clsact" not in site.found()
