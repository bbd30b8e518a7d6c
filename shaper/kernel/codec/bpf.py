"""cls_bpf with a classic program: struct sock_filter by struct sock_filter; a device to send to, or other actions."""

from __future__ import annotations

import struct
from typing import NamedTuple

from collectors.netlink import attribute, attributes
from shaper.kernel.codec import actions as lists
from shaper.kernel.codec import mirred
from shaper.tree import Action, Handle, Insn

_ACT, _CLASSID, _OPS_LEN, _OPS, _FLAGS = 1, 3, 4, 5, 8
_FLAG_ACT_DIRECT = 1
_INSN = struct.Struct("=HBBI")


class BpfOptions(NamedTuple):
    """`sent` is where a match goes, None where it goes nowhere; then there may be other actions."""

    program: tuple[Insn, ...]
    classid: Handle
    sent: mirred.Sent | None
    actions: tuple[Action, ...] = ()


def encode(options: BpfOptions) -> bytes:
    """The whole filter in one message, so that a replacement takes effect at once."""
    data = attribute(_OPS_LEN, struct.pack("=H", len(options.program)))
    data += attribute(_OPS, b"".join(_INSN.pack(*insn) for insn in options.program))
    if options.classid:
        data += attribute(_CLASSID, struct.pack("=I", options.classid))
    if options.sent is not None:
        data += attribute(_ACT, mirred.encode(options.sent))
    elif options.actions:
        data += attribute(_ACT, lists.encode(options.actions))
    return data


def decode(data: bytes) -> BpfOptions | None:
    """Of a dumped filter; None for what is not ours to program: eBPF, direct action, another action."""
    found = attributes(data)
    flags = struct.unpack_from("=I", found[_FLAGS])[0] if _FLAGS in found else 0
    if _OPS not in found or flags & _FLAG_ACT_DIRECT:
        return None
    sent = mirred.decode(found.get(_ACT, b""))
    actions = () if sent is not None else lists.decode(found.get(_ACT, b""))
    if actions is None:
        return None
    classid = struct.unpack_from("=I", found[_CLASSID])[0] if _CLASSID in found else 0
    return BpfOptions(tuple(Insn(*fields) for fields in _INSN.iter_unpack(found[_OPS])), classid, sent, actions)
