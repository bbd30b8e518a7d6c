"""The delays of a class's newest packets as the model has them, with what they are worth."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from collectors.histogram import SlidingDelays, SlidingHistogram
from shaper.model.observation import DelayView
from shaper.model.sla import Sla
from shaper.stats import PLAYOUTS, Cluster, clustered_ranks, design_effect, ranks

REPORTED = (0.5, 0.95, 0.99)


def percentiles_of(sla: Sla) -> tuple[float, ...]:
    """The percentiles in 0..1 that are reported, and those that the targets ask for."""
    asked = {target.percentile for target in (*sla.bounds, *sla.delays)} | {one.percentile for one in sla.jitters}
    return tuple(sorted({*REPORTED, *asked}))


def thresholds_of(sla: Sla) -> tuple[float, ...]:
    """The delays (s) of which the targets ask how many packets exceeded them."""
    voice = PLAYOUTS if sla.mos is not None else ()
    return tuple(sorted({*(target.seconds for target in (*sla.bounds, *sla.delays)), *voice}))


def ipdv_of(steps: Iterable[float], percentiles: Sequence[float]) -> dict[float, float]:
    """Percentiles of the differences (s) of consecutive delays, without their sign; none of none."""
    held = SlidingDelays()
    held.add(0.0, [abs(step) for step in steps])
    view = held.view(percentiles, ())
    return {} if view is None else view.quantiles


def clustered_ends(
    clusters: Mapping[float, Sequence[Cluster]], *, confidence: float = 0.95
) -> dict[float, tuple[int, int]]:
    """Of each percentile the ranks of its interval's ends, from clusters of which those up to it are hits; 0.5 is one.

    Rank 0, or one more than there are samples, is no end.
    """
    middle = design_effect(clusters[0.5])
    return {q: clustered_ranks(found, q, effect=middle, confidence=confidence) for q, found in clusters.items()}


def delay_view(
    sliding: SlidingDelays | SlidingHistogram,
    percentiles: Sequence[float],
    thresholds: Sequence[float],
    *,
    sampling: int,
    coverage: float | None,
    source: str = "capture",
) -> DelayView | None:
    """None without a packet, and without intervals. `source`, `sampling` and `coverage` as DelayView has them."""
    view = sliding.view(percentiles, thresholds)
    if view is None:
        return None
    return DelayView(
        view.count,
        view.window,
        view.quantiles,
        view.late,
        view.largest,
        least=view.least,
        source=source,
        sampling=sampling,
        coverage=coverage,
    )


def with_intervals(view: DelayView, sliding: SlidingDelays | SlidingHistogram) -> DelayView:
    """With the ends of each percentile of what is in the window now: for who reads them, the control law does not."""
    if isinstance(sliding, SlidingDelays) and sliding.sliced:
        every = clustered_ends(sliding.clusters({0.5, *view.quantiles}))
        ends: Mapping[float, tuple[int, int]] = {q: every[q] for q in view.quantiles}
    elif view.sampling > 1:
        ends = {q: ranks(view.count, q) for q in view.quantiles}
    else:
        return view
    asked = {rank / view.count for pair in ends.values() for rank in pair if 1 <= rank <= view.count}
    found = sliding.view(sorted(asked), ())
    known = found.quantiles if found is not None else {}
    return replace(
        view,
        low={q: known[pair[0] / view.count] for q, pair in ends.items() if pair[0] >= 1},
        high={q: known[pair[1] / view.count] for q, pair in ends.items() if pair[1] <= view.count},
    )
