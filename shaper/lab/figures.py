"""What one run shows, as the object that a result file holds: whole run, second by second, and what was wanted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

from shaper.lab.account import Account, percentile_of
from shaper.lab.result import judged_seconds
from shaper.lab.trial import Trial
from shaper.model.policy import Interface, TrafficClass

QUANTILES = (0.5, 0.95, 0.99, 0.999)
_LEAST = 1.0
"""bit/s below which a class had no share in anything."""


def figures(interface: Interface, trial: Trial) -> dict[str, Any]:
    """Seconds, bit/s and ratios; a list has an item for each second of the run, null where there is nothing to say.

    `steady_changes` counts the seconds and classes in which a rate changed, of the last third of the run.
    """
    assert trial.lines.summary is not None
    leaves = [leaf for leaf in interface.leaves() if not leaf.implied]
    return {
        "schema": 1,
        "seconds": trial.seconds,
        "bandwidth_bit_s": interface.bandwidth,
        "classes": {leaf.path: _class(trial, leaf) for leaf in leaves},
        "utilisation": trial.lines.summary["utilisation"],
        "changes": trial.lines.summary["changes"],
        "steady_changes": sum(_moves(trial, leaf.path, since=trial.seconds * 2 / 3) for leaf in leaves),
        "jain": _fairness(trial, leaves),
        "overflow": trial.account.overflow,
    }


def _class(trial: Trial, leaf: TrafficClass) -> dict[str, Any]:
    verdicts = judged_seconds(trial, leaf.path, leaf.sla) if leaf.sla else [None] * trial.seconds
    account, path = trial.account, leaf.path
    ordered = sorted(_delays(account, path))
    counted = trial.lines.by_second(path, start=trial.start)
    rates = [counted[number].rate if number in counted else None for number in range(trial.seconds)]
    known = [rate for rate in rates if rate is not None]
    seconds = account.classes.get(path, ())
    return {
        "tier": leaf.tier.name.lower(),
        "targets": {
            **{f"{target.key}_s": target.seconds for target in leaf.sla.delays},
            **({"loss_ratio": leaf.sla.loss} if leaf.sla.loss is not None else {}),
            **({"throughput_bit_s": leaf.sla.throughput} if leaf.sla.throughput is not None else {}),
        },
        "violation_seconds": sum(verdict is True for verdict in verdicts),
        "judged_seconds": sum(verdict is not None for verdict in verdicts),
        "delay_s": {f"p{q * 100:g}": percentile_of(ordered, q) for q in QUANTILES},
        "samples": len(ordered),
        "sent": sum(second.sent for second in seconds),
        "lost": sum(second.lost for second in seconds),
        "throughput_bit_s": sum(known) / len(known) if known else None,
        "by_second": {
            "violated": verdicts,
            **{
                f"delay_p{q * 100:g}_s": [
                    percentile_of(sorted(seconds[number].delays), q) if number < len(seconds) else None
                    for number in range(trial.seconds)
                ]
                for q in (0.95, 0.99)
            },
            "lost": [seconds[number].lost if number < len(seconds) else None for number in range(trial.seconds)],
            "sent_bit_s": rates,
            "granted_bit_s": [
                counted[number].granted if number in counted else None for number in range(trial.seconds)
            ],
        },
    }


def _delays(account: Account, path: str) -> list[float]:
    own = [delay for second in account.classes.get(path, ()) for delay in second.delays]
    return [*own, *account.segments.get(path, ())]


def _moves(trial: Trial, path: str, *, since: float) -> int:
    """Seconds in which the class was granted another rate than in the one before."""
    counted = trial.lines.by_second(path, start=trial.start)
    granted = [one.granted for number, one in sorted(counted.items()) if since <= number < trial.seconds]
    return sum(before != after for before, after in pairwise(granted))


def _fairness(trial: Trial, leaves: Sequence[TrafficClass]) -> Mapping[str, float]:
    """Jain's index of the throughput by share, of each tier with two classes that sent something."""
    found = {}
    for tier in {leaf.tier for leaf in leaves}:
        rates = []
        for leaf in leaves:
            sent = [one.rate for one in trial.lines.by_second(leaf.path, start=trial.start).values()]
            if leaf.tier == tier and sum(sent) > _LEAST:
                rates.append(sum(sent) / len(sent) / (leaf.share if leaf.share > 0 else 1.0))
        if len(rates) > 1:
            found[tier.name.lower()] = sum(rates) ** 2 / (len(rates) * sum(rate * rate for rate in rates))
    return found
