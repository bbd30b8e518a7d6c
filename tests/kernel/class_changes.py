"""Class changes under live traffic, made by applying policies that differ: which packets it costs, by their numbers.

Two kinds of load. `standing`: two classes are offered what they may have at the most, over a queue kept at half its
limit, and a third less than its guarantee: every packet must come out. `overload`: they are offered half as much again
as they ever may have: what does not come out, the kernel must have counted as dropped. In both, in order.

A leaf counts what it drops itself. What an AQM throws away because its limit was lowered below what it holds only the
qdiscs above it count: so the sum is taken at the root, and the difference shown.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from statistics import median
from typing import TYPE_CHECKING, Any

from by_product import Product
from numbered import Flow, Traffic, neighbours

from shaper.plan.impact import impacts
from shaper.plan.steps import Verb
from shaper.run.apply import Prepared
from shaper.tree import ROOT, CakeOptions, Class, FifoOptions, FqCodelOptions, Qdisc, Tree, handle_text

if TYPE_CHECKING:
    from conftest import Lab

BACKENDS = ("htb", "hfsc", "cake")
LOADS = ("standing", "overload")
MBIT = 1_000_000
LARGEST_LIMIT = 8
"""Mbit/s: twice that and voice's is less than the link, so that only a class's own limit holds it."""
_FLOWS = {"first": (7001, 4, 34), "second": (7002, 6, 0), "voice": (7003, 4, 46)}
"""Port, IP version and DSCP of each class's flow."""
_VOICE = 0.4 * MBIT
_SKB = 2304
"""Bytes of the kernel's memory that a frame of ours takes, as fq_codel and CAKE count: how many to keep under way. How
full the queue then was is measured."""
_CAKE_MEMORY = 4 << 20
_LOOK_EVERY = 3
_HALF = (0.35, 0.65)
_SETTLE = 1.0

_CLASSES = """\
      first:
        tier: {tiers[0]}
        guarantee: {first}mbit
        limit: {limits[0]}mbit{burst}
        match: [{{dport: 7001}}]
        sla: {{delay-p99: 400ms}}
      second:
        tier: {tiers[1]}
        guarantee: {second}mbit
        limit: {limits[1]}mbit
        share: {share}%
        match: [{{dport: 7002}}]
        sla: {{delay-p99: 400ms}}
      voice:
        tier: special
        guarantee: {voice}kbit
        limit: 3mbit
        match: [{{dscp: ef}}]
        sla: {{delay-p99: 10ms}}
      rest: {{guarantee: 1mbit, default: true}}
"""
_TINS = """\
      voice: {tier: special, match: [{dscp: [cs4, cs5, va, ef, cs6, cs7]}]}
      first: {tier: priority, match: [{dscp: [4, cs2, 18, 20, 22, cs3, 26, 28, 30, 34, 36, 38]}]}
      bulk: {match: [{dscp: [le, cs1]}]}
      second: {default: true}
"""


def policy(device: str, backend: str, random: Random) -> str:
    """One of many policies with the same classes; no queue's limit is below half of any other's."""
    head = "version: 1\ninterfaces:\n  wan: {device: %s, bandwidth: {egress: %smbit}, policy: p, backend: %s%s}\n"
    middle = "policies:\n  p:\n    classes:\n"
    if backend == "cake":
        link = f", link: {{overhead: {random.randrange(14, 40)}}}"
        return head % (device, random.randrange(16, 25), backend, link) + middle + _TINS
    return (
        head % (device, 3 * LARGEST_LIMIT, backend, "")
        + middle
        + _CLASSES.format(
            tiers=[random.choice(("priority", "standard")) for _ in range(2)],
            first=random.choice((3, 3.5, 4, 4.5, 5)),
            second=random.choice((3, 3.5, 4, 4.5, 5)),
            limits=[random.choice((6, 6.5, 7, 7.5, LARGEST_LIMIT)) for _ in range(2)],
            burst=f"\n        burst: {random.randrange(2, 9)}ms" if backend == "htb" else "",
            share=random.randrange(10, 91),
            voice=random.randrange(800, 1600, 100),
        )
    )


@dataclass
class Outcome:
    """What one load came to."""

    backend: str
    load: str
    flows: Mapping[str, Flow]
    changes: int = 0
    applies: int = 0
    disruptive: int = 0
    roots: int = 0
    seconds: float = 0.0
    drops: Mapping[str, int] = field(default_factory=dict)
    dropped: int = 0
    """By the root's counter, in all classes."""
    unshaped: int = 0
    lost_here: int = 0
    left: int = 0
    """Limits that stayed above what was asked, because their queues stayed full."""
    fills: list[float] = field(default_factory=list)

    def problems(self) -> list[str]:
        """Why it does not hold; nothing where it does."""
        found = []
        lost = sum(flow.missing for flow in self.flows.values()) - self.dropped
        if lost:
            found.append(f"{lost} packets are neither received nor counted as dropped")
        for name, flow in self.flows.items():
            if flow.disordered:
                found.append(f"{name}: {flow.disordered} packets came after a later one")
            if self.load == "standing" and flow.missing:
                found.append(f"{name}: {flow.missing} of {flow.sent} packets did not come out")
            if flow.missing < self.drops[name]:
                found.append(f"{name}: {self.drops[name]} packets are counted as dropped, {flow.missing} are missing")
            if self.load == "overload" and name != "voice" and not self.drops[name]:
                found.append(f"{name}: nothing was dropped, so it was not overloaded")
        if self.load == "standing" and not _HALF[0] <= self.fill <= _HALF[1]:
            found.append(f"the queues did not stand at half their limit but at {self.fill:.2f} of it")
        if self.unshaped:
            found.append(f"{self.unshaped} packets passed the shaper without a class")
        if thrown := self.dropped - sum(self.drops.values()):
            found.append(f"{thrown} packets were thrown away by limits that were lowered")
        if self.lost_here:
            found.append(f"{self.lost_here} packets were lost by the test itself")
        return found

    @property
    def fill(self) -> float:
        """The median over classes and changes of the queue's part of its limit."""
        return median(self.fills) if self.fills else 0.0

    def __str__(self) -> str:
        lines = [
            f"{self.backend}, {self.load}: {self.changes} changes of live classes in {self.applies} applies, "
            f"{self.disruptive} steps called disruptive, {self.roots} roots replaced, {self.seconds:.0f} s"
        ]
        if self.fills:
            spread = f"{min(self.fills):.2f} to {max(self.fills):.2f}"
            lines[0] += f"; queues at {self.fill:.2f} of their limit ({spread}, {len(self.fills)} looks)"
        lines.append(f"  {'class':8}{'sent':>9}{'received':>9}{'missing':>9}{'dropped':>9}{'disordered':>11}")
        lines.extend(
            f"  {name:8}{flow.sent:9}{flow.received:9}{flow.missing:9}{self.drops[name]:9}{flow.disordered:11}"
            for name, flow in self.flows.items()
        )
        thrown = self.dropped - sum(self.drops.values())
        lines.append(
            f"  dropped by the root's counter: {self.dropped}, of these {thrown} by limits that were lowered; "
            f"{self.left} limits left higher for now"
        )
        return "\n".join(lines + [f"  WRONG: {problem}" for problem in self.problems()])


def changed_under(
    lab: Lab, folder: Path, *, backend: str, load: str, count: int, seed: int, replace_root: bool = False
) -> Outcome:
    """`count` class changes or a few more. With `replace_root` the tree is once taken down and built again."""
    pair, random = lab.link_pair(), Random(seed)
    neighbours(lab, pair)
    product = Product(lab.kernel(), pair.a, folder)
    made = product.apply(policy(pair.a, backend, random))
    flows = {name: _flow(name, load) for name in _FLOWS}
    outcome = Outcome(backend, load, flows)
    before, dropped = product.kernel.counters(pair.a), _root_drops(lab, pair.a)
    began = time.monotonic()
    with Traffic(lab, pair, tuple(flows.values())) as traffic:
        _keep_half(flows, made, load)
        while traffic.wait(_SETTLE) and outcome.changes < count:
            if replace_root and outcome.changes >= count // 2 and not outcome.roots:
                product.clear()
                outcome.roots += 1
            made = product.apply(policy(pair.a, backend, random))
            outcome.applies += 1
            outcome.left += len(made.left)
            outcome.changes += sum(_changes_a_class(step.verb, step.node) for step in made.plan.steps)
            outcome.disruptive += sum(impact.disruptive for impact in impacts(made.plan))
            _keep_half(flows, made, load)
            if load == "standing" and outcome.applies % _LOOK_EVERY == 0:
                outcome.fills.extend(_fills(lab, pair.a, made))
        outcome.seconds = time.monotonic() - began
    outcome.lost_here = traffic.lost_here
    after = product.kernel.counters(pair.a)
    handles = {name: made.program.handles[name] for name in flows}
    outcome.drops = {
        name: after.classes[handle].drops - before.classes[handle].drops for name, handle in handles.items()
    }
    outcome.dropped = _root_drops(lab, pair.a) - dropped
    outcome.unshaped = after.unshaped - before.unshaped
    return outcome


def _changes_a_class(verb: Verb, node: object) -> bool:
    """CAKE's classes are its tins: changing it changes them."""
    cake = isinstance(node, Qdisc) and node.kind == "cake"
    return verb is Verb.CHANGE and (isinstance(node, Class) or cake)


def _flow(name: str, load: str) -> Flow:
    port, version, dscp = _FLOWS[name]
    if name == "voice":
        return Flow(port, version, dscp, rate=_VOICE)
    if load == "standing":
        return Flow(port, version, dscp, standing=1)
    return Flow(
        port, version, dscp, rate=1.5 * LARGEST_LIMIT * MBIT, burst=64, ecn=0
    )  # that the AQMs drop, and do not mark


def _keep_half(flows: Mapping[str, Flow], made: Prepared, load: str) -> None:
    """As many bytes of each standing flow under way as fill half of its queue."""
    if load != "standing":
        return
    for name in ("first", "second"):
        options = _queue(made.target, made.program.handles[name]).options
        if isinstance(options, FifoOptions):
            flows[name].standing = options.limit // 2
        elif isinstance(options, FqCodelOptions):
            flows[name].standing = options.memory // 2 // _SKB * flows[name].frame
        elif isinstance(options, CakeOptions):  # one memory for all
            flows[name].standing = (options.memory or _CAKE_MEMORY) // 4 // _SKB * flows[name].frame


def _queue(held: Tree, handle: int) -> Qdisc:
    """The leaf under a class, or the root whose band or tin it is."""
    found = held.leaf_of(handle) or held.root()
    assert found is not None
    return found


def _root_drops(lab: Lab, device: str) -> int:
    (count,) = re.findall(r"\(dropped (\d+),", lab.run(f"tc -s qdisc show dev {device} root"))
    return int(count)


def _fills(lab: Lab, device: str, made: Prepared) -> list[float]:
    """How full the standing queues are, by tc. Of CAKE both are one."""
    queues = {_queue(made.target, made.program.handles[name]) for name in ("first", "second")}
    found = []
    for queue in queues:
        place = "root" if queue.parent == ROOT else f"parent {handle_text(queue.parent)}"
        (one,) = json.loads(lab.run(f"tc -s -j qdisc show dev {device} {place}"))
        found.append(_fill(one))
    return found


def _fill(one: dict[str, Any]) -> float:
    options: dict[str, Any] = one["options"]
    if one["kind"] == "bfifo":
        return float(one["backlog"] / options["limit"])
    held, most = (one.get(key, options.get(key, 0)) for key in ("memory_used", "memory_limit"))
    return float(held / most)
