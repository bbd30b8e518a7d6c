"""cls_bpf with a classic program: struct sock_filter by struct sock_filter; a device to send to, or other actions."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import NamedTuple

from collectors.netlink import attribute, attributes
from shaper.kernel.codec import actions as lists
from shaper.kernel.codec import connmark, ctinfo, mirred
from shaper.tree import Action, Handle, Insn, Restore

_ACT, _CLASSID, _OPS_LEN, _OPS, _FLAGS = 1, 3, 4, 5, 8
_FLAG_ACT_DIRECT = 1
_INSN = struct.Struct("=HBBI")


class BpfOptions(NamedTuple):
    """`sent` is where a match goes, None where it goes nowhere; then there may be other actions. `restore` is what it
    gets of its connection before it goes.
    """

    program: tuple[Insn, ...]
    classid: Handle
    sent: mirred.Sent | None
    actions: tuple[Action, ...] = ()
    restore: Restore | None = None


def encode(options: BpfOptions) -> bytes:
    """The whole filter in one message, so that a replacement takes effect at once."""
    data = attribute(_OPS_LEN, struct.pack("=H", len(options.program)))
    data += attribute(_OPS, b"".join(_INSN.pack(*insn) for insn in options.program))
    if options.classid:
        data += attribute(_CLASSID, struct.pack("=I", options.classid))
    if options.sent is not None:
        sending = [*_restoring(options.restore), mirred.encode(options.sent)]
        data += attribute(_ACT, b"".join(attribute(order, action) for order, action in enumerate(sending, 1)))
    elif options.actions:
        data += attribute(_ACT, lists.encode(options.actions))
    return data


def decode(data: bytes) -> BpfOptions | None:
    """Of a dumped filter; None for what is not ours to program: eBPF, direct action, another action."""
    found = attributes(data)
    flags = struct.unpack_from("=I", found[_FLAGS])[0] if _FLAGS in found else 0
    if _OPS not in found or flags & _FLAG_ACT_DIRECT:
        return None
    listed = list(attributes(found.get(_ACT, b"")).values())
    restore, taken = _restored(listed)
    sending = listed[taken:]
    sent = mirred.decode(sending[0]) if len(sending) == 1 else None
    actions = () if sent is not None else lists.decode(found.get(_ACT, b""))
    if actions is None:
        return None
    classid = struct.unpack_from("=I", found[_CLASSID])[0] if _CLASSID in found else 0
    program = tuple(Insn(*fields) for fields in _INSN.iter_unpack(found[_OPS]))
    return BpfOptions(program, classid, sent, actions, restore)


def _restoring(restore: Restore | None) -> tuple[bytes, ...]:
    if restore is None:
        return ()
    return connmark.encode(restore) if restore.connmark else (ctinfo.encode(restore),)


def _restored(listed: Sequence[bytes]) -> tuple[Restore | None, int]:
    """What the first actions restore, and how many these are."""
    if listed and (found := ctinfo.decode(listed[0])):
        return found, 1
    if len(listed) > 1 and (found := connmark.decode(*listed[:2])):
        return found, 2
    return None, 0
