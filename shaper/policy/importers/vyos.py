"""VyOS: `qos policy shaper`, and the older `traffic-policy shaper`."""

from __future__ import annotations

import re
from collections.abc import Iterator

from shaper.policy.importers import quantities
from shaper.policy.importers.draft import Class, Conditions, Facts, Interface, Line, Report, Rule
from shaper.policy.importers.vyos_config import Branch, parse
from shaper.policy.names import DSCP_NAMES

FACTS = Facts(
    "VyOS",
    {
        "`qos policy shaper`, `traffic-policy shaper`, as `set` lines or in braces": "a policy",
        "`qos interface .. egress`, `traffic-policy out`, also of a `vif`": "an interface for each",
        "`bandwidth` of a class, `ceiling` (as `bandwidth` where none is said)": "`guarantee`, `limit`",
        "`priority` (0 where none is said, 20 for the default), `burst`": "`priority`, `burst`",
        "`default`": "the default class",
        "`queue-type fq-codel`, `drop-tail`, `fair-queue`, `random-detect`": "`aqm`",
        "`set-dscp`": "`set: {dscp: ..}`",
        "`match`: `ip`, `ipv6`, `ether` addresses, `vif`, `mark`, `interface`; `match-group`": "`match`",
    },
    {
        "other `queue-type`s, `queue-limit`, `codel-quantum`, `flows`, `interval`, `target`": "`aqm`",
        "`bandwidth auto`, and percentages of the interface's speed": "`bandwidth` in bit/s",
        "`ingress`, and `limiter`, `shaper-hfsc`, `cake` and other policies": "`bandwidth: {ingress: ..}`, `police`",
    },
)
_UNITS = quantities.TC_BITS
_QUEUE = ("queue-type", "queue-limit", "codel-quantum", "flows", "interval", "target")
_ETHERTYPES = {"ip": "ipv4", "ipv6": "ipv6", "arp": "arp"}
_TOS_NAMES = {
    "default": 0,
    "reliability": 1,
    "throughput": 2,
    "lowdelay": 4,
    "priority": 8,
    "immediate": 16,
    "flash": 24,
    "flash-override": 32,
    "internet": 48,
    "network": 56,
}
"""The older names of DS bytes, as DSCPs."""
_IPV6_HEADER = 40
_DEFAULT_RANK = 20
_CLASS_KEYS = ("bandwidth", "ceiling", "burst", "priority", "set-dscp", "match", "match-group", "description")


def read(text: str, file: str, report: Report) -> list[Interface]:
    """One interface for each that a shaper is bound to."""
    root = parse(text, file, report)
    found: list[Interface] = []
    for name, branch in (*root.items("qos", "policy", "shaper"), *root.items("traffic-policy", "shaper")):
        devices = list(_devices(root, name))
        if not devices:
            devices = [("eth0", branch.line)]
            mend = "write the device, or `set qos interface DEVICE egress` before the import"
            report.lose(branch.line, f"the policy {name} is bound to no interface: eth0 is written", mend)
        for device, line in devices:
            one = _Shaper(root, report).interface(name, branch, device, line)
            if one is not None:
                one.name = quantities.name(device, {other.name for other in found})
                found.append(one)
    _others(root, report)
    return found


def _devices(root: Branch, policy: str) -> Iterator[tuple[str, Line]]:
    for way in ("egress", "out"):
        for device, (bound, line) in _bindings(root, way):
            if bound == policy:
                yield device, line


def _bindings(root: Branch, way: str) -> Iterator[tuple[str, tuple[str, Line]]]:
    """The devices that a policy is bound to, with its name: `egress`, `ingress`; before VyOS 1.4 `out`, `in`."""
    for device, branch in root.items("qos", "interface"):
        if bound := branch.value(way):
            yield device, bound
    for _, kind in root.items("interfaces"):
        for name, outermost in kind.items():
            for device, branch in _with_vlans(name, outermost):
                if bound := branch.value("traffic-policy", way):
                    yield device, bound


def _with_vlans(device: str, branch: Branch) -> Iterator[tuple[str, Branch]]:
    """A device and those of its VLANs, by the names that they have in Linux: `eth1.30`, `eth1.100.20`."""
    yield device, branch
    for word in ("vif", "vif-s", "vif-c"):
        for number, below in branch.items(word):
            yield from _with_vlans(f"{device}.{number}", below)


def _others(root: Branch, report: Report) -> None:
    for kind, branch in (*root.items("qos", "policy"), *root.items("traffic-policy")):
        if kind != "shaper":
            for name, one in branch.items():
                report.lose(one.line, f"{name} is a {kind}, not a shaper", "write its meaning as a policy of ours")
    for way in ("ingress", "in"):
        for device, (_, line) in _bindings(root, way):
            mend = "`bandwidth: {ingress: ..}` is the key for it"
            report.lose(line, f"incoming traffic of {device}: egress is shaped", mend)


class _Shaper:
    def __init__(self, root: Branch, report: Report) -> None:
        self._root = root
        self._report = report

    def interface(self, name: str, branch: Branch, device: str, line: Line) -> Interface | None:
        """The policy on one device; None where no bandwidth is known."""
        said = branch.value("bandwidth")
        bandwidth = quantities.rate(said[0], _UNITS, unit="kbit") if said else None
        if bandwidth is None:
            why = f"the bandwidth of {name} is that of the device, which is not in the file"
            self._report.lose(said[1] if said else branch.line, why, "give the policy a bandwidth in mbit")
            return None
        found = Interface(device, device, bandwidth, line)
        for number, below in sorted(branch.items("class"), key=lambda item: (len(item[0]), item[0])):
            found.classes.append(self._class(f"class-{number}", below, bandwidth))
        default = branch.get("default")
        if default is not None:
            cls = self._class("default", default, bandwidth)
            cls.default = True
            if cls.rank is None:
                cls.rank = _DEFAULT_RANK
            found.classes.append(cls)
        for cls in found.classes:
            cls.rank = 0 if cls.rank is None else cls.rank
            cls.order = float(cls.rank) if cls.rules else None
        self._unmeant(branch, ("bandwidth", "class", "default", "description"))
        return found

    def _class(self, name: str, branch: Branch, bandwidth: int) -> Class:
        said = branch.value("description")
        cls = Class(f"{name}-{said[0]}" if said else name, branch.line)
        cls.guarantee = self._rate(branch, "bandwidth", bandwidth)
        cls.limit = self._rate(branch, "ceiling", bandwidth)
        if cls.limit is None:
            cls.limit = cls.guarantee  # the ceiling is as the bandwidth
        if branch.value("bandwidth") in (None,) or (branch.value("bandwidth") or ("",))[0] == "auto":
            cls.guarantee, cls.limit = None, None
        queue = branch.value("queue-type")
        cls.aqm = quantities.AQM.get(queue[0], "") if queue else ""
        burst = branch.value("burst")
        cls.burst = quantities.size(burst[0]) if burst else None
        if burst and cls.burst is None:
            self._report.lose(burst[1], f"`burst {burst[0]}` is no size", "such as 15k")
        self._marking(cls, branch)
        rank = branch.value("priority")
        cls.rank = int(rank[0]) if rank and re.fullmatch(r"[0-9]{1,2}", rank[0]) else None
        for match_name, match in branch.items("match"):
            self._match(cls, match_name, match)
        for group, member in branch.items("match-group"):
            self._group(cls, group, member.line, ())
        self._unmeant(
            branch, ("bandwidth", "ceiling", "burst", "priority", "set-dscp", "match", "match-group", "description")
        )
        return cls

    def _marking(self, cls: Class, branch: Branch) -> None:
        said = branch.value("set-dscp")
        if said is None:
            return
        name = said[0].lower()
        if name in _TOS_NAMES or name in DSCP_NAMES or re.fullmatch(r"[0-9]|[1-5][0-9]|6[0-3]", name):
            cls.marking["dscp"] = _TOS_NAMES.get(name, int(name) if name.isdigit() else name)
        else:
            self._report.lose(said[1], f"`set-dscp {said[0]}` is no DSCP", "a name such as af41, or 0 to 63")

    def _rate(self, branch: Branch, key: str, whole: int) -> int | None:
        said = branch.value(key)
        if said is None or said[0] == "auto":
            return None
        ratio = quantities.percent(said[0])
        bits = int(whole * ratio) if ratio is not None else quantities.rate(said[0], _UNITS, unit="kbit")
        if bits is None or bits < 8:
            self._report.lose(said[1], f"`{key} {said[0]}` is no rate", "such as 2mbit or 10%")
            return None
        return bits

    def _group(self, cls: Class, group: str, line: Line, seen: tuple[str, ...]) -> None:
        branch = self._root.get("qos", "traffic-match-group", group)
        if branch is None or group in seen:
            self._report.lose(line, f"there is no traffic-match-group {group}", "define it, or take this out")
            return
        for match_name, match in branch.items("match"):
            self._match(cls, match_name, match)
        for other, member in branch.items("match-group"):
            self._group(cls, other, member.line, (*seen, group))

    def _match(self, cls: Class, name: str, branch: Branch) -> None:
        found: Conditions = {}
        for key, below in branch.items():
            if key in ("ip", "ipv6"):
                wrong = self._ip(key, below, found)
            elif key == "description":
                wrong = ""
            else:
                wrong = self._other(key, below, found)
            if wrong:
                why = f"match {name}: {wrong}; the whole match is left out, so that it takes nothing else"
                self._report.lose(below.line, why, "write it by hand")
                return
        if found:
            cls.rules.append(Rule(found, branch.line))
        else:
            self._report.lose(branch.line, f"match {name} asks for nothing", "complete it, or take it out")

    def _ip(self, key: str, branch: Branch, found: Conditions) -> str:
        """Adds what is asked of an IP header; what can't be carried, or ""."""
        family = "ipv4" if key == "ip" else "ipv6"
        if "family" in found:
            return "it asks for IPv4 and IPv6 at once"
        found["family"] = family
        for word, below in branch.items():
            said = next(iter(below.below), "")
            if word in ("source", "destination"):
                side, ours = ("src", "sport") if word == "source" else ("dst", "dport")
                for part, value in below.items():
                    text = next(iter(value.below), "")
                    if part == "address":
                        found[side] = quantities.network(text)
                    elif part == "port" and (numbers := quantities.ports(text)) is not None:
                        found[ours] = numbers
                    else:
                        return f"`{word} {part} {text}` is not known"
            elif word == "dscp":
                found["dscp"] = int(said) if re.fullmatch(r"[0-9]{1,2}", said) else said.lower()
            elif word == "protocol":
                found["proto"] = int(said) if re.fullmatch(r"[0-9]{1,3}", said) else said.lower().replace("-", "")
            elif word == "max-length" and re.fullmatch(r"[0-9]{1,5}", said):
                most = int(said) + (_IPV6_HEADER if key == "ipv6" else 0)
                found["length"] = f"0-{min(most, 65535)}"
            elif word == "tcp" and below.below.keys() <= {"ack", "syn"}:
                found["proto"], found["tcp-flags"] = "tcp", {"set": sorted(below.below)}
            else:
                return f"`{key} {word}` is not known"
        return ""

    def _other(self, key: str, branch: Branch, found: Conditions) -> str:
        said = next(iter(branch.below), "")
        if key in ("mark", "vif") and re.fullmatch(r"[0-9]{1,10}|0x[0-9a-fA-F]{1,8}", said):
            found["mark" if key == "mark" else "vlan"] = int(said, 0 if said[:2] == "0x" else 10)
            return ""
        if key == "ether":
            for word, below in branch.items():
                text = next(iter(below.below), "")
                if word in ("source", "destination"):
                    found["src-mac" if word == "source" else "dst-mac"] = text
                elif word == "protocol" and text in _ETHERTYPES:
                    found["ethertype"] = _ETHERTYPES[text]
                elif word == "protocol" and re.fullmatch(r"[0-9]{1,5}", text):
                    found["ethertype"] = int(text)
                elif (word, text) != ("protocol", "all"):
                    return f"`ether {word} {text}` is not known"
            return ""
        if key == "interface" and said:
            found["iif"] = said
            return ""
        return f"`{key}` is not known"

    def _unmeant(self, branch: Branch, known: tuple[str, ...]) -> None:
        for key, below in branch.items():
            if key in known or (key == "queue-type" and next(iter(below.below), "") in quantities.AQM):
                continue
            if key in _QUEUE:
                mend = "`aqm: fq_codel` keeps delay short for every flow, `aqm: fifo` does not tell them apart"
                self._report.lose(below.line, f"`{key}`: a leaf's numbers are worked out from its rates", mend)
            else:
                self._report.lose(below.line, f"`{key}` is not known", "write its meaning in our words")
