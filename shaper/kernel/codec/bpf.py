"""cls_bpf: a classic program, struct sock_filter by struct sock_filter, with a device to send to or other actions; or a
loaded one by its descriptor.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from collectors.netlink import attribute, attributes, text
from shaper.kernel.codec import actions as lists
from shaper.kernel.codec import connmark, ctinfo, mirred
from shaper.tree import FORGED, PROGRAM_PREFIX, Action, Handle, Insn, Restore

_ACT, _CLASSID, _OPS_LEN, _OPS, _FD, _NAME, _FLAGS, _ID = 1, 3, 4, 5, 6, 7, 8, 11
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


class LoadedOptions(NamedTuple):
    """Of a loaded program."""

    name: str
    direct: bool
    classid: Handle = 0
    actions: tuple[Action, ...] = ()


def encode_loaded(options: LoadedOptions, descriptor: int) -> bytes:
    """The whole filter in one message. With the name goes the number that the kernel has given the program."""
    name = f"{options.name}{_numbered(_number_of(descriptor))}"
    data = attribute(_FD, struct.pack("=I", descriptor)) + attribute(_NAME, name.encode() + b"\0")
    if options.direct:
        data += attribute(_FLAGS, struct.pack("=I", _FLAG_ACT_DIRECT))
    if options.classid:
        data += attribute(_CLASSID, struct.pack("=I", options.classid))
    if options.actions:
        data += attribute(_ACT, lists.encode(options.actions))
    return data


def decode_loaded(data: bytes) -> LoadedOptions | None:
    """Of a dumped filter; None for a classic program, and for a loaded one that is not of our naming or does what none
    of ours does. A name that was given to another program than the filter's is `FORGED`."""
    found = attributes(data)
    name = text(found.get(_NAME, b""))
    actions = lists.decode(found.get(_ACT, b""))
    if _OPS in found or _ID not in found or actions is None or not name.startswith(PROGRAM_PREFIX):
        return None
    number = _numbered(_word(found, _ID))
    name = name.removesuffix(number) if name.endswith(number) else name + FORGED
    return LoadedOptions(name, bool(_word(found, _FLAGS) & _FLAG_ACT_DIRECT), _word(found, _CLASSID), actions)


def _numbered(number: int) -> str:
    return f"#{number}"


def _number_of(descriptor: int) -> int:
    """The kernel's number of a loaded program, which no other has while that is there; 0 for what is none."""
    try:
        told = Path(f"/proc/self/fdinfo/{descriptor}").read_text(encoding="ascii").split()
    except OSError:
        return 0
    return int(told[told.index("prog_id:") + 1]) if "prog_id:" in told else 0


def _word(found: Mapping[int, bytes], kind: int) -> int:
    return int(struct.unpack_from("=I", found[kind])[0]) if kind in found else 0


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
    if _OPS not in found or _word(found, _FLAGS) & _FLAG_ACT_DIRECT:
        return None
    listed = list(attributes(found.get(_ACT, b"")).values())
    restore, taken = _restored(listed)
    sending = listed[taken:]
    sent = mirred.decode(sending[0]) if len(sending) == 1 else None
    actions = () if sent is not None else lists.decode(found.get(_ACT, b""))
    if actions is None:
        return None
    program = tuple(Insn(*fields) for fields in _INSN.iter_unpack(found[_OPS]))
    return BpfOptions(program, _word(found, _CLASSID), sent, actions, restore)


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
