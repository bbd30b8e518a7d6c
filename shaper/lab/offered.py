"""What is offered to a simulated link: the packets of a scenario, or of a capture file, in the order of their times."""

from __future__ import annotations

import heapq
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from collectors.frames import TCP, dissect, flow_key
from shaper.errors import Exit, ShaperError
from shaper.lab.scenario import Traffic
from shaper.lab.traffic import UdpFlow, schedule
from shaper.model.match import Packet, Rules, classify

_SECOND = 10**9


@dataclass(frozen=True, slots=True)
class Offered:
    """`packets` are (ns from the start, class path, bytes of layer 2), in order; `notes` what is to be said of them."""

    seconds: float
    packets: Iterable[tuple[int, str, int]]
    notes: tuple[str, ...] = ()


class RecordingError(ShaperError):
    """The capture file is wrong."""

    exit = Exit.POLICY


def from_scenario(traffic: Traffic) -> Offered:
    """The UDP flows of a scenario. Raises ShaperError for what answers to its queue, which only a real one has."""
    open_loop = "simulate it with --exact, on real queues"
    if traffic.tcp:
        raise ShaperError("TCP takes what the queue leaves it, which the model does not know", hint=open_loop)
    if traffic.wan or traffic.narrow:
        raise ShaperError("the model ends at the shaped link: the scenario has a way behind it", hint=open_loop)

    def flow(one: UdpFlow) -> Iterator[tuple[int, str, int]]:
        path = traffic.classes[one.flow]
        return ((round(at * _SECOND), path, size) for at, size in schedule(one))

    return Offered(traffic.seconds, heapq.merge(*(flow(one) for one in traffic.udp)))


def from_recording(path: Path, rules: Rules, *, leave: Collection[str] = ()) -> Offered:
    """The frames of a capture file, classified as the policy would; those of classes in `leave` are left out.

    Raises RecordingError.
    """
    from scapy.error import Scapy_Exception  # noqa: PLC0415 # slow to import
    from scapy.utils import RawPcapReader  # noqa: PLC0415

    packets: list[tuple[int, str, int]] = []
    strange = elastic = left = 0
    try:
        with path.open("rb") as file, RawPcapReader(file) as reader:
            if reader.linktype != 1:
                raise RecordingError(f"{path} has frames of another kind than Ethernet", hint="capture on an interface")
            scale = 1 if getattr(reader, "nano", False) else 1000
            for frame, about in reader:
                dissected = dissect(frame, detailed=True)
                if dissected is None:
                    strange += 1
                    continue
                key = flow_key(dissected[1], detailed=True)
                name = classify(rules, Packet(*key))
                if name in leave:
                    left += 1
                    continue
                elastic += key.protocol == TCP
                stamp = about.sec * _SECOND + about.usec * scale
                packets.append((stamp, name, about.wirelen))
    except (OSError, Scapy_Exception, EOFError) as error:
        hint = "it should be a pcap file, as tcpdump -w has it"
        raise RecordingError(f"cannot read {path} as a capture: {error}", hint=hint) from error
    if not packets:
        raise RecordingError(f"{path} has no IP packets", hint="capture what is to go through the link")
    packets.sort()
    first = packets[0][0]
    notes = []
    if strange:
        notes.append(f"{strange} frames are no IP packets and were left out")
    if left:
        notes.append(f"{left} packets of network control were left out")
    if elastic:
        notes.append(
            f"{elastic} packets are TCP: they come as they were recorded, whatever this link does to them; "
            "--exact with a scenario has TCP that answers"
        )
    seconds = (packets[-1][0] - first) / _SECOND
    return Offered(max(1.0, seconds), [(at - first, name, size) for at, name, size in packets], tuple(notes))
