"""Plots of `scripts/bench control`, a column a controller: rates, delays and targets over time."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from _judging import Results


def draw(results: Results, folder: Path) -> list[Path]:
    """One SVG file for each scenario and seed, with all controllers that ran it. Needs matplotlib (`.[plots]`)."""
    import matplotlib as mpl  # noqa: PLC0415 # only who wants plots needs it

    mpl.use("svg")
    # Text as text, and names that do not change: the same results are the same file.
    mpl.rcParams.update({"svg.fonttype": "none", "svg.hashsalt": "sla-shaper"})
    from matplotlib import pyplot  # noqa: PLC0415

    folder.mkdir(parents=True, exist_ok=True)
    drawn = []
    for scenario, seed in sorted({(scenario, seed) for scenario, _, seed in results.of}):
        found = {name: one for (s, name, n), one in results.of.items() if (s, n) == (scenario, seed)}
        figure, axes = pyplot.subplots(
            2, len(found), figsize=(4 * len(found) + 1, 6), sharex=True, sharey="row", squeeze=False
        )
        paths = dict.fromkeys(path for one in found.values() for path in one["classes"])
        colours = {path: f"C{number}" for number, path in enumerate(paths)}
        for column, (name, one) in enumerate(found.items()):
            _rates(axes[0][column], one, colours)
            _delays(axes[1][column], one, colours)
            missed = sum(each["violation_seconds"] for each in one["classes"].values())
            axes[0][column].set_title(f"{name}: {missed} violation-seconds")
            axes[1][column].set_xlabel("s")
        axes[0][0].set_ylabel("Mbit/s sent (dashed: granted)")
        axes[1][0].set_ylabel("p99 in ms (dotted: target)")
        largest = max(range(len(found)), key=lambda column: len(axes[0][column].get_legend_handles_labels()[1]))
        axes[0][largest].legend(loc="best", fontsize="small")
        figure.suptitle(f"{scenario}, seed {seed}")
        figure.tight_layout()
        path = folder / f"{scenario}.{seed}.svg"
        figure.savefig(path, metadata={"Date": None})
        pyplot.close(figure)
        drawn.append(path)
    return drawn


def _rates(axes: Any, result: dict[str, Any], colours: Mapping[str, str]) -> None:
    for path, one in result["classes"].items():
        sent, granted = one["by_second"]["sent_bit_s"], one["by_second"]["granted_bit_s"]
        axes.plot([_scaled(rate, 1e-6) for rate in sent], color=colours[path], label=path)
        axes.plot([_scaled(rate, 1e-6) for rate in granted], color=colours[path], linestyle="--", linewidth=0.8)


def _delays(axes: Any, result: dict[str, Any], colours: Mapping[str, str]) -> None:
    """Violated seconds have a ground in the class's colour."""
    for path, one in result["classes"].items():
        axes.plot([_scaled(delay, 1e3) for delay in one["by_second"]["delay_p99_s"]], color=colours[path], label=path)
        for name, target in one["targets"].items():
            if name.startswith("delay"):
                axes.axhline(target * 1e3, color=colours[path], linestyle=":", linewidth=0.8)
        for second, violated in enumerate(one["by_second"]["violated"]):
            if violated:
                axes.axvspan(second - 0.5, second + 0.5, color=colours[path], alpha=0.15, linewidth=0)


def _scaled(value: float | None, factor: float) -> float:
    return float("nan") if value is None else value * factor
