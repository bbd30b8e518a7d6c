"""The classifier in the kernel: an interface's rules as one classic-BPF program that returns the leaf's classid.

It gives the answer of `model.match.classify` for every packet whose headers are whole, those inside a tunnel too where
a rule asks for them. The kernel ends a program with 0, no match, at a load outside the packet: HTB then takes its
default class, so truncated packets go there too, as do packets whose headers the kernel does not hold in one piece
(drivers and the stack put them there).

A VLAN tag is the same whether the kernel holds it beside the packet, for the device to add, or inside the frame.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from shaper.compile.addresses import Addresses, Choice, Run
from shaper.compile.bpf import MAX_INSTRUCTIONS, PROTOCOL, Assembler, Label
from shaper.compile.conditions import holds
from shaper.compile.endpoints import ADDRESS_OFFSETS
from shaper.compile.parse import ABSENT, Words, parse
from shaper.errors import UnavailableError
from shaper.model.match import ETHERTYPE_IPV4, ETHERTYPE_IPV6, Rule, Rules
from shaper.tree import Handle, Insn, LookupProgram

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
    rules: Rules,
    classids: Mapping[str, Handle],
    *,
    only: int = 0,
    devices: Mapping[str, int] | None = None,
    quick: bool = False,
) -> tuple[Insn, ...]:
    """The program for the rules, given every leaf's classid by path; one of 0 is left to other filters.

    With `only` it knows packets of that ethertype alone, whose IP header is where the kernel thinks it is. Given the
    numbers of `devices` it is to be loaded as extended BPF, which sees by which of them a packet came in. With `quick`
    it is longer and takes less time, where the device has Ethernet headers.

    Raises bpf.TooLongError, and UnavailableError at a rule that BPF cannot carry.
    """
    _require_seen(rules, extended=devices is not None)
    words = Words((match for rule in rules.ordered for match in rule.all_of), devices=devices)
    return _program(rules, classids, words, rules.ordered, only=only, quick=quick).assemble(MAX_INSTRUCTIONS)


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
    rules: Rules,
    classids: Mapping[str, Handle],
    words: Words,
    steps: Iterable[Rule | Run | Choice],
    *,
    only: int,
    quick: bool = False,
) -> Assembler:
    asm = Assembler()
    parsed, malformed, foreign = Label(), Label(), Label()
    if only:
        asm.load(PROTOCOL, 2)
        asm.jump("eq", only, no=foreign)
    parse(asm, words, parsed, malformed, quick=quick)
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
        holds(asm, match, words, other)
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
                asm.look_up(number, ADDRESS_OFFSETS[side][0 if ipv4 else 1], missed)
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
