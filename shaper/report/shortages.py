"""The SLAs that could not hold, with their begin and end."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.text import Text

from shaper.model.shortage import Shortage
from shaper.report.render import whole_table
from shaper.report.tables import plain_table
from shaper.report.words import clean, when
from shaper.units import format_duration, format_rate


def shortages_view(found: Sequence[Shortage], *, place: str, out: Console) -> None:
    """A row each, as they began, with the figures of their worst moment, and what was given up below the table."""
    if not found:
        out.print(Text(clean(f"{place}: every SLA could hold, as far as it was watched")), soft_wrap=True)
        return
    numbers = ("needed", "there was", "short", "would do")
    table = plain_table(place, "target", "from", "for", *numbers, numbers=("for", *numbers))
    for one in found:
        lasted = "still" if one.ended is None else format_duration(round(one.ended - one.began))
        rates = (one.need, one.granted, one.need - one.granted, one.capacity)
        words = (one.path, one.target or "-", when(one.began), lasted, *map(_rate, rates))
        table.add_row(*(Text(clean(word)) for word in words))
    whole_table(table, out=out)
    for order in dict.fromkeys(one.given_up for one in found if one.given_up):
        out.print(Text(clean(f"given up, in this order: {'; '.join(order)}")), soft_wrap=True)


def _rate(rate: int) -> str:
    return format_rate(float(f"{rate:.3g}"))
