"""What every class is guaranteed: percentages and what remains worked out, top-down, and whether it all fits."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from shaper.errors import Problem
from shaper.model.match import NETWORK_CONTROL
from shaper.policy.draft import Draft
from shaper.policy.kinds import Kind
from shaper.policy.reader import Document
from shaper.policy.text import quoted
from shaper.policy.validate import Lost
from shaper.policy.values import Amount
from shaper.units import format_rate

IMPLIED_SHARE = 1.0


class Guarantees:
    """In bit/s, by the path of a class; `problems` collects what does not fit."""

    def __init__(self, interface: str, document: Document, lost: Lost) -> None:
        self._interface = interface
        self._document = document
        self._lost = lost
        self._guarantee: dict[str, int] = {}
        self.problems: list[Problem] = []

    def of(self, cls: Draft) -> int:
        """What was worked out for it."""
        return self._guarantee[cls.path]

    def work_out(
        self, drafts: Sequence[Draft], whole: int | None, parent: Draft | None = None, reserved: int = 0
    ) -> int:
        """Works out every guarantee below a parent that guarantees `whole` (None where it did not say); their sum.

        Of what remains nobody has the `reserved`.
        """
        remaining = [cls for cls in drafts if _is_rest(cls)]
        others = [cls for cls in drafts if not _is_rest(cls)]
        for cls in others:
            self._put(cls, self._stated(cls, whole, parent))
        rest = (whole or 0) - reserved - sum(self._guarantee[cls.path] for cls in others)
        shares = dict(zip((cls.path for cls in drafts), shares_of(drafts), strict=True))
        weight = sum(shares[cls.path] for cls in remaining)
        for cls in remaining:
            part = self._stated(cls, whole, parent) and max(0, int(rest * shares[cls.path] / weight))
            if whole is not None and rest >= 0 and not part:
                self.nothing_remains(cls, "guarantee" if cls.spec.guarantee is not None else "limit")
            self._put(cls, part)
        return sum(self._guarantee[cls.path] for cls in drafts)

    def _put(self, cls: Draft, stated: int | None) -> None:
        below = self.work_out(cls.children, stated, cls)
        self._guarantee[cls.path] = below if stated is None else stated
        if stated is not None and below > stated:
            self._exceeds_parent(cls, stated, below)

    def _stated(self, cls: Draft, whole: int | None, parent: Draft | None) -> int | None:
        """What it says of `whole`, the rest being all of it."""
        amount = _wanted(cls)
        if amount is None or whole is not None or not amount.relative:
            return None if amount is None else amount.of(whole or 0)
        if parent is not None and (*parent.loc, "guarantee") not in self._lost:
            part = "what remains" if amount.rest else "a percentage"
            message = f"this is {part} of what {quoted(parent.path)} guarantees, which does not say how much"
            hint = f"write a rate, such as 2mbit, or give {quoted(parent.path)} a guarantee"
            self._say(Kind.PERCENT_OF_NOTHING, cls, "guarantee", message, hint)
        return 0

    def nothing_remains(self, cls: Draft, key: str) -> None:
        """Of what it says under the key, the classes beside it leave nothing."""
        message = f"nothing remains for {quoted(cls.path)}: the guarantees beside it take all that there is"
        self._say(Kind.NOTHING_REMAINS, cls, key, message, "write a rate, or lower the guarantees beside it")

    def _exceeds_parent(self, cls: Draft, stated: int, below: int) -> None:
        message = (
            f"the classes in {quoted(cls.path)} guarantee {format_rate(below)}, it has {format_rate(stated)} itself"
        )
        scaled = self._scaled(cls.children, stated)
        hint = f"raise {quoted(cls.path)} to {format_rate(below)}, or scale them to fit: {scaled}"
        self._say(Kind.GUARANTEES_EXCEED_PARENT, self._tipping(cls.children, stated), "guarantee", message, hint)

    def fits_bandwidth(self, drafts: Sequence[Draft], bandwidth: int, control: int) -> None:
        """HTB would accept more than there is, and then nothing that it guarantees holds."""
        total = sum(self._guarantee[cls.path] for cls in drafts)
        if total + control > bandwidth:
            message = (
                f"the guarantees on {quoted(self._interface)} come to {format_rate(total + control)} "
                f"of {format_rate(bandwidth)}: "
                f"{format_rate(total)} here and {format_rate(control)} for {NETWORK_CONTROL}"
            )
            hint = f"scale them to fit: {self._scaled(drafts, bandwidth - control)}"
            self._say(
                Kind.GUARANTEES_EXCEED_BANDWIDTH, self._tipping(drafts, bandwidth - control), "guarantee", message, hint
            )

    def _tipping(self, drafts: Sequence[Draft], whole: int) -> Draft:
        """The class with which the sum first passes the whole."""
        total = 0
        for cls in drafts:
            total += self._guarantee[cls.path]
            if total > whole:
                return cls
        return drafts[-1]

    def _scaled(self, drafts: Sequence[Draft], whole: int) -> str:
        """Every guarantee that was written, in proportion, rounded down to four digits."""
        parts = list(self._written(drafts))
        total = sum(self._guarantee[cls.path] for cls in parts)
        return ", ".join(
            f"{cls.path} {format_rate(_four_digits(self._guarantee[cls.path] * whole // total))}" for cls in parts
        )

    def _written(self, drafts: Sequence[Draft]) -> Iterator[Draft]:
        for cls in drafts:
            if cls.spec.guarantee is None and not cls.strict:
                yield from self._written(cls.children)
            elif self._guarantee[cls.path]:
                yield cls

    def _say(self, kind: Kind, cls: Draft, key: str, message: str, hint: str) -> None:
        self.problems.append(self._document.problem(kind, (*cls.loc, key), message, hint))


def _wanted(cls: Draft) -> Amount | None:
    """What is written of its guarantee; of a strict class its limit is that, too."""
    return cls.spec.limit if cls.strict and cls.spec.guarantee is None else cls.spec.guarantee


def _is_rest(cls: Draft) -> bool:
    amount = _wanted(cls)
    return amount is not None and amount.rest


def shares_of(drafts: Sequence[Draft]) -> list[float]:
    """Weights of siblings: what was written; the rest of 100 in equal parts, at least 1, to the others."""
    stated = sum(cls.spec.share or 0.0 for cls in drafts)
    silent = sum(1 for cls in drafts if cls.spec.share is None and not cls.implied)
    part = max(1.0, (100.0 - stated) / silent) if silent else 0.0
    return [IMPLIED_SHARE if cls.implied else part if cls.spec.share is None else cls.spec.share for cls in drafts]


def _four_digits(rate: int) -> int:
    """Rounded down; never below the least rate that can be written."""
    step: int = 10 ** max(0, len(str(rate)) - 4)
    return max(8, rate // step * step)
