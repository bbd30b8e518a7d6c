"""What a running shaper takes of a processor: its own time, and what measuring adds to each packet that is forwarded.

Classes with traffic each, half of them with an SLA, on a link that is never full.
"""

from __future__ import annotations

import json
import os
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from _common import network, options, verdict
from forwarding import PORT, Passage, Router

from shaper.lab.counters import RunLines

RATE = 50_000
MOST = {20: 0.10, 2000: 1.0}
"""Of a processor, by up to how many classes."""
_TICKS = os.sysconf("SC_CLK_TCK")
_TURNS = 5
_SETTLE, _LEARNS, _PATIENCE = 3, 15, 60
"""Seconds of the run before it is measured, also with hundreds of classes, all of which are then given what they send;
and for which it may take to end."""
_HUNDREDS = 200


def main() -> int:
    """0 when nothing is lost and all of it takes no more of a processor than it may, 1 when not."""
    parser = options("running", __doc__, count=200_000, of="packets in each turn", seed=1)
    parser.add_argument("--classes", type=int, default=20, help=f"how many, {max(MOST)} at most [20]")
    wanted = parser.parse_args()
    with network() as (lab, folder):
        router = Router(lab)
        lab.run(f"tc qdisc del dev {router.outer.a} root")
        lab.run(f"tc qdisc del dev {router.outer.a} clsact", check=False)
        policy = folder / "policy.yaml"
        policy.write_text(document(router.outer.a, wanted.classes))
        shaper = ["ip", "netns", "exec", lab.name, sys.executable, "-m", "shaper"]
        where = [str(policy), "--state", str(folder / "state")]
        subprocess.run([*shaper, "apply", *where], check=True, capture_output=True)
        router.send(wanted.count // 10)
        pairs = []
        for _ in range(_TURNS):
            without = router.send(wanted.count, rate=RATE, ports=wanted.classes)
            with running([*shaper, "run", *where, "--json"], folder) as (process, lines, sampling):
                settle = _SETTLE if wanted.classes < _HUNDREDS else _LEARNS
                router.send(settle * RATE, rate=RATE, ports=wanted.classes)
                began, before = time.monotonic(), processor(process.pid)
                measured = router.send(wanted.count, rate=RATE, ports=wanted.classes)
                own = (processor(process.pid) - before) / (time.monotonic() - began)
            seen = sum(one["samples"] for one in (lines.summary or {})["classes"].values())
            pairs.append(Pair(without, measured, own, seen, sampling))
    return told(pairs, classes=wanted.classes)


@dataclass(frozen=True)
class Pair:
    """Traffic without a run and then with one; `own` is what that took of a processor, `seen` what it measured in all,
    with a `sampling` above 1 on purpose not every packet.

    In turns, as the machine is another from minute to minute.
    """

    without: Passage
    measured: Passage
    own: float
    seen: int
    sampling: int

    @property
    def added(self) -> float:
        """What forwarding takes of a processor beyond what it takes without."""
        return share(self.measured) - share(self.without)


def share(passage: Passage) -> float:
    """What forwarding at `RATE` takes of a processor."""
    return passage.processor / passage.sent * RATE


def document(device: str, count: int) -> str:
    """A policy of so many classes, told apart by port; the last one takes the rest."""
    classes = "".join(
        f"      c{number:04}: {{guarantee: {4e9 / count:.0f}bit, limit: 1gbit, "
        f"match: [{{proto: udp, dport: {PORT + number}}}]"
        f"{', sla: {delay-p99: 20ms, loss: 1%}' if number % 2 else ''}}}\n"
        for number in range(count - 1)
    )
    return (
        f"version: 1\ninterfaces:\n  wan: {{device: {device}, bandwidth: {{egress: 10gbit}}, policy: office}}\n"
        f"policies:\n  office:\n    classes:\n{classes}"
        "      rest: {guarantee: 50%, default: true, sla: {delay-p99: 20ms, loss: 1%}}\n"
    )


@contextmanager
def running(command: list[str], folder: Path) -> Iterator[tuple[subprocess.Popen[bytes], RunLines, int]]:
    """A run that measures one packet in so many, until it is left again; `ip netns exec` becomes it, so its number is
    the run's own.

    What it said is in the lines afterwards. It goes to a file: nobody reads a pipe meanwhile.
    """
    said, lines = folder / "said", RunLines()
    with said.open("wb") as out, (folder / "log").open("wb") as log:
        process = subprocess.Popen(command, stdout=out, stderr=log, start_new_session=True)
    try:
        until = time.monotonic() + _PATIENCE
        while not (ready := [line for line in whole_lines(said) if b'"ready"' in line]):
            if process.poll() is not None or time.monotonic() > until:
                raise RuntimeError(f"`shaper run` is not ready: {(folder / 'log').read_text().strip()}")
            time.sleep(0.1)
        yield process, lines, json.loads(ready[0])["interfaces"][0]["capture"]["sampling"]
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(_PATIENCE)
    lines.feed(said.read_bytes())


def whole_lines(path: Path) -> list[bytes]:
    """Those that end."""
    return path.read_bytes().split(b"\n")[:-1]


def processor(pid: int) -> float:
    """Seconds of a processor that a process has taken, its threads' included."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS


def told(pairs: list[Pair], *, classes: int) -> int:
    """The figures, and whether they are what they must be."""
    own, added = (statistics.median(values) for values in ([one.own for one in pairs], [one.added for one in pairs]))
    together = statistics.median(one.own + one.added for one in pairs)
    most = next(limit for number, limit in MOST.items() if classes <= number)
    measured = [one.measured for one in pairs]
    offered, sent = min(one.sent / one.seconds for one in measured), sum(one.sent for one in measured)
    print(
        f"{classes} classes, {RATE:,} packets a second of 64 B (offered: {offered:,.0f}), medians of {len(pairs)} "
        f"pairs: the shaper's own {own:.1%} of a processor, measuring adds {added:.1%} to forwarding's "
        f"{statistics.median(share(one.without) for one in pairs):.1%}; together {together:.1%} "
        f"({', '.join(f'{one.own + one.added:.1%}' for one in pairs)})"
    )
    lost, seen = sum(one.sent - one.arrived for one in measured), sum(one.seen for one in pairs)
    sampling = max(one.sampling for one in pairs)
    print(f"measured: {seen} packets in all" + (f", captured one in {sampling}" if sampling > 1 else ""))
    found = [
        (lost, f"{lost} packets were lost"),
        (seen < (sent if sampling == 1 else 1), f"of {sent} packets {seen} were measured"),
        (offered < 0.99 * RATE, f"only {offered:,.0f} packets a second could be offered"),
        (together >= most, f"it takes {together:.1%} of a processor"),
    ]
    holds = f"controller and measurement together take less than {most:.0%} of a processor"
    return verdict([words for wrong, words in found if wrong], holds)


if __name__ == "__main__":
    sys.exit(main())
