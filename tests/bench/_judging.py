"""The tables of `scripts/bench control`: means over seeds with 95 % confidence, paired where two are compared."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

OURS, BAD, WELL, AIMD = "ours", "badly-sized", "well-sized", "aimd"
_T = (12.71, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160, 2.145, 2.131)
"""Student's t, two-sided 95 %, by degrees of freedom from 1."""
_T_ONE_SIDED = (6.314, 2.920, 2.353, 2.132, 2.015, 1.943, 1.895, 1.860, 1.833, 1.812, 1.796, 1.782, 1.771, 1.761, 1.753)

Result = dict[str, Any]


@dataclass(frozen=True)
class Results:
    """Every result that is there, by scenario, controller and seed."""

    of: dict[tuple[str, str, int], Result]

    @staticmethod
    def read(files: Sequence[Path]) -> Results:
        """Those of the files."""
        found = (json.loads(file.read_text()) for file in files)
        return Results({(one["scenario"], one["controller"], one["seed"]): one for one in found})

    def seeds(self, scenarios: Sequence[str], controllers: Sequence[str]) -> list[int]:
        """Those of which all of these are there: what is paired."""
        every = sorted({seed for _, _, seed in self.of})
        return [
            seed
            for seed in every
            if all((scenario, name, seed) in self.of for scenario in scenarios for name in controllers)
        ]


def violations(result: Result) -> int:
    """Of all classes."""
    return sum(one["violation_seconds"] for one in result["classes"].values())


def interval(values: Sequence[float]) -> str:
    """Mean and half of the 95 % confidence interval."""
    if not values:
        return "-"
    if len(values) == 1:
        return f"{values[0]:.4g}"
    half = _T[min(len(values) - 1, len(_T)) - 1] * stdev(values) / math.sqrt(len(values))
    return f"{fmean(values):.4g} ±{half:.2g}"


def ratio_bound(ours: Sequence[float], theirs: Sequence[float]) -> tuple[float, float] | None:
    """The ratio of the means, and the least r of which ours - r x theirs is below zero with 95 % confidence (Fieller).

    None where theirs have nothing.
    """
    if sum(theirs) == 0 or len(ours) < 2:
        return None
    ratio = fmean(ours) / fmean(theirs)
    t = _T_ONE_SIDED[min(len(ours) - 1, len(_T_ONE_SIDED)) - 1]

    def above(r: float) -> float:
        differences = [one - r * other for one, other in zip(ours, theirs, strict=True)]
        return fmean(differences) + t * stdev(differences) / math.sqrt(len(differences))

    low, high = ratio, max(1.0, ratio)
    while above(high) > 0:
        high *= 2
        if high > 1e6:
            return ratio, math.inf
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if above(middle) > 0 else (low, middle)
    return ratio, high


def settling(result: Result) -> int:
    """The longest run of seconds from a violation's first to the last before five good seconds, over all classes."""
    longest = 0
    for one in result["classes"].values():
        first, last = None, None
        for number, violated in enumerate(one["by_second"]["violated"]):
            if violated:
                first = number if first is None or number - (last or 0) > 5 else first
                last = number
                longest = max(longest, last - first + 1)
    return longest


def overshoot(result: Result) -> float:
    """By how much of it the largest grant of a class with targets exceeded the last one."""
    most = 0.0
    for one in result["classes"].values():
        granted = [rate for rate in one["by_second"]["granted_bit_s"] if rate]
        if one["targets"] and granted:
            most = max(most, max(granted) / granted[-1] - 1)
    return most


def table(
    results: Results, *, scenarios: Sequence[str], controllers: Sequence[str], feasible: Sequence[str]
) -> Iterator[str]:
    """The lines of the report; nothing is left out that was run."""
    yield from _violations(results, scenarios, controllers)
    yield from _sums(results, [one for one in scenarios if one in feasible], controllers)
    yield from _tiers(results, scenarios, controllers)
    yield from _details(results, scenarios, controllers)
    yield from _moving(results, controllers)


def _violations(results: Results, scenarios: Sequence[str], controllers: Sequence[str]) -> Iterator[str]:
    yield "violation-seconds of all classes, mean over seeds ± half of the 95 % confidence interval"
    yield f"{'':20}{'seeds':>6}" + "".join(f"{name:>17}" for name in controllers)
    for scenario in scenarios:
        cells, counts = [], set()
        for name in controllers:
            found = [violations(one) for (s, n, _), one in sorted(results.of.items()) if (s, n) == (scenario, name)]
            counts.add(len(found))
            cells.append(f"{interval(found):>17}")
        if counts != {0}:
            yield f"{scenario:20}{'-'.join(map(str, sorted({min(counts), max(counts)}))):>6}" + "".join(cells)


def _sums(results: Results, scenarios: Sequence[str], controllers: Sequence[str]) -> Iterator[str]:
    scenarios = [one for one in scenarios if any(s == one for s, _, _ in results.of)]
    seeds = results.seeds(scenarios, controllers)
    if not seeds or not scenarios:
        yield "\nno seed has all feasible scenarios under all controllers yet: no sums"
        return
    sums = {
        name: [float(sum(violations(results.of[one, name, seed]) for one in scenarios)) for seed in seeds]
        for name in controllers
    }
    yield f"\nsummed over {', '.join(scenarios)}; {len(seeds)} paired seeds"
    for name in controllers:
        yield f"{name:20}{interval(sums[name]):>17}"
    for other in controllers:
        if OURS in sums and other != OURS:
            found = ratio_bound(sums[OURS], sums[other])
            if found:
                most = f"at most {found[1]:.1%}" if math.isfinite(found[1]) else "no bound, theirs may have none"
                yield f"ours / {other}: {found[0]:.1%}, with 95 % confidence {most}"
            else:
                yield f"ours - {other}: {interval([a - b for a, b in zip(sums[OURS], sums[other], strict=True)])}"


def _tiers(results: Results, scenarios: Sequence[str], controllers: Sequence[str]) -> Iterator[str]:
    yield "\nviolation-seconds by class (mean over seeds); only classes and scenarios that have any"
    for scenario in scenarios:
        of = {name: [r for (s, n, _), r in results.of.items() if (s, n) == (scenario, name)] for name in controllers}
        paths = list(dict.fromkeys(path for found in of.values() for one in found for path in one["classes"]))
        for path in paths:
            means = {
                name: fmean(
                    [one["classes"][path]["violation_seconds"] for one in found if path in one["classes"]] or [0]
                )
                if found
                else None
                for name, found in of.items()
            }
            if any(means.values()):
                tier = next(one["classes"][path]["tier"] for f in of.values() for one in f if path in one["classes"])
                cells = "".join(f"{'-' if mean is None else f'{mean:.4g}':>17}" for mean in means.values())
                yield f"{scenario:20} {path:14} {tier:10}{cells}"


def _details(results: Results, scenarios: Sequence[str], controllers: Sequence[str]) -> Iterator[str]:
    yield "\nmeans over seeds; settled: the longest run of violated seconds; steady: changes a minute in the last third"
    yield (
        f"{'':20} {'':16}{'settled s':>10}{'overshoot':>10}{'changes':>8}{'steady':>7}{'used':>7}{'Jain':>6}  "
        "p50/p95/p99/p99.9 ms, lost, Mbit/s by class"
    )
    for scenario in scenarios:
        for name in controllers:
            found = [one for (s, n, _), one in sorted(results.of.items()) if (s, n) == (scenario, name)]
            if not found:
                continue
            steady = fmean([one["steady_changes"] / (one["seconds"] / 3) * 60 for one in found])
            used = [one["utilisation"] for one in found if one["utilisation"] is not None]
            jain = [value for one in found for value in one["jain"].values()]
            yield (
                f"{scenario:20} {name:16}{fmean(map(settling, found)):10.1f}{fmean(map(overshoot, found)):10.0%}"
                f"{fmean([one['changes'] for one in found]):8.1f}{steady:7.1f}"
                f"{fmean(used) if used else math.nan:7.1%}{min(jain) if jain else math.nan:6.2f}  "
                + "; ".join(_class_words(path, [one["classes"][path] for one in found]) for path in found[0]["classes"])
            )


def _moving(results: Results, controllers: Sequence[str]) -> Iterator[str]:
    """Of scenarios whose link moves: what it carried of what it could, and of each of its states the p95."""
    for scenario in sorted({scenario for (scenario, _, _), one in results.of.items() if one.get("link_bit_s")}):
        yield f"\n{scenario}: carried of what it could; of each state of the link, from 5 s on: p95 (mean, worst), sent"
        for name in controllers:
            found = [one for (s, n, _), one in sorted(results.of.items()) if (s, n) == (scenario, name)]
            if not found:
                continue
            cells = []
            for index, (_, rate) in enumerate(found[0]["link_bit_s"]):
                delays = [delay for one in found for delay in _late_p95(one, index)]
                used = [share for one in found for share in _late_share(one, index)]
                mean, worst = fmean(delays) * 1e3, max(delays) * 1e3
                cells.append(f"{rate / 1e6:g} Mbit/s: {mean:.0f} ms, {worst:.0f} ms, {fmean(used):.0%}")
            carried = interval([100 * carried_share(one) for one in found])
            yield f"{name:16} {carried:>11} %; " + "; ".join(cells)
        for name in controllers:
            pairs = [
                (results.of[scenario, OURS, seed], results.of[scenario, name, seed])
                for seed in results.seeds([scenario], [OURS, name])
                if name != OURS
            ]
            if pairs:
                carried = interval([100 * (carried_share(ours) - carried_share(other)) for ours, other in pairs])
                delay = interval([1e3 * (_mean_p95(ours) - _mean_p95(other)) for ours, other in pairs])
                yield f"ours - {name}: carried {carried} points, p95 {delay} ms"


def carried_share(result: Result) -> float:
    """What came out of a link that moves, of what it could have carried from the first second to the last."""
    begins = [begin for begin, _ in result["link_bit_s"]]
    ends = [*begins[1:], result["seconds"]]
    could = sum(rate * (end - begin) for (begin, rate), end in zip(result["link_bit_s"], ends, strict=True))
    return float(sum(result["link_carried_bit"]) / could)


def _late(result: Result, index: int) -> range:
    """The seconds of one state of the link, from the fifth on."""
    later = result["link_bit_s"][index + 1 :]
    return range(int(result["link_bit_s"][index][0]) + 5, int(later[0][0] if later else result["seconds"]))


def _late_p95(result: Result, index: int) -> list[float]:
    """Of the slowest class, in seconds, second by second."""
    classes = [each["by_second"] for each in result["classes"].values()]
    return [max(each["delay_p95_s"][number] or 0.0 for each in classes) for number in _late(result, index)]


def _late_share(result: Result, index: int) -> list[float]:
    """Of what the link could carry, what was sent into it, second by second."""
    classes, rate = [each["by_second"] for each in result["classes"].values()], result["link_bit_s"][index][1]
    return [sum(each["sent_bit_s"][number] or 0.0 for each in classes) / rate for number in _late(result, index)]


def _mean_p95(result: Result) -> float:
    return fmean([delay for index in range(len(result["link_bit_s"])) for delay in _late_p95(result, index)])


def _class_words(path: str, found: Sequence[Result]) -> str:
    def mean(values: Sequence[float | None]) -> float:
        known = [value for value in values if value is not None]
        return fmean(known) if known else math.nan

    delays = "/".join(f"{mean([one['delay_s'][q] for one in found]) * 1e3:.1f}" for q in found[0]["delay_s"])
    sent = sum(one["sent"] for one in found)
    lost = f" {sum(one['lost'] for one in found) / sent:.2%}" if sent else ""
    return f"{path} {delays}{lost} {mean([one['throughput_bit_s'] for one in found]) / 1e6:.2f}"
