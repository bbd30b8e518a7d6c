"""What the controller did and could not do, in a network engineer's words and figures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set

from shaper.control.allocate import Share
from shaper.control.needs import Need
from shaper.control.queue import TRUESIZE
from shaper.control.setup import ClassSetup, Setup
from shaper.model.decision import Grant, Want
from shaper.model.observation import CaptureHealth
from shaper.units import format_duration, format_percent, format_rate, format_size


def reason(
    cls: ClassSetup,
    wanted: Need,
    before: Grant,
    after: Grant,
    *,
    takers: Sequence[str],
    harmed: Sequence[str],
    bound: str,
    within: float,
) -> str:
    """Why a class moved. `takers` are the classes that rose in the same tick, `harmed` those for which its last rise is
    taken back; `within` is what it may count on while it borrows, in bit/s."""
    parts: list[str] = []
    if after.rate > before.rate:
        if wanted.rate + wanted.drain > before.rate:
            parts.append(f"{wanted.missed}: {wanted.source}" if wanted.missed else wanted.source)
            if wanted.drain > 0:
                parts.append(f"{format_rate(int(wanted.drain))} to drain the backlog")
        else:
            parts.append(
                f"{format_rate(int(wanted.throughput))} under backlog is short of the guarantee of "
                f"{format_rate(cls.guarantee)}, which no higher tier needs now"
            )
    elif after.rate < before.rate:
        if harmed:
            parts.append(f"{', '.join(harmed)} dropped more than may be late as soon as it rose: taken back")
        elif takers and bound != "none":
            parts.append(f"yields to {', '.join(takers)}")
        elif cls.lowest < cls.guarantee and wanted.rate <= cls.lowest:
            parts.append(f"{format_rate(int(wanted.throughput))} by borrowing: back towards the floor")
        else:
            parts.append(f"need fell to {format_rate(int(max(wanted.rate, cls.lowest)))}")
    if after.queue != before.queue:
        parts.append(_queued(cls, wanted, after, within))
    if after.target != before.target:
        parts.append(_aimed(wanted, before.target, after.target))
    if not parts:
        parts.append("ceiling follows the rate")
    return "; ".join(parts)


def _queued(cls: ClassSetup, wanted: Need, after: Grant, within: float) -> str:
    """Its new queue, as a wait: at its rate, or where that would be late, at what the others leave."""
    size, bits = format_size(after.queue), after.queue * 8 / (TRUESIZE if cls.memory else 1)
    if cls.tightest is None or bits <= cls.tightest * after.rate or within <= after.rate:
        return f"queue {size}, {format_duration(bits / max(after.rate, 8))} at its rate"
    left = format_rate(float(f"{within:.3g}"))
    paced = ", and its TCP comes at a pace of its own" if wanted.paced else ""
    return f"queue {size}, {format_duration(round(bits / within, 4))} at the {left} that the others leave it{paced}"


def _aimed(wanted: Need, before: int, after: int) -> str:
    """Of the AQM's target (microseconds), why it moves."""
    target = f"AQM target {format_duration(after / 1e6)}"
    if after < before:
        return f"{target}: {wanted.missed or 'the delay is above what is aimed at'}, and TCP in it"
    if wanted.excess is not None and wanted.excess < 0:
        return f"{target}: the delay has been well inside"
    return f"{target}: no less than its largest frames take at its rate"


def aimed_for_all(path: str, wanted: Need, before: Grant, after: Grant, *, decisive: str) -> str:
    """Of the one target that all classes have, why it moves. `wanted` is the need of the `decisive` class."""
    target = f"AQM target {format_duration(after.target / 1e6)}"
    if after.target > before.target and wanted.excess is None:
        return f"{target}: no class has a delay that asks for a shorter one"
    if path != decisive:
        return f"{target}: CAKE has one for all its tins, and {decisive} asks for the shortest"
    return _aimed(wanted, before.target, after.target)


def distrust(capture: CaptureHealth) -> str:
    """Why the capture is not trusted, "" where it is."""
    if capture.trusted:
        return ""
    if not capture.running:
        return capture.reason or "no capture"
    return f"{format_percent(capture.drop_ratio)} of the frames lost by the capture itself"


def answered(
    needs: Mapping[str, Need],
    shares: Mapping[str, Share],
    targets: Mapping[str, int],
    rates: Mapping[str, int],
    *,
    urgent: Set[str],
    spent: bool,
) -> dict[str, Want]:
    """What every class asked for and got. `targets` are the shares on the classes' grids, `rates` what is set."""
    found: dict[str, Want] = {}
    for path, wanted in needs.items():
        kept = ""
        if rates[path] != targets[path]:
            rises = targets[path] > rates[path]
            kept = "change budget" if spent and not (rises and path in urgent) else "dead band"
        share = shares[path]
        found[path] = Want(
            int(wanted.rate), int(wanted.drain), wanted.source, wanted.missed, share.rate, share.bound, kept
        )
    return found


def held(setup: Setup, needs: Mapping[str, Need], *, kept: Sequence[str], capture: str, spent: bool) -> str:
    """Why the controller did less than it might have: one line, "" when nothing held it."""
    parts: list[str] = []
    if capture:
        parts.append(f"capture not trusted ({capture}): feedback frozen, feed-forward goes on")
    if kept:
        parts.append(f"too few samples to lower {', '.join(kept)}")
    if spent:
        parts.append("changes a minute used up")
    infeasible = [path for path, wanted in needs.items() if wanted.capacity is not None]
    if infeasible:
        link = format_rate(setup.link.bandwidth)
        parts.append(f"delay target of {', '.join(infeasible)} infeasible at any rate of this {link} link")
    return "; ".join(parts)
