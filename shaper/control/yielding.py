"""Classes that yield: they start at their floor, borrow up to their guarantee, and get it as a rate only when harmed.

A rate is served before anybody borrows, so a class that was promised much takes from the tiers above it once its rate
is high. It is therefore raised late and in steps, and what a higher tier needs is taken from it at once. It helps only
where others borrow more than they were promised: what they have by right no rate of a lower tier brings back.

Who borrows and drops has a queue that is full anyway, and becomes slower. How much less others would do with is not
known, who get all they ask for: of many flows in a short queue a few per cent less are a few per cent lost, and the
delay stays low. With those a step is small at first, and taken back if they begin to drop soon after it.
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
    careful: bool,
    lossy_at: float | None,
    now: float,
    tuning: Tuning,
) -> Memory:
    """What of its guarantee the class is given back. `calm` says that every tier above has what it needs; `takeable`
    is what the others have beyond their needs and guarantees and could lose without being late, in bit/s; `careful`
    says that one of them, above and with a delay target, drops nothing; `lossy_at` is when one above last dropped too
    much to be given less."""
    if cls.guarantee <= cls.lowest:
        return memory
    least = tuning.restore_short * cls.guarantee
    short = cls.guarantee - wanted.throughput > least
    harmed = calm and wanted.pressed and short and takeable > least
    eased = wanted.throughput > tuning.restore_surplus * cls.guarantee or wanted.demand < memory.restored
    harmed_since = (memory.harmed_since if memory.harmed_since is not None else now) if harmed else None
    eased_since = (memory.eased_since if memory.eased_since is not None else now) if eased else None
    restored, trial, patience = memory.restored, memory.trial, max(memory.patience, tuning.restore_wait)
    if trial is not None and _spoils(trial, lossy_at, now, tuning):
        patience = min(max(tuning.restore_again, tuning.restore_slower * patience), tuning.restore_longest)
        # A smaller fall is not applied.
        restored = min(trial.before, restored * (1 - tuning.apply_down) - 2 * tuning.apply_bits)
        harmed_since = None
        trial = replace(trial, step=max(trial.step / tuning.restore_slower, _first(cls, tuning)), undone=True)
    elif harmed_since is not None and now - harmed_since >= _wait(trial, patience, tuning):
        careful = careful or (trial is not None and trial.careful)
        trial = Trial(now, restored, _step(cls, trial, patience, careful=careful, tuning=tuning), careful)
        # Below what it has by borrowing a rate changes nothing.
        base = min(wanted.throughput, wanted.present) if careful else wanted.throughput
        restored = max(restored, base) + min(trial.step, takeable)
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


def _spoils(trial: Trial, lossy_at: float | None, now: float, tuning: Tuning) -> bool:
    """Whether one that dropped nothing before the rise drops too much soon after it."""
    soon = now - trial.at <= tuning.restore_trial
    return trial.careful and not trial.undone and soon and lossy_at is not None and trial.at < lossy_at


def _first(cls: ClassSetup, tuning: Tuning) -> float:
    return tuning.restore_first * cls.guarantee


def _wait(last: Trial | None, patience: float, tuning: Tuning) -> float:
    """Before the next rise: after a careful one that harmed nobody no longer than it takes to see that."""
    seen = last is not None and last.careful and patience <= tuning.restore_wait
    return tuning.restore_trial if seen else patience


def _step(cls: ClassSetup, last: Trial | None, patience: float, *, careful: bool, tuning: Tuning) -> float:
    """How much more at most, in bit/s."""
    most = tuning.restore_step * cls.guarantee
    if last is not None and patience > tuning.restore_wait:
        return last.step
    if not careful:
        return most
    return min(2 * last.step, most) if last is not None and last.careful else _first(cls, tuning)
