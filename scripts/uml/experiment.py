"""The experiment of `scripts/lab check-repeatable`: TCP, UDP, jitter and loss over a router, every packet recorded.

Writes one line a packet that reached the server into the folder LAB_OUT (time stamp in ns, length, digest), and prints
what must hold whatever the seed: the bottleneck's rate and its worst delay for a sparse flow beside two bulk flows.
"""

from __future__ import annotations

import hashlib
import os
import socket
import struct
import subprocess
import sys
import time
from pathlib import Path

from collectors.netlink import inside
from collectors.ring import PacketRing
from shaper.lab.namespaces import SERVER_V4, Topology

_WHOLE = ((0x06, 0, 0, 2000),)
_SPARSE_PORT = 5010


def main() -> int:
    """Exit code 0 when the figures are as they must be."""
    with Topology() as net:
        for line in (
            "wan0 root handle 1: htb default 10",
            "wan0 parent 1:10 fq_codel",
            "lan0 root netem delay 15ms 3ms loss 0.5%",
        ):
            if "parent" in line:
                _execute(
                    f"tc -netns {net.router} class add dev wan0 parent 1: classid 1:10 htb rate 20mbit quantum 1514"
                )
            _execute(f"tc -netns {net.router} qdisc add dev {line}")
        ring = inside(net.server, lambda: PacketRing("eth0", _WHOLE))
        server = subprocess.Popen(["ip", "netns", "exec", net.server, "iperf3", "-s", "-1"], stdout=subprocess.DEVNULL)
        sparse = inside(net.client, lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
        sparse.sendto(b"who are you", (SERVER_V4, 9))  # neighbours get to know each other, at a second a try
        time.sleep(5)
        inside(net.server, ring.start)
        client = ["ip", "netns", "exec", net.client, "iperf3", "-c", SERVER_V4, "-P", "2", "-t", "5"]
        bulk = subprocess.Popen(client, stdout=subprocess.DEVNULL)
        frames, delays = [], []
        with sparse:
            for number in range(250):
                sparse.sendto(struct.pack("!QQ", number, time.time_ns()), (SERVER_V4, _SPARSE_PORT))
                time.sleep(0.02)
                frames += ring.read()
        codes = bulk.wait(timeout=60), server.wait(timeout=60)
        time.sleep(0.2)
        frames += ring.read()
        ring.close()
    port = _SPARSE_PORT.to_bytes(2, "big")
    with (Path(os.environ["LAB_OUT"]) / "packets").open("w") as out:
        for stamp, length, data in frames:
            out.write(f"{stamp} {length} {hashlib.sha256(data).hexdigest()}\n")
            if data[23] == 17 and data[36:38] == port:
                delays.append((stamp - struct.unpack_from("!Q", data, 50)[0]) / 1e9)
    data = [frame for frame in frames if frame[1] > 1000]
    rate = sum(length for _, length, _ in data[1:]) * 8e9 / (data[-1][0] - data[0][0])
    verdict = (codes == (0, 0), len(delays) == 250, max(delays) < 0.002, 17e6 < rate < 20.2e6)
    print(
        f"{len(frames)} packets, {rate / 1e6:.3f} Mbit/s, sparse flow at most {max(delays) * 1e3:.3f} ms",
        file=sys.stderr,
    )
    print("holds" if all(verdict) else f"does not hold: {verdict}")
    return 0 if all(verdict) else 1


def _execute(command: str) -> None:
    subprocess.run(command.split(), check=True, timeout=20)


if __name__ == "__main__":
    sys.exit(main())
