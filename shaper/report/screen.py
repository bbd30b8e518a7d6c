"""The live view drawn: a screen of text for a `Top`, in so many columns and lines."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator

from rich.text import Text

from shaper.model.policy import Direction
from shaper.model.sla import SlaState
from shaper.model.status import ClassStatus, InterfaceStatus, Moved
from shaper.report.glyphs import Glyphs
from shaper.report.shape import shape_words
from shaper.report.tables import STATES
from shaper.report.tcp import tcp_words
from shaper.report.top import Order, Top, Trace
from shaper.report.words import clean, decimals, frozen_text, moved_text, size_text, target_of, target_text
from shaper.units import format_duration, format_rate

_HELP = (
    ("up down, j k", "mark a class"),
    ("enter, escape", "only that class, and back"),
    ("tab", "the next interface or direction"),
    ("p n r d l b s", "sort by policy, name, rate, delay, loss, backlog, SLA; again: the other way"),
    ("space", "stand still, and go on"),
    ("q", "the end"),
)
_FOOT = "enter class  tab interface  p n r d l b s sort  space pause  ? help  q quit"
_TITLES = {
    Order.POLICY: "class",
    Order.NAME: "class",
    Order.RATE: "rate",
    Order.DELAY: "p99 ms",
    Order.LOSS: "loss",
    Order.QUEUE: "queue",
    Order.SLA: "SLA",
}


def screen(top: Top, *, width: int, height: int, glyphs: Glyphs) -> Text:
    """At most `height` lines of at most `width` columns."""
    lines = [*_head(top, width, glyphs)]
    if top.helping:
        lines += [Text(), *(Text(f"  {keys:16}{does}") for keys, does in _HELP)]
    elif top.status is not None and top.inside and top.marked is not None:
        lines += _inside(top, top.marked, width, glyphs)
    elif top.status is not None:
        lines += _table(top, width, height - len(lines) - 2, glyphs)
    lines = lines[: height - 1]
    lines += [Text()] * (height - 1 - len(lines))
    foot = Text(_FOOT, style="dim")
    if top.paused:
        foot = Text("paused: space goes on", style="bold yellow")
    lines.append(foot)
    for line in lines:
        line.truncate(width)
    return Text("\n").join(lines)


def _head(top: Top, width: int, glyphs: Glyphs) -> Iterator[Text]:
    status = top.status
    if status is None:
        yield Text(clean(top.trouble) or "nothing of the shaper's is here", style="yellow")
        return
    way = "" if status.direction is Direction.EGRESS else f", {status.direction}"
    line = Text(clean(f"{status.interface} ({status.device}{way})"), style="bold")
    carries = status.link.rate if status.link else status.bandwidth
    line.append(f" {format_rate(carries)}{' of a link that moves' if status.link else ''}", style="not bold")
    mode = (
        f"{status.controller.mode} for {format_duration(float(int(status.seconds)))}" if status.running else "not run"
    )
    line.append(f"  {mode}", style="not bold green" if status.running else "not bold yellow")
    if len(top.statuses) > 1:
        line.append(f"  {top.place + 1} of {len(top.statuses)}", style="dim")
    yield line
    rates = [rate for one in status.classes if (rate := _now(top.trace(one.path).rates)) is not None]
    used = sum(rates) / carries if rates else None
    words = "-" if used is None else f"{used:.0%}"
    yield (
        Text("link ")
        .append(glyphs.bar(used, max(10, width - 40)), style="cyan")
        .append(f" {words} {'' if not rates else format_rate(float(f'{sum(rates):.3g}'))}")
    )
    news = [*([top.trouble] if top.trouble else []), *status.alarms]
    if status.frozen is not None:
        news.insert(0, frozen_text(status.frozen))
    elif status.controller.held:
        news.append(f"held: {status.controller.held}")
    yield Text(clean(news[0]), style="bold red" if status.alarms else "yellow") if news else Text()
    yield from (_moved(one) for one in status.controller.moved[:1])


def _moved(one: Moved) -> Text:
    """The controller's last word on a class."""
    ago, change = format_duration(float(int(one.ago))), one.change
    return Text(clean(f"{ago} ago {change.path}: {moved_text(change)}: {change.reason}"), style="dim")


def _table(top: Top, width: int, room: int, glyphs: Glyphs) -> Iterator[Text]:
    """As many classes as there is room for, the marked one among them."""
    classes = top.classes()
    names = max(8, min(24, max((len(clean(one.path)) for one in classes), default=8)))
    spark = max(0, min(60, width - names - 62))
    heads = [
        ("class", names),
        ("SLA", -8),
        ("rate", 9),
        ("of its limit", -13),
        ("p99 ms", 8),
        ("loss", 7),
        ("queue", -9),
    ]
    head = Text("  ", style="bold")
    for title, size in heads:
        cell = title.rjust(size) if size > 0 and title != "class" else title.ljust(abs(size))
        sorted_by = _TITLES[top.order] == title and top.order is not Order.POLICY
        head.append(cell + " ", style="reverse" if sorted_by else "")
    yield head.append("rate, of late".ljust(spark) if spark >= 13 else "")
    paths = [one.path for one in classes]
    at = paths.index(top.marked) if top.marked in paths else 0
    first = max(0, min(at - room // 2, len(classes) - room))
    for one in classes[first : first + max(1, room)]:
        yield _row(top, one, names, spark, glyphs)


def _row(top: Top, one: ClassStatus, names: int, spark: int, glyphs: Glyphs) -> Text:
    trace = top.trace(one.path)
    rate, delay, loss, queue = (_now(values) for values in (trace.rates, trace.delays, trace.losses, trace.queues))
    state = one.sla.state if one.sla else SlaState.NONE
    word, style = STATES[state]
    chosen = one.path == top.marked
    line = Text("> " if chosen else "  ", style="bold" if chosen else "")
    name = clean(one.path)
    line.append((name if len(name) <= names else "…" + name[1 - names :]).ljust(names) + " ")
    line.append(word.ljust(8) + " ", style=style)
    line.append(("-" if rate is None else format_rate(float(f"{rate:.3g}"))).rjust(9) + " ")
    limit = one.bounds.ceil[1]
    line.append(glyphs.bar(rate / limit if rate is not None and limit else None, 13) + " ", style="cyan")
    line.append(("-" if delay is None else decimals(delay * 1e3)).rjust(8) + " ")
    line.append(("-" if loss is None else f"{decimals(loss * 100)}%").rjust(7) + " ", style="red" if loss else "")
    line.append(glyphs.bar(queue, 9) + " ", style="yellow" if queue and queue > 0.8 else "blue")
    return line.append(glyphs.spark(trace.rates, spark) if spark else "", style="cyan")


def _inside(top: Top, path: str, width: int, glyphs: Glyphs) -> Iterator[Text]:
    """One class: its rates, its targets, its past, and how its delays are spread."""
    status = top.status
    assert status is not None
    one = next(each for each in status.classes if each.path == path)
    trace = top.trace(path)
    word, style = STATES[one.sla.state if one.sla else SlaState.NONE]
    yield (
        Text(clean(path), style="bold")
        .append(f"  {one.tier.name.lower()}  ", style="not bold")
        .append(word, style=style)
    )
    yield Text(
        f"granted {format_rate(one.granted.rate)}, may borrow to {format_rate(one.granted.ceil)}; guarantee "
        f"{format_rate(one.guarantee)}, limit {format_rate(one.bounds.ceil[1])}; queue {size_text(one.granted.queue)}"
        + (f", AQM target {target_of(one.granted)}" if one.granted.target else "")
    )
    yield Text(
        f"sent {one.sent_packets} packets, dropped {one.dropped_packets}"
        + (f", {ratio:.1%} by borrowed rates" if one.borrowing and (ratio := one.borrowing.ratio) is not None else "")
        + (f"; delay of {one.delay.count} packets in {decimals(one.delay.window)} s" if one.delay else "")
    )
    if words := shape_words(one):
        yield Text(clean(words))
    if words := tcp_words(one.tcp):
        yield Text(clean(words))
    yield from (_moved(each) for each in status.controller.moved if each.change.path == path)
    yield Text()
    yield from _targets(one, glyphs)
    yield from _past(one, trace, status, max(10, width - 34), glyphs)
    yield Text()
    yield from _spread(one, width, glyphs)


def _targets(one: ClassStatus, glyphs: Glyphs) -> Iterator[Text]:
    for target in one.sla.targets if one.sla else ():
        word, style = STATES[target.state]
        measured = "no data" if target.measured is None else target_text(target.target, target.measured)
        used = None
        if target.measured is not None and target.wanted and target.measured:
            used = target.wanted / target.measured if target.at_least else target.measured / target.wanted
        sign = "at least" if target.at_least else "at most"
        yield (
            Text(f"  {target.target:12}")
            .append(glyphs.bar(used, 20), style=style)
            .append(f" {measured}, {sign} {target_text(target.target, target.wanted)} ({target.samples} samples) ")
            .append(word, style=style)
        )
    if one.sla and one.sla.targets:
        yield Text()


def _past(one: ClassStatus, trace: Trace, status: InterfaceStatus, room: int, glyphs: Glyphs) -> Iterator[Text]:
    rows = (
        ("rate", trace.rates, float(one.bounds.ceil[1]), lambda value: format_rate(float(f"{value:.3g}")), "cyan"),
        ("p99", trace.delays, None, format_duration_short, "magenta"),
        ("loss", trace.losses, None, lambda value: f"{decimals(value * 100)}%", "red"),
        ("queue", trace.queues, 1.0, lambda value: f"{value:.0%}", "blue"),
    )
    for name, values, ceiling, words, style in rows:
        last = _now(values)
        scale = (
            None if name == "rate" and ceiling and max((v or 0 for v in values), default=0) < ceiling / 20 else ceiling
        )
        yield (
            Text(f"  {name:6}")
            .append(glyphs.spark(values, room, top=scale), style=style)
            .append(f" {'-' if last is None else words(last)}")
        )


def format_duration_short(seconds: float) -> str:
    """Three digits: `12.3ms`."""
    return format_duration(float(f"{seconds:.3g}"))


def _spread(one: ClassStatus, width: int, glyphs: Glyphs) -> Iterator[Text]:
    """The delays since the start by bucket."""
    histogram = one.histogram
    if not histogram.count:
        return
    counts = [after - before for before, after in zip((0, *histogram.counts), histogram.counts, strict=False)]
    rows = [
        (f"<= {format_duration_short(bound)}", count) for bound, count in zip(histogram.bounds, counts, strict=True)
    ]
    rows.append((f" > {format_duration_short(histogram.bounds[-1])}", histogram.count - histogram.counts[-1]))
    while len(rows) > 1 and not rows[-1][1]:
        rows.pop()
    yield Text(f"delays since the start, {histogram.count} packets", style="bold")
    for name, count in rows:
        share = count / histogram.count
        yield (
            Text(f"  {name:>10} ")
            .append(glyphs.bar(share, max(10, width - 34)), style="magenta")
            .append(f" {share:.1%}")
        )


def _now(values: deque[float | None]) -> float | None:
    return values[-1] if values else None
