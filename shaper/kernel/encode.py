"""From a step to the one netlink message that carries it out."""

from __future__ import annotations

import errno as errors
import struct
from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple

from collectors.netlink import (
    NLM_F_CREATE,
    NLM_F_EXCL,
    NLM_F_REPLACE,
    RTM_DELQDISC,
    RTM_DELTCLASS,
    RTM_DELTFILTER,
    RTM_NEWACTION,
    RTM_NEWQDISC,
    RTM_NEWTCLASS,
    RTM_NEWTFILTER,
    TCA_KIND,
    TCA_OPTIONS,
    attribute,
    pack_tc,
)
from shaper.kernel.codec import actions, bpf, encode_class, encode_qdisc, flower, stab, u32
from shaper.kernel.codec.mirred import Sent
from shaper.plan.steps import Step, Verb
from shaper.tree import (
    MOST_ACTIONS,
    PROGRAM_PREFIX,
    ROOT,
    Acting,
    Action,
    BpfFilter,
    Class,
    Finish,
    FlowerFilter,
    Handle,
    HfscClass,
    HtbClass,
    LoadedFilter,
    Node,
    Offload,
    Police,
    Qdisc,
    U32Filter,
    U32Table,
    kind_of_filter,
)

_TCAMSG, _ACT_TAB = bytes(4), 1  # struct tcamsg, TCA_ACT_TAB
LONGEST_PROGRAM = 4000
"""Instructions in one filter. The kernel takes 4096, but then no message of a dump (32 KiB) holds the filter."""


_LONGEST_NAME = 255


class Message(NamedTuple):
    """A netlink message without its header."""

    kind: int
    flags: int
    body: bytes


class Refused(Exception):  # noqa: N818 -- a step refused before the kernel saw it, in the kernel's own terms
    """`errno` and words as the kernel would give them."""

    def __init__(self, errno: int, said: str) -> None:
        super().__init__(errno, said)
        self.errno = errno
        self.said = said


def lent(step: Step, programs: Mapping[str, int]) -> int:
    """The descriptor of the program that a step puts on a hook, -1 where it puts none. Raises Refused."""
    if not isinstance(step.after, LoadedFilter):
        return -1
    if step.after.name not in programs:
        raise Refused(errors.EBADF, f"no program {step.after.name!r} is loaded here")
    return programs[step.after.name]


def check(step: Step) -> None:
    """What the kernel would accept and make something else of. Raises Refused with EINVAL."""
    node = step.node
    if isinstance(node, Acting) and not (0 < node.preference <= 0xFFFF and node.handle > 0):
        raise Refused(errors.EINVAL, "a filter's preference (1-65535) and handle must be pinned")
    if isinstance(node, LoadedFilter) and not (node.name.startswith(PROGRAM_PREFIX) and node.name.isascii()):
        raise Refused(errors.EINVAL, f"the name of a program of ours begins with {PROGRAM_PREFIX}")
    if isinstance(node, LoadedFilter) and len(node.name) > _LONGEST_NAME:
        raise Refused(errors.EINVAL, f"a program's name has {_LONGEST_NAME} characters at most")
    if isinstance(node, BpfFilter) and node.mirror and node.redirect:
        raise Refused(errors.EINVAL, "a filter copies or redirects, not both")
    if isinstance(node, Acting) and len(node.actions) > MOST_ACTIONS:
        raise Refused(errors.EINVAL, f"a filter has at most {MOST_ACTIONS} actions")
    if isinstance(node, BpfFilter) and node.actions and node.target:
        raise Refused(errors.EINVAL, "a filter that sends packets elsewhere has no other actions")
    if isinstance(node, BpfFilter) and len(node.program) > LONGEST_PROGRAM:
        raise Refused(errors.EINVAL, f"a program of more than {LONGEST_PROGRAM} instructions cannot be read back")
    if (
        isinstance(node, FlowerFilter)
        and step.verb is not Verb.DELETE
        and (why := flower.fault(node.keys, node.protocol))
    ):
        raise Refused(errors.EINVAL, why)
    if isinstance(node, (U32Table, U32Filter)) and (why := u32.fault(node)):
        raise Refused(errors.EINVAL, why)
    if isinstance(node, U32Table) and step.verb is Verb.CHANGE:
        raise Refused(errors.EOPNOTSUPP, "a table of u32 filters has nothing to change")
    if isinstance(node, Offload) and step.verb is not Verb.CHANGE:
        raise Refused(errors.EOPNOTSUPP, "a device always has its offloads")
    if isinstance(node, Class) and not node.handle & 0xFFFF:
        raise Refused(errors.EINVAL, "a class needs a minor")
    if isinstance(node, Qdisc) and node.stab is not None and node.parent != ROOT:
        raise Refused(errors.EINVAL, "a size table belongs at the root")
    if step.verb is Verb.CHANGE and _identity(step.before) != _identity(step.after):
        raise Refused(errors.EINVAL, "a change keeps kind, handle and place")


def _identity(node: Node | None) -> tuple[object, ...]:
    match node:
        case Qdisc():
            return (node.key, node.handle, node.kind)
        case HtbClass() | HfscClass():
            return (node.key, node.parent)
        case BpfFilter() | LoadedFilter():
            return (node.key, node.protocol, BpfFilter)
        case FlowerFilter():
            return (node.key, node.protocol, FlowerFilter)
        case U32Filter():
            return (node.key, node.protocol, node.keys, node.link)
        case None:
            return ()
    return (node.key,)


def message(step: Step, index: int, index_of: Callable[[str], int], programs: Mapping[str, int]) -> Message:
    """The message of a step about a qdisc, class or filter of the device `index`.

    `index_of` finds the device that a filter sends to; `programs` has descriptors by name. Raises Refused.
    """
    node = step.node
    match node:
        case Qdisc():
            return _qdisc(step, node, index)
        case HtbClass() | HfscClass():
            return _class(step.verb, node, index)
        case LoadedFilter():
            return _loaded(step, node, index, lent(step, programs))
        case BpfFilter() | FlowerFilter():
            return _filter(step.verb, node, index, index_of)
    raise Refused(errors.EOPNOTSUPP, f"a {type(node).__name__} is not ours to {step.verb}")


_NEST = 0x8000
_STRICT = frozenset({"ets", "fq_pie"})
"""Kinds whose options the kernel reads only when the nest says that it is one (NLA_F_NESTED)."""
_CREATE = {Verb.ADD: NLM_F_CREATE | NLM_F_EXCL, Verb.CHANGE: 0, Verb.DELETE: 0}


def _kind(name: str) -> bytes:
    return attribute(TCA_KIND, name.encode() + b"\0")


def only_counts_anew(step: Step) -> bool:
    """Whether a change is one of a qdisc's size table alone: the kernel takes that of any kind, in place."""
    return (
        step.verb is Verb.CHANGE
        and isinstance(step.before, Qdisc)
        and isinstance(step.after, Qdisc)
        and step.before.options == step.after.options
        and step.before.stab != step.after.stab
    )


def _qdisc(step: Step, node: Qdisc, index: int) -> Message:
    """A size table that a change leaves out is gone."""
    body = pack_tc(index, handle=node.handle, parent=node.parent) + _kind(node.kind)
    if step.verb is Verb.DELETE:
        return Message(RTM_DELQDISC, 0, body)
    try:
        options = encode_qdisc(node.kind, node.options, creating=step.verb is Verb.ADD)
    except ValueError as error:
        raise Refused(errors.EINVAL, str(error)) from error
    if options is not None and not only_counts_anew(step):
        body += attribute(TCA_OPTIONS | (_NEST if node.kind in _STRICT else 0), options)
    if node.stab is not None:
        body += stab.encode(node.stab)
    return Message(RTM_NEWQDISC, _CREATE[step.verb], body)


def _class(verb: Verb, node: Class, index: int) -> Message:
    try:
        kind, options = encode_class(node)
    except ValueError as error:
        raise Refused(errors.EINVAL, str(error)) from error
    body = pack_tc(index, handle=node.handle, parent=node.parent) + _kind(kind)
    if verb is Verb.DELETE:
        return Message(RTM_DELTCLASS, 0, body)
    return Message(RTM_NEWTCLASS, _CREATE[verb], body + attribute(TCA_OPTIONS, options))


def retuned(step: Step) -> tuple[Police | Finish, ...]:
    """The actions of a filter's change that keep their index and are to be others: the kernel leaves them alone, since
    a filter that asks for an index which is there gets what is there."""
    if step.verb is not Verb.CHANGE or not isinstance(step.after, Acting):
        return ()
    held = indexed(step.before.actions if isinstance(step.before, Acting) else ())
    wanted = indexed(step.after.actions)
    return tuple(action for key, action in wanted.items() if held.get(key, action) != action)


def indexed(listed: Iterable[Action]) -> dict[tuple[type, int], Police | Finish]:
    """The actions that all filters with their number share, by kind and number."""
    shared = (action for action in listed if isinstance(action, (Police, Finish)) and action.index)
    return {(type(action), action.index): action for action in shared}


def retuning(action: Police | Finish) -> Message:
    """The message that makes an action which is there another, a policer with its tokens full."""
    return Message(
        RTM_NEWACTION, NLM_F_CREATE | NLM_F_REPLACE, _TCAMSG + attribute(_ACT_TAB, actions.encode((action,)))
    )


def place(node: Acting | U32Table, index: int, handle: Handle) -> bytes:
    """Where the filter with that handle stands, for a message."""
    (protocol,) = struct.unpack("=H", struct.pack("!H", node.protocol))
    where = pack_tc(index, handle=handle, parent=node.parent, info=node.preference << 16 | protocol)
    return where + _kind(kind_of_filter(node))


def _loaded(step: Step, node: LoadedFilter, index: int, descriptor: int) -> Message:
    body = place(node, index, node.handle)
    if step.verb is Verb.DELETE:
        return Message(RTM_DELTFILTER, 0, body)
    options = bpf.encode_loaded(bpf.LoadedOptions(node.name, node.direct, node.classid, node.actions), descriptor)
    return Message(RTM_NEWTFILTER, _CREATE[step.verb], body + attribute(TCA_OPTIONS, options))


def _filter(verb: Verb, node: BpfFilter | FlowerFilter, index: int, index_of: Callable[[str], int]) -> Message:
    body = place(node, index, node.handle)
    if verb is Verb.DELETE:
        return Message(RTM_DELTFILTER, 0, body)
    if isinstance(node, FlowerFilter):
        options = flower.encode(flower.FlowerOptions(node.keys, node.classid, node.actions))
    else:
        sent = Sent(index_of(node.target), away=bool(node.redirect)) if node.target else None
        options = bpf.encode(bpf.BpfOptions(node.program, node.classid, sent, node.actions, node.restore))
    return Message(RTM_NEWTFILTER, _CREATE[verb], body + attribute(TCA_OPTIONS, options))


def u32_message(verb: Verb, node: U32Filter | U32Table, index: int, first: Handle) -> Message:
    """`first` is the kernel's handle of the table that the preference begins with, where what is in it is there.

    The preference itself, whose handle is 0, is there without a filter when a message has no options.
    """
    body = place(node, index, u32.handle_sent(node.handle, first))
    if verb is Verb.DELETE:
        return Message(RTM_DELTFILTER, 0, body)
    if isinstance(node, U32Filter):
        body += attribute(TCA_OPTIONS, u32.encode(node))
    elif node.handle:
        body += attribute(TCA_OPTIONS, u32.encode_table())
    return Message(RTM_NEWTFILTER, _CREATE[verb], body)
