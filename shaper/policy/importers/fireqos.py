"""FireQOS: `fireqos.conf`, a shell script of interface, class and match lines."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass, field

from shaper.model.link import LINK_LAYERS
from shaper.policy.importers import fireqos_match, quantities
from shaper.policy.importers.draft import Class, Facts, Interface, Line, Report, Rule

FACTS = Facts(
    "FireQOS",
    {
        "`interface DEVICE NAME output \\| bidirectional rate`, `interface4`, `6`, `46`": "an interface and its policy",
        "`class`, `class group` ... `class group end`, `class default`": "classes, nested; the default",
        "`commit`, `min`, `rate`, `minrate` (1 % where none is said)": "`guarantee`",
        "`ceil`, `max`, inherited": "`limit`",
        "`prio`, `prio keep`, `balanced`, the order of classes": "`priority`",
        "`adsl local \\| remote ENCAPSULATION`": "`link`",
        "`burst`": "`burst`",
        "`fq_codel`, `pfifo`, `bfifo`, `sfq`, `codel`, `red`, `cake`, inherited": "`aqm`",
        "`match`: protocols, ports, addresses, `tos`, `mark`, `syn`, `ack`, `prio`, `class`": "`match`",
        "`server NAME`, `client NAME`, `server_NAME_ports=`": "`match` with `sport`, `dport`",
        "`NAME=value`, `$NAME`": "put in their place",
    },
    {
        "`input`, and the input half of `bidirectional`": "`bandwidth: {ingress: ..}`",
        "`atm`, `overhead`, `mpu`, `mtu`, `tsize`, and a link layer of a class group": "`link`",
        "`qdisc` of another kind, and `options`": "`aqm` and its numbers",
        "`cburst`, `quantum`, `r2q`": "worked out from the rates",
        "`match .. at`, `custom`, shell commands": "",
    },
)
_UNITS = {unit: bits for unit, bits in quantities.TC_BITS.items() if not unit.endswith("ibps")}
_ASSIGNMENT = re.compile(r"(?:(?:local|export|declare)\s+)?([A-Za-z_][A-Za-z0-9_]*)=(.*)\Z", re.DOTALL)
_VARIABLE = re.compile(r"\$(?:\{([A-Za-z_][A-Za-z0-9_]*)\}|([A-Za-z_][A-Za-z0-9_]*))")
_RATES = {**dict.fromkeys(("rate", "commit", "min"), "rate"), **dict.fromkeys(("ceil", "max"), "ceil")}
_QUEUES = ("pfifo", "bfifo", "sfq", "fq_codel", "codel", "none", "cake", "red")
_LINK = ("mtu", "mpu", "tsize", "overhead", "linklayer")
_DERIVED = ("cburst", "quantum", "r2q")
_SHORT = {"vc": "vcmux", "mux": "vcmux", "vc/mux": "vcmux", "llc": "llcsnap", "snap": "llcsnap", "llc/snap": "llcsnap"}
_FAMILIES = {"": None, "4": (4,), "6": (6,), "46": (4, 6)}
_LONGEST_LINE = 10_000
_MOST_LINES = 20_000


@dataclass(slots=True)
class _Scope:
    """An interface or a group that is open: what its classes inherit."""

    rate: int
    ceil: int | None
    families: tuple[int, ...]
    holder: list[Class]
    owner: Class | None = None
    minrate: int | None = None
    balanced: bool = False
    aqm: str = ""
    rank: int = -1
    classes: dict[str, Class] = field(default_factory=dict)


@dataclass(slots=True)
class _Params:
    """What a line's keywords say."""

    rate: int | None = None
    ceil: int | None = None
    minrate: int | None = None
    prio: str = ""
    balanced: bool | None = None
    burst: int | None = None
    link: str = ""
    aqm: str = ""


def read(text: str, file: str, report: Report) -> list[Interface]:
    """The interfaces of a file."""
    reader = _Reader(report)
    for line, words in _lines(text, file, reader.variables, report):
        reader.take(line, words)
    return reader.interfaces


def _lines(text: str, file: str, variables: dict[str, str], report: Report) -> Iterator[tuple[Line, list[str]]]:
    """Words by line: comments out, continued lines joined, variables in their place."""
    joined, first = "", 0
    for number, raw in enumerate(text.split("\n")[:_MOST_LINES], 1):
        first = first or number
        if raw.endswith("\\") and len(joined) < _LONGEST_LINE:
            joined += raw[:-1] + " "
            continue
        line = Line(file, first, (joined + raw).strip()[:_LONGEST_LINE])
        joined, first = "", 0
        try:
            words = shlex.split(_expanded(line.text, variables), comments=True)
        except ValueError:
            report.lose(line, "its quotes do not end on this line", "close them here")
            continue
        if words:
            assigned = _ASSIGNMENT.match(words[0])
            if assigned and len(words) == 1:
                variables[assigned[1]] = assigned[2][:_LONGEST_LINE]
            else:
                yield line, words


def _expanded(text: str, variables: dict[str, str]) -> str:
    return _VARIABLE.sub(lambda found: variables.get(found[1] or found[2], ""), text)[:_LONGEST_LINE]


class _Reader:
    def __init__(self, report: Report) -> None:
        self.variables: dict[str, str] = {}
        self.interfaces: list[Interface] = []
        self._report = report
        self._scopes: list[_Scope] = []
        self._current: Class | None = None
        self._families: tuple[int, ...] = (4,)
        self._matches = 0
        self._skipping = False

    def take(self, line: Line, words: list[str]) -> None:
        head = words[0]
        kind, family = _split(head)
        if kind == "interface":
            self._interface(line, words, _FAMILIES[family] or (4,))
        elif kind in ("class", "match", "server", "client"):
            self._inside(kind, line, words, _FAMILIES[family])
        else:
            self._report.lose(line, "this is a command of the shell, which is not run", "write what it would say")

    def _inside(self, kind: str, line: Line, words: list[str], families: tuple[int, ...] | None) -> None:
        if self._skipping:
            return
        if not self._scopes:
            self._report.lose(line, "it stands in no interface", "put it below an `interface` line")
        elif kind == "class":
            self._class(line, words, families)
        elif kind == "match":
            self._match(line, words[1:], families or self._families)
        else:
            self._service(line, [kind, *words[1:]], families or self._families)

    def _interface(self, line: Line, words: list[str], families: tuple[int, ...]) -> None:
        self._scopes, self._current, self._matches, self._skipping = [], None, 0, True
        if len(words) < 4 or words[3] not in ("input", "output", "bidirectional", "in", "out", "both"):
            self._report.lose(
                line, "no device, name and direction are said", "such as `interface eth0 wan output rate 10Mbit`"
            )
            return
        if words[3] in ("input", "in"):
            mend = "`bandwidth: {ingress: ..}` is the key for it; or shape where the packets leave"
            self._report.lose(line, "incoming traffic: egress is shaped", mend)
            return
        params = self._params(line, words[4:], None)
        if params.rate is None:
            self._report.lose(line, "it says no rate that can be read", "write one, such as `rate 10Mbit`")
            return
        name = quantities.name(words[2], {one.name for one in self.interfaces})
        found = Interface(name, words[1], params.rate, line)
        found.link = params.link
        self.interfaces.append(found)
        self._skipping, self._families = False, families
        scope = _Scope(params.rate, None, families, found.classes, minrate=params.minrate, aqm=params.aqm)
        scope.balanced = bool(params.balanced)
        self._scopes = [scope]

    def _class(self, line: Line, words: list[str], families: tuple[int, ...] | None) -> None:
        group = words[1:2] == ["group"]
        names = words[2:] if group else words[1:]
        if not names:
            self._report.lose(line, "the class has no name", "name it")
            return
        if group and names[0] == "end":
            if len(self._scopes) > 1:
                self._scopes.pop()
            self._current = None
            return
        scope = self._scopes[-1]
        params = self._params(line, names[1:], scope.rate)
        cls = Class(names[0], line)
        least = scope.minrate or scope.rate // 100
        cls.guarantee = params.rate if params.rate is not None else params.minrate or max(8, least)
        cls.limit = params.ceil if params.ceil is not None else scope.ceil
        cls.burst, cls.aqm = params.burst, params.aqm or scope.aqm
        scope.rank = self._rank(scope, params.prio)
        cls.rank = scope.rank
        cls.default = names[0] == "default" and len(self._scopes) == 1
        scope.holder.append(cls)
        scope.classes[names[0]] = cls
        self._current, self._families = cls, families or scope.families
        if group:
            below = _Scope(cls.guarantee, cls.limit, self._families, cls.classes, cls, params.minrate, aqm=cls.aqm)
            below.balanced = bool(params.balanced)
            self._scopes.append(below)

    def _rank(self, scope: _Scope, prio: str) -> int:
        if prio in ("keep", "last"):
            return max(0, scope.rank)
        if re.fullmatch(r"[0-9]{1,3}", prio):
            return min(7, int(prio))
        return 4 if scope.balanced else min(7, scope.rank + 1)

    def _params(self, line: Line, words: list[str], whole: int | None) -> _Params:
        """Keywords of an interface (`whole` None) or a class, percentages being of `whole`."""
        params, words, direction = _Params(), list(words), "both"
        while words:
            word = words.pop(0)
            value = words[0] if words else ""
            if word in ("input", "output"):
                direction = word
                continue
            if word in _RATES or word == "minrate":
                words[:1] = []
                self._amount(line, params, _RATES.get(word, word), (value, direction), whole)
            elif word == "prio":
                params.prio, words[:1] = value, []
            elif word == "burst":
                params.burst, words[:1] = quantities.size(value), []
                if params.burst is None:
                    self._report.lose(line, f"`burst {value}` is no size", "such as 15k")
            elif word == "adsl" and whole is None and (link := _adsl(words[1:2])):
                params.link, words[:2] = link, []
            elif word in quantities.AQM and value != "options":
                params.aqm = quantities.AQM[word]
            elif word in ("balanced", "priority"):
                params.balanced = word == "balanced"
            else:
                del words[: self._unmeant(line, word, words)]
        return params

    def _amount(self, line: Line, params: _Params, key: str, said: tuple[str, str], whole: int | None) -> None:
        text, direction = said
        if direction == "input":
            mend = "`{egress: .., ingress: ..}` is how a rate says both"
            self._report.lose(line, f"`input ... {text}` is for incoming traffic: egress is shaped", mend)
            return
        ratio = quantities.percent(text)
        bits = (
            int(whole * ratio)
            if ratio is not None and whole is not None
            else quantities.rate(text, _UNITS, unit="kbit")
        )
        if bits is None or bits < 8:
            self._report.lose(line, f"`{key} {text}` is no rate", "such as 2Mbit or 10%")
        else:
            setattr(params, key, bits)

    def _unmeant(self, line: Line, word: str, words: list[str]) -> int:
        """Reports a keyword that has no place here; how many words after it are its own."""
        if word in _QUEUES or word == "qdisc":
            used = 1 if word == "qdisc" else 0
            used += 2 if words[used : used + 1] == ["options"] else 0
            mend = "`aqm: fq_codel` keeps delay short for every flow, `aqm: fifo` does not tell them apart"
            self._report.lose(line, f"`{word}`: a leaf's numbers are worked out from its rates", mend)
            return used
        if word in _DERIVED:
            self._report.lose(line, f"`{word}` is worked out from rate and MTU", "leave it out")
            return 1
        if word == "adsl":
            self._link(line, " ".join([word, *words[:2]]))
            return 2
        if word in _LINK:
            self._link(line, " ".join([word, *words[:1]]))
            return 1
        if word in ("ethernet", "atm"):
            if word == "atm":
                self._link(line, word)
            return 0
        self._report.lose(line, f"`{word}` is not known", "write its meaning in our words")
        return 0

    def _link(self, line: Line, text: str) -> None:
        mend = "`link` of the interface is the key for it: `{overhead: .., mpu: .., atm: true}`, around the IP packet"
        self._report.lose(line, f"`{text}` counts from the frame, `link` from the IP packet", mend)

    def _match(self, line: Line, words: list[str], families: tuple[int, ...]) -> None:
        found = fireqos_match.matched(words, families, line, self._report)
        self._matches += 1
        cls = self._current
        if found is None:
            return
        if found.owner:
            cls = next((scope.classes[found.owner] for scope in self._scopes if found.owner in scope.classes), None)
        elif cls is None and self._scopes[-1].owner is not None:
            cls = self._scopes[-1].owner
        if cls is None:
            self._report.lose(line, "it belongs to no class", "put it below its class, or name it with `class NAME`")
            return
        order = float(self._matches * 10 if found.prio is None else found.prio)
        cls.order = order if cls.order is None else min(cls.order, order)
        cls.rules += [Rule(conditions, line) for conditions in found.conditions]

    def _service(self, line: Line, words: list[str], families: tuple[int, ...]) -> None:
        if self._current is None:
            self._report.lose(line, "it belongs to no class", "put it below its class")
            return
        suffix = "_ports"
        own = {
            key.removeprefix("server_").removesuffix(suffix): value
            for key, value in self.variables.items()
            if key.startswith("server_") and key.endswith(suffix)
        }
        self._matches += 1
        rules = fireqos_match.served(words, families, line, own, self._report)
        if rules and self._current.order is None:
            self._current.order = float(self._matches * 10)
        self._current.rules += rules


def _adsl(words: list[str]) -> str:
    """`pppoe-llc` -> the name of our link layer, or ""."""
    protocol, _, encapsulation = "".join(words).lower().partition("-")
    name = f"adsl-{protocol}-{_SHORT.get(encapsulation, encapsulation)}"
    return name if name in LINK_LAYERS else ""


def _split(head: str) -> tuple[str, str]:
    """`match46` -> ("match", "46")."""
    found = re.fullmatch(r"([a-z]+)(46|4|6)?", head)
    return (found[1], found[2] or "") if found else (head, "")
