"""What the demo found, as the one object that `--json` prints."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from shaper.lab.fingerprint import Fingerprint
from shaper.lab.namespaces import Wan
from shaper.lab.trial import Trial
from shaper.model.policy import Interface, TrafficClass
from shaper.model.sla import Sla
from shaper.sla.violation import SecondAccount, violated

MODES = ("static", "structured", "controlled")


def violation_seconds(trial: Trial, path: str, sla: Sla) -> int | None:
    """Seconds in which the class missed a target; None where it has targets and no second could be judged."""
    if not sla:
        return 0
    verdicts = [verdict for verdict in judged_seconds(trial, path, sla) if verdict is not None]
    return sum(verdicts) if verdicts else None


def judged_seconds(trial: Trial, path: str, sla: Sla) -> list[bool | None]:
    """Whether each second of the run violated the agreement; None where that cannot be said.

    Delay and loss are the receiver's, by send time, of the generator's packets; throughput is what the shaper's
    counters say that the class sent. What the path takes by itself is no delay, but its jitter and its losses count.
    """
    seconds = trial.account.classes.get(path, ())
    counted = trial.lines.by_second(path, start=trial.start)
    verdicts: list[bool | None] = []
    for number in range(trial.seconds):
        second = seconds[number] if number < len(seconds) else None
        interval = counted.get(number)
        account = SecondAccount(
            sent=second.sent if second else 0,
            late_by_target={
                target: second.lost + sum(delay > target.seconds for delay in second.delays) for target in sla.bounds
            }
            if second
            else {},
            lost=second.lost if second else 0,
            throughput=interval.rate if interval else 0.0,
            waiting=interval.waiting if interval else None,
        )
        verdicts.append(violated(account, sla))
    return verdicts


def _throughput(trial: Trial, path: str) -> float | None:
    """What the class sent in the seconds of the traffic, in bit/s, without what the queues held when it ended."""
    counted = trial.lines.by_second(path, start=trial.start)
    rates = [interval.rate for number, interval in counted.items() if number < trial.seconds]
    return sum(rates) / len(rates) if rates else None


def _one(trial: Trial, leaf: TrafficClass) -> dict[str, Any]:
    assert trial.lines.summary is not None
    summary = trial.lines.summary["classes"][leaf.path]
    return {
        "violation_seconds": violation_seconds(trial, leaf.path, leaf.sla),
        "samples": summary["samples"],
        "delay_p50_s": summary["delay_p50_s"],
        "delay_p99_s": summary["delay_p99_s"],
        "loss_ratio": summary["loss_ratio"],
        "throughput_bit_s": _throughput(trial, leaf.path),
        "receiver": {
            "delay_p99_s": trial.account.delay(leaf.path, 0.99),
            "loss_ratio": trial.account.loss(leaf.path),
        },
    }


def as_json(
    interface: Interface,
    trials: Sequence[Trial],
    *,
    seconds: int,
    wan: Wan | None = None,
    fingerprint: Fingerprint | None = None,
) -> dict[str, Any]:
    """The object of `--json`: seconds, ratios and bit/s; null where there is no account, no WAN or time is real."""
    leaves = [leaf for leaf in interface.leaves() if not leaf.implied]
    summaries = {trial.mode: trial.lines.summary or {} for trial in trials}
    every = [one for summary in summaries.values() for one in summary["classes"].values()]
    measured = [one["measured_drops"] for one in every]
    return {
        "fingerprint": asdict(fingerprint) if fingerprint else None,
        "seconds": seconds,
        "wan": {"delay_s": wan.delay, "jitter_s": wan.jitter, "loss_ratio": wan.loss} if wan else None,
        "classes": {leaf.path: {trial.mode: _one(trial, leaf) for trial in trials} for leaf in leaves},
        "utilisation": {mode: summary["utilisation"] for mode, summary in summaries.items()},
        "drops": {
            "kernel": sum(one["kernel_drops"] for one in every),
            "measured": None if None in measured else sum(measured),
        },
    }
