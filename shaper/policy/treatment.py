"""What a class does to its packets: the values of `police` and `set`, and whether they fit together.

As in `values`, a function of one scalar takes the bare value and raises PydanticCustomError.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from shaper.errors import Problem
from shaper.model.treatment import DROPPED, SENT, Marking, Outcome, Policer
from shaper.policy import fields
from shaper.policy.kinds import Kind
from shaper.policy.reader import Document
from shaper.policy.text import Loc, did_you_mean, named, quoted
from shaper.policy.values import refuse, said
from shaper.units import format_rate, format_size

if TYPE_CHECKING:
    from shaper.policy.draft import Draft
    from shaper.policy.schema import ClassSpec, PoliceSpec

WORDS = {"transmit": SENT, "drop": DROPPED}
MOST_PRIORITY = 15
_CS0 = 0


def outcome(value: object) -> Outcome:
    """`transmit`, `drop`, or `{dscp: af12}`."""
    if isinstance(value, dict) and set(value) == {"dscp"}:
        return Outcome(dscp=fields.dscp(value["dscp"]))
    if isinstance(value, str) and value in WORDS:
        return WORDS[value]
    hint = f"{did_you_mean(str(value), WORDS)}write transmit, drop or a mark, such as `{{dscp: af12}}`"
    raise refuse(Kind.UNKNOWN_NAME, f"{said(value)} is nothing that a policer does", hint)


def priority(value: object) -> int:
    """0 to 15: the kernel's own, of a packet (`man 7 socket`, SO_PRIORITY)."""
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= MOST_PRIORITY:
        hint = f"write a number from 0 to {MOST_PRIORITY}, such as the 6 of interactive traffic"
        raise refuse(Kind.BAD_QUANTITY, f"{said(value)} is not a packet's priority", hint)
    return value


def treatment_problems(cls: Draft, document: Document) -> Iterator[Problem]:
    """What of one class's `police`, `set` and `wash` does not fit together."""
    spec, name = cls.spec, quoted(cls.path)
    if spec.wash and spec.marking is not None and spec.marking.dscp is not None:
        message = "`wash` clears the DSCP that `set` writes"
        yield document.problem(Kind.BAD_MARKING, (*cls.loc, "wash"), message, "keep one of the two", at_key=True)
    if spec.police is None:
        return
    loc: Loc = (*cls.loc, "police")
    if cls.children:
        hint = f"write it at the classes inside: {named(child.name for child in cls.children if not child.implied)}"
        message = f"{name} holds classes; packets are policed where they wait"
        yield document.problem(Kind.POLICE_NOT_LEAF, loc, message, f"{hint}; or give this one a `limit`", at_key=True)
    yield from _bucket_problems(spec.police, loc, document)


def _bucket_problems(police: PoliceSpec, loc: Loc, document: Document) -> Iterator[Problem]:
    def say(key: str, message: str, hint: str) -> Problem:
        return document.problem(Kind.BAD_POLICE, (*loc, key), message, hint, at_key=key != "pir")

    if police.ebs is not None:
        yield say(
            "ebs",
            "the kernel's policers have no bucket that fills from what another leaves over, so the excess burst of "
            "RFC 2697 would pass more than it says",
            "take `ebs` out for one bucket and two colours, or give a peak rate: `pir` and `pbs` (RFC 2698)",
        )
    if police.pir is None:
        for key in ("pbs", "yellow"):
            if key in police.model_fields_set:
                yield say(key, f"with one rate there is no {key}", f"add `pir`, or take `{key}` out")
        if police.green == police.red:
            yield say("red", "what conforms and what does not have the same fate", "let `red` drop or have a DSCP")
        return
    if police.pbs is None:
        yield say("pir", "the peak rate has no burst", f"add `pbs`, such as `pbs: {format_size(15000)}`")
    if police.pir < police.cir:
        message = f"the peak rate of {format_rate(police.pir)} is below the committed rate of {format_rate(police.cir)}"
        yield say("pir", message, f"write at least {format_rate(police.cir)} (RFC 2698, section 2)")
    if police.green == police.yellow == police.red:
        yield say("red", "all three colours have the same fate", "let one of them drop or have a DSCP")


def policer(spec: PoliceSpec | None) -> Policer | None:
    """With its bursts in bytes."""
    if spec is None:
        return None
    pir = spec.pir or 0
    pbs = spec.pbs.of(pir) if spec.pbs else 0
    return Policer(spec.cir, spec.cbs.of(spec.cir), pir, pbs, spec.green, spec.yellow, spec.red)


def marking(spec: ClassSpec, above: Marking) -> Marking:
    """What the class says itself, and what those above it say of the rest."""
    own = Marking() if spec.marking is None else Marking(spec.marking.dscp, spec.marking.mark, spec.marking.priority)
    dscp = _CS0 if spec.wash else own.dscp
    return Marking(
        above.dscp if dscp is None else dscp,
        own.mark or above.mark,
        above.priority if own.priority is None else own.priority,
    )
