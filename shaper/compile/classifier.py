"""The classifier in the kernel: an interface's rules as one classic-BPF program that returns the leaf's classid.

It gives the answer of `model.match.classify` for every packet whose headers are whole, those inside a tunnel too where
a rule asks for them. The kernel ends a program with 0, no match, at a load outside the packet: HTB then takes its
default class, so truncated packets go there too, as do packets whose headers the kernel does not hold in one piece
(drivers and the stack put them there).

A VLAN tag is the same whether the kernel holds it beside the packet, for the device to add, or inside the frame.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from functools import partial

from shaper.compile.addresses import Addresses, Choice, Run
from shaper.compile.bpf import HARDWARE_TYPE, MARK, MAX_INSTRUCTIONS, PROTOCOL, Assembler, Label
from shaper.compile.parse import (
    ABSENT,
    ETHERNET,
    ICMPV6_DETAIL,
    TCP_DETAIL,
    Words,
    ipv4_length,
    ipv6_length,
    parse,
)
from shaper.errors import UnavailableError
from shaper.model.match import ETHERTYPE_IPV4, ETHERTYPE_IPV6, ICMPV6, Masked, Match, Prefix, Rule, Rules
from shaper.model.spans import Span, merged
from shaper.tree import Handle, Insn, LookupProgram

_ADDRESS_OFFSETS = {"src": (12, 8), "dst": (16, 24)}
"""In IPv4's and in IPv6's header."""
_MAC_OFFSETS = {"src_mac": 6, "dst_mac": 0}

_FEW = 16
"""Ranges that are asked one after the other."""

_MOST_IN_TURN, _MOST_WITH_TABLES = 16_000, 64_000
"""With tables: instructions that a packet may meet in turn, and all of them. The kernel's check follows 8,192 branches
in a row; it takes a million instructions, but looks at every way through them, which lasts seconds then."""

_UNSEEN = {
    "iif": (
        "classic BPF cannot see by which device a packet came in: it knows the one it leaves by",
        "extended BPF sees it (`shaper doctor` says why there is none here), and so does cls_flower where `classifier` "
        "is left out; or give what comes in there a mark "
        "(`nft add rule ... iifname eth2 meta mark set 7`) and match `mark: 7`",
    ),
    "cgroup": (
        "classic BPF cannot see the cgroup of a packet's socket",
        'give its packets a mark (`nft add rule ... socket cgroupv2 level 2 "..." meta mark set 7`) and match '
        "`mark: 7`; an eBPF program could see it",
    ),
}


def classifier(
    rules: Rules, classids: Mapping[str, Handle], *, only: int = 0, devices: Mapping[str, int] | None = None
) -> tuple[Insn, ...]:
    """The program for the rules, given every leaf's classid by path; one of 0 is left to other filters.

    With `only` it knows packets of that ethertype alone, whose IP header is where the kernel thinks it is. Given the
    numbers of `devices` it is to be loaded as extended BPF, which sees by which of them a packet came in.

    Raises bpf.TooLongError, and UnavailableError at a rule that BPF cannot carry.
    """
    _require_seen(rules, extended=devices is not None)
    words = Words((match for rule in rules.ordered for match in rule.all_of), devices=devices)
    return _program(rules, classids, words, rules.ordered, only=only).assemble(MAX_INSTRUCTIONS)


def lookup_classifier(
    rules: Rules,
    classids: Mapping[str, Handle],
    *,
    only: int = 0,
    ethernet: bool = True,
    devices: Mapping[str, int] | None = None,
) -> LookupProgram:
    """The same as extended BPF: addresses are in tables, where each is looked up once a packet, so that there is room
    for many, and `devices` have numbers.

    All classids are of one qdisc. Raises bpf.TooLongError, UnavailableError.
    """
    _require_seen(rules, extended=True)
    addresses = Addresses(rules, classids)
    words = Words(addresses.ordinary, addresses=addresses, devices=devices)
    in_turn = [step for step in addresses.steps if not isinstance(step, Choice)]
    _program(rules, classids, words, in_turn, only=only).assemble(_MOST_IN_TURN)
    program = _program(rules, classids, words, addresses.steps, only=only).assemble(_MOST_WITH_TABLES)
    major = max(classids.values()) & 0xFFFF0000
    assert all(not number or number & 0xFFFF0000 == major for number in classids.values())
    return LookupProgram(program, addresses.tables, major, frozenset(addresses.verdicts), ethernet)


def _require_seen(rules: Rules, *, extended: bool) -> None:
    """Raises UnavailableError at a rule that asks for what BPF cannot see."""
    for name, where in rules.asked().items():
        if name in _UNSEEN and not (extended and name == "iif"):
            reason, mend = _UNSEEN[name]
            raise UnavailableError(f"`{name}` cannot be matched: {reason}", hint=mend, where=where)


def _program(
    rules: Rules, classids: Mapping[str, Handle], words: Words, steps: Iterable[Rule | Run | Choice], *, only: int
) -> Assembler:
    asm = Assembler()
    parsed, malformed, foreign = Label(), Label(), Label()
    if only:
        asm.load(PROTOCOL, 2)
        asm.jump("eq", only, no=foreign)
    parse(asm, words, parsed, malformed)
    asm.place(parsed)
    if words.addresses is not None:
        _look_up(asm, words, words.addresses)
    major = max(classids.values()) & 0xFFFF0000
    for step in steps:
        other = Label()
        if isinstance(step, Run):
            _run(asm, step, words, major, other)
        elif isinstance(step, Choice):
            asm.recall(words.told[step.side, 0])
            _chosen(asm, step.parts, words, classids, other)
        else:
            _rule(asm, step, words, classids, other)
        asm.place(other)
    asm.place(malformed)
    asm.ret(classids[rules.default])
    if only:
        asm.place(foreign)
        asm.ret(0)
    return asm


def _rule(asm: Assembler, rule: Rule, words: Words, classids: Mapping[str, Handle], other: Label) -> None:
    """Ends with the rule's class, or goes to `other` where it does not hold."""
    for match in rule.all_of:
        _match(asm, match, words, other)
    asm.ret(classids[rule.path])


def _chosen(
    asm: Assembler,
    parts: Sequence[tuple[int, tuple[Rule, ...]]],
    words: Words,
    classids: Mapping[str, Handle],
    other: Label,
) -> None:
    """Asks the rules of the part whose number A is; goes to `other` where none of them holds, or there is none."""
    if len(parts) > 1:
        middle, above = len(parts) // 2, Label()
        asm.jump("ge", parts[middle][0], yes=above)
        _chosen(asm, parts[:middle], words, classids, other)
        asm.place(above)
        _chosen(asm, parts[middle:], words, classids, other)
        return
    ((number, rules),) = parts
    near = Label()
    asm.jump("eq", number, no=near)
    for rule in rules:
        following = Label()
        _rule(asm, rule, words, classids, following)
        asm.place(following)
    asm.place(near)
    asm.goto(other)


def _look_up(asm: Assembler, words: Words, addresses: Addresses) -> None:
    """Fills the words of what the tables know of the packet's addresses."""
    asm.set(ABSENT)
    for slot in words.told.values():
        asm.store(slot)
    for number, table in enumerate(addresses.tables):
        ipv4, other = table.version == 4, Label()
        asm.recall(words["ethertype"])
        asm.jump("eq", ETHERTYPE_IPV4 if ipv4 else ETHERTYPE_IPV6, no=other)
        asm.recall_x(words["base"])
        for side, columns in addresses.sides.items():
            missed = Label()
            if columns:
                asm.look_up(number, _ADDRESS_OFFSETS[side][0 if ipv4 else 1], missed)
            for column in columns:
                asm.column(column)
                asm.store(words.told[side, column])
            asm.place(missed)
        asm.place(other)


def _run(asm: Assembler, run: Run, words: Words, major: Handle, other: Label) -> None:
    """Ends with the class of the run's first rule that holds by either address; goes to `other` where none does."""
    slots = [words.told[asked] for asked in run.columns.items()]
    asm.recall(slots[0])
    if len(slots) > 1:
        earlier = Label()
        asm.recall_x(slots[1])
        asm.jump_x("gt", no=earlier)
        asm.from_x()
        asm.place(earlier)
    unnamed = Label()
    asm.jump("eq", ABSENT, yes=other)
    asm.alu("and", 0xFFFF)
    asm.jump("eq", 0, yes=unnamed)
    asm.alu("or", major)
    asm.place(unnamed)
    asm.ret_a()


def _match(asm: Assembler, match: Match, words: Words, other: Label) -> None:
    """Goes to `other` unless every condition of the match holds."""
    for name in match.asks:
        _condition(asm, match, name, words, other)


def _condition(asm: Assembler, match: Match, name: str, words: Words, other: Label) -> None:
    """Goes to `other` unless the condition in one field holds."""
    match name:
        case "inner" | "any_of" | "all_of" | "none_of":
            _parts(asm, match, name, words, other)
        case "src" | "dst":
            _address(asm, getattr(match, name), words, name, other)
        case "net":
            _either(asm, (partial(_address, asm, match.net, words, side) for side in _ADDRESS_OFFSETS), other)
        case "port":
            _either(asm, (partial(_field, asm, words[at], match.port) for at in ("sport", "dport")), other)
        case "src_mac" | "dst_mac":
            _mac(asm, getattr(match, name), _MAC_OFFSETS[name], other)
        case "mac":
            _either(asm, (partial(_mac, asm, match.mac, at) for at in _MAC_OFFSETS.values()), other)
        case "tos" | "tcp_flags" | "mark":
            _bits(asm, match, name, words, other)
        case "length":
            _length(asm, match.length, words, other)
        case "vlan" | "pcp" | "ecn":
            _part_of_word(asm, match, name, words, other)
        case "iif":
            _came_in(asm, [words.devices[device] for device in match.iif if device in words.devices], other)
        case _:
            word, spans = _whole_word(match, name)
            _field(asm, words[word], spans, other)


def _parts(asm: Assembler, match: Match, name: str, words: Words, other: Label) -> None:
    match name:
        case "inner":
            assert words.inner is not None and match.inner is not None
            _present(asm, words.inner["ethertype"], other)
            _match(asm, match.inner, words.inner, other)
        case "any_of":
            _either(asm, (partial(_match, asm, part, words) for part in match.any_of), other)
        case "all_of":
            for part in match.all_of:
                _match(asm, part, words, other)
        case _:
            for part in match.none_of:
                unmet = Label()
                _match(asm, part, words, unmet)
                asm.goto(other)
                asm.place(unmet)


def _came_in(asm: Assembler, numbers: Collection[int], other: Label) -> None:
    """Goes to `other` unless the packet came in by one of these devices, which are those that are there."""
    if not numbers:
        asm.goto(other)
        return
    asm.came_in()
    _ranges(asm, _points(numbers), other)


def _whole_word(match: Match, name: str) -> tuple[str, Iterable[Span]]:
    """The scratch word that a condition asks for, and the ranges that it may be in."""
    asked = getattr(match, name)
    match name:
        case "ethertypes" | "protocols":
            return name[:-1], _points(asked)
        case "dscp":
            return "tos", ((value << 2, value << 2 | 3) for value in asked)
        case "icmp":
            return "detail", _points(
                number + (ICMPV6_DETAIL if protocol == ICMPV6 else 0) for protocol, number in asked
            )
        case "sport" | "dport":
            return name, asked
        case _:
            raise AssertionError(f"no code for {name}")


def _part_of_word(asm: Assembler, match: Match, name: str, words: Words, other: Label) -> None:
    _present(asm, words["tos" if name == "ecn" else "tag"], other)
    match name:
        case "vlan":
            asm.alu("and", 0xFFF)
            _ranges(asm, match.vlan, other)
        case "pcp":
            asm.alu("rsh", 13)
            _ranges(asm, _points(match.pcp), other)
        case _:
            asm.alu("and", 3)
            _ranges(asm, _points(match.ecn), other)


def _length(asm: Assembler, spans: Iterable[Span], words: Words, other: Label) -> None:
    """Read where it is asked: there are not words enough for everything."""
    ipv4, said = Label(), Label()
    asm.recall_x(words["base"])
    asm.recall(words["ethertype"])
    asm.jump("eq", ETHERTYPE_IPV4, yes=ipv4)
    asm.jump("eq", ETHERTYPE_IPV6, no=other)
    ipv6_length(asm)
    asm.goto(said)
    asm.place(ipv4)
    ipv4_length(asm)
    asm.place(said)
    _ranges(asm, spans, other)


def _bits(asm: Assembler, match: Match, name: str, words: Words, other: Label) -> None:
    match name:
        case "mark":
            _masked(asm, partial(asm.load, MARK), match.mark, other)
        case "tos":
            _present(asm, words["tos"], other)
            _masked(asm, partial(asm.recall, words["tos"]), match.tos, other)
        case _:
            _field(asm, words["detail"], [(TCP_DETAIL, TCP_DETAIL | 0xFF)], other)
            _masked(asm, partial(asm.recall, words["detail"]), match.tcp_flags, other)


def _either(asm: Assembler, ways: Iterable[Callable[[Label], None]], other: Label) -> None:
    """Goes to `other` unless one of the ways holds; each goes to the label that it is given where it does not."""
    held, miss = Label(), Label()
    for way in ways:
        way(miss)
        asm.goto(held)
        asm.place(miss)
        miss = Label()
    asm.goto(other)
    asm.place(held)


def _points(values: Iterable[int]) -> Iterable[Span]:
    return ((value, value) for value in values)


def _present(asm: Assembler, slot: int, other: Label) -> None:
    """Leaves the word in A; goes to `other` where the packet does not have the field."""
    asm.recall(slot)
    asm.jump("eq", ABSENT, yes=other)


def _field(asm: Assembler, slot: int, spans: Iterable[Span], other: Label) -> None:
    """Goes to `other` unless the scratch word is in one of the ranges."""
    asm.recall(slot)
    _ranges(asm, spans, other)


def _ranges(asm: Assembler, spans: Iterable[Span], other: Label) -> None:
    """Goes to `other` unless A is in one of the ranges. A long list is halved until a few are left."""
    wanted, held = merged(spans), Label()
    if len(wanted) <= _FEW:
        _one_by_one(asm, wanted, held, other)
    else:
        _halved(asm, wanted, held, other)
    asm.place(held)


def _halved(asm: Assembler, wanted: Sequence[Span], held: Label, other: Label) -> None:
    """Goes to `held` or to `other`. The few at the end have places near by to jump to: a far one costs each of them."""
    if len(wanted) <= _FEW:
        near, nowhere = Label(), Label()
        _one_by_one(asm, wanted, near, nowhere)
        asm.place(near)
        asm.goto(held)
        asm.place(nowhere)
        asm.goto(other)
        return
    middle, above = len(wanted) // 2, Label()
    asm.jump("ge", wanted[middle][0], yes=above)
    _halved(asm, wanted[:middle], held, other)
    asm.place(above)
    _halved(asm, wanted[middle:], held, other)


def _one_by_one(asm: Assembler, wanted: Sequence[Span], held: Label, other: Label) -> None:
    """Goes to `other`, or to `held`, or falls through, which is the same."""
    for first, last in wanted[:-1]:
        if first == last:
            asm.jump("eq", first, yes=held)
        else:
            above = Label()
            asm.jump("ge", first, no=other)  # sorted: below this range is below all that follow
            asm.jump("gt", last, yes=above, no=held)
            asm.place(above)
    first, last = wanted[-1]
    if first == last:
        asm.jump("eq", first, no=other)
    else:
        asm.jump("ge", first, no=other)
        asm.jump("gt", last, yes=other)


def _masked(asm: Assembler, load: Callable[[], None], wanted: Iterable[Masked], other: Label) -> None:
    """Goes to `other` unless what `load` puts into A is one of those."""
    held = Label()
    for value, mask in wanted:
        load()
        asm.alu("and", mask)
        asm.jump("eq", value, yes=held)
    asm.goto(other)
    asm.place(held)


def _mac(asm: Assembler, wanted: tuple[int, ...], offset: int, other: Label) -> None:
    """Goes to `other` unless the address at the offset of the frame is one of those; only Ethernet has any."""
    held = Label()
    asm.load(HARDWARE_TYPE)
    asm.jump("eq", ETHERNET, no=other)
    for address in wanted:
        differs = Label()
        asm.load(offset)
        asm.jump("eq", address >> 16, no=differs)
        asm.load(offset + 4, 2)
        asm.jump("eq", address & 0xFFFF, yes=held)
        asm.place(differs)
    asm.goto(other)
    asm.place(held)


def _address(asm: Assembler, prefixes: tuple[Prefix, ...], words: Words, side: str, other: Label) -> None:
    """Goes to `other` unless the address of that side is in one of the networks."""
    if words.addresses is not None:
        _field(asm, words.told[side, 0], words.addresses.spans(prefixes), other)
        return
    offsets, held = _ADDRESS_OFFSETS[side], Label()
    ipv4 = [
        (_network(prefix), _network(prefix) | (1 << 32 - prefix.length) - 1)
        for prefix in prefixes
        if prefix.version == 4
    ]
    ipv6 = sorted({prefix for prefix in prefixes if prefix.version == 6})
    asm.recall_x(words["base"])
    if ipv4:
        otherwise = Label() if ipv6 else other
        asm.recall(words["ethertype"])
        asm.jump("eq", ETHERTYPE_IPV4, no=otherwise)
        asm.load(offsets[0], indexed=True)
        _ranges(asm, ipv4, other)
        if ipv6:
            asm.goto(held)
            asm.place(otherwise)
    if ipv6:
        asm.recall(words["ethertype"])
        asm.jump("eq", ETHERTYPE_IPV6, no=other)
        for prefix in ipv6:
            _ipv6_network(asm, prefix, offsets[1], held)
        asm.goto(other)
    asm.place(held)


def _network(prefix: Prefix) -> int:
    """Without bits beyond its length."""
    shift = prefix.bits - prefix.length
    return prefix.value >> shift << shift


def _ipv6_network(asm: Assembler, prefix: Prefix, offset: int, held: Label) -> None:
    """Goes to `held` when the address at the offset is in the network, word by word."""
    outside = Label()
    for index in range(-(-prefix.length // 32)):
        bits = min(32, prefix.length - 32 * index)
        mask = 0xFFFFFFFF << (32 - bits) & 0xFFFFFFFF
        asm.load(offset + 4 * index, indexed=True)
        if bits < 32:
            asm.alu("and", mask)
        word = prefix.value >> (prefix.bits - 32 * (index + 1)) & 0xFFFFFFFF
        asm.jump("eq", word & mask, no=outside)
    asm.goto(held)
    asm.place(outside)
