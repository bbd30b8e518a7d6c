"""What an interface keeps with a connection, as written."""

from __future__ import annotations

from collections.abc import Iterator

from shaper.errors import Problem
from shaper.model.nat import Connection
from shaper.policy.kinds import Kind
from shaper.policy.reader import Document
from shaper.policy.schema import BandwidthSpec, ConnectionSpec
from shaper.policy.text import Loc


def kept(spec: ConnectionSpec | None) -> Connection:
    """Where nothing was said the usual bits, and no DSCP."""
    return Connection() if spec is None else Connection(spec.mark, spec.restore_dscp)


def connection_problems(
    spec: ConnectionSpec, bandwidth: BandwidthSpec, loc: Loc, document: Document
) -> Iterator[Problem]:
    """`loc` is that of the interface."""
    if spec.restore_dscp and bandwidth.ingress is None:
        message = "what comes in is not shaped, so nothing gets its connection's DSCP back"
        hint = "give the interface an ingress bandwidth, or take this out"
        yield document.problem(Kind.RESTORES_NOTHING, (*loc, "connection", "restore-dscp"), message, hint)
