"""An interface and a machine as tables and sentences, built as rich values; `render` prints them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from rich import box
from rich.table import Table
from rich.text import Text

from shaper.model.observation import CaptureHealth, DelayView, Rung
from shaper.model.policy import Direction
from shaper.model.sla import SlaResult, SlaState, TargetResult
from shaper.model.status import ClassStatus, ControllerStatus, InterfaceStatus, PendingConfirmation, ProbeStatus
from shaper.report.link_rate import link_words
from shaper.report.tcp import tcp_sentences
from shaper.report.words import clean, decimals, frozen_text, schedule_text, size_text, target_text, when
from shaper.stats import Availability
from shaper.units import format_duration, format_percent, format_rate

STATES = {
    SlaState.MET: ("met", "green"),
    SlaState.MISSED: ("MISSED", "bold red"),
    SlaState.NO_DATA: ("no data", "yellow"),
    SlaState.NONE: ("-", "dim"),
}

_PATH_WIDTH = 24
_TIER, _POLICY = "tier", "guarantee\n/limit"
_FINDINGS = {"ok": "green", "missing": "yellow", "needed": "bold red"}


def plain_table(*columns: str, numbers: Iterable[str] = ()) -> Table:
    """An empty table in the style of all tables; the columns in `numbers` are set to the right."""
    made = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 0), header_style="bold")
    for position, name in enumerate(columns):
        made.add_column(
            Text(name),
            justify="right" if name in numbers else "left",
            no_wrap=position > 0,
            overflow="fold",
            max_width=_PATH_WIDTH if position == 0 else None,
        )
    return made


def status_title(status: InterfaceStatus) -> Text:
    """Which interface, of which policy, and how far `run` has come."""
    way = "" if status.direction is Direction.EGRESS else f", {status.direction}"
    head = clean(f"{status.interface} ({status.device}{way})")
    text = Text(head, style="bold")
    text.append(
        clean(f": {format_rate(status.bandwidth)}, policy {status.policy} of {status.source}"), style="not bold"
    )
    if status.running:
        controller = status.controller
        text.append(
            f"\n{controller.mode} for {format_duration(status.seconds)}, "
            f"{controller.ticks} ticks, {controller.changes} changes",
            style="not bold",
        )
        if status.utilisation is not None:
            text.append(f"; the link is {status.utilisation:.1%} used", style="not bold")
    return text


def status_table(status: InterfaceStatus, *, narrow: bool = False) -> Table:
    """A row by class: what was measured where `run` is up, else the counters of the kernel.

    `narrow` leaves out the tier and what the policy says, for small terminals.
    """
    made = _measures(status.classes) if status.running else _counters(status.classes)
    if narrow:
        made.columns = [column for column in made.columns if str(column.header) not in (_TIER, _POLICY)]
    return made


def _measures(classes: Iterable[ClassStatus]) -> Table:
    rows = plain_table(
        "class",
        _TIER,
        "granted",
        _POLICY,
        "sends",
        "p50/p95/p99\nms",
        "samples",
        "loss",
        "backlog",
        "SLA",
        numbers=("granted", _POLICY, "sends", "p50/p95/p99\nms", "samples", "loss", "backlog"),
    )
    for one in classes:
        rows.add_row(
            *_who(one),
            Text(format_rate(float(f"{one.throughput:.3g}"))),
            *_delay(one.delay),
            Text("no data" if one.loss is None else f"{decimals(one.loss * 100)}%"),
            Text(size_text(one.backlog_bytes)),
            _state(one.sla),
        )
    return rows


def quality_table(status: InterfaceStatus) -> Table | None:
    """What the delays of a running interface are worth, and how its calls sound; None where nothing was measured."""
    measured = [(one, one.delay) for one in status.classes if one.delay is not None and one.delay.count]
    if not measured:
        return None
    numbers = ("jitter p50/p95/p99\nms", "MOS", "p99 within\nms", "queue\nfull", "packets\nmeasured", "in\ns")
    rows = plain_table("class", *numbers, "by", numbers=numbers)
    for one, view in measured:
        ends = (view.low.get(0.99), view.high.get(0.99))
        within = "/".join("?" if end is None else decimals(end * 1e3) for end in ends)
        rows.add_row(
            Text(clean(one.path)),
            Text("/".join(decimals(view.variation[q] * 1e3) for q in (0.5, 0.95, 0.99) if q in view.variation) or "-"),
            Text("-" if one.mos is None else f"{one.mos:.2f}"),
            Text(within if view.sampling > 1 else "-"),
            Text("-" if one.occupancy is None else f"{one.occupancy:.0%}"),
            Text("-" if view.coverage is None else format_percent(round(view.coverage, 3))),
            Text(decimals(view.window)),
            Text(clean(view.source + (f", 1 in {view.sampling}" if view.sampling > 1 else ""))),
        )
    return rows


def _counters(classes: Iterable[ClassStatus]) -> Table:
    numbers = ("granted", _POLICY, "sent\nbytes", "sent\npackets", "dropped\npackets", "backlog")
    rows = plain_table("class", _TIER, *numbers, "SLA", numbers=numbers)
    for one in classes:
        rows.add_row(
            *_who(one),
            Text(str(one.sent_bytes)),
            Text(str(one.sent_packets)),
            Text(str(one.dropped_packets)),
            Text(size_text(one.backlog_bytes)),
            _state(one.sla),
        )
    return rows


def _who(one: ClassStatus) -> tuple[Text, Text, Text, Text]:
    limit = one.bounds.ceil[1]
    return (
        Text(clean(one.path)),
        Text(one.tier.name.lower()),
        Text(format_rate(one.granted.rate)),
        Text(f"{format_rate(one.guarantee)}/{format_rate(limit)}"),
    )


def _delay(view: DelayView | None) -> tuple[Text, Text]:
    if view is None or not view.count:
        return Text("no data"), Text("0")
    values = (view.quantiles.get(percentile) for percentile in (0.5, 0.95, 0.99))
    return Text("/".join("-" if value is None else decimals(value * 1e3) for value in values)), Text(str(view.count))


def _state(sla: SlaResult | None) -> Text:
    return Text(*STATES[sla.state if sla else SlaState.NONE])


def status_sentences(status: InterfaceStatus) -> Iterator[Text]:
    """What the table has no room for: targets missed, shortfalls, why the controller holds, what is not measured."""
    if status.confirmation is not None:
        yield from _confirmation(status.confirmation)
    if status.frozen is not None:
        yield Text(clean(f"Nothing is moved: {frozen_text(status.frozen)}"), style="bold yellow")
    for one in status.classes:
        for target in one.sla.targets if one.sla else ():
            if target.state is SlaState.MISSED:
                yield _missed(one.path, target)
    for one in status.classes:
        if one.availability is not None and one.availability.unavailable:
            yield _unavailable(one.path, one.availability)
    for one in status.classes:
        if one.probe is not None:
            yield _probe(one.path, one.probe)
    yield from tcp_sentences(status.classes)
    if status.link is not None:
        yield Text(clean(link_words(status.link)))
    yield from _shortfalls(status.controller)
    if status.controller.held and status.frozen is None:
        yield Text(clean(f"The controller holds: {status.controller.held}"), style="yellow")
    if not status.running:
        yield Text("No `shaper run` is up: these are the kernel's counters, and delay is not measured", style="yellow")
    else:
        yield from capture_sentences(status.capture)
    if status.unshaped_packets:
        yield Text(f"{status.unshaped_packets} packets went past the shaper", style="yellow")
    if status.schedule is not None:
        yield Text(clean(schedule_text(status.schedule)))
    for alarm in status.alarms:
        yield Text(clean(f"ALARM: {alarm}"), style="bold red")


def _shortfalls(controller: ControllerStatus) -> Iterator[Text]:
    """What cannot hold now, since when, and what is given up for the others."""
    began = {(one.path, one.target): one.began for one in controller.shortages}
    for one in controller.shortfalls:
        at = began.get((one.path, one.target))
        since = "" if at is None else f" (since {when(at)})"
        yield Text(clean(f"{one.words}{since}"), style="yellow")
    if controller.given_up:
        yield Text(clean(f"Given up, in this order: {'; '.join(controller.given_up)}"), style="yellow")


def _confirmation(pending: PendingConfirmation) -> Iterator[Text]:
    judged = "" if pending.judged is None else f"the measurement decides in {pending.judged:.0f} s, else "
    yield Text(
        clean(
            f"Change {pending.change} waits for its confirmation: {judged}it is rolled back in {pending.left:.0f} s "
            f"unless you say: shaper confirm {pending.id}"
        ),
        style="yellow",
    )
    if not pending.guarded:
        yield Text("Its watchdog is gone: the next command that changes anything rolls it back", style="bold red")
    if pending.trouble:
        yield Text(clean(f"It could not be rolled back so far: {pending.trouble}"), style="bold red")


def _missed(path: str, target: TargetResult) -> Text:
    bound = "at least" if target.at_least else "at most"
    measured = "nothing" if target.measured is None else target_text(target.target, target.measured)
    return Text(
        clean(
            f"{path} misses {target.target}: {measured} measured, {bound} "
            f"{target_text(target.target, target.wanted)} wanted ({target.samples} samples)"
        ),
        style="red",
    )


def _unavailable(path: str, found: Availability) -> Text:
    lasted = (
        f"{format_duration(found.unavailable)} of {format_duration(found.available + found.unavailable)} with packets"
    )
    return Text(
        clean(f"{path} was unavailable for {lasted}: more than half was lost, 10 s and more in a row"), style="red"
    )


def _probe(path: str, probe: ProbeStatus) -> Text:
    """What the probe of a class found: never in the table, whose figures are the class's own packets'."""
    to = f"{path} is probed ({probe.kind} to {probe.to})"
    if probe.resting and not probe.sent:
        return Text(clean(f"{to} only while it has no traffic of its own"))
    said = []
    for name, view in (("round trip", probe.round_trip), ("waits here", probe.waited)):
        if view is not None:
            times = "/".join(decimals(view.quantiles[each] * 1e3) for each in (0.5, 0.95, 0.99))
            said.append(f"{name} p50/p95/p99 {times} ms")
    loss = "nothing sent in the last seconds" if probe.loss is None else f"{decimals(probe.loss * 100)}% lost"
    said += [loss, *([probe.says] if probe.says else []), *(["it rests"] if probe.resting else [])]
    judges = "; its SLA is judged by that, for want of own traffic" if probe.judges else ""
    return Text(clean(f"{to}: {', '.join(said)}{judges}"), style="yellow" if probe.says else "default")


def capture_sentences(capture: CaptureHealth) -> Iterator[Text]:
    if not capture.running:
        yield Text(clean(f"Delay is not measured: {capture.reason or 'there is no capture'}"), style="yellow")
        return
    how = "in the kernel (eBPF)" if capture.rung is Rung.EBPF else "by captured packets"
    each = "every packet" if capture.sampling == 1 else f"1 packet in {capture.sampling}"
    if capture.listening < 1:
        each += f", in slices of {format_percent(capture.listening)} of the time"
    why = f"; not in the kernel: {capture.lacking}" if capture.lacking else ""
    yield Text(clean(f"Delay is measured {how}, {each}{why}"))
    if not capture.trusted:
        yield Text(
            f"The capture itself lost {format_percent(capture.drop_ratio)} of "
            f"{capture.captured + capture.capture_drops} frames",
            style="yellow",
        )


def doctor_table(rows: Iterable[tuple[str, str, str, str]]) -> Table:
    """Abilities of the machine: name, state, what was seen, and what the shaper does instead of what is missing."""
    made = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 0), header_style="bold")
    for name in ("ability", "state"):
        made.add_column(Text(name), no_wrap=True)
    made.add_column(Text("seen"), overflow="fold")
    made.add_column(Text("what the shaper does instead"), overflow="fold")
    for name, state, seen, instead in rows:
        style = _FINDINGS.get(state, "default")
        made.add_row(Text(clean(name)), Text(clean(state), style=style), Text(clean(seen)), Text(clean(instead)))
    return made
