"""The objects that `--json` prints and the socket carries: units in the names of the keys, no NaN, no infinity."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from shaper.errors import Problem, ShaperError
from shaper.history.codec import decode, encode
from shaper.model.decision import Decision
from shaper.model.status import InterfaceStatus
from shaper.plan.impact import Impact, impacts
from shaper.plan.mark_words import nft_lines
from shaper.plan.steps import Plan, Step
from shaper.report.leaf_json import leaf_json
from shaper.tree import (
    Action,
    BpfFilter,
    CakeOptions,
    Class,
    Curve,
    EtsOptions,
    FifoOptions,
    Finish,
    FlowerFilter,
    FqCodelOptions,
    Handle,
    HfscClass,
    HfscOptions,
    HtbClass,
    HtbOptions,
    Ifb,
    LeafOptions,
    LoadedFilter,
    MarkTable,
    Node,
    Offload,
    Options,
    OtherFilter,
    Police,
    PrioOptions,
    Qdisc,
    RawOptions,
    SetDscp,
    SetMeta,
    U32Filter,
    U32Table,
    device_text,
    handle_text,
    kind_of,
    ticks_to_bytes,
    verdict_text,
)

SCHEMA = 1
_CAKE_UNITS = {
    "rate": "rate_bit_s",
    "rtt": "rtt_us",
    "target": "target_us",
    "overhead": "overhead_bytes",
    "mpu": "mpu_bytes",
    "memory": "memory_bytes",
}


def status_json(status: InterfaceStatus) -> dict[str, Any]:
    """One interface as it stands. What was not measured is null; `status_from_json` reads it back."""
    data: dict[str, Any] = {"schema": SCHEMA, **encode(status)}
    data["capture"]["drop_ratio"] = status.capture.drop_ratio
    for one, of in zip(data["classes"], status.classes, strict=True):
        one["occupancy_ratio"] = of.occupancy
        one["mos"] = of.mos
        if of.delay is not None:
            one["delay"]["jitter_s"] = {str(q): seconds for q, seconds in of.delay.variation.items()}
        if of.borrowing is not None:
            one["borrowing"]["borrowed_ratio"] = of.borrowing.ratio
        if of.burst is not None:
            one["burst"]["peak_to_mean"] = {str(tau): ratio for tau, ratio in of.burst.peaks.items()}
        if of.availability is not None:
            one["availability"]["available_ratio"] = of.availability.ratio
        if of.tcp is not None:
            one["tcp"]["retransmitted_ratio"] = of.tcp.ratio
        if not status.running:  # a rate takes two readings
            one["throughput_bit_s"] = one["offered_bit_s"] = None
        for target in (one["sla"] or {}).get("targets", ()):
            target["unit"] = unit_of(target["target"])
    return data


def status_from_json(data: Mapping[str, Any]) -> InterfaceStatus:
    """The status that another process gave. Raises ShaperError for another version's or what is none."""
    if data.get("schema") != SCHEMA:
        raise ShaperError(
            f"the status is of schema {data.get('schema')}, this shaper reads {SCHEMA}",
            hint="use the same version as the running shaper",
        )
    try:
        return decode(InterfaceStatus, dict(data))
    except ValueError as error:
        raise ShaperError(f"the status cannot be read: {error}") from error


def unit_of(target: str) -> str:
    """In what a target of an SLA is measured: `s`, `ratio`, `bit_s` or `score`."""
    if target.startswith(("delay-", "jitter-")):
        return "s"
    return {"loss": "ratio", "throughput": "bit_s", "mos": "score"}[target]


def decision_json(decision: Decision) -> dict[str, Any]:
    """One decision of the controller."""
    return {"schema": SCHEMA, **encode(decision)}


def problems_json(problems: Iterable[Problem]) -> dict[str, Any]:
    """Problems with their places; lines and columns count from 1."""
    return {"schema": SCHEMA, "problems": [_problem(problem) for problem in problems]}


def _problem(problem: Problem) -> dict[str, Any]:
    where = problem.where
    return {
        "kind": problem.kind,
        "file": where.file if where else None,
        "line": where.line if where else None,
        "column": where.column if where else None,
        "path": problem.path,
        "message": problem.message,
        "hint": problem.hint,
    }


def plan_json(plan: Plan, *, names: Mapping[Handle, str] | None = None) -> dict[str, Any]:
    """Steps in the order they are sent, with what each costs the traffic; `names` gives class handles their paths."""
    known = names or {}
    return {
        "schema": SCHEMA,
        "device": plan.device,
        "steps": [_step(step, impact, known) for step, impact in zip(plan.steps, impacts(plan, known), strict=True)],
    }


def _step(step: Step, impact: Impact, names: Mapping[Handle, str]) -> dict[str, Any]:
    node = step.node
    of = node.parent if isinstance(node, Qdisc) else node.handle if isinstance(node, Class) else None
    return {
        "verb": step.verb.value,
        "node": _kind(node),
        "class": names.get(of) if of is not None else None,
        "impact": "disruptive" if impact.disruptive else "hitless",
        "reason": impact.reason,
        "before": node_json(step.before) if step.before is not None else None,
        "after": node_json(step.after) if step.after is not None else None,
    }


def _kind(node: Node) -> str:
    if isinstance(node, Qdisc):
        return "qdisc"
    if isinstance(node, Class):
        return "class"
    if isinstance(node, Offload):
        return "offload"
    if isinstance(node, MarkTable):
        return "table"
    return "link" if isinstance(node, Ifb) else "filter"


def node_json(node: Node) -> dict[str, Any]:
    """One thing of the kernel's, with all its fields."""
    if isinstance(node, Ifb):
        return {"name": node.name, "alias": node.alias}
    if isinstance(node, Offload):
        return {"device": node.device, "name": node.name, "value": node.value}
    if isinstance(node, MarkTable):
        return {"name": node.name, "nft": list(nft_lines(node))}
    place = {"handle": handle_text(node.handle), "parent": handle_text(node.parent)}
    if not isinstance(node, Class) and node.device:
        place["device"] = node.device
    if isinstance(node, Qdisc):
        counts = {"size_table": node.stab._asdict()} if node.stab is not None else {}
        return {**place, "kind": node.kind, **options_json(node.kind, node.options), **counts}
    if isinstance(node, HtbClass):
        return {
            **place,
            "rate_bit_s": node.rate,
            "ceil_bit_s": node.ceil,
            "burst_bytes": ticks_to_bytes(node.burst, node.rate),
            "cburst_bytes": ticks_to_bytes(node.cburst, node.ceil),
            "prio": node.prio,
            "quantum_bytes": node.quantum,
        }
    if isinstance(node, HfscClass):
        return {**place, "rt": _curve(node.rt), "ls": _curve(node.ls), "ul": _curve(node.ul)}
    # A filter's handle is a plain number within its preference.
    place["handle"] = f"{node.handle:#x}"
    about: dict[str, Any] = {**place, "preference": node.preference, "protocol": f"{node.protocol:#06x}"}
    if isinstance(node, OtherFilter):
        return {**about, "kind": node.kind}
    if isinstance(node, FlowerFilter):
        return {**about, "kind": "flower", **_flower(node)}
    if isinstance(node, U32Table):
        return {**about, "kind": "u32", "table": True}
    if isinstance(node, U32Filter):
        return {**about, "kind": "u32", **_u32(node)}
    if isinstance(node, LoadedFilter):
        does = {"actions": [_action(action) for action in node.actions]} if node.actions else {}
        return {**about, "kind": "bpf", "program": node.name, "direct": node.direct, **does}
    return {**about, "kind": "bpf", **_bpf(node)}


def _curve(curve: Curve | None) -> dict[str, Any] | None:
    return curve and {"m1_bit_s": curve.m1, "d_s": curve.d / 1e6, "m2_bit_s": curve.m2}


def _bpf(node: BpfFilter) -> dict[str, Any]:
    return {
        "classid": handle_text(node.classid) if node.classid else None,
        "mirror": node.mirror or None,
        "redirect": node.redirect or None,
        **({"actions": [_action(action) for action in node.actions]} if node.actions else {}),
        **({"restore": node.restore._asdict()} if node.restore else {}),
        "bytecode": f"{len(node.program)}," + ",".join(" ".join(map(str, instruction)) for instruction in node.program),
    }


def _flower(node: FlowerFilter) -> dict[str, Any]:
    # An address is more than most readers of JSON take for a number.
    keys: dict[str, Any] = {
        field: device_text(value) if field == "indev" else {"value": f"{value:#x}", "mask": f"{mask:#x}"}
        for field, value, mask in node.keys
    }
    done = {"actions": [_action(action) for action in node.actions]} if node.actions else {}
    return {"classid": handle_text(node.classid), "keys": keys, **done}


def _u32(node: U32Filter) -> dict[str, Any]:
    keys = [{"offset": at, "value": f"{value:#010x}", "mask": f"{mask:#010x}"} for at, value, mask in node.keys]
    done = {"actions": [_action(action) for action in node.actions]} if node.actions else {}
    link = {**node.link._asdict(), "table": f"{node.link.table:#x}"} if node.link else None
    return {"classid": handle_text(node.classid) if node.classid else None, "keys": keys, "link": link, **done}


def _action(action: Action) -> dict[str, Any]:
    about: dict[str, Any] = {"kind": kind_of(action).kind}
    match action:
        case Police():
            verdicts = {"conform": verdict_text(action.conform), "exceed": verdict_text(action.exceed)}
            size = ticks_to_bytes(action.burst, action.rate)
            about |= {"index": action.index, "rate_bit_s": action.rate, "burst_bytes": size, **verdicts}
        case SetDscp():
            about |= {"ip_version": action.version, "dscp": action.dscp}
        case SetMeta():
            mark = None if action.mark is None else {"value": f"{action.mark:#x}", "mask": f"{action.mask:#x}"}
            about |= {"mark": mark, "priority": action.priority}
        case Finish():
            about |= {"verdict": verdict_text(action.verdict)}
    return about


def options_json(kind: str, options: Options) -> dict[str, Any]:
    """A queue's options with their units in the names."""
    if isinstance(options, HtbOptions):
        return {"default": f"{options.default:x}", "direct_queue_packets": options.direct_queue}
    if isinstance(options, HfscOptions):
        return {"default": f"{options.default:x}"}
    if isinstance(options, CakeOptions):
        rest = {name: value for name, value in options._asdict().items() if name not in _CAKE_UNITS}
        return {**{key: getattr(options, name) for name, key in _CAKE_UNITS.items()}, **rest}
    if isinstance(options, (EtsOptions, PrioOptions)):
        return options._asdict()
    if isinstance(options, FifoOptions):
        return {"limit_packets" if kind == "pfifo" else "limit_bytes": options.limit}
    if isinstance(options, FqCodelOptions):
        return {
            "limit_packets": options.limit,
            "memory_bytes": options.memory,
            "target_s": options.target / 1e6,
            "interval_s": options.interval / 1e6,
            "quantum_bytes": options.quantum,
            "flows": options.flows,
            "ecn": options.ecn,
        }
    if isinstance(options, LeafOptions):
        return leaf_json(options)
    return {"options": options.data.hex()} if isinstance(options, RawOptions) else {}
