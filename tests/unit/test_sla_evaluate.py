"""A window against its targets, row by row: met, missed, no data, none."""

from dataclasses import replace

import pytest

from shaper.model.observation import DelayView
from shaper.model.sla import DelayTarget, JitterTarget, MosTarget, Sla, SlaState
from shaper.sla import evaluate
from shaper.stats import PLAYOUTS

P95 = DelayTarget(0.95, 0.05)
P99 = DelayTarget(0.99, 0.01)
DELAY = Sla((P95,))
LOSS = Sla(loss=0.005)
RATE = Sla(throughput=2_000_000)
MET, MISSED, NO_DATA, NONE = SlaState.MET, SlaState.MISSED, SlaState.NO_DATA, SlaState.NONE


def view(count=1000, late=0.0, p95=0.01, target=P95):
    return DelayView(count, 1.0, {target.percentile: p95}, {target.seconds: late}, p95 * 2)


def judge(sla, *, delay=None, offered=1000, dropped=0, throughput=3e6, waiting=None):
    return evaluate(
        sla,
        path="video",
        delay=delay,
        offered_packets=offered,
        dropped_packets=dropped,
        throughput=throughput,
        waiting=waiting,
    )


ROWS = [
    ("no targets", NONE, {"sla": Sla()}),
    ("delay met", MET, {"sla": DELAY, "delay": view()}),
    ("5 % late is met", MET, {"sla": DELAY, "delay": view(late=0.05)}),
    ("5.1 % late is missed", MISSED, {"sla": DELAY, "delay": view(late=0.051, p95=0.051)}),
    ("not captured", NO_DATA, {"sla": DELAY}),
    ("captured none", NO_DATA, {"sla": DELAY, "delay": view(count=0)}),
    ("an old view without traffic", NO_DATA, {"sla": DELAY, "delay": view(), "offered": 0}),
    ("an old missed view without traffic", NO_DATA, {"sla": DELAY, "delay": view(late=1.0), "offered": 0}),
    (
        "the share late is unknown, the percentile known",
        MET,
        {"sla": DELAY, "delay": DelayView(500, 1, {0.95: 0.05}, {}, 1)},
    ),
    ("the same, over", MISSED, {"sla": DELAY, "delay": DelayView(500, 1, {0.95: 0.0501}, {}, 1)}),
    ("neither is known", NO_DATA, {"sla": DELAY, "delay": DelayView(500, 1, {}, {}, 1)}),
    ("60 samples, one late", MET, {"sla": DELAY, "delay": view(60, 1 / 60), "offered": 60}),
    ("60 samples, two late", MISSED, {"sla": DELAY, "delay": view(60, 2 / 60), "offered": 60}),
    ("12 samples, none late: too few for met", NO_DATA, {"sla": DELAY, "delay": view(12), "offered": 12}),
    ("12 samples, two late: missed all the same", MISSED, {"sla": DELAY, "delay": view(12, 2 / 12), "offered": 12}),
    ("20 samples suffice", MET, {"sla": DELAY, "delay": view(20), "offered": 20}),
    ("lost packets are late", MISSED, {"sla": DELAY, "delay": view(), "offered": 1000, "dropped": 60}),
    ("a few lost and a few late", MISSED, {"sla": DELAY, "delay": view(late=0.03), "offered": 1000, "dropped": 30}),
    ("few samples, two lost", MISSED, {"sla": DELAY, "delay": view(48), "offered": 50, "dropped": 2}),
    ("all lost, none captured", MISSED, {"sla": DELAY, "offered": 100, "dropped": 100}),
    ("few lost, none captured", NO_DATA, {"sla": DELAY, "offered": 100, "dropped": 2}),
    ("loss met", MET, {"sla": LOSS, "dropped": 5}),
    ("loss missed", MISSED, {"sla": LOSS, "dropped": 6}),
    ("one lost of few", MET, {"sla": LOSS, "offered": 10, "dropped": 1}),
    ("two lost of few", MISSED, {"sla": LOSS, "offered": 10, "dropped": 2}),
    ("loss of nothing", NO_DATA, {"sla": LOSS, "offered": 0}),
    ("throughput met", MET, {"sla": RATE}),
    ("slow, but asked for no more", MET, {"sla": RATE, "throughput": 1e6}),
    ("slow with a backlog", MISSED, {"sla": RATE, "throughput": 1e6, "waiting": 1e6}),
    ("slow, but not while it waited", MET, {"sla": RATE, "throughput": 1e6, "waiting": 2e6}),
    ("slow for a moment", MET, {"sla": RATE, "throughput": 2e6, "waiting": 1e6}),
    ("fast with a backlog", MET, {"sla": RATE, "waiting": 3e6}),
    ("no traffic", NO_DATA, {"sla": RATE, "offered": 0, "throughput": 0.0}),
    ("starved", MISSED, {"sla": RATE, "offered": 0, "throughput": 0.0, "waiting": 0.0}),
]


@pytest.mark.parametrize(("what", "expected", "given"), ROWS, ids=[row[0] for row in ROWS])
def test_one_target(what, expected, given):
    assert judge(**given).state is expected


def test_the_worst_target_is_the_class():
    sla = Sla((P95, P99), 0.005, 2_000_000)
    delay = DelayView(1000, 1.0, {0.95: 0.02, 0.99: 0.02}, {0.05: 0.0, 0.01: 0.4}, 0.03)
    result = judge(sla, delay=delay)
    assert result.state is MISSED
    assert [(target.target, target.state) for target in result.targets] == [
        ("delay-p95", MET),
        ("delay-p99", MISSED),
        ("loss", MET),
        ("throughput", MET),
    ]
    assert [target.samples for target in result.targets] == [1000, 1000, 1000, 1000]
    assert result.targets[0].measured == 0.02


def test_no_data_is_worse_than_met_and_better_than_missed():
    both = Sla((P95,), 0.005)
    assert judge(both).state is NO_DATA
    assert judge(both, dropped=6).state is MISSED


JITTER = Sla(jitters=(JitterTarget(0.99, 0.005),))
VOICE = Sla(mos=MosTarget(4.2, "g711-plc"))


def spread(count=1000, over=0.004, least=0.02):
    return DelayView(count, 1.0, {0.99: least + over}, {}, 0.1, least)


def heard(count=1000, waits=0.0, share=0.0):
    return DelayView(count, 1.0, {}, {at: share if at < waits else 0.0 for at in PLAYOUTS}, 0.5)


MORE = [
    ("a long wait, but an even one", MET, {"sla": JITTER, "delay": spread(least=0.5)}),
    ("uneven", MISSED, {"sla": JITTER, "delay": spread(over=0.0051)}),
    ("60 uneven ones are too few to say", NO_DATA, {"sla": JITTER, "delay": spread(60, over=0.0051)}),
    ("60 even ones", MET, {"sla": JITTER, "delay": spread(60)}),
    ("12 even ones", NO_DATA, {"sla": JITTER, "delay": spread(12)}),
    ("jitter without a least delay", NO_DATA, {"sla": JITTER, "delay": DelayView(1000, 1.0, {0.99: 0.001}, {}, 0.1)}),
    ("jitter without packets", NO_DATA, {"sla": JITTER}),
    ("what is lost has no jitter", MET, {"sla": JITTER, "delay": spread(), "dropped": 500}),
    ("a good call", MET, {"sla": VOICE, "delay": heard()}),
    ("a buffer makes up for 30 ms", MET, {"sla": VOICE, "delay": heard(waits=0.03, share=0.5)}),
    ("nothing makes up for half a second", MISSED, {"sla": VOICE, "delay": heard(waits=0.5, share=0.5)}),
    ("a call with 5 % lost", MISSED, {"sla": VOICE, "delay": heard(), "dropped": 50}),
    ("a call that nobody measured", NO_DATA, {"sla": VOICE}),
    ("12 packets are no call", NO_DATA, {"sla": VOICE, "delay": heard(12)}),
    ("no call", NO_DATA, {"sla": VOICE, "delay": heard(), "offered": 0}),
]


@pytest.mark.parametrize(("what", "expected", "given"), MORE, ids=[row[0] for row in MORE])
def test_jitter_and_voice(what, expected, given):
    assert judge(**given).state is expected


def test_who_keeps_the_bounds_keeps_the_targets():
    sla = Sla((DelayTarget(0.99, 0.05),), jitters=(JitterTarget(0.99, 0.03), JitterTarget(0.95, 0.1)), mos=VOICE.mos)
    assert sla.bounds[:2] == (DelayTarget(0.95, 0.1), DelayTarget(0.99, 0.03))
    (bound,) = VOICE.bounds
    late = heard(waits=bound.seconds, share=1.0)
    late = replace(late, late={at: 1 - bound.percentile if at >= bound.seconds else 1.0 for at in PLAYOUTS})
    assert judge(VOICE, delay=late).state is MET
    longer = replace(late, late={at: 1 - bound.percentile if at > bound.seconds * 2 else 1.0 for at in PLAYOUTS})
    assert judge(VOICE, delay=longer).state is MISSED
    strict = MosTarget(4.39, "g711-plc")
    assert strict.best > 4.39
    assert strict.bound.percentile > 0.99
