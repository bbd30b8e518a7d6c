"""A program to be killed: applies, rolls back and lets confirmations run out on a device, over and over.

`python kill_randomly.py DEVICE OTHER FOLDER ROUNDS SEED`: forks a child that does so, kills it by SIGKILL at a random
moment, does what the next command would, and looks. The last line of output sums up, as JSON.
"""

from __future__ import annotations

import itertools
import json
import os
import random
import signal
import sys
import time
from pathlib import Path

from shaper.history.changes import ChangeLog
from shaper.kernel.netlink import NetlinkKernel
from shaper.model.change import Who
from shaper.policy import parse_policy
from shaper.run import apply, changes, confirm
from shaper.run.changes import Order
from shaper.run.confirm import KernelWay
from shaper.run.state import DeviceState
from shaper.run.waiting import read_waiting
from shaper.tree import Capabilities, Tree

OLD = """\
version: 1
interfaces:
  wan: {{device: {device}, bandwidth: {{egress: 20mbit}}, policy: office}}
policies:
  office:
    classes:
      voice: {{tier: special, guarantee: 1mbit, limit: 2mbit, match: [{{dscp: ef}}], sla: {{delay-p99: 20ms}}}}
      rest: {{guarantee: 12mbit, adapt: {{min: 2mbit}}, default: true}}
"""
NEW = OLD.replace("limit: 2mbit", "limit: 3mbit").replace("rest:", "video: {{match: [{{dscp: af41}}]}}\n      rest:")
ORDER = Order(Who(0), 1.0)


class Hand:
    """One process's hold on the device."""

    def __init__(self, device: str, folder: Path, have: Capabilities) -> None:
        self.kernel = NetlinkKernel()
        self.kernel.capabilities = lambda: have  # probing takes longer than all the rest, and is done once
        self.state = DeviceState(folder, device, namespace="here")
        self.texts = {name: text.format(device=device) for name, text in (("old", OLD), ("new", NEW))}
        self.now = 0.0

    def apply(self, name: str, seconds: float = 0.0) -> Tree:
        policy = parse_policy(self.texts[name], source=name)
        with self.state.lock():
            self.tidy()
            prepared = apply.prepare(self.kernel, self.state, policy, policy.interfaces[0])
            wait = confirm.condition("a1", seconds, now=self.now) if seconds else None
            changes.make(self.kernel, self.state, prepared, what="apply", order=ORDER, condition=wait)
        return self.kernel.read(self.state.device)

    def rollback(self) -> None:
        with self.state.lock():
            way = KernelWay(self.kernel, self.state)
            confirm.rollback(self.kernel, self.state, None, now=self.now, order=ORDER, way=way)

    def expire(self) -> None:
        self.now += 100
        with self.state.lock():
            self.tidy()

    def tidy(self) -> None:
        confirm.tidy(self.kernel, self.state, now=self.now, order=ORDER)

    def forever(self) -> None:
        for _ in itertools.count():
            self.once()

    def once(self) -> None:
        self.apply("new")
        self.rollback()
        self.apply("new", seconds=60)
        self.expire()


def measured(device: str, folder: Path, have: Capabilities) -> tuple[float, float]:
    """Seconds until a child of ours begins its first change, and until it has been through all of them once."""
    said, says = os.pipe()
    began = time.monotonic()
    child = os.fork()
    if child == 0:
        try:
            hand = Hand(device, folder, have)
            os.write(says, b".")
            hand.once()
            os._exit(0)
        finally:
            os._exit(1)
    os.close(says)
    assert os.read(said, 1) == b"."
    ready = time.monotonic() - began
    _, status = os.waitpid(child, 0)
    assert status == 0
    os.close(said)
    return ready, time.monotonic() - began


def main() -> None:
    device, other, folder, rounds, seed = sys.argv[1:]
    dice = random.Random(int(seed))
    have = NetlinkKernel().capabilities()
    hand = Hand(device, Path(folder), have)
    trees = {name: hand.apply(name) for name in ("new", "old", "new", "old")}
    ready, once = measured(device, Path(folder), have)
    foreign = hand.kernel.read(other)
    seen = {"rounds": 0, "mid-apply": 0, "waiting": 0, "begun": 0, "old": 0, "new": 0, "wrong": []}
    for number in range(int(rounds)):
        child = os.fork()
        if child == 0:
            try:
                Hand(device, Path(folder), have).forever()
            finally:
                os._exit(1)
        time.sleep(dice.uniform(ready / 2, 1.2 * once))  # however slow the machine is
        os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
        log = ChangeLog(hand.state.folder)
        seen["rounds"] += 1
        seen["mid-apply"] += hand.state.pending() is not None
        seen["waiting"] += read_waiting(hand.state) is not None
        seen["begun"] += any(change.result == "begun" for change in log.all())
        hand.now = 0.0
        with hand.state.lock():
            hand.tidy()
            held = hand.kernel.read(device)
            names = [name for name, tree in trees.items() if tree == held]
            record = hand.state.record()
            sound = (
                os.WTERMSIG(status) == signal.SIGKILL
                and len(names) == 1
                and record is not None
                and record.text == hand.texts[names[0]]
                and hand.state.pending() is None
                and not any(change.result == "begun" for change in log.all())
                and hand.kernel.read(other) == foreign
            )
        if not sound:
            seen["wrong"].append([number, names, status])
        else:
            seen[names[0]] += 1
        hand.now = 1e9  # what waits still does so, until its time runs out: the child's clock has gone on
        hand.expire()
        if read_waiting(hand.state) is not None:
            seen["wrong"].append([number, "still waits"])
        hand.apply("old")
    print(json.dumps(seen))


main()
