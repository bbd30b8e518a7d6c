"""`shaper status`: how the classes fare, from a running shaper or one look at the kernel."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from shaper.api.client import ask
from shaper.cli.asking import CLOCK
from shaper.cli.common import (
    by_device,
    chosen,
    device_option,
    folder_of,
    interface_option,
    json_option,
    open_kernel,
    print_json,
    read_placed,
    state_option,
)
from shaper.errors import Exit, UnavailableError
from shaper.model.device import split_spot
from shaper.model.status import ClassStatus
from shaper.report.as_json import status_from_json, status_json
from shaper.report.render import console, status_view
from shaper.run.look import look
from shaper.run.state import both_directions, known_devices


@click.command()
@click.argument("policy_file", metavar="[POLICY]", type=click.Path(path_type=Path), required=False)
@interface_option
@device_option("This device")
@state_option
@json_option
def status(
    policy_file: Path | None, names: tuple[str, ...], devices: tuple[str, ...], folder: Path | None, as_json: bool
) -> int:
    """Show every class: granted rate, throughput, delay, loss, SLA. Exit code 3 when an SLA is missed, 4 on no data."""
    if policy_file is not None:
        devices += tuple(by_device(chosen(read_placed(policy_file), names)))
    devices = devices or known_devices(folder_of(folder))
    if not devices:
        raise UnavailableError("nothing of the shaper's is here", hint="apply a policy first, or name the --state DIR")
    found: dict[str, dict[str, dict[str, Any]]] = {}
    with open_kernel() as kernel:
        for device in devices:
            sides = both_directions(folder_of(folder), device)
            shaped = [side for side in sides if side.has("record.json", "pending.json")] or sides[:1]
            looks = (status_json(look(kernel, side, now=CLOCK.boot(), at=CLOCK.wall())) for side in shaped)
            for one in ask(sides[0], "status") or looks:
                found.setdefault(one["device"], {}).setdefault(one["direction"], one)
    statuses = [one for device in dict.fromkeys(devices) for one in _of(device, found).values()]
    code = _exit_code(statuses)
    if as_json:
        print_json({"schema": 1, "exit": int(code), "interfaces": statuses})
    else:
        for one in statuses:
            status_view(status_from_json(one), out=console())
    return code


def _of(device: str, found: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """Its directions. A running shaper may have reached it from another network namespace, and name it so."""
    bare = {split_spot(name)[1]: one for name, one in found.items()}
    return found.get(device) or bare.get(device) or {}


def _exit_code(statuses: list[dict[str, Any]]) -> Exit:
    """A missed SLA outweighs missing data. Classes that promise nothing, or that a run sees idle, count for nothing."""
    states = {
        cls.sla.state.value
        for status in map(status_from_json, statuses)
        for cls in status.classes
        if cls.sla is not None and not (status.running and status.capture.running and _idle(cls))
    }
    if "missed" in states:
        return Exit.SLA_MISSED
    return Exit.NO_DATA if "no data" in states else Exit.OK


def _idle(cls: ClassStatus) -> bool:
    """Nothing passes it, or nothing but a probe that shows nothing of this hop."""
    probed = cls.probe is not None and cls.probe.idle and not cls.probe.judges
    return probed or (cls.offered == 0 and cls.backlog_bytes == 0)
