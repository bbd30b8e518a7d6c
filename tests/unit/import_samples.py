"""The importers by the folder of their examples in tests/golden/import."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from shaper.policy.importers import Imported, fireqos, imported, libreqos, tcconfig, vyos
from shaper.policy.importers.draft import Interface, Report

FOLDER = Path(__file__).parents[1] / "golden" / "import"
CASES = sorted(path for path in FOLDER.glob("*/*") if path.is_dir())
_RESULTS = ("expected.yaml", "report.json")

_MODULES = {"fireqos": fireqos, "vyos": vyos, "tcconfig": tcconfig, "libreqos": libreqos}
_READ: Mapping[str, Callable[..., list[Interface]]] = {name: module.read for name, module in _MODULES.items()}
_TOOLS = {name: module.FACTS.tool for name, module in _MODULES.items()}
ORDER = {"libreqos": ("network.json", "ShapedDevices.csv")}


def inputs(case: Path) -> list[tuple[str, str]]:
    """(text, file name) of a case, in the order in which the command takes them."""
    names = ORDER.get(case.parent.name) or sorted(one.name for one in case.iterdir() if one.name not in _RESULTS)
    return [((case / name).read_text(), name) for name in names]


def run(tool: str, texts: Sequence[tuple[str, str]]) -> Imported:
    """Raises ImportFailedError."""
    report = Report()
    found = _READ[tool](*(part for pair in texts for part in pair), report)
    return imported(found, report, tool=_TOOLS[tool], nothing="nothing is there")
