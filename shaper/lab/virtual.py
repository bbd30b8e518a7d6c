"""One scenario once on the lab's kernel in virtual time: every queue there is, and the same figures each time."""

from __future__ import annotations

import json
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from shaper.errors import Exit, ShaperError, UnavailableError

ROOT = Path(__file__).resolve().parents[2]
_LAB = ROOT / "scripts" / "lab"


def run_virtually(
    policy: Path,
    scenario: Path,
    *,
    mode: str,
    seed: int,
    seconds: float | None = None,
    command: Sequence[str] = (),
) -> dict[str, Any]:
    """What `shaper.lab.once` found there; `command` are arguments to Python that stand for `-m shaper`.

    Raises UnavailableError without a checkout of the project, ShaperError with the run's own last words.
    """
    if not _LAB.exists():
        raise UnavailableError(
            "the lab's kernel comes with a checkout of the project only", hint="run `shaper` from its checkout"
        )
    with tempfile.TemporaryDirectory(prefix="shaper-virtual-") as folder:
        length = ["--seconds", f"{seconds:g}"] if seconds is not None else []
        what = ["--policy", str(policy.resolve()), "--scenario", str(scenario.resolve()), "--mode", mode]
        done = subprocess.run(
            [
                *(str(_LAB), "run", "--virtual-time", "--seed", str(seed), "--out", folder, "--"),
                *("/run/checkout/scripts/uml/checkout", "-m", "shaper.lab.once", *what, *length),
                *("--seed", str(seed), "--out", "/run/out/result.json", "--", *command),
            ],
            cwd="/",
            capture_output=True,
            text=True,
            check=False,
        )
        result = Path(folder) / "result.json"
        if done.returncode or not result.exists():
            said = " / ".join((done.stderr or done.stdout).strip().splitlines()[-4:])
            error = ShaperError(f"the run in virtual time ended with {done.returncode}: {said}", hint="see scripts/lab")
            error.exit = Exit(done.returncode) if done.returncode in set(Exit) else Exit.FAILED
            raise error
        found = json.loads(result.read_text())
        assert isinstance(found, dict)
        return found
