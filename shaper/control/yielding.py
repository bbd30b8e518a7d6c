"""Classes that yield: they start at their floor, borrow up to their guarantee, and get it as a rate only when harmed.

A rate is served before anybody borrows, so a class that was promised much takes from the tiers above it once its rate
is high. It is therefore raised late and in steps, and what a higher tier needs is taken from it at once. It helps only
where others borrow more than they were promised: what they have by right no rate of a lower tier brings back.

How much others could do without is not known of those that keep a short queue and drop what does not fit: a crowd of
flows may lose a third of its packets where one flow would only be slower. So a step is small at first, and taken back
if a class above drops, soon after it, what it did not before.
"""

from __future__ import annotations

from dataclasses import replace

from shaper.control.needs import Need
from shaper.control.setup import ClassSetup
from shaper.control.state import Memory, Trial
from shaper.control.tuning import Tuning


def entitle(
    cls: ClassSetup,
    memory: Memory,
    wanted: Need,
    *,
    calm: bool,
    takeable: float,
    lossy_at: float | None,
    now: float,
    tuning: Tuning,
) -> Memory:
    """What of its guarantee the class is given back. `calm` says that every tier above has what it needs; `takeable`
    is what the others have beyond their needs and guarantees and could lose without being late, in bit/s; `lossy_at`
    is when a class above last dropped more than may be late."""
    if cls.guarantee <= cls.lowest:
        return memory
    least = tuning.restore_short * cls.guarantee
    short = cls.guarantee - wanted.throughput > least
    harmed = calm and wanted.pressed and short and takeable > least
    eased = wanted.throughput > tuning.restore_surplus * cls.guarantee or wanted.demand < memory.restored
    harmed_since = (memory.harmed_since if memory.harmed_since is not None else now) if harmed else None
    eased_since = (memory.eased_since if memory.eased_since is not None else now) if eased else None
    restored, trial, patience = memory.restored, memory.trial, max(memory.patience, tuning.restore_wait)
    if trial is not None and _harms(trial, lossy_at, now, tuning):
        patience = min(max(tuning.restore_again, tuning.restore_slower * patience), tuning.restore_longest)
        # A smaller fall is not applied.
        restored = min(trial.before, restored * (1 - tuning.apply_down) - 2 * tuning.apply_bits)
        harmed_since = None
        trial = replace(trial, step=max(trial.step / tuning.restore_slower, _first(cls, tuning)), clean=False)
    elif harmed_since is not None and now - harmed_since >= _wait(trial, patience, tuning):
        trial = _next(cls, restored, trial, patience, now=now, lossy_at=lossy_at, tuning=tuning)
        # Below what it has by borrowing a rate changes nothing.
        restored = max(restored, min(wanted.throughput, wanted.present)) + min(trial.step, takeable)
        harmed_since = now
    elif eased_since is not None and now - eased_since >= tuning.window:
        restored, trial, patience, eased_since = float(cls.lowest), None, tuning.restore_wait, None
    restored = min(float(cls.guarantee), max(float(cls.lowest), restored))
    after = restored, harmed_since, eased_since, trial, patience
    if after == (memory.restored, memory.harmed_since, memory.eased_since, memory.trial, memory.patience):
        return memory
    return replace(
        memory, restored=restored, harmed_since=harmed_since, eased_since=eased_since, trial=trial, patience=patience
    )


def _first(cls: ClassSetup, tuning: Tuning) -> float:
    return tuning.restore_first * cls.guarantee


def _wait(last: Trial | None, patience: float, tuning: Tuning) -> float:
    """Before the next rise: after one that harmed nobody no longer than it takes to see that."""
    return tuning.restore_trial if last is not None and patience <= tuning.restore_wait else patience


def _next(
    cls: ClassSetup,
    restored: float,
    last: Trial | None,
    patience: float,
    *,
    now: float,
    lossy_at: float | None,
    tuning: Tuning,
) -> Trial:
    """A rise from what is `restored`, twice as much as the `last` one as long as none was taken back. Who drops in any
    case tells nothing about it."""
    step = _first(cls, tuning) if last is None else last.step
    if last is not None and patience <= tuning.restore_wait:
        step = min(2 * step, tuning.restore_step * cls.guarantee)
    clean = lossy_at is None or now - lossy_at >= tuning.restore_trial
    return Trial(now, restored, step, clean)


def _harms(trial: Trial, lossy_at: float | None, now: float, tuning: Tuning) -> bool:
    return trial.clean and lossy_at is not None and lossy_at > trial.at and now - trial.at <= tuning.restore_trial
