"""`shaper measure`: delay, jitter, loss, throughput of every class, without controlling anything."""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from shaper.api.client import ask
from shaper.cli.asking import CLOCK, held, order
from shaper.cli.common import (
    DURATION,
    by_device,
    chosen,
    device_name,
    folder_of,
    interface_option,
    json_option,
    open_kernel,
    print_json,
    read_placed,
    state_option,
)
from shaper.cli.completion import device_names
from shaper.errors import Exit, UnavailableError
from shaper.kernel.protocol import Kernel
from shaper.model.measurement import Measurement
from shaper.model.policy import Interface
from shaper.policy import read_policy
from shaper.report.as_json import status_from_json
from shaper.report.measurement import measurement_json
from shaper.report.render import console, measurement_view
from shaper.run.copying import copy_again
from shaper.run.measurement import Asked, between, wanted_of
from shaper.run.measurement import measure as measured
from shaper.run.recordings import read_pair
from shaper.run.standing import interface_of
from shaper.run.state import DeviceState, both_directions, known_devices
from shaper.units import UnitError, parse_size


class _Size(click.ParamType):  # type: ignore[type-arg, unused-ignore]
    """Such as `10mb`, as bytes."""

    name = "size"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        try:
            return parse_size(str(value))
        except UnitError as error:
            self.fail(f"{error} ({error.hint})", param, ctx)


@click.command()
@click.argument("what", metavar="[DEVICE|POLICY]", required=False, shell_complete=device_names)
@interface_option
@click.option("--for", "seconds", type=DURATION, default="10s", show_default=True, help="How long to measure.")
@click.option("--class", "classes", multiple=True, metavar="PATH", help="Only this class (repeatable).")
@click.option("--flows", type=click.IntRange(0, 100), default=5, show_default=True, help="Largest flows of each class.")
@click.option("--pcap", type=click.Path(dir_okay=False, path_type=Path), help="Keep what is captured: headers, hashes.")
@click.option("--pcap-room", "room", type=_Size(), default="64mb", show_default=True, help="Most room for all of it.")
@click.option("--payload", is_flag=True, help="Keep what is captured of payloads, too.")
@click.option("--hash-addresses", "hashing", is_flag=True, help="Tell and keep addresses by a keyed hash.")
@click.option(
    "--read",
    "files",
    nargs=2,
    metavar="BEFORE AFTER",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Two recordings (pcap, pcapng), before the queue and after it, by one clock; with a POLICY, by its classes.",
)
@click.option(
    "--sampling",
    type=click.IntRange(1),
    help="Look at one packet in so many (a power of two), by a hash; with --read: what the recordings hold.",
)
@state_option
@json_option
def measure(
    what: str | None,
    names: tuple[str, ...],
    seconds: float,
    classes: tuple[str, ...],
    flows: int,
    pcap: Path | None,
    room: int,
    payload: bool,
    hashing: bool,
    files: tuple[Path, Path] | None,
    sampling: int | None,
    folder: Path | None,
    as_json: bool,
) -> int:
    """Measure delay, jitter, loss and throughput of every class once, and control nothing. Exit code 4 on no data.

    Where a shaper runs, it is asked; else packets are captured as they pass the tree that stands. With --pcap or
    --sampling packets are captured in any case, beside a running shaper only where it captures itself. Where one that
    has ended left its program on the hook, copies take its place first; else nothing is written to the kernel.
    """
    secret = secrets.token_bytes(16) if hashing else b""
    if files:
        if pcap is not None or payload:
            raise click.UsageError("--read reads; --pcap and --payload are for measuring")
        found = [_read(files, what, names, classes, sampling=sampling or 1, flows=flows, secret=secret)]
    else:
        if sampling is not None and sampling & (sampling - 1):
            raise click.UsageError("a capture looks at one packet in a power of two: --sampling 1, 2, 4, 8 ...")
        if payload and pcap is None:
            raise click.UsageError("--payload is kept in files: name one with --pcap")
        asked = Asked(
            seconds, flows=flows, pcap=pcap, room=room, payload=payload, secret=secret, sampling=sampling or 1
        )
        found = _measured(_devices(what, names, folder), folder, asked, classes)
    found = [_only(one, classes) for one in found]
    exit_code = Exit.OK if any(cls.loss or cls.delay for one in found for cls in one.classes) else Exit.NO_DATA
    if as_json:
        results = [measurement_json(one) for one in found]
        print_json({"schema": 1, "exit": int(exit_code), "measurements": results})
    else:
        for one in found:
            measurement_view(one, out=console())
    return exit_code


def _devices(what: str | None, names: tuple[str, ...], folder: Path | None) -> tuple[str, ...]:
    if what is not None and (Path(what).is_file() or what.endswith((".yaml", ".yml"))):
        return tuple(by_device(chosen(read_placed(Path(what)), names)))
    if names:
        raise click.UsageError("--interface is of a policy: name its file")
    if what is not None:
        return (device_name(what),)
    known = known_devices(folder_of(folder))
    if not known:
        raise UnavailableError("nothing of the shaper's is here", hint="apply a policy first, or name the --state DIR")
    return known


def _measured(
    devices: tuple[str, ...], folder: Path | None, asked: Asked, classes: tuple[str, ...]
) -> list[Measurement]:
    """One device after the other: each has the time for itself."""
    found: list[Measurement] = []
    places = {device: both_directions(folder_of(folder), device) for device in devices}
    shaped = {device: [side for side in sides if side.has("record.json")] for device, sides in places.items()}
    for side in (side for sides in shaped.values() for side in sides):
        if (record := side.record()) is not None:
            _refuse_unknown(classes, [leaf.path for leaf in interface_of(record).leaves()], side.title)
    with open_kernel() as kernel:
        for device, sides in places.items():
            first = ask(sides[0], "measured")
            if first is not None and asked.pcap is None and asked.sampling == 1:
                time.sleep(asked.seconds)
                later = ask(sides[0], "measured") or []
                found += [_told(one, asked) for one in _between(shaped[device], first, later)]
                continue
            _copied(kernel, shaped[device], runs=first is not None)
            found += [
                measured(kernel, side, asked, clock=CLOCK, sleep=time.sleep) for side in shaped[device] or sides[:1]
            ]
    return found


def _told(found: Measurement, asked: Asked) -> Measurement:
    """With as many flows as are asked for; a running shaper hashes no addresses, so that none are told then."""
    count = 0 if asked.secret else asked.flows
    return replace(
        found,
        classes=tuple(
            replace(one, tcp=replace(one.tcp, largest=one.tcp.largest[:count])) if one.tcp else one
            for one in found.classes
        ),
    )


def _copied(kernel: Kernel, sides: Sequence[DeviceState], *, runs: bool) -> None:
    """Has packets copied before the queue where a shaper's program stands there.

    Raises UnavailableError where that shaper runs.
    """
    stamped = [side for side in sides if (record := side.record()) is not None and record.stamp]
    if not stamped:
        return
    if runs:
        raise UnavailableError(
            f"the shaper that runs on {stamped[0].title} measures by programs in the kernel: no packet is copied",
            hint="ask it, without --pcap and --sampling; or have it capture: shaper run --measure capture",
        )
    with held(kernel, sides):
        for side in stamped:
            copy_again(kernel, side, order("to be captured"))


def _between(sides: Sequence[DeviceState], first: list[Any], last: list[Any]) -> Iterator[Measurement]:
    before = {(one["status"]["device"], one["status"]["direction"]): one for one in first}
    for one in last:
        key = one["status"]["device"], one["status"]["direction"]
        for side in sides:
            record = side.record()
            if key == (side.spot, side.direction.value) and record is not None and key in before:
                earlier, later = ({**each, "status": status_from_json(each["status"])} for each in (before[key], one))
                yield between(earlier, later, wanted_of(interface_of(record)))


def _read(
    files: tuple[Path, Path],
    what: str | None,
    names: tuple[str, ...],
    classes: tuple[str, ...],
    *,
    sampling: int,
    flows: int,
    secret: bytes,
) -> Measurement:
    interface: Interface | None = None
    if what is not None:
        interfaces = chosen(read_policy(Path(what)), names)
        if len(interfaces) > 1:
            said = ", ".join(sorted({one.name for one in interfaces}))
            raise click.UsageError(f"{what} has several interfaces or directions ({said}): name one with --interface")
        interface = interfaces[0]
        _refuse_unknown(classes, [leaf.path for leaf in interface.leaves()], f"{what} at {interface.name}")
    found = read_pair(*files, interface=interface, sampling=sampling, flows=flows, secret=secret)
    _refuse_unknown(classes, [one.path for one in found.classes], found.place)
    return found


def _refuse_unknown(classes: tuple[str, ...], known: Sequence[str], place: str) -> None:
    """Before anything is measured. Raises UsageError."""
    for name in classes:
        if name not in known:
            raise click.UsageError(f"{place} has no class {name!r}; it has {', '.join(sorted(known))}")


def _only(found: Measurement, classes: tuple[str, ...]) -> Measurement:
    return replace(found, classes=tuple(one for one in found.classes if not classes or one.path in classes))
