"""nftables of one network namespace: our table read and exchanged whole, and what of the rest translates sources."""

from __future__ import annotations

import contextlib
import errno as errors
import socket

from collectors.netlink import NETLINK_NETFILTER, Channel, NetlinkError, attribute, open_socket
from shaper.kernel.nft import table as ours
from shaper.kernel.nft import wire
from shaper.kernel.nft.translation import Chains, chains_of, translates
from shaper.plan.steps import Step
from shaper.tree import MarkTable

_SO_SNDBUFFORCE = 32
_ROOM = 8 * 2**20
_ABSENT = (errors.ENOENT, errors.EOPNOTSUPP, errors.EINVAL, errors.EPROTONOSUPPORT, errors.EPERM)
"""No such table; a kernel without nf_tables, or one that shows it to root only."""


class Nftables:
    """Opened when it is first needed; a kernel without netfilter holds nothing."""

    def __init__(self, netns: str | None = None) -> None:
        self._netns = netns
        self._socket: socket.socket | None = None
        self._channel: Channel | None = None
        self._known: tuple[bytes, dict[str, MarkTable | None], Chains | None] = (b"", {}, None)

    def close(self) -> None:
        """Gives back the socket. Harmless when done twice."""
        if self._socket is not None:
            self._socket.close()

    def read(self, name: str) -> MarkTable | None:
        """The table of that name, None where there is none. Raises NetlinkError, DumpInterruptedError."""
        generation = self._generation()
        if generation is None:
            return None
        tables = self._at(generation)[1]
        if name not in tables or _has_groups(tables[name]):  # which go and come without a word from nftables
            tables[name] = self._read(name)
        return tables[name]

    def send(self, step: Step) -> None:
        """The table before goes and the one after comes in one transaction. Raises NetlinkError."""
        messages = []
        if isinstance(step.before, MarkTable):
            messages.append(ours.removing(step.before))
        if isinstance(step.after, MarkTable):
            messages += ours.making(step.after)
        self._open().transaction(messages)

    def translates(self, device: str) -> str:
        """By what the sources of packets that leave by the device are translated, "" where nothing says so.

        Raises NetlinkError, DumpInterruptedError.
        """
        generation = self._generation()
        if generation is None:
            return ""
        _, tables, chains = self._at(generation)
        if chains is None:
            chains = self._chains()
            self._known = (generation, tables, chains)
        return translates(chains, device)

    def _open(self) -> Channel:
        """Raises OSError."""
        if self._channel is None:
            self._socket = open_socket(self._netns, NETLINK_NETFILTER)
            with contextlib.suppress(OSError):  # a batch is one message to the socket
                self._socket.setsockopt(socket.SOL_SOCKET, _SO_SNDBUFFORCE, _ROOM)
            self._channel = Channel(self._socket)
        return self._channel

    def _generation(self) -> bytes | None:
        """What the kernel counts up at every change of any table; None where there is no nf_tables to be seen."""
        try:
            answers = self._open().request(wire.message(wire.GETGEN), 0, wire.head(0))
        except OSError as error:
            if error.errno in _ABSENT:
                return None
            raise
        return wire.said(answers[0]).get(wire.GEN_ID, b"") if answers else b""

    def _at(self, generation: bytes) -> tuple[bytes, dict[str, MarkTable | None], Chains | None]:
        if self._known[0] != generation:
            self._known = (generation, {}, None)
        return self._known

    def _read(self, name: str) -> MarkTable | None:
        channel = self._open()
        place = wire.head() + attribute(wire.TABLE_NAME, wire.name(name))
        try:
            channel.request(wire.message(wire.GETTABLE), 0, place)
        except NetlinkError as error:
            if error.errno == errors.ENOENT:
                return None
            raise
        in_table = wire.head() + attribute(1, wire.name(name))  # every kind of thing has its table's name there
        sets = []
        for body in channel.dump(wire.message(wire.GETSET), in_table):
            said = wire.said(body)
            of_set = in_table + attribute(wire.LIST_SET, said[wire.SET_NAME])
            sets.append(ours.decode_set(said, channel.dump(wire.message(wire.GETSETELEM), of_set)))
        chains = []
        for body in channel.dump(wire.message(wire.GETCHAIN), wire.head()):
            said = wire.said(body)
            if said.get(wire.CHAIN_TABLE) == wire.name(name):
                of_chain = in_table + attribute(wire.RULE_CHAIN, said[wire.CHAIN_NAME])
                chains.append(ours.decode_chain(said, channel.dump(wire.message(wire.GETRULE), of_chain)))
        return MarkTable(name, tuple(sorted(sets)), tuple(sorted(chains)))

    def _chains(self) -> Chains:
        channel = self._open()
        return chains_of(
            channel.dump(wire.message(wire.GETCHAIN), wire.head(0)),
            lambda family, table: channel.dump(
                wire.message(wire.GETRULE), wire.head(family) + attribute(wire.RULE_TABLE, wire.name(table))
            ),
        )


def _has_groups(table: MarkTable | None) -> bool:
    rules = (rule for chain in table.chains for rule in chain.rules) if table is not None else ()
    return any(one.what in ("cgroup", "other") for rule in rules for one in rule)
