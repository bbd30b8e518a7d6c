"""A link that moves, for people and for monitoring."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from shaper.model.link_rate import LinkMove, LinkStatus
from shaper.units import format_duration, format_rate

_Number = Callable[[LinkStatus], float | None]
_SERIES: tuple[tuple[str, str, _Number], ...] = (
    ("shaper_link_rate_bytes_per_second", "What the link is taken to carry now.", lambda one: one.rate / 8),
    ("shaper_link_min_bytes_per_second", "The least that the policy allows.", lambda one: one.least / 8),
    ("shaper_link_base_bytes_per_second", "What the rate goes back to without load.", lambda one: one.base / 8),
    ("shaper_link_max_bytes_per_second", "The most that the policy allows.", lambda one: one.most / 8),
    (
        "shaper_link_capacity_bytes_per_second",
        "What was last seen to come through a queue that stood.",
        lambda one: None if one.capacity is None else one.capacity / 8,
    ),
    ("shaper_link_delay_seconds", "Delay of the reflectors over their own.", lambda one: one.delay),
    ("shaper_link_held", "1 while nothing can be judged by delay.", lambda one: float(bool(one.held))),
    ("shaper_link_moves_total", "Times that the rate was moved.", lambda one: float(one.moves)),
)


def link_families(labels: Sequence[str], links: Sequence[tuple[tuple[str, ...], LinkStatus]]) -> Iterator[Metric]:
    """One sample for each link that moves."""
    for name, words, number in _SERIES:
        kind = CounterMetricFamily if name.endswith("_total") else GaugeMetricFamily
        family = kind(name, words, labels=labels)
        for values, one in links:
            if (found := number(one)) is not None:
                family.add_metric(values, found)
        yield family


def link_moved(move: LinkMove | None) -> Iterator[str]:
    """What was decided about the link and what was seen of it; nothing where it stands."""
    if move is None:
        return
    came = "" if move.capacity is None else f", {format_rate(int(move.capacity))} came through a queue last"
    bound = "" if move.bound == "none" else f" (the {move.bound} that the policy allows)"
    yield (
        f"the link: {format_rate(move.before)} -> {format_rate(move.after)}{bound}: {move.reason}; "
        f"{format_rate(int(move.achieved))} sent{came}"
    )


def link_words(one: LinkStatus) -> str:
    """What it is taken to carry, within what, and why it moved last."""
    late = "" if one.delay is None else f", {format_duration(round(one.delay, 4))} of queue behind it"
    asked = f"asked {', '.join(one.probed)}" if one.probed else "nobody is asked"
    why = f"; last move: {one.says}" if one.says else ""
    return (
        f"The link moves: {format_rate(one.rate)} now{late}, of {format_rate(one.least)} to {format_rate(one.most)} "
        f"(base {format_rate(one.base)}); {asked}; moved {one.moves} times{why}"
    )
