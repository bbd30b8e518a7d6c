"""`shaper measure` on a real kernel: by packets captured for it, from a running shaper, and from recordings."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from test_cli_kernel import Box, end, send, until

from collectors.bpf.delays import refusal

pytestmark = pytest.mark.kernel

EF, AF41 = 46, 34


@pytest.fixture
def box(netns: Any, tmp_path: Path) -> Iterator[Box]:
    yield Box(netns, tmp_path)


def measured(box: Box, options: str) -> tuple[dict[str, Any], dict[str, dict[str, Any]]]:
    """The measurement and its classes by path."""
    code, out, err = box.shaper(f"measure --json {options}")
    assert code == 0, err
    (found,) = json.loads(out)["measurements"]
    return found, {one["path"]: one for one in found["classes"]}


def test_classes_by_captured_packets_and_again_from_what_was_kept(box: Box, tmp_path: Path) -> None:
    assert box.shaper(f"apply {box.policy}")[0] == 0
    tree = box.tc()
    flows = [send(box, rate=500_000, seconds=20, dscp=EF), send(box, rate=3_000_000, seconds=20, dscp=AF41)]
    found, classes = measured(box, f"{box.pair.a} --for 2s --pcap {tmp_path / 'kept.pcap'}")
    for flow in flows:
        flow.kill()
        flow.wait()
    assert (found["source"], found["sampling"], found["trusted"]) == ("capture", 1, True)
    voice, video = classes["voice"], classes["video"]
    for one, rate in ((voice, 5e5), (video, 3e6)):
        assert one["throughput_bit_s"] == pytest.approx(rate, rel=0.5), "the machine may be busy"
        assert one["loss"]["source"] == "counters"
        assert one["delay"]["count"] > 50
        assert one["delay"]["low_s"] == {}, "a full count has no interval"
        assert 0 <= one["delay"]["pdv_s"]["0.5"] <= one["delay"]["pdv_s"]["0.99"] < 1
        assert one["flows"][0]["flow"].startswith(f"udp {box.pair.a_v4}:")
        assert one["availability"]["unavailable_s"] == 0
    assert classes["bulk"]["delay"] is None
    assert box.tc() == tree, "nothing is written to the kernel"

    read, again = measured(
        box, f"{box.policy} --read {tmp_path / 'kept.before.pcap'} {tmp_path / 'kept.after.pcap'} --hash-addresses"
    )
    assert (read["source"], read["capture"]["ambiguous"]) == ("file", 0)
    for path, one in (("voice", voice), ("video", video)):
        assert again[path]["delay"]["quantiles_s"] == one["delay"]["quantiles_s"]
        assert again[path]["delay"]["count"] == one["delay"]["count"]
        assert box.pair.a_v4 not in again[path]["flows"][0]["flow"]


def test_a_sample_of_a_chosen_rate_says_what_it_is_worth(box: Box) -> None:
    assert box.shaper(f"apply {box.policy}")[0] == 0
    flow = send(box, rate=6_000_000, seconds=20, dscp=AF41)
    found, classes = measured(box, f"{box.pair.a} --for 2s --sampling 4")
    flow.kill()
    flow.wait()
    video = classes["video"]
    assert found["sampling"] == video["delay"]["sampling"] == 4
    assert 0.1 < video["delay"]["coverage_ratio"] <= 1
    assert video["delay"]["count"] < video["loss"]["offered_packets"] / 2
    assert video["delay"]["low_s"]["0.5"] <= video["delay"]["quantiles_s"]["0.5"] <= video["delay"]["high_s"]["0.5"]
    assert video["ipdv_s"] == {}


def talk(box: Box) -> tuple[subprocess.Popen[str], subprocess.Popen[str]]:
    """TCP of both ends: 1000 bytes, every 5 ms, in the class video."""
    end = f"('{box.pair.b_v4}',7003)"
    server = f"import socket;s=socket.create_server({end});print(1,flush=True);c,_=s.accept()\nwhile c.recv(9999): pass"
    client = (
        f"import socket,time;s=socket.create_connection({end});s.setsockopt(6,1,1);s.setsockopt(0,1,{AF41 << 2})\n"
        "while 1:\n  s.sendall(bytes(1000));time.sleep(.005)\n"
    )
    found = []
    for name, code in (("server", server), ("client", client)):
        script = box.policy.with_name(f"{name}.py")
        script.write_text(code)
        found.append(box.lab.start(f"{sys.executable} {script}", peer=name == "server"))
        if name == "server":
            assert found[0].stdout.readline()
    return found[0], found[1]


@pytest.mark.parametrize("running", [False, True])
def test_what_tcp_shows_of_a_class(box: Box, running: bool) -> None:
    run = box.start() if running else None
    if run is None:
        assert box.shaper(f"apply {box.policy}")[0] == 0
    talking = talk(box)
    until(lambda: "bytes_acked" in box.lab.run("ss -tin dport = :7003"))
    _, classes = measured(box, f"{box.pair.a} --for 2s")
    hashed = [] if running else measured(box, f"{box.pair.a} --for 1s --hash-addresses")[1]["video"]["tcp"]["largest"]
    again = re.search(r"\bretrans:\d+/(\d+)", box.lab.run("ss -tin dport = :7003"))
    for one in (*talking, *((run,) if run else ())):
        one.terminate()
        one.wait()
    tcp = classes["video"]["tcp"]
    assert (tcp["flows"], tcp["sampling"]) == (1, 1)
    assert tcp["retransmitted"] <= (int(again[1]) if again else 0), "a busy machine's TCP may probe for a lost tail"
    assert tcp["retransmitted_ratio"] == tcp["retransmitted"] / tcp["segments"]
    assert tcp["segments"] > 50
    assert tcp["samples"] > 20
    assert 0 < tcp["least_s"] <= tcp["rtt_s"] < 0.5
    assert tcp["largest"][0]["flow"].startswith(f"tcp {box.pair.a_v4}:")
    assert tcp["largest"][0]["flow"].endswith(f" > {box.pair.b_v4}:7003")
    assert [box.pair.a_v4 in one["flow"] for one in hashed] == ([] if running else [False])
    assert classes["bulk"]["tcp"]["segments"] == 0


def test_a_running_shaper_is_asked(box: Box) -> None:
    run = box.start()
    flow = send(box, rate=1_000_000, seconds=20, dscp=EF)
    found, classes = measured(box, "--for 6s --class voice")
    if not refusal():
        code, _, err = box.shaper("measure --for 3600s --sampling 4")
        assert (code, "no packet is copied" in err, "run --measure capture" in err) == (69, True, True)
    flow.kill()
    flow.wait()
    end(run)
    assert found["source"] == "run"
    assert list(classes) == ["voice"]
    assert found["window_s"] == pytest.approx(6, abs=1.5)
    assert classes["voice"]["delay"]["count"] > 50
    assert classes["voice"]["loss"]["offered_packets"] > 50, (
        "counted a moment before the packets are, on a busy machine"
    )
    assert classes["voice"]["availability"]["available_s"] >= 3
    assert classes["voice"]["availability"]["unavailable_s"] == 0
    assert classes["voice"]["peak_to_mean"]["1.0"] < classes["voice"]["peak_to_mean"]["0.002"]


def test_after_a_run_has_ended_its_packets_are_copied_again_and_captured(box: Box) -> None:
    if why := refusal():
        pytest.skip(f"missing capability: eBPF ({why})")
    assert end(box.start("--no-metrics", "--measure", "ebpf"))[0] == 0
    shaped = box.shaping()
    flow = send(box, rate=1_000_000, seconds=30, dscp=EF)
    for _ in range(2):  # the second time they are there
        found, classes = measured(box, f"{box.pair.a} --for 2s")
        assert (found["source"], found["trusted"]) == ("capture", True)
        assert classes["voice"]["delay"]["count"] > 50
    flow.kill()
    flow.wait()
    assert box.shaping() == shaped
    changes = json.loads(box.shaper("history --json")[1])["changes"]
    assert [one["what"] for one in changes] == ["run", "measure"]
    assert box.shaper(f"plan {box.policy}")[0] == 0


def test_no_traffic_is_no_data_and_nothing_of_ours_is_an_error(box: Box) -> None:
    code, _, err = box.shaper(f"measure {box.pair.a} --for 1s")
    assert (code, "nothing of the shaper's" in err) == (69, True)
    assert box.shaper(f"apply {box.policy}")[0] == 0
    code, out, _ = box.shaper(f"measure {box.pair.a} --for 1s --class voice")
    assert (code, "no data" in out) == (4, True)
    code, _, err = box.shaper(f"measure {box.pair.a} --for 3600s --class voise")  # and not in an hour
    assert (code, "has no class 'voise'" in err) == (64, True)
