"""From two accounts to violation-seconds, the JSON object, the criteria and the table."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest

from shaper.lab.account import Account, Second
from shaper.lab.counters import RunLines
from shaper.lab.criteria import failed
from shaper.lab.result import violation_seconds
from shaper.lab.show import closing_lines, final_table
from shaper.lab.trial import Trial
from shaper.model.sla import DelayTarget, Sla
from shaper.report.render import console

DELAY = Sla(delays=(DelayTarget(0.95, 0.05),))


def trial(*seconds: Second, sent: tuple[int, ...] = (), waiting: tuple[tuple[float, int], ...] = ()) -> Trial:
    """A run whose receiver saw these seconds, and whose counters stood so at the seconds' ends."""
    lines = RunLines()
    for number, (one, waited) in enumerate(zip(sent, waiting or ((0.0, 0),) * len(sent), strict=True)):
        counters = {
            "video": {"sent_bytes": one, "waiting_s": waited[0], "waiting_bytes": waited[1], "rate_bit_s": 8000}
        }
        lines.feed(json.dumps({"event": "second", "at": 1000.0 + number, "classes": counters}).encode() + b"\n")
    return Trial("static", 1000.0, len(seconds), lines, Account({"video": seconds} if seconds else {}))


def packets(sent: int, *, late: int = 0, lost: int = 0) -> Second:
    return Second(sent, [0.2] * late + [0.01] * (sent - late - lost), lost)


def test_a_lost_packet_is_as_good_as_late() -> None:
    run = trial(packets(200, late=6, lost=4), packets(200, late=6, lost=5), packets(0))
    assert violation_seconds(run, "video", DELAY) == 1


def test_loss_and_throughput_are_judged_too() -> None:
    run = trial(packets(1000, lost=5), packets(1000, lost=6))
    assert violation_seconds(run, "video", Sla(loss=0.005)) == 1
    account = (0, 100_000, 200_000), ((0.0, 0), (0.0, 0), (0.75, 90_000))
    run = trial(packets(10), packets(10), sent=account[0], waiting=account[1])
    assert violation_seconds(run, "video", Sla(throughput=4_000_000)) == 1


def test_without_an_agreement_nothing_is_violated_and_without_an_account_nothing_is_known() -> None:
    assert violation_seconds(trial(packets(10, lost=10)), "video", Sla()) == 0
    assert violation_seconds(trial(packets(10)), "voice", DELAY) is None


def one(violations: int, p99: float = 0.04, receiver: float | None = 0.041) -> dict[str, Any]:
    return {
        "violation_seconds": violations,
        "samples": 1000,
        "delay_p50_s": p99 / 2,
        "delay_p99_s": p99,
        "loss_ratio": 0.1,
        "throughput_bit_s": 3e6,
        "receiver": {"delay_p99_s": receiver, "loss_ratio": None if receiver is None else 0.1},
    }


SHOWN: dict[str, Any] = {
    "fingerprint": None,
    "seconds": 60,
    "wan": None,
    "classes": {
        "video": {"static": one(40), "structured": one(20), "controlled": one(3)},
        "bulk": {"static": one(0, 0.1, None), "structured": one(0, 0.1, None), "controlled": one(0, 0.1, None)},
    },
    "utilisation": {"static": 0.98, "structured": 0.98, "controlled": 0.96},
    "drops": {"kernel": 5000, "measured": 4960},
}


def changed(*keys: str, to: object) -> dict[str, Any]:
    result = copy.deepcopy(SHOWN)
    inner = result
    for key in keys[:-1]:
        inner = inner[key]
    inner[keys[-1]] = to
    return result


def test_a_result_that_shows_everything_fails_nothing() -> None:
    assert failed(SHOWN) == []


@pytest.mark.parametrize(
    ("result", "said"),
    [
        (changed("classes", "video", "static", to=one(14)), "static: 14"),
        (changed("classes", "video", "structured", to=one(4)), "structured: 4"),
        (changed("classes", "video", "controlled", to=one(5)), "more than 10%"),
        (changed("classes", "video", "structured", to=one(5)), "more than 50%"),
        (changed("classes", "video", "controlled", "violation_seconds", to=None), "no account"),
        (changed("utilisation", "controlled", to=0.94), "3 points"),
        (changed("utilisation", "static", to=None), "not measured"),
        (changed("drops", "kernel", to=900), "at least 1000"),
        (changed("drops", "measured", to=4900), "4900 measured"),
        (changed("drops", "measured", to=None), "none were measured"),
        (changed("classes", "video", "static", "delay_p99_s", to=0.036), "36.00 ms"),
        (changed("classes", "video", "static", "delay_p99_s", to=None), "measured no delay"),
    ],
)
def test_every_criterion_can_fail(result: dict[str, Any], said: str) -> None:
    assert any(said in failure for failure in failed(result)), failed(result)


def test_a_small_difference_of_delay_is_forgiven() -> None:
    assert failed(changed("classes", "video", "static", to=one(40, 0.0009, 0.0001))) == []


def test_the_table_shows_every_class_and_a_dash_for_what_has_no_account(capsys: pytest.CaptureFixture[str]) -> None:
    out = console()
    out.print(final_table(SHOWN))
    for line in closing_lines(SHOWN):
        out.print(line, soft_wrap=True)
    text = capsys.readouterr().out
    assert "video" in text
    assert any(" - " in line for line in text.splitlines() if "controlled" in line)
    assert "static 40, structured 20, controlled 3" in text
    assert max(map(len, text.splitlines())) <= 100
