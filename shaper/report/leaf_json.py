"""The options of a leaf's queue for `--json`, with their units in the names of the keys."""

from __future__ import annotations

from typing import Any

from shaper.tree import LeafOptions, RedOptions, SfqOptions

_TIMES = {"target": "target_s", "interval": "interval_s"}
_UNITS = {"limit": "limit_packets", "quantum": "quantum_bytes", "memory": "memory_bytes", "ecn_prob": "ecn_percent"}


def leaf_json(options: LeafOptions) -> dict[str, Any]:
    """Times in seconds; a probability as a ratio, null where the kernel finds it."""
    if isinstance(options, RedOptions):
        return {
            "limit_bytes": options.limit,
            "min_bytes": options.least,
            "max_bytes": options.most,
            "probability": None if options.adaptive else options.probability / 2**32,
            "weight": 2.0**-options.weight,
            "idle_cell_s": 2**options.cell / 1e6,
            "ecn": options.ecn,
            "adaptive": options.adaptive,
            "harddrop": options.harddrop,
        }
    data: dict[str, Any] = options._asdict()
    if isinstance(options, SfqOptions):
        data["perturb_s"] = data.pop("perturb")
    if "update" in data:
        data["update_s"] = (data.pop("update") or 15_000) / 1e6
    data = {_TIMES.get(key, key): value / 1e6 if key in _TIMES else value for key, value in data.items()}
    return {_UNITS.get(key, key): value for key, value in data.items()}
