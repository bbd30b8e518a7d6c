"""tcconfig: the JSON that `tcshow` prints and `tcset --import-setting` takes."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from shaper.policy.importers import quantities
from shaper.policy.importers.draft import Class, Conditions, Facts, Interface, Line, Report, Rule

FACTS = Facts(
    "tcconfig",
    {
        "a device's `outgoing` rules": "an interface and its policy",
        "`rate`": "`guarantee` and `limit`; of the rule for everything: the bandwidth",
        "`dst-network`, `src-network`, `dst-port`, `src-port`, `protocol` (and the older `network`, `port`)": "`match`",
    },
    {
        "`incoming` rules": "`bandwidth: {ingress: ..}`",
        "`delay`, `delay-distro`, `loss`, `corrupt`, `duplicate`, `reordering`": "`wan:` of a lab scenario",
        "what the link carries, where no rule takes everything": "`bandwidth`",
    },
)
_UNITS = {
    **{
        f"{prefix}{unit}": 1000**power
        for power, prefix in enumerate(("", "k", "m", "g", "t"))
        for unit in ("bps", "bit", "")
    },
    **{f"{prefix}bit/s": 1000**power for power, prefix in enumerate(("", "k", "m", "g", "t"))},
    **{f"{prefix}ibps": 1024**power for power, prefix in enumerate(("k", "m", "g", "t"), 1)},
}
"""tcconfig's `Kbps` are kilobits."""
_EMULATED = ("delay", "delay-distro", "loss", "corrupt", "duplicate", "reordering", "reorder")
_KEYS = {
    "dst-network": "dst",
    "network": "dst",
    "src-network": "src",
    "dst-port": "dport",
    "port": "dport",
    "src-port": "sport",
}
_EVERYTHING = ("0.0.0.0/0", "::/0")
_UNKNOWN_LINK = 1_000_000_000


def read(text: str, file: str, report: Report) -> list[Interface]:
    """The interfaces of a file; [] where it is not tcconfig's JSON."""
    try:
        data = json.loads(text)
    except (ValueError, RecursionError) as error:
        report.lose(Line(file, getattr(error, "lineno", 0), ""), f"it is not JSON: {error}", "redirect `tcshow DEVICE`")
        return []
    lines = _Lines(text, file)
    found: list[Interface] = []
    for device, directions in data.items() if isinstance(data, dict) else ():
        line = lines.of(device)
        if not isinstance(directions, dict):
            report.lose(line, "no `outgoing` and `incoming` stand below the device", "give the output of `tcshow`")
            continue
        for key, rules in _mapping(directions.get("incoming")).items():
            mend = "`bandwidth: {ingress: ..}` is the key for it"
            report.lose(lines.of(key), f"incoming traffic of {device}: egress is shaped", mend)
            _emulation(lines, key, _mapping(rules), report)
        one = _interface(device, _mapping(directions.get("outgoing")), line, lines, report)
        if one is not None:
            one.name = quantities.name(device, {other.name for other in found})
            found.append(one)
    return found


class _Lines:
    """Where a key stands in the text; keys are looked for in the order in which they are asked."""

    def __init__(self, text: str, file: str) -> None:
        self._text, self._file, self._from = text, file, 0

    def of(self, key: str, *, after: int = -1) -> Line:
        place = self._text.find(json.dumps(key), self._from if after < 0 else after)
        place = self._text.find(json.dumps(key)) if place < 0 else place
        if place < 0:
            return Line(self._file, 0, key)
        number = self._text.count("\n", 0, place) + 1
        return Line(self._file, number, self._text.split("\n", number)[number - 1].strip())


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _emulation(lines: _Lines, key: str, rule: Mapping[str, Any], report: Report) -> None:
    start = lines._text.find(json.dumps(key))
    for name in _EMULATED:
        if name in rule:
            mend = "`wan: {delay: .., jitter: .., loss: ..}` in a lab scenario does it"
            report.lose(lines.of(name, after=max(0, start)), f"`{name}` emulates a bad network (netem)", mend)


def _interface(device: str, rules: Mapping[str, Any], line: Line, lines: _Lines, report: Report) -> Interface | None:
    classes, whole = [], None
    for key, said in rules.items():
        rule = _mapping(said)
        where = lines.of(key)
        _emulation(lines, key, rule, report)
        rate = quantities.rate(str(rule.get("rate", "")), _UNITS)
        if rate is None:
            if "rate" in rule:
                report.lose(where, f"`{rule['rate']}` is no rate", "such as 250Kbps")
            elif rule:
                report.lose(
                    where, "it sets no rate, so there is nothing to shape", "write a guarantee or a limit for it"
                )
            continue
        conditions, wrong = _conditions(key)
        if wrong:
            report.lose(where, f"{wrong}; the rule is left out, so that it takes nothing else", "write it by hand")
        elif conditions.keys() <= {"family"} and conditions.get("family") != "ipv6":
            whole = rate
        else:
            cls = Class("-".join(re.split(r"[=, ]+", key)), where, rate, rate)
            cls.rules = [Rule(conditions, where)]
            classes.append(cls)
    if not classes and whole is None:
        if rules:
            report.lose(line, f"no outgoing rule of {device} sets a rate", "write what its link carries")
        return None
    bandwidth = whole
    if bandwidth is None:
        bandwidth = max(_UNKNOWN_LINK, 2 * sum(cls.guarantee or 0 for cls in classes))
        why = f"tcshow does not say what the link carries: {quantities.rate_text(bandwidth)} is written"
        report.lose(line, why, "write the link's rate as `bandwidth`, or nothing queues here")
    return Interface(device, device, bandwidth, line, classes)


def _conditions(key: str) -> tuple[Conditions, str]:
    """What a rule's name asks for, and what of it cannot be carried."""
    found: Conditions = {}
    for part in filter(None, re.split(r",\s*", key)):
        name, equals, value = part.partition("=")
        if name == "protocol":
            if value in ("ip", "ipv6"):
                found["family"] = "ipv4" if value == "ip" else "ipv6"
            elif value != "all":
                return {}, f"`{part}` is not known"
        elif name in ("dst-port", "src-port", "port"):
            numbers = quantities.ports(value)
            if numbers is None:
                return {}, f"`{part}` is no port"
            found[_KEYS[name]] = numbers
        elif name in _KEYS and equals:
            if value not in _EVERYTHING:
                found[_KEYS[name]] = value
        else:
            return {}, f"`{part}` is not known"
    return found, ""
