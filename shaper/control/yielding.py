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
    spent: bool,
    seconds: float,
    now: float,
    tuning: Tuning,
) -> Memory:
    """What of its guarantee the class is given back. `calm` says that every tier above has what it needs; `takeable`
    is what the others have beyond their needs and guarantees and could lose without being late, in bit/s; `careful`
    says that one of them, above and with a target that drops miss, drops nothing; `lossy_at` is when one above last
    dropped too much to be given less. With the budget of changes `spent` nothing rises; the tick took `seconds`."""
    lowest, guarantee = float(cls.lowest), float(max(cls.guarantee, cls.lowest))
    if guarantee <= lowest:
        return memory if memory.restored == lowest else replace(memory, restored=lowest, trial=None)
    least = tuning.restore_short * guarantee
    short = guarantee - wanted.throughput > least
    harmed = calm and wanted.pressed and short and takeable > least and not spent
    eased = wanted.throughput > tuning.restore_surplus * guarantee or wanted.demand < memory.restored
    harmed_since = (memory.harmed_since if memory.harmed_since is not None else now) if harmed else None
    eased_since = (memory.eased_since if memory.eased_since is not None else now) if eased else None
    restored, trial = memory.restored, memory.trial
    careful = careful or (trial is not None and trial.careful)
    if trial is not None and _spoils(trial, lossy_at, seconds=seconds, now=now, tuning=tuning):
        restored = trial.before
        trial = _undone(trial, lowest, now=now, tuning=tuning)
        harmed_since = None
    elif harmed_since is not None and _ripe(trial, harmed_since, lossy_at if careful else None, now=now, tuning=tuning):
        trial = _next(trial, restored, guarantee, careful=careful, now=now, tuning=tuning)
        # Below what it has by borrowing a rate changes nothing.
        base = min(wanted.throughput, wanted.present) if careful else wanted.throughput
        restored = max(restored, base) + min(trial.step, takeable)
        harmed_since = now
    elif eased_since is not None and now - eased_since >= tuning.window:
        restored, trial, eased_since = lowest, None, None
    restored = min(guarantee, max(lowest, restored))
    after = restored, harmed_since, eased_since, trial
    if after == (memory.restored, memory.harmed_since, memory.eased_since, memory.trial):
        return memory
    return replace(memory, restored=restored, harmed_since=harmed_since, eased_since=eased_since, trial=trial)


def _ripe(trial: Trial | None, harmed_since: float, lossy_at: float | None, *, now: float, tuning: Tuning) -> bool:
    """Whether it has waited long enough, and nobody drops."""
    if trial is not None and trial.undone:
        waited = now - harmed_since >= tuning.restore_wait and now - trial.at >= trial.patience
    else:
        follows = trial is not None and trial.careful
        waited = now - harmed_since >= (tuning.restore_trial if follows else tuning.restore_wait)
    return waited and (lossy_at is None or now - lossy_at >= tuning.restore_trial)


def _next(last: Trial | None, restored: float, guarantee: float, *, careful: bool, now: float, tuning: Tuning) -> Trial:
    """A rise from what is `restored`: careful ones begin small, and double while they harm nobody."""
    first, most = tuning.restore_first * guarantee, tuning.restore_step * guarantee
    if not careful:
        return Trial(now, restored, most, careful)
    if last is None or last.undone or not last.careful:
        return Trial(now, restored, first, careful, patience=last.patience if last is not None else 0.0)
    return Trial(now, restored, min(2 * last.step, most) if last.applied else last.step, careful)


def _spoils(trial: Trial, lossy_at: float | None, *, seconds: float, now: float, tuning: Tuning) -> bool:
    """Whether a class above that dropped nothing before the first rise drops too much soon after this one, or goes on
    to do so after it was taken back: what is counted over a second says so a second later."""
    since = trial.at + 1 if trial.undone else trial.at
    judged = trial.careful and trial.applied and now - seconds <= since + tuning.restore_trial
    return judged and lossy_at is not None and since < lossy_at


def _undone(trial: Trial, lowest: float, *, now: float, tuning: Tuning) -> Trial | None:
    """After a rise, or more than that, was taken back. None at the floor: who drops even so has other reasons."""
    if trial.before <= lowest and trial.undone:
        return None
    patience = trial.patience
    if not trial.undone:
        patience = min(max(tuning.restore_again, tuning.restore_slower * patience), tuning.restore_longest)
    before = max(lowest, trial.before * (1 - tuning.restore_step))
    return replace(trial, at=now, before=before, undone=True, patience=patience)
