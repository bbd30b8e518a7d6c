"""From what a policy or a command says of a probe to one that can be sent."""

from __future__ import annotations

import contextlib
import itertools
import os
from collections.abc import Iterator

from collectors.errors import ProbeError
from collectors.probe.codecs import Codec, Dns, Echo, Stamp
from collectors.probe.endpoint import Endpoint
from collectors.probe.kernel_clock import clock_error
from collectors.probe.session import Datagrams, Prober
from collectors.probe.stamp import BASE, BASE_AUTHENTICATED
from collectors.probe.transaction import Script, Transactions
from shaper.errors import UnavailableError
from shaper.model.probe import Probe, ProbeKind
from shaper.run.clock import Clock

_identifiers = itertools.count(os.getpid())
"""Of raw ICMP sockets, each of which hears the answers to all others."""


@contextlib.contextmanager
def probers() -> Iterator[None]:
    """Failures of a probe to be sent, as this program's own."""
    try:
        yield
    except ProbeError as error:
        raise UnavailableError(error.message, hint=error.hint) from error


def prober(
    probe: Probe,
    clock: Clock,
    *,
    timeout: float,
    key: bytes = b"",
    device: str = "",
    netns: str = "",
    apart: bool = False,
    eager: bool = False,
) -> Prober:
    """Ready to send; `device` is the one that it must leave by. Raises ProbeError.

    A packet that nobody answered for `timeout` seconds is lost; with `eager` one is settled by its first answer.
    `apart` keeps what it sends out of what programs in the kernel count of classes.
    """
    if probe.kind.transaction:
        script = Script(
            to=probe.to,
            port=probe.port,
            tls=probe.kind in (ProbeKind.TLS, ProbeKind.HTTPS),
            get=probe.path if probe.kind in (ProbeKind.HTTP, ProbeKind.HTTPS) else "",
            name=probe.name,
            dscp=probe.dscp,
            device=device,
            netns=netns,
            apart=apart,
        )
        return Transactions(script, clock, timeout=timeout)
    icmp = probe.kind is ProbeKind.ICMP
    endpoint = Endpoint(probe.to, probe.port, icmp=icmp, dscp=probe.dscp, device=device, netns=netns, apart=apart)
    return Datagrams(endpoint, _codec(probe, endpoint, key), clock, timeout=timeout, eager=eager)


def _codec(probe: Probe, endpoint: Endpoint, key: bytes) -> Codec:
    match probe.kind:
        case ProbeKind.ICMP:
            identifier = next(_identifiers) & 0xFFFF if endpoint.raw else None
            return Echo(v6=endpoint.v6, size=probe.size, identifier=identifier)
        case ProbeKind.DNS:
            return Dns(probe.name)
        case _:
            return Stamp(
                clock_error,
                size=max(probe.size, BASE_AUTHENTICATED if key else BASE),
                key=key,
                tlv=probe.kind is ProbeKind.STAMP,
            )
