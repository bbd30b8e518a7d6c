"""From counters to an observation, where counters jump, begin anew, or the capture is gone."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import pytest
from compile_samples import ETHERNET, SMALL_KERNEL

from collectors.histogram import DelayHistogram
from collectors.sample import CaptureWindow, ClassWindow
from collectors.slices import Slice
from shaper.compile import compile_interface
from shaper.kernel.protocol import ClassCounters, DeviceCounters
from shaper.model.observation import DelayView, Observation
from shaper.model.sla import SlaState
from shaper.model.status import Borrowing, ClassStatus
from shaper.policy import parse_policy
from shaper.run.observe import Observer
from shaper.stats import Availability

TEXT = """\
version: 1
interfaces: {wan: {device: eth1, bandwidth: {egress: 20mbit}, policy: p}}
policies: {p: {classes: {rest: {default: true, sla: {delay-p99: 5ms}}}}}
"""
INTERFACE = parse_policy(TEXT, source="p.yaml").interfaces[0]
PROGRAM = compile_interface(INTERFACE, SMALL_KERNEL, ETHERNET)
REST = PROGRAM.handles["rest"]


def counters(packets: int, drops: int = 0, unshaped: int = 0) -> DeviceCounters:
    return DeviceCounters({REST: ClassCounters(packets * 1000, packets, drops, 0, 0, 0)}, unshaped)


def window(*delays: float) -> CaptureWindow:
    classes = {REST: ClassWindow(delays=delays, arrived_packets=len(delays), matched=len(delays))}
    return CaptureWindow(0.25, classes, len(delays) * 2, 0, 0, 0, 0, {}, 1)


def test_packets_past_the_shaper_are_counted_once() -> None:
    observer = Observer(PROGRAM, counters(0, unshaped=5))
    seen = [
        observer.tick(now=now, seconds=1.0, counters=counters(0, unshaped=count), window=None, why="").unshaped_packets
        for now, count in enumerate((5, 12, 12, 12, 13))
    ]
    assert seen == [0, 7, 0, 0, 1]


def test_a_class_that_was_made_anew_counts_on() -> None:
    observer = Observer(PROGRAM, counters(100, drops=4))
    observer.tick(now=1.0, seconds=1.0, counters=counters(150, drops=6), window=None, why="")
    after = observer.tick(now=2.0, seconds=1.0, counters=counters(10, drops=1), window=None, why="")
    total = next(one for one in observer.totals() if one.path == "rest")
    assert (total.sent_packets, total.sent_bytes, total.kernel_drops) == (60, 60_000, 3)
    assert after.classes["rest"].sent_packets == 10


@pytest.mark.parametrize(
    ("before", "after", "dropped"), [(2**32 - 3, 4, 7), (70_000, 4, 4)], ids=["gone round", "a queue made anew"]
)
def test_drops_that_fall_alone_say_nothing_of_what_was_sent(before: int, after: int, dropped: int) -> None:
    """A queue has its own counter of drops, of 32 bits; the class goes on."""
    observer = Observer(PROGRAM, counters(1_000_000, drops=before))
    seen = observer.tick(now=1.0, seconds=1.0, counters=counters(1_000_010, drops=after), window=None, why="")
    one, total = seen.classes["rest"], observer.totals()[-1]
    assert (one.sent_packets, one.sent_bytes, one.dropped_packets) == (10, 10_000, dropped)
    assert (total.sent_packets, total.sent_bytes, total.kernel_drops) == (10, 10_000, dropped)
    again = observer.tick(now=2.0, seconds=1.0, counters=counters(1_000_010, drops=after + 1), window=None, why="")
    assert (again.classes["rest"].dropped_packets, observer.totals()[-1].kernel_drops) == (1, dropped + 1)


def test_a_window_of_which_the_capture_lost_too_much_drives_nothing() -> None:
    """At 0.1 % it counts; beyond it is marked, and neither delays, losses nor arrivals of it are taken for any."""
    observer = Observer(PROGRAM, counters(0))

    def tick(now: float, drops: int) -> Observation:
        seen = replace(window(*[0.01] * 1000), captured=2000, capture_drops=drops)
        return observer.tick(now=now, seconds=0.25, counters=counters(int(now * 4000)), window=seen, why="")

    assert tick(1.0, 2).classes["rest"].delay is not None
    lossy = tick(1.25, 3)
    assert (lossy.classes["rest"].delay, lossy.classes["rest"].inelastic) == (None, None)
    assert (lossy.capture.trusted, "lost 0.15%" in lossy.capture.reason) == (False, True)
    (status,) = (one for one in observer.statuses(PROGRAM.static) if one.path == "rest")
    assert (status.delay, status.histogram.count) == (None, 1000)
    assert status.sla is not None
    assert [(one.target, one.state) for one in status.sla.targets] == [("delay-p99", SlaState.NO_DATA)]
    assert tick(1.5, 0).classes["rest"].delay is not None


def test_delay_is_not_shown_after_the_capture_broke_off() -> None:
    observer = Observer(PROGRAM, counters(0))
    first = observer.tick(now=1.0, seconds=0.25, counters=counters(2), window=window(0.01, 0.02), why="")
    assert first.classes["rest"].delay is not None
    later = observer.tick(now=1.25, seconds=0.25, counters=counters(3), window=None, why="the link went down")
    assert later.classes["rest"].delay is None


def test_what_a_class_borrowed_is_since_the_start() -> None:
    def told(lends: int | None, borrows: int | None) -> DeviceCounters:
        return DeviceCounters({REST: ClassCounters(0, 0, 0, 0, 0, 0, lends=lends, borrows=borrows)}, 0)

    def borrowing(observer: Observer, at: float, now: DeviceCounters | None) -> Borrowing | None:
        observer.tick(now=at, seconds=1.0, counters=now, window=None, why="")
        return next(one.borrowing for one in observer.statuses(PROGRAM.static) if one.path == "rest")

    observer = Observer(PROGRAM, told(2**32 - 10, 50))
    assert borrowing(observer, 1.0, told(2**32 - 6, 53)) == Borrowing(4, 3)
    assert borrowing(observer, 2.0, None) == Borrowing(4, 3)
    assert borrowing(observer, 3.0, told(1, 60)) == Borrowing(11, 10)
    assert borrowing(Observer(PROGRAM, told(None, None)), 1.0, told(None, None)) is None


def available(ticks: Iterable[tuple[float, float, int, int]]) -> Availability | None:
    """After ticks of (when it ends, seconds, packets sent, packets dropped)."""
    observer = Observer(PROGRAM, counters(0))
    sent = dropped = 0
    for now, seconds, more, gone in ticks:
        sent, dropped = sent + more, dropped + gone
        observer.tick(now=now, seconds=seconds, counters=counters(sent, dropped), window=None, why="")
    return next(one.availability for one in observer.statuses(PROGRAM.static) if one.path == "rest")


def test_availability_is_counted_in_seconds_whatever_the_ticks() -> None:
    """5 good seconds, 10 that lose 2 of 3 packets in one tick of four, 9 good ones: not available again yet."""
    lossy = [5 <= number // 4 < 15 for number in range(24 * 4)]
    found = available((100 + (n + 1) / 4 - 0.01, 0.25, 1, 8 * (bad and n % 4 == 0)) for n, bad in enumerate(lossy))
    assert found == Availability(5, 18, 0), "the second that is not over yet is in none"


def test_seconds_without_packets_and_seconds_nobody_looked_at_are_unknown() -> None:
    assert available([(1.9, 1.0, 5, 0), (2.9, 1.0, 0, 0), (3.9, 1.0, 5, 0), (4.9, 1.0, 0, 0)]) == Availability(2, 0, 1)
    assert available([(1.9, 1.0, 5, 0), (6.9, 1.0, 5, 0), (7.1, 0.2, 0, 0)]) == Availability(2, 0, 4)
    assert available([(1.9, 2.0, 5, 0), (3.9, 2.0, 5, 0), (5.9, 2.0, 5, 0)]) == Availability(0, 0, 4)


def seen(observer: Observer, now: float, one: ClassWindow, *, sampling: int = 1, counted: bool = False) -> ClassStatus:
    """The class after one more tick of a quarter of a second."""
    window = CaptureWindow(0.25, {REST: one}, 2, 0, 0, 0, 0, {}, sampling, counted_all=counted)
    observer.tick(now=now, seconds=0.25, counters=counters(int(now * 1000)), window=window, why="")
    return next(each for each in observer.statuses(PROGRAM.static) if each.path == "rest")


def test_bursts_are_the_worst_window_against_the_mean_of_the_same_seconds() -> None:
    observer = Observer(PROGRAM, counters(0))
    for number in range(7):
        came = ClassWindow(inelastic_bytes=1000, envelope={0.002: 100, 0.25: 1000})
        assert seen(observer, 1 + number / 4, came, counted=True, sampling=16).burst is not None
    burst = seen(observer, 2.75, ClassWindow(inelastic_bytes=9000, envelope={0.002: 8000, 0.25: 9000})).burst
    assert burst is not None
    assert (burst.envelope, burst.mean) == ({0.002: 8000, 0.25: 9000}, 64_000)
    assert burst.peaks == {0.002: 500.0, 0.25: 4.5}


def test_what_was_lost_is_said_as_long_as_it_is_told_of_all_that_came() -> None:
    observer = Observer(PROGRAM, counters(0))

    def lost(now: float, **told: bool | int) -> int | None:
        window = CaptureWindow(0.25, {REST: ClassWindow(lost=1)}, 2, 0, 0, 0, 0, {}, 1)
        window = replace(window, **told)  # type: ignore[arg-type]
        observer.tick(now=now, seconds=0.25, counters=counters(9), window=window, why="")
        return next(one.measured_lost for one in observer.statuses(PROGRAM.static) if one.path == "rest")

    assert lost(1.0, counted_all=True) == 1
    assert lost(1.2, sampling=16) == 2, "arrivals and losses are of the same sample"
    assert lost(1.4, copied=False) is None
    assert lost(1.6) is None, "what is missing is missing in the sum for ever"
    observer = Observer(PROGRAM, counters(0))
    assert lost(2.0, sampling=16, counted_all=True) is None


def test_without_every_arrival_or_with_tcp_alone_there_are_no_bursts() -> None:
    came = ClassWindow(arrived_bytes=9000, inelastic_bytes=9000, envelope={0.002: 8000})
    assert seen(Observer(PROGRAM, counters(0)), 1.0, came, sampling=8).burst is None
    assert seen(Observer(PROGRAM, counters(0)), 1.0, ClassWindow(arrived_bytes=9000)).burst is None
    observer = Observer(PROGRAM, counters(0))
    observer.tick(now=1.0, seconds=0.25, counters=counters(9), window=None, why="")
    assert all(one.burst is None for one in observer.statuses(PROGRAM.static))


def test_ipdv_is_from_packet_to_packet_over_the_ticks_too() -> None:
    observer = Observer(PROGRAM, counters(0))
    seen(observer, 1.0, ClassWindow(delays=(0.010, 0.012), matched=2))
    delay = seen(observer, 1.25, ClassWindow(delays=(0.017, 0.016), matched=2)).delay
    assert delay is not None
    assert delay.ipdv == pytest.approx({0.5: 0.002, 0.95: 0.005, 0.99: 0.005})


def test_ipdv_waits_until_no_packet_of_its_window_was_left_out() -> None:
    """Neither a sample's, nor over a time in which nobody looked, nor of delays that the kernel counted."""
    observer = Observer(PROGRAM, counters(0))
    few = ClassWindow(delays=(0.01, 0.02), matched=2)
    known = []
    for number in range(40):
        if number == 12:
            observer.tick(now=4.0, seconds=0.25, counters=None, window=None, why="")
            continue
        delay = seen(observer, 1 + number / 4, few, sampling=8 if number == 2 else 1).delay
        known.append((number, delay is not None and bool(delay.ipdv)))
    told = [number for number, is_known in known if is_known]
    assert told == [0, 1, *range(32, 40)], "the newest 5 s begin behind 4.0 s"
    histogram = DelayHistogram()
    histogram.add([0.01, 0.02])
    counted = seen(Observer(PROGRAM, counters(0)), 1.0, ClassWindow(histogram=histogram, matched=2)).delay
    assert counted is not None
    assert counted.ipdv == {}


def test_the_ends_of_slices_are_those_of_so_few_looks_and_none_of_too_few() -> None:
    """Each slice of ten packets that wait alike is one look: four bound nothing, ten the median by far less."""

    def view(slices: int, *, known: bool) -> DelayView:
        observer = Observer(PROGRAM, counters(0))
        for number in range(1, slices + 1):
            told = (Slice(number, 10, 0),) if known else ()
            one = ClassWindow((number / 1000,) * 10, matched=10, slices=told)
            status = seen(observer, number / 4, one, sampling=8)
        assert status.delay is not None
        return status.delay

    assert (view(4, known=True).low, view(4, known=True).high) == ({}, {})
    alone, few = view(10, known=False), view(10, known=True)
    assert few.quantiles == alone.quantiles
    assert few.low[0.5] < alone.low[0.5] < alone.high[0.5] < few.high[0.5]
    assert 0.99 not in few.high


def test_slices_of_time_are_said_to_be_such_and_show_no_order_of_packets() -> None:
    observer = Observer(PROGRAM, counters(0))
    one = ClassWindow(delays=(0.01, 0.02), matched=2, arrived_packets=9, taken=2)
    window = CaptureWindow(0.25, {REST: one}, 11, 0, 0, 0, 0, {}, 1, listening=0.25)
    for now in (1.0, 1.25):
        observer.tick(now=now, seconds=0.25, counters=counters(9), window=window, why="")
    (status,) = (each for each in observer.statuses(PROGRAM.static) if each.path == "rest")
    assert status.delay is not None
    assert (status.delay.count, status.delay.ipdv, observer.health.listening) == (4, {}, 0.25)
    assert status.delay.coverage == pytest.approx(4 / 9)
    assert next(each for each in observer.totals() if each.path == "rest").arrivals == 4, "of them the lost are told"
