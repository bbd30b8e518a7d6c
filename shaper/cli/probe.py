"""`shaper probe`: sends packets of one class to somewhere and says what became of them. Changes nothing."""

from __future__ import annotations

import contextlib
import signal
import socket
from collections.abc import Iterator
from ipaddress import ip_address
from pathlib import Path
from types import FrameType
from typing import Any

import click

from collectors.probe.kernel_clock import clock_error
from collectors.probe.session import paced
from collectors.probe.summary import summarise
from shaper.cli.asking import CLOCK
from shaper.cli.common import DURATION, device_name, json_option, print_json
from shaper.cli.packet import number, read_option
from shaper.errors import Exit, UnavailableError
from shaper.model.probe import Probe, ProbeKind
from shaper.policy import fields
from shaper.report.probe import Probed, probe_json, probe_view
from shaper.report.render import console
from shaper.run.keys import VARIABLE, read_key
from shaper.run.probers import prober, probers


@click.command()
@click.argument("to", metavar="TO")
@click.option(
    "--kind",
    type=click.Choice([kind.value for kind in ProbeKind]),
    default=ProbeKind.STAMP.value,
    show_default=True,
    help="What is sent: to a reflector (stamp, twamp-light), an echo, a query, or a whole transaction.",
)
@click.option("--count", type=click.IntRange(1, 100_000), default=10, show_default=True, help="How many.")
@click.option("--interval", type=DURATION, default="200ms", show_default=True, help="Time from one to the next.")
@click.option("--timeout", type=DURATION, default="2s", show_default=True, help="When it counts as lost.")
@click.option("--port", type=click.IntRange(1, 65535), help="Port there [default: the usual one].")
@click.option("--size", type=click.IntRange(0, 8972), default=0, help="Bytes of the test packet, or of an echo's data.")
@click.option(
    "--dscp",
    default="0",
    metavar="DSCP",
    callback=read_option(lambda text: fields.dscp(number(text))),
    help="A name such as ef, or a number.",
)
@click.option("--device", "-d", type=device_name, help="Leave by this device.")
@click.option("--name", default="", help="The host's name for TLS and HTTP, or the name asked for (dns).")
@click.option("--path", default="/", show_default=True, help="What is asked for (http, https).")
@click.option(
    "--key-file",
    type=click.Path(dir_okay=False, path_type=Path),
    help=f"Authenticate STAMP by the key in this file (mode 600) [default: ${VARIABLE}].",
)
@click.option(
    "--stateful", is_flag=True, help="The reflector counts its answers: loss is told apart by direction (stamp)."
)
@json_option
def probe(
    to: str,
    kind: str,
    count: int,
    interval: float,
    timeout: float,
    port: int | None,
    size: int,
    dscp: int,
    device: str | None,
    name: str,
    path: str,
    key_file: Path | None,
    stateful: bool,
    as_json: bool,
) -> int:
    """Send packets to TO and say what came back, how late, and what the figures are worth.

    The other end of stamp and twamp-light is a reflector, such as `shaper reflect`. Where nothing comes back it says
    whether somebody refused or nobody answered, and the exit code is 4.
    """
    if not 0.001 <= interval <= 3600 or not 0 < timeout <= 60:
        raise click.UsageError("the interval is from 1ms to an hour, the timeout at most 60s")
    wanted = ProbeKind(kind)
    if not (port or wanted.port or wanted is ProbeKind.ICMP):
        raise click.UsageError(f"--kind {kind} needs a --port")
    if key_file is not None and wanted is not ProbeKind.STAMP:
        raise click.UsageError(f"--key-file authenticates stamp, not {kind}")
    unsaid = {
        "--port": port is None or wanted is not ProbeKind.ICMP,
        "--size": not size or wanted.sized,
        "--name": not name or wanted.named,
        "--stateful": not stateful or wanted.reflected,
        "--path": path == "/" or wanted in (ProbeKind.HTTP, ProbeKind.HTTPS),
    }
    for option, fits in unsaid.items():
        if not fits:
            raise click.UsageError(f"{option} says nothing of --kind {kind}")
    key = read_key(key_file) if wanted is ProbeKind.STAMP else b""
    address, looked_up = _address(to)
    if looked_up is not None and wanted.named and wanted is not ProbeKind.DNS:
        name = name or to
    asked = Probe(
        to=address,
        kind=wanted,
        port=0 if wanted is ProbeKind.ICMP else port or wanted.port,
        interval=interval,
        size=size,
        dscp=dscp,
        name=name,
        path=path,
    )
    probed = _probe(
        asked, to, key=key, count=count, timeout=timeout, device=device or "", looked_up=looked_up, stateful=stateful
    )
    code = Exit.OK if probed.summary.received else Exit.NO_DATA
    if as_json:
        print_json({"schema": 1, "exit": int(code), "probe": probe_json(probed)})
    else:
        probe_view(probed, out=console())
    return code


def _probe(
    asked: Probe,
    to: str,
    *,
    key: bytes,
    count: int,
    timeout: float,
    device: str,
    looked_up: float | None,
    stateful: bool,
) -> Probed:
    netns, _, device = device.rpartition("/")
    with probers(), _interruptible() as stopped:
        try:
            made = prober(asked, CLOCK, timeout=timeout, key=key, device=device, netns=netns)
        except ValueError as error:
            raise click.UsageError(f"{error}") from None
        with contextlib.closing(made):
            settled = tuple(paced(made, CLOCK, interval=asked.interval, count=count, stopped=lambda: bool(stopped)))
            own = clock_error()
            return Probed(
                target=to,
                probe=asked,
                summary=summarise(settled, interval=asked.interval, own=own, peer=made.log.peer, stateful=stateful),
                own=own,
                peer=made.log.peer,
                refusals=dict(made.log.refusals),
                ignored=dict(made.log.ignored),
                late=made.log.late,
                skewed=made.log.skewed,
                names_seconds=looked_up,
            )


@contextlib.contextmanager
def _interruptible() -> Iterator[list[int]]:
    """Ctrl-C ends the sending, and what was found by then is said."""
    caught: list[int] = []

    def told(number: int, _: FrameType | None) -> None:
        caught.append(number)

    before = signal.signal(signal.SIGINT, told)
    try:
        yield caught
    finally:
        signal.signal(signal.SIGINT, before)


def _address(to: str) -> tuple[str, float | None]:
    """The address of a host, and how long it took to look up a name. Raises UnavailableError."""
    try:
        return str(ip_address(to)), None
    except ValueError:
        began = CLOCK.boot()
    try:
        found: list[Any] = socket.getaddrinfo(to, None, type=socket.SOCK_DGRAM)
    except (OSError, UnicodeError) as error:
        raise UnavailableError(f"{to!r} is no address, and no name that can be looked up: {error}") from error
    return str(found[0][4][0]), CLOCK.boot() - began
