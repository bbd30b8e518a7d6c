"""The program that measures writes the class on the packet, and the queue sorts it by that, with the filter unasked."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import policy_samples
import pytest
from agreement import PATHS, Totals, agreed
from sorting import CLASSES, FRAMES, RULES, TOP, ByPriority, Sorter, by_bpf

from collectors.bpf.delays import refusal

if TYPE_CHECKING:
    from conftest import Lab

pytestmark = pytest.mark.kernel

POLICIES, PACKETS = 20, 20

_HOLDER = """
import sys, time
from collectors.bpf.delays import KernelDelays
from shaper.compile.stamp import FILTER_HANDLE, NAME, PREFERENCE
from shaper.kernel.netlink import NetlinkKernel
from shaper.plan.steps import Step, Verb
from shaper.tree import CLSACT, CLSACT_EGRESS, CLSACT_HANDLE, LoadedFilter, Qdisc
device, netns, answer = sys.argv[1:]
delays = KernelDelays(classifier=((0x06, 0, 0, int(answer)),), handles=(int(answer),), stamps=64, classify=True)
kernel = NetlinkKernel(netns)
kernel.programs[NAME + "test"] = delays.entry
hook = Qdisc(CLSACT_HANDLE, CLSACT, "clsact"), LoadedFilter(CLSACT_EGRESS, PREFERENCE, FILTER_HANDLE, NAME + "test")
kernel.send(device, [Step(Verb.ADD, None, node) for node in hook])
delays.start(device, netns=netns)
print("counting", flush=True)
time.sleep(60)
"""


@pytest.fixture(autouse=True)
def _able() -> None:
    if why := refusal():
        pytest.skip(f"missing capability: eBPF ({why})")


def test_random_packets_go_where_random_policies_say_with_a_filter_that_says_nothing(netns: Lab) -> None:
    totals, sorter = Totals(), ByPriority(netns, PATHS)
    for totals in agreed(netns, sorter, range(POLICIES), PACKETS, policy_samples.BY_TABLES):
        assert not totals.differences, "\n".join([str(totals), *totals.differences[:10]])
    assert totals.fields["iif"] > 5
    assert totals.policies == POLICIES
    assert totals.by_rule > totals.packets / 4
    sorter.leave()
    assert {sorter.class_of(bytes(frame), protocol) for _, frame, protocol in FRAMES[:5]} == {PATHS[-1]}


def test_a_packets_own_priority_counts_for_nothing_and_the_filter_sorts_again_when_the_process_is_killed(
    netns: Lab,
) -> None:
    sorter = Sorter(netns, CLASSES, by_bpf)
    sorter.obey(RULES)
    classids = {path: TOP | 0x10 + number for number, path in enumerate(CLASSES)}
    frames = [(path, bytes(frame), protocol) for path, frame, protocol in FRAMES]
    with holding(sorter.device, netns, classids["backup"]) as holder:
        for priority in (0, 6, classids["web"]):
            assert {sorter.class_of(*frame, priority=priority) for _, *frame in frames} == {"backup"}
        holder.kill()
        holder.wait()
        assert [sorter.class_of(*frame) for _, *frame in frames] == [path for path, *_ in frames]


def test_a_cable_takes_the_class_off_the_packet(netns: Lab) -> None:
    sorter, beyond = Sorter(netns, CLASSES, by_bpf), Sorter(netns, CLASSES, lambda *_: (), "q1")
    sorter.obey(RULES)
    beyond.obey(RULES)
    netns.run("ip link add between type ifb")
    netns.run("ip link set between up")
    links = netns.kernel()
    assert [links.link(device).heeds for device in (sorter.device, "between")] == [False, True]
    netns.run(f"tc qdisc add dev {sorter.device}-peer clsact")
    onwards = "protocol all pref 1 u32 match u32 0 0 action mirred egress redirect dev q1"
    netns.run(f"tc filter add dev {sorter.device}-peer ingress {onwards}")
    with holding(sorter.device, netns, TOP | 0x10 + CLASSES.index("backup")):
        for _, frame, protocol in FRAMES[:5]:
            before = beyond.counts()
            assert sorter.class_of(bytes(frame), protocol) == "backup"
            assert {path for path, count in beyond.counts().items() if count != before[path]} == {"rest"}


@contextmanager
def holding(device: str, netns: Lab, classid: int) -> Iterator[subprocess.Popen[str]]:
    """A process that has the kernel put every packet in this class."""
    argv = [sys.executable, "-c", _HOLDER, device, netns.name, str(classid)]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as holder:
        try:
            assert holder.stdout is not None
            assert holder.stdout.readline() == "counting\n"
            yield holder
        finally:
            holder.kill()
