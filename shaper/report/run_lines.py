"""What `shaper run --json` prints: one object a line, for programs that watch a run."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from shaper.model.observation import DelayView
from shaper.model.status import ClassTotals, InterfaceStatus, RunTotals
from shaper.report.as_json import status_json


def ready_line(statuses: Sequence[InterfaceStatus]) -> dict[str, Any]:
    """The policy is in force and is being measured."""
    return {"event": "ready", "schema": 1, "interfaces": [status_json(one) for one in statuses]}


def second_line(status: InterfaceStatus, *, at: float) -> dict[str, Any]:
    """One second of one interface; `at` is Unix time. Bytes and drops are since the start."""
    return {
        "event": "second",
        "at": at,
        "interface": status.interface,
        "direction": status.direction.value,
        "classes": {
            one.path: {
                "sent_bytes": one.sent_bytes,
                "dropped_packets": one.dropped_packets,
                "backlog_bytes": one.backlog_bytes,
                "waiting_s": one.waiting_seconds,
                "waiting_bytes": one.waiting_bytes,
                "rate_bit_s": one.granted.rate,
                "ceil_bit_s": one.granted.ceil,
                "queue_bytes": one.granted.queue,
                **({"aqm_target_s": one.granted.target / 1e6} if one.granted.target else {}),
                "delay_p50_s": _quantile(one.delay, 0.5),
                "delay_p99_s": _quantile(one.delay, 0.99),
                "sla": one.sla.state.value if one.sla else "none",
            }
            for one in status.classes
        },
        **({"link_bit_s": status.link.rate} if status.link else {}),
        "utilisation": status.utilisation,
        "alarms": list(status.alarms),
    }


def lost_line(count: int) -> dict[str, Any]:
    """So many lines were left out, since nobody read."""
    return {"event": "lost", "lines": count}


def summary_line(totals: RunTotals) -> dict[str, Any]:
    """The whole run, once it ends."""
    return {
        "event": "summary",
        "interface": totals.interface,
        "device": totals.device,
        "direction": totals.direction.value,
        "mode": totals.mode,
        "seconds": totals.seconds,
        "classes": {one.path: _class_summary(one, totals.seconds) for one in totals.classes},
        "utilisation": totals.utilisation,
        "changes": totals.changes,
    }


def _class_summary(one: ClassTotals, seconds: float) -> dict[str, Any]:
    """Loss is the packets' own account where there is one, else the leaf's counters."""
    if one.arrivals is not None and one.lost is not None:
        settled = one.arrivals - one.in_flight
        loss = one.lost / settled if settled > 0 else None
    else:
        offered = one.sent_packets + one.kernel_drops
        loss = one.kernel_drops / offered if offered else None
    return {
        "samples": one.samples,
        "delay_p50_s": one.quantiles.get(0.5),
        "delay_p95_s": one.quantiles.get(0.95),
        "delay_p99_s": one.quantiles.get(0.99),
        "loss_ratio": loss,
        "throughput_bit_s": one.sent_bytes * 8 / seconds if seconds else None,
        "sent_bytes": one.sent_bytes,
        "sent_packets": one.sent_packets,
        "kernel_drops": one.kernel_drops,
        "measured_drops": one.lost,
        "measured_arrivals": one.arrivals,
        "in_flight": one.in_flight,
    }


def _quantile(view: DelayView | None, percentile: float) -> float | None:
    return view.quantiles.get(percentile) if view else None
