"""Delay and loss by captured packets against queueing theory: M/D/1 at four loads and a full FIFO, all at once.

It runs in virtual time on the lab's kernel: no time passes there while programs work.
"""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

from _common import network, options, verdict
from theory import QUEUES, observe

TOLERANCE, FULL_TOLERANCE = 0.05, 0.02


def main() -> int:
    """0 when every mean is what theory says and every drop was seen, 1 when not."""
    parser = options("theory", __doc__, count=1_060_000, of="packets in all, half of them at load 0.9", seed=1)
    parser.add_argument("--burst", type=int, default=1, help="HTB's burst and cburst; a frame has 1000 bytes [1]")
    parser.add_argument("--inside", action="store_true", help="not for you: it runs in the lab's kernel")
    wanted = parser.parse_args()
    if not wanted.inside:
        script = Path(__file__).resolve()
        lab = [str(script.parents[2] / "scripts/lab"), "run", "--virtual-time", "--", sys.executable, str(script)]
        return subprocess.run([*lab, *sys.argv[1:], "--inside"], check=False).returncode
    queues = [replace(queue, burst=wanted.burst) for queue in QUEUES]
    with network() as (lab, _):
        found = observe(lab, queues, packets=wanted.count, seed=wanted.seed)
    print(f"{'class':10}{'sent':>9}{'lost':>8}{'dropped':>9}{'waits ms':>10}{'theory':>9}{'off':>8}{'arithmetic':>12}")
    problems = []
    for queue, seen in zip(queues, found, strict=True):
        waits = seen.delays.quantile(0.5) if queue.limit else seen.mean
        same = f"{seen.mean / (seen.expected / seen.sent) - 1:+.3%}" if not queue.limit else "-"
        off = waits / queue.wait - 1
        print(
            f"{queue.name:10}{seen.sent:9}{seen.lost:8}{seen.dropped:9}{waits * 1e3:10.3f}{queue.wait * 1e3:9.3f}"
            f"{off:+8.2%}{same:>12}"
        )
        if abs(off) > (FULL_TOLERANCE if queue.limit else TOLERANCE):
            problems.append(f"{queue.name} waits {waits * 1e3:.3f} ms, not {queue.wait * 1e3:.3f}")
        if not seen.lost == seen.dropped == seen.sent - seen.delays.count:
            problems.append(f"{queue.name}: {seen.lost} packets lost by the capture, {seen.dropped} by the kernel")
    sent, dropped = sum(seen.sent for seen in found), sum(seen.dropped for seen in found)
    return verdict(problems, f"{sent} packets, {dropped} drops, each of them seen; waits as theory has them")


if __name__ == "__main__":
    sys.exit(main())
