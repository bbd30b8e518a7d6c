"""`shaper` under another control law: `python as_shaper.py CONTROLLER ARGUMENTS...`, as baselines.yaml has it.

CONTROLLER is its entry as JSON. The law takes the place of `shaper.control.step`; all else is the shaper's own.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

import autorate
from aimd import Aimd

from shaper import cli, control
from shaper.run import holding, interface

LAWS = {"aimd": Aimd}


class Flat(holding.Holding):
    """Guarantees as rates and one priority, whatever moves them."""

    def __init__(self, *arguments: Any, structure: bool, **more: Any) -> None:
        super().__init__(*arguments, structure=False, **more)


def main() -> None:
    """Takes the law's place and becomes `shaper`."""
    entry = json.loads(sys.argv[1])
    if law := entry.get("law"):
        control.step = LAWS[law](**entry["settings"]).step
    if (reflector := entry.get("autorate")) and sys.argv[2] == "run":
        autorate.begin("wan0", reflector)
        sys.argv += ["--drift", "report"]
    if entry.get("structure") == "flat":
        interface.Holding = Flat  # type: ignore[misc]
    sys.argv = ["shaper", *sys.argv[2:]]
    cli.main()


if __name__ == "__main__":
    main()
