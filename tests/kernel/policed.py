"""A device whose incoming packets are policed; who sends to it, and who counts what comes."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from shaper.errors import Exit

if TYPE_CHECKING:
    from conftest import Lab

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
