"""Numbers as pictures of a few characters: bars and sparklines, in block elements or plain ASCII."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Glyphs:
    """`eighths` fill a cell more and more from the left, `heights` from below; `empty` is what is not filled."""

    eighths: str
    heights: str
    empty: str

    def bar(self, ratio: float | None, width: int) -> str:
        """A bar of `width` cells, filled to the ratio; of more than 1 it is full. Nothing known is empty."""
        steps = len(self.eighths)
        filled = round(max(0.0, min(1.0, ratio or 0.0)) * width * steps)
        if ratio and not filled:
            filled = 1  # a little is not nothing
        whole, part = divmod(filled, steps)
        text = self.eighths[-1] * whole + (self.eighths[part - 1] if part else "")
        return text + self.empty * (width - len(text))

    def spark(self, values: Sequence[float | None], width: int, *, top: float | None = None) -> str:
        """The newest `width` values, scaled to the largest of them or to `top`; a gap where one is not known."""
        shown = list(values)[-width:]
        most = max((one for one in shown if one is not None), default=0.0)
        scale = max(most, top or 0.0)
        last = len(self.heights) - 1

        def height(value: float | None) -> str:
            if value is None:
                return " "
            return self.heights[min(last, round(value / scale * last))] if scale > 0 else self.heights[0]

        return "".join(map(height, shown)).rjust(width)


BLOCKS = Glyphs("▏▎▍▌▋▊▉█", "▁▂▃▄▅▆▇█", "·")
ASCII = Glyphs("#", "_.-=*#", ".")
