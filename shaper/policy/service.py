"""A class's `service-class`: what it does not say itself is said for it."""

from __future__ import annotations

from typing import Any

from shaper.model.service import SERVICE_CLASSES
from shaper.policy.names import dscp_text
from shaper.policy.schema import AqmSpec, ClassSpec, MatchSpec
from shaper.policy.targets import SlaSpec
from shaper.policy.text import Loc
from shaper.policy.validate import Lost
from shaper.units import format_duration, format_percent


def with_presets(spec: ClassSpec, loc: Loc, lost: Lost) -> tuple[ClassSpec, tuple[str, ...]]:
    """The class with its presets, and which they are, in words. What was written wrong is not replaced.

    A class that holds others has the tier and the match alone: packets wait in its leaves.
    """
    if spec.service_class is None:
        return spec, ()
    preset = SERVICE_CLASSES[spec.service_class]
    leaf = not spec.classes
    said: list[str] = []
    update: dict[str, Any] = {}

    def give(key: str, value: object, words: str) -> None:
        if key not in spec.model_fields_set and (*loc, key) not in lost:
            update[key] = value
            said.append(words)

    if not spec.default:
        names = ", ".join(dscp_text(value) for value in preset.dscp)
        match = MatchSpec.model_construct(_fields_set={"dscp"}, dscp=list(preset.dscp))
        give("match", [match], f"match {{dscp: [{names}]}}")
    give("tier", preset.tier, f"tier {preset.tier.name.lower()}")
    if leaf and preset.priority is not None:
        give("priority", preset.priority, f"priority {preset.priority}")
    if leaf and (preset.delays or preset.loss is not None):
        targets = [f"{target.key} {format_duration(target.seconds)}" for target in preset.delays]
        targets += [f"loss {format_percent(preset.loss)}"] if preset.loss is not None else []
        give("sla", SlaSpec(preset.delays, preset.loss), f"sla {{{', '.join(targets)}}}")
    if leaf and not preset.managed:
        give("aqm", AqmSpec.model_validate({"kind": "fifo"}), "aqm fifo")
    return spec.model_copy(update=update), tuple(said)
