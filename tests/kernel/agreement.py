"""Random policies and random packets on a real kernel: the class whose counter moves, and the class that is named.

Frames go out by a packet socket with their tags inside, or come in by another cable, where the kernel takes the
outermost tag off and keeps it beside the packet, and are handed on to the device.
"""

from __future__ import annotations

import socket
import struct
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from random import Random
from typing import TYPE_CHECKING, Any

import frame_samples
import policy_samples
from frame_samples import Frame
from sorting import Sorter, quiet_link

from shaper.errors import PolicyError, UnavailableError
from shaper.model.explain import explain
from shaper.model.match import NETWORK_CONTROL
from shaper.model.policy import Interface
from shaper.policy import parse_policy

if TYPE_CHECKING:
    from conftest import Lab

PATHS = (
    NETWORK_CONTROL,
    *(f"c{number}{below}" for number in range(6) for below in ("", "/d0", "/d1", "/other")),
    "rest",
)
_SO_MARK = 36
_TAG = struct.Struct("!HH")


@dataclass
class Totals:
    """What was sent, and where it went."""

    policies: int = 0
    refused: int = 0
    rules: int = 0
    packets: int = 0
    versions: Counter[str] = field(default_factory=Counter)
    by_rule: int = 0
    tagged_beside: int = 0
    handed_on: int = 0
    tunnelled: int = 0
    translated: int = 0
    moved_ports: int = 0
    answers: int = 0
    fields: Counter[str] = field(default_factory=Counter)
    differences: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        kinds = ", ".join(f"{count} {name}" for name, count in sorted(self.versions.items()))
        return (
            f"{self.policies} policies ({self.refused} more refused), {self.rules} rules; {self.packets} packets "
            f"({kinds}), {self.by_rule} taken by a rule, {self.tagged_beside} with a tag beside them, "
            f"{self.handed_on} that came in by a device that rules may ask for, "
            f"{self.tunnelled} with a packet inside, {self.translated} translated "
            f"({self.moved_ports} to another port), {self.answers} answers; fields asked: "
            f"{', '.join(f'{name} {count}' for name, count in sorted(self.fields.items()))}; "
            f"{len(self.differences)} differences"
        )


class Trial:
    """One device, and a cable by which tagged frames come to it."""

    def __init__(self, netns: Lab, sorter: Sorter) -> None:
        self._lab = netns
        self._sorter = sorter
        self._feed = quiet_link(netns, "feed")
        netns.run("tc qdisc add dev feed-peer clsact")
        netns.run(
            "tc filter add dev feed-peer ingress protocol all pref 1 u32 match u32 0 0 "
            f"action mirred egress redirect dev {self._sorter.device}"
        )

    def run(self, seed: int, packets: int, totals: Totals, fields: Sequence[str] = policy_samples.FIELDS) -> None:
        """One policy and its packets, all from the seed."""
        random = Random(seed)
        tagged = fields not in (policy_samples.PLAIN, policy_samples.BY_FLOWER, policy_samples.BY_U32)
        frames = [frame_samples.frame(random, tagged=tagged) for _ in range(packets)]
        if "iif" in fields:
            frames = [_handed_on(frame) if _comes_in(frame, random) else frame for frame in frames]
        frames_seen = [frame.packet for frame in frames]
        rules = accepted(policy_samples.classes(random, frames_seen, fields=fields))[0].rules()
        try:
            self._sorter.obey(rules)
        except UnavailableError:
            totals.refused += 1
            return
        totals.policies += 1
        totals.rules += len(rules.ordered)
        totals.fields.update(rules.asked().keys())
        for number, frame in enumerate(frames):
            moved = self._moved(frame)
            named = explain(rules, frame.packet).path
            totals.packets += 1
            totals.versions[{0x0800: "IPv4", 0x86DD: "IPv6"}.get(frame.packet.ethertype, "other")] += 1
            totals.by_rule += named not in ("rest", NETWORK_CONTROL)
            totals.tagged_beside += frame.beside is not None
            totals.handed_on += frame.packet.iif is not None
            totals.tunnelled += frame.packet.inner is not None
            if moved != [named]:
                where = f"seed {seed}, packet {number}: counted in {moved}, named {named}"
                totals.differences.append(f"{where}: {frame.packet}")

    def _moved(self, frame: Frame) -> list[str]:
        device, data = self._sorter.device, frame.data
        if frame.packet.iif is not None or frame.beside is not None:
            device = self._feed
        if frame.beside is not None:
            data = data[:12] + _TAG.pack(0x8100, frame.beside) + data[12:]

        def transmit() -> None:
            with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0) as sender:
                sender.setsockopt(socket.SOL_SOCKET, _SO_MARK, struct.pack("=I", frame.mark))
                sender.sendto(data, (device, 0))

        before = self._sorter.counts()
        self._lab.inside(transmit)
        return [path for path, count in self._sorter.counts().items() if count != before[path]]


def _comes_in(frame: Frame, random: Random) -> bool:
    """Whether it is sent by the other cable, which would take a tag off that is inside."""
    return frame.beside is not None or (not frame.tags and random.random() < 0.5)


def _handed_on(frame: Frame) -> Frame:
    """As it is after it came in by the other cable."""
    return replace(frame, packet=frame.packet._replace(iif="feed-peer"))


def accepted(written: dict[str, Any], **about: Any) -> tuple[Interface, ...]:
    """The interface of a policy, in each direction, without the matches at which it has problems."""
    while True:
        try:
            policy = parse_policy(policy_samples.text_of(written, **about), source="random.yaml")
        except PolicyError as error:
            assert [policy_samples.without(written, problem.path) for problem in error.problems()].count(True)
            written = policy_samples.swept(written)
        else:
            return policy.interfaces


def agreed(
    netns: Lab, sorter: Sorter, seeds: range, packets: int, fields: Sequence[str] = policy_samples.FIELDS
) -> Iterator[Totals]:
    """The totals, after each policy; the sorter is one of PATHS."""
    totals, trial = Totals(), Trial(netns, sorter)
    for seed in seeds:
        trial.run(seed, packets, totals, fields)
        yield totals
