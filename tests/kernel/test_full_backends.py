"""CAKE, ETS and prio on a kernel that has them: what tc shows, what an apply changes and leaves, what is counted."""

from __future__ import annotations

import json
import re
import signal
import socket
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from backend_bench import SHAPER, Bench

from shaper.model.cake import DSCPS, TINS
from shaper.plan.steps import Step, Verb
from shaper.tree import (
    ROOT,
    AckFilter,
    CakeOptions,
    Cells,
    Diffserv,
    EtsOptions,
    FlowMode,
    PrioOptions,
    Qdisc,
    RootOptions,
)

if TYPE_CHECKING:
    from conftest import Lab, LinkPair

pytestmark = pytest.mark.full

TOP = 0x5A000000
M = 1_000_000
CAKE = """
    voice: {tier: special, guarantee: GUARANTEE, match: [{dscp: [cs4, cs5, va, ef, cs6, cs7]}]}
    video: {tier: priority, match: [{dscp: [4, cs2, 18, 20, 22, cs3, 26, 28, 30, 34, 36, 38]}]}
    bulk: {match: [{dscp: [le, cs1]}]}
    rest: {default: true}
"""
ETS = """
    voice: {tier: special, match: [{dscp: ef}], sla: {delay-p99: DELAY}}
    web: {share: SHARE, match: [{proto: tcp, dport: 443}]}
    rest: {share: 25%, default: true}
"""
PRIO = """
    voice: {tier: special, match: [{dscp: ef}], sla: {delay-p99: DELAY}}
    web: {tier: priority, match: [{proto: tcp, dport: 443}]}
    rest: {default: true}
"""


def shown(lab: Lab, device: str) -> dict[str, Any]:
    """The root as tc prints it."""
    found = json.loads(lab.run(f"tc -s -j qdisc show dev {device}"))
    return next(one for one in found if one.get("root"))


def set_root(lab: Lab, device: str, kind: str, options: RootOptions) -> None:
    lab.kernel().send(device, [Step(Verb.ADD, None, Qdisc(TOP, ROOT, kind, options))])


def test_tc_shows_the_cake_that_was_sent_and_its_own_is_read_as_it_shows_it(netns: Lab) -> None:
    device, kernel = netns.link_pair().a, netns.kernel()
    sent = CakeOptions(
        rate=20 * M,
        diffserv=Diffserv.DIFFSERV8,
        flows=FlowMode.DUAL_SRCHOST,
        rtt=33_000,
        target=1_650,
        nat=True,
        wash=True,
        ack_filter=AckFilter.AGGRESSIVE,
        split_gso=False,
        overhead=-4,
        mpu=64,
        cells=Cells.ATM,
        memory=3 << 20,
        fwmark=0xFF0,
    )
    set_root(netns, device, "cake", sent)
    wanted = {
        **{"bandwidth": 20 * M // 8, "diffserv": "diffserv8", "flowmode": "dual-srchost", "rtt": 33_000, "nat": True},
        **{"wash": True, "ack-filter": "aggressive", "split_gso": False, "overhead": -4, "mpu": 64, "atm": "atm"},
        **{"memlimit": 3 << 20, "fwmark": "0xff0", "raw": False, "ingress": False},
    }
    assert shown(netns, device)["options"] == wanted

    netns.run(f"tc qdisc replace dev {device} root handle 5a00: cake unlimited besteffort nonat nowash flowblind raw")
    root = kernel.read(device).root()
    assert root is not None and isinstance(root.options, CakeOptions)
    kept = root.options._replace(rate=0, diffserv=Diffserv.BESTEFFORT, flows=FlowMode.FLOWBLIND)
    assert root.options == kept == sent._replace(
        rate=0, diffserv=Diffserv.BESTEFFORT, flows=FlowMode.FLOWBLIND, nat=False, wash=False, overhead=None,
        ack_filter=root.options.ack_filter, rtt=root.options.rtt, target=root.options.target,
        split_gso=root.options.split_gso, cells=root.options.cells,
    )  # fmt: skip


def test_tc_shows_the_bands_that_were_sent_and_its_own_are_read_as_it_shows_them(netns: Lab) -> None:
    device, kernel = netns.link_pair().a, netns.kernel()
    spread = (1, 2, 2, 2, 1, 2, 0, 0, 1, 1, 1, 1, 1, 1, 1, 4)
    set_root(netns, device, "ets", EtsOptions(5, 2, (1514, 3000, 60_000), spread))
    assert shown(netns, device)["options"] == {
        **{"bands": 5, "strict": 2, "quanta": [1514, 3000, 60_000], "priomap": list(spread)}
    }
    netns.run(f"tc qdisc replace dev {device} root handle 5a00: ets bands 3 strict 1 quanta 4000 5000 priomap 2 1")
    root = kernel.read(device).root()
    assert root is not None and root.options == EtsOptions(3, 1, (4000, 5000), (2, 1, *(2,) * 14))
    netns.run(f"tc qdisc del dev {device} root")
    set_root(netns, device, "prio", PrioOptions(5, spread))
    options = shown(netns, device)["options"]
    assert (options["bands"], options["priomap"]) == (5, list(spread))
    netns.run(f"tc qdisc replace dev {device} root handle 5a00: prio bands 3")
    root = kernel.read(device).root()
    assert root is not None and root.options == PrioOptions(3, (1, 2, 2, 2, 1, 2, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1))


@pytest.mark.parametrize(
    ("backend", "classes", "before", "after"),
    [
        ("cake", CAKE, {"GUARANTEE": "10%"}, None),
        ("ets", ETS, {"DELAY": "20ms", "SHARE": "75%"}, {"DELAY": "20ms", "SHARE": "50%"}),
        ("ets", ETS, {"DELAY": "20ms", "SHARE": "75%"}, {"DELAY": "400ms", "SHARE": "75%"}),
        ("prio", PRIO, {"DELAY": "20ms"}, {"DELAY": "400ms"}),
    ],
)
def test_apply_once_change_in_place_and_clear_leaves_nothing(
    netns: Lab, tmp_path: Path, backend: str, classes: str, before: dict[str, str], after: dict[str, str] | None
) -> None:
    bench = Bench(netns, netns.link_pair().a, tmp_path, backend=backend)
    empty = bench.found()

    def filled(values: dict[str, str]) -> str:
        text = classes
        for name, value in values.items():
            text = text.replace(name, value)
        return text

    assert {step["verb"] for step in bench.apply(filled(before))} == {"add"}
    assert f"qdisc {backend} 5a00: root" in bench.tc("qdisc")
    first = bench.found()
    assert bench.apply(filled(before)) == []
    assert bench.shaper(f"status --device {bench.device}")[1]["interfaces"][0]["alarms"] == []
    if after is not None:
        steps = bench.apply(filled(after))
        assert {step["verb"] for step in steps} == {"change"}
        bench.apply(filled(before))
        assert bench.found() == first
    assert bench.shaper("clear")[0] == 0
    assert bench.found() == empty


def test_cakes_bandwidth_changes_in_place(netns: Lab, tmp_path: Path) -> None:
    device = netns.link_pair().a
    slow, fast = (
        Bench(netns, device, tmp_path, backend="cake", bandwidth=bandwidth) for bandwidth in ("20mbit", "30mbit")
    )
    slow.apply(CAKE.replace("GUARANTEE", "10%"))
    (step,) = fast.apply(CAKE.replace("GUARANTEE", "10%"))
    assert (step["verb"], step["before"]["rate_bit_s"], step["after"]["rate_bit_s"]) == ("change", 20 * M, 30 * M)
    assert shown(netns, device)["options"]["bandwidth"] == 30 * M // 8


def test_from_backend_to_backend_and_back_the_same_tree(netns: Lab, tmp_path: Path) -> None:
    device = netns.link_pair().a
    held: dict[str, str] = {}
    policies = {"htb": "all: {default: true}", "ets": ETS.replace("DELAY", "20ms").replace("SHARE", "75%")}
    policies |= {
        "hfsc": policies["htb"],
        "cake": CAKE.replace("GUARANTEE", "1mbit"),
        "prio": PRIO.replace("DELAY", "9ms"),
    }
    for backend in ("htb", "ets", "cake", "hfsc", "prio", "htb", "ets"):
        bench = Bench(netns, device, tmp_path, backend=backend)
        bench.apply(policies[backend])
        assert bench.found() == held.setdefault(backend, bench.found())


@pytest.mark.parametrize("way", TINS)
def test_the_kernel_sorts_every_dscp_as_our_table_says(netns: Lab, way: Diffserv) -> None:
    pair, tins = netns.link_pair(), TINS[way]
    neighbours(netns, pair)
    set_root(netns, pair.a, "cake", CakeOptions(0, way))
    kernel = netns.kernel()

    def counted() -> list[int]:
        found = kernel.counters(pair.a).classes
        return [found[TOP | number].sent_packets for number in range(1, len(tins.names) + 1)]

    with netns.inside(lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) as sock:
        for dscp in DSCPS:
            before = counted()
            sock.setsockopt(socket.IPPROTO_IP, socket.IP_TOS, dscp << 2)
            for _ in range(20):  # the kernel's own packets come now and then
                sock.sendto(b"x", (pair.b_v4, 9))
            moved = [now - then for now, then in zip(counted(), before, strict=True)]
            assert tins.shown[moved.index(max(moved))] == tins.tin_of[dscp], dscp
            assert max(moved) >= 20
    rates = [tin["threshold_rate"] for tin in shown(netns, pair.a)["tins"]]
    assert len(rates) == len(tins.names)


@pytest.mark.parametrize("way", TINS)
def test_the_kernels_thresholds_are_those_of_our_table(netns: Lab, way: Diffserv) -> None:
    device = netns.link_pair().a
    set_root(netns, device, "cake", CakeOptions(80 * M, way))
    tins = TINS[way]
    rates = [tin["threshold_rate"] * 8 for tin in shown(netns, device)["tins"]]
    assert rates == [pytest.approx(80 * M * tins.thresholds[tin], rel=1e-3) for tin in tins.shown]


@pytest.mark.parametrize(
    ("backend", "classes"),
    [("cake", CAKE.replace("GUARANTEE", "10%")), ("ets", ETS.replace("DELAY", "20ms").replace("SHARE", "75%"))],
)
def test_a_run_counts_every_class_and_moves_none(netns: Lab, tmp_path: Path, backend: str, classes: str) -> None:
    pair = netns.link_pair()
    neighbours(netns, pair)
    bench = Bench(netns, pair.a, tmp_path, backend=backend)
    bench.write(classes)
    process = netns.start(f"{SHAPER} run {bench.policy} --state {bench.state} --json")
    assert process.stdout is not None and process.stderr is not None
    line = process.stdout.readline()
    assert line, process.stderr.read()
    assert json.loads(line)["event"] == "ready"
    held = bench.found()
    sender = bench.flood(pair.b_v4, rate=M, seconds=20, dscp=46)
    limit = time.monotonic() + 15
    while True:
        (one,) = bench.shaper(f"status --device {pair.a}")[1]["interfaces"]
        found = {cls["path"]: cls for cls in one["classes"]}
        if found["voice"]["sent_packets"] > 50 and found["voice"]["delay"]:
            break
        assert time.monotonic() < limit, found["voice"]
        time.sleep(0.2)
    assert one["controller"]["held"] == "no class has a rate to move"
    assert one["controller"]["changes"] == 0
    sender.kill()
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=30)
    assert process.returncode == 0, err
    assert bench.found() == held


def neighbours(lab: Lab, pair: LinkPair) -> None:
    """Each knows the other, so that no ARP comes between."""
    (address,) = re.findall(r"link/ether (\S+)", lab.run(f"ip -o link show {pair.b}", peer=True))
    lab.run(f"ip neigh replace {pair.b_v4} lladdr {address} dev {pair.a} nud permanent")
    time.sleep(0.1)
