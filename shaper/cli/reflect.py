"""`shaper reflect`: answers the probes of other machines, as a STAMP Session-Reflector. Changes nothing."""

from __future__ import annotations

import signal
from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path
from types import FrameType

import click

from collectors.probe.kernel_clock import clock_error
from collectors.probe.reflector import Network, Reflector
from collectors.probe.serve import bound, drop_privileges
from collectors.probe.serve import reflect as answer
from collectors.probe.stamp import PORT
from shaper.cli.asking import CLOCK
from shaper.cli.common import Number, json_option, print_json
from shaper.cli.run import listening_address
from shaper.run.keys import VARIABLE, read_key
from shaper.run.probers import probers

_PRIVATE: tuple[Network, ...] = (
    *map(IPv4Network, ("127.0.0.0/8", "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "169.254.0.0/16")),
    *map(IPv6Network, ("::1/128", "fc00::/7", "fe80::/10")),
)


@click.command()
@click.option(
    "--listen", default=f"[::]:{PORT}", show_default=True, metavar="ADDR:PORT", help="Where requests are heard."
)
@click.option(
    "--allow",
    multiple=True,
    metavar="PREFIX",
    help="Answer this network (repeatable) [default: private, link-local and loopback addresses].",
)
@click.option(
    "--rate",
    type=Number(1, 1_000_000),
    default=1000.0,
    show_default=True,
    help="At most so many answers a second for each address.",
)
@click.option("--stateful", is_flag=True, help="Count answers by session, so that loss is told apart by direction.")
@click.option(
    "--key-file",
    type=click.Path(dir_okay=False, path_type=Path),
    help=f"Answer only what is authenticated by the key in this file (mode 600) [default: ${VARIABLE}].",
)
@json_option
def reflect(
    listen: str, allow: tuple[str, ...], rate: float, stateful: bool, key_file: Path | None, as_json: bool
) -> None:
    """Answer STAMP and TWAMP-light test packets until SIGTERM; then say how many, and why others got no answer.

    No answer is longer than its request, none goes to a port below 1024. Started as root it becomes nobody once it
    listens.
    """
    host, port = listening_address(listen)
    reflector = Reflector(_networks(allow), clock_error, read_key(key_file), stateful, rate, port)
    stopped: list[int] = []

    def told(number: int, _: FrameType | None) -> None:
        stopped.append(number)

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, told)
    with probers(), bound(host, port) as made:
        kept = drop_privileges()
        mode = "authenticated" if reflector.key else "unauthenticated"
        click.echo(f"reflecting on {host} port {made.getsockname()[1]}, {mode}", err=True)
        if kept:
            click.echo(f"warning: {kept}", err=True)
        answer(made, reflector, CLOCK, stopped=lambda: bool(stopped))
    if as_json:
        print_json({"schema": 1, "exit": 0, "packets": dict(reflector.counts)})
    else:
        for reason, count in sorted(reflector.counts.items(), key=lambda item: (item[0] != "answered", item[0])):
            click.echo(f"{count} {_WORDS.get(reason, reason)}")


_WORDS = {
    "answered": "answered",
    "not-allowed": "from networks that are not allowed",
    "source-port": "from ports below 1024, or the same port",
    "rate": "beyond the rate",
    "short": "too short",
    "hmac": "with a digest that is not of this key",
    "error-estimate": "corrupt: a multiplier of 0",
    "too-long": "too long",
    "unreachable": "answers that came to nobody",
    "unsent": "answers that could not be sent",
}


def _networks(texts: tuple[str, ...]) -> tuple[Network, ...]:
    """Raises UsageError."""
    try:
        return tuple(ip_network(text) for text in texts) or _PRIVATE
    except ValueError as error:
        raise click.UsageError(f"--allow: {error}") from None
