"""One measurement: what recordings and a running shaper's counts become, and what a sample may claim."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from random import Random
from statistics import mean

import pytest
from click.testing import CliRunner
from report_samples import RUNNING
from wire_samples import udp

from collectors import pcap
from collectors.histogram import DelayHistogram
from collectors.sample import CaptureWindow, ClassWindow
from collectors.slices import Slice
from shaper.cli.entry import cli
from shaper.errors import ShaperError, TryAgainError
from shaper.model.sla import MosTarget, Sla
from shaper.model.status import Burst, InterfaceStatus
from shaper.policy import parse_policy
from shaper.run.measurement import between
from shaper.run.recorder import Recorder, Wanted
from shaper.run.recordings import read_pair
from shaper.stats import Availability

POLICY = """\
version: 1
interfaces:
  wan: {device: eth1, bandwidth: {egress: 20mbit}, policy: p}
policies:
  p:
    classes:
      voice: {tier: special, guarantee: 1mbit, limit: 2mbit, match: [{dscp: ef}], sla: {mos: 4.2}}
      rest: {default: true}
"""
BEGUN = 1_700_000_000 * 10**9


def pair(folder: Path, *, lost: frozenset[int] = frozenset()) -> tuple[Path, Path, list[float]]:
    """200 packets of a call, 20 ms apart, and 200 others; each waits a little. And the waits of the calls."""
    chance, waits = Random(5), []
    before, after = [], []
    for number in range(200):
        for tos in (46 << 2, 0):
            stamp, wait = BEGUN + number * 20_000_000 + tos, chance.randrange(1_000_000, 9_000_000)
            data = udp(payload=number.to_bytes(4, "big") + bytes(160), tos=tos, number=number, sport=5000 + tos)
            before.append((stamp, len(data), data))
            if tos and number in lost:
                continue
            after.append((stamp + wait, len(data), data))
            waits += [wait / 1e9] if tos else []
    paths = folder / "before.pcap", folder / "after.pcap"
    for path, frames in zip(paths, (before, sorted(after)), strict=True):
        path.write_bytes(pcap.header() + b"".join(map(pcap.record, frames)))
    return *paths, waits


def test_a_recorded_pair_by_the_classes_of_a_policy(tmp_path: Path) -> None:
    before, after, waits = pair(tmp_path, lost=frozenset((3, 50, 51)))
    (interface,) = parse_policy(POLICY, source="p.yaml").interfaces
    found = read_pair(before, after, interface=interface)
    voice = next(one for one in found.classes if one.path == "voice")
    assert voice.loss is not None
    assert (voice.loss.lost, voice.loss.offered, voice.loss.low) == (3, 200, None)
    assert voice.delay is not None
    assert voice.mean == pytest.approx(mean(waits))
    assert voice.delay.quantiles[0.99] == pytest.approx(sorted(waits)[194], rel=0.006)
    assert voice.delay.least == pytest.approx(min(waits), rel=0.006)
    steps = sorted(abs(after - before) for before, after in pairwise(waits))
    assert voice.ipdv[0.5] == pytest.approx(steps[98], rel=0.02)
    assert voice.call is not None
    assert (voice.call.codec, 4.2 < voice.call.mos < 4.41) == ("g711-plc", True)
    assert voice.throughput == pytest.approx(197 * 206 * 8 / found.seconds, rel=0.01)
    assert found.capture.audited > 0
    assert found.capture.misclassified == 0


def test_a_recording_of_a_sample_says_what_it_is_worth(tmp_path: Path) -> None:
    before, after, _ = pair(tmp_path, lost=frozenset((3, 50, 51)))
    (one,) = read_pair(before, after, interface=None, sampling=8).classes
    assert one.delay is not None
    assert one.delay.low[0.5] <= one.delay.quantiles[0.5] <= one.delay.high[0.5]
    assert one.loss is not None
    assert one.loss.low is not None
    assert one.loss.high is not None
    assert one.loss.low < one.loss.ratio < one.loss.high
    assert (one.throughput, one.ipdv, one.dispersion) == (None, {}, None), "a sample says nothing of these"


def test_what_came_after_the_end_of_the_second_file_is_not_lost(tmp_path: Path) -> None:
    before, after, _ = pair(tmp_path)
    frames = list(pcap.frames(after))[:100]
    after.write_bytes(pcap.header() + b"".join(map(pcap.record, frames)))
    (one,) = read_pair(before, after, interface=None).classes
    assert one.loss is not None
    assert (one.loss.lost, one.loss.offered) == (0, 100)


@pytest.mark.parametrize("side", [0, 1])
def test_no_recording_is_refused_with_a_mend(tmp_path: Path, side: int) -> None:
    files = list(pair(tmp_path)[:2])
    files[side].write_bytes(b"GIF89a")
    with pytest.raises(ShaperError, match="neither pcap nor pcapng") as refused:
        read_pair(files[0], files[1], interface=None)
    assert refused.value.hint
    files[side].write_bytes(pcap.header())
    if side:
        with pytest.raises(ShaperError, match="no frames"):
            read_pair(files[0], files[1], interface=None)


def window(delays: tuple[float, ...], *, lost: int = 0, sampling: int = 1, drops: int = 0) -> CaptureWindow:
    one = ClassWindow(delays, len(delays) + lost, (len(delays) + lost) * 100, 0, len(delays), lost, {0.1: 300})
    return CaptureWindow(1.0, {7: one}, 2 * len(delays) + lost, drops, 0, 0, 0, {}, sampling)


def test_percentiles_are_of_all_windows_together_and_never_averaged() -> None:
    recorder = Recorder({7: "voice"}, {})
    recorder.add(window((1.0,) * 10))
    recorder.add(window((0.001,) * 990))
    (one,) = recorder.measures()
    assert one.delay is not None
    assert one.delay.quantiles[0.95] == pytest.approx(0.001, rel=0.006)
    assert one.delay.quantiles[0.99] == pytest.approx(0.001, rel=0.006)
    assert one.delay.largest == 1.0


def sliced(number: int, delays: tuple[float, ...], *, lost: int = 0) -> CaptureWindow:
    one = replace(window(delays, lost=lost, sampling=8).classes[7], slices=(Slice(number, len(delays), lost),))
    return replace(window(delays, lost=lost, sampling=8), classes={7: one}, listening=0.2)


def test_of_slices_the_intervals_are_those_of_a_cluster_sample() -> None:
    """Waits and losses of a slice are alike: the same packets, drawn one by one, would claim far more."""
    chance = Random(11)
    clustered, alone = Recorder({7: "voice"}, {}), Recorder({7: "voice"}, {})
    for number in range(1, 31):
        wait, lost = chance.uniform(0.001, 0.02), 10 * (number % 6 == 0)
        delays = tuple(wait * chance.uniform(0.9, 1.1) for _ in range(50))
        clustered.add(sliced(number, delays, lost=lost))
        alone.add(window(delays, lost=lost, sampling=8))
    (one,), (other,) = clustered.measures(), alone.measures()
    assert one.delay is not None and other.delay is not None
    assert (one.delay.quantiles, one.delay.count) == (other.delay.quantiles, other.delay.count)
    assert one.delay.low[0.5] < other.delay.low[0.5] < other.delay.high[0.5] < one.delay.high[0.5]
    assert one.delay.high[0.5] - one.delay.low[0.5] > 3 * (other.delay.high[0.5] - other.delay.low[0.5])
    assert 0.99 in other.delay.high and 0.99 not in one.delay.high, "30 slices have no end above p99"
    assert one.loss is not None and other.loss is not None
    assert one.loss.low is not None and one.loss.high is not None
    assert other.loss.low is not None and other.loss.high is not None
    assert one.loss.low < other.loss.low < one.loss.ratio < other.loss.high < one.loss.high


def test_few_slices_have_no_interval_whatever_came_while_it_listened_always() -> None:
    recorder = Recorder({7: "voice"}, {})
    recorder.add(window((0.001,) * 1000, sampling=8))
    for number in range(1, 4):
        recorder.add(sliced(number, (0.001 * number,) * 50))
    (one,) = recorder.measures()
    assert one.delay is not None
    assert (one.delay.count, one.delay.low, one.delay.high) == (1150, {}, {})
    assert one.loss is not None
    assert (one.loss.low, one.loss.high) == (None, None)
    recorder.add(sliced(4, (0.004,) * 50))
    (one,) = recorder.measures()
    assert one.delay is not None
    assert one.delay.low, "the time before the slices is one of five clusters"


def test_bursts_are_over_the_mean_of_what_is_not_tcp() -> None:
    recorder = Recorder({7: "voice"}, {})
    for most in (300, 150):
        one = ClassWindow((0.001,) * 10, 10, 10_000, 1_000, 10, 0, {0.1: most})
        recorder.add(CaptureWindow(1.0, {7: one}, 20, 0, 0, 0, 0, {}, 1))
    (found,) = recorder.measures()
    assert (found.offered, found.peaks) == (80_000, {0.1: pytest.approx(3.0)})


def test_a_capture_that_lost_frames_is_not_trusted_and_nothing_is_made_up() -> None:
    recorder = Recorder({7: "voice"}, {"voice": Wanted(Sla(mos=MosTarget(4.0, "g711")))})
    recorder.add(window((0.001,) * 100, drops=3))
    (one,) = recorder.measures()
    assert not recorder.health.trusted
    assert one.loss is None, "frames that the capture lost are no lost packets"


def counted(seconds: float, sent: int, dropped: int, delays: list[float]) -> dict[str, object]:
    histogram = DelayHistogram()
    histogram.add(delays)
    voice = replace(RUNNING.classes[0], sent_packets=sent, sent_bytes=sent * 200, dropped_packets=dropped)
    status = replace(RUNNING, seconds=seconds, classes=(voice,))
    return {"status": status, "delays": {"voice": json.loads(json.dumps(histogram.as_json()))}}


def test_between_two_answers_of_a_running_shaper() -> None:
    before = counted(10.0, 1000, 5, [0.5] * 900)
    after = counted(20.0, 1500, 30, [0.5] * 900 + [0.002] * 475)
    found = between(before, after, {})
    (one,) = found.classes
    assert (found.source, found.seconds) == ("run", 10.0)
    assert one.delay is not None
    assert (one.delay.count, one.delay.coverage) == (475, 0.95)
    assert one.delay.quantiles[0.99] == pytest.approx(0.002, rel=0.011), "what came before is not in it"
    assert one.delay.least == pytest.approx(0.002, rel=0.011)
    assert one.loss is not None
    assert (one.loss.lost, one.loss.offered) == (25, 525)
    assert one.throughput == 500 * 200 * 8 / 10
    with pytest.raises(TryAgainError, match="began anew"):
        between(after, before, {})


@pytest.mark.parametrize("count", [0, 7])
def test_of_slices_of_a_running_shaper_there_are_no_ends(count: int) -> None:
    """It tells how many delays are of slices, and not of which."""
    before, after = counted(10.0, 1000, 5, []), counted(20.0, 1500, 30, [0.002] * 475)
    for one in (before, after):
        status = one["status"]
        assert isinstance(status, InterfaceStatus)
        assert status.classes[0].delay is not None
        voice = replace(status.classes[0], delay=replace(status.classes[0].delay, sampling=8))
        one["status"] = replace(status, classes=(voice,))
    (found,) = between({**before, "sliced": {"voice": 9}}, {**after, "sliced": {"voice": 9 + count}}, {}).classes
    assert found.delay is not None
    assert bool(found.delay.low) == (count == 0)


@pytest.mark.parametrize(("seconds", "bursts"), [(4.0, {}), (5.0, {0.1: 3.0})])
def test_a_running_shaper_tells_bursts_of_its_last_seconds_and_availability(
    seconds: float, bursts: dict[float, float]
) -> None:
    def answer(at: float, availability: Availability) -> dict[str, object]:
        data = counted(at, 1000, 5, [])
        status = data["status"]
        assert isinstance(status, InterfaceStatus)
        voice = replace(status.classes[0], availability=availability, burst=Burst({0.1: 300}, 8_000.0))
        return {**data, "status": replace(status, classes=(voice,))}

    before, after = answer(10.0, Availability(90, 0, 7)), answer(10.0 + seconds, Availability(85, 10, 8))
    (one,) = between(before, after, {}).classes
    assert one.peaks == bursts
    assert one.availability == Availability(0, 5, 1), "five seconds that ended, not the five before them"


def invoke(*arguments: str | Path) -> tuple[int, str]:
    done = CliRunner().invoke(cli, ["measure", *map(str, arguments)], standalone_mode=False)
    return (done.return_value if done.exception is None else 64), done.output + str(done.exception or "")


def test_the_command_reads_recordings_without_a_kernel(tmp_path: Path) -> None:
    before, after, _ = pair(tmp_path)
    (tmp_path / "p.yaml").write_text(POLICY)
    code, out = invoke(tmp_path / "p.yaml", "--read", before, after, "--class", "voice", "--flows", "1")
    assert code == 0
    assert "voice: a call (g711-plc) scores 4.39" in out
    assert "udp 192.0.2.1:5184 > 198.51.100.2:5010" in out
    code, out = invoke("--read", before, after, "--json", "--hash-addresses")
    assert code == 0
    (found,) = json.loads(out)["measurements"]
    assert found["classes"][0]["delay"]["count"] == 400
    assert "192.0.2.1" not in out


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--sampling", "6"), "a power of two"),
        (("--payload",), "name one with --pcap"),
        (("eth1", "-i", "wan"), "is of a policy"),
        (("--for", "3"), "has no unit"),
        (("--pcap-room", "3"), "has no unit"),
    ],
)
def test_options_that_make_no_sense(options: tuple[str, ...], said: str) -> None:
    code, out = invoke(*options)
    assert (code, said in out) == (64, True), out
