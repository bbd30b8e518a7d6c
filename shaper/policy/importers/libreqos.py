"""LibreQoS: `network.json` (sites and access points) and `ShapedDevices.csv` (circuits and their devices)."""

from __future__ import annotations

import csv
import io
import json
import math
import re
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from shaper.policy.importers import quantities
from shaper.policy.importers.draft import Class, Facts, Interface, Line, Report, Rule

FACTS = Facts(
    "LibreQoS",
    {
        "sites and access points, nested; `downloadBandwidthMbps`, `uploadBandwidthMbps`": "classes with a `limit`",
        "circuits, below their `Parent Node`; devices of one circuit together": "classes",
        "`Download Min Mbps`, `Upload Min Mbps`": "`guarantee`",
        "`Download Max Mbps`, `Upload Max Mbps`": "`limit`",
        "`IPv4`, `IPv6`": "`match` with `dst` towards the subscribers, `src` towards the Internet",
    },
    {
        "the two devices, in `lqos.conf`": "`device`: lan0 and wan0 are written",
        "what they carry: the sum of the top level is written": "`bandwidth`",
        "`sqm`": "`aqm`",
        "`MAC`, `Comment`": "",
    },
)
_DIRECTIONS = (
    ("to-subscribers", "lan0", "Download", "download", "dst"),
    ("to-internet", "wan0", "Upload", "upload", "src"),
)
_NEEDED = ("Circuit ID", "IPv4")
_MBIT = 1_000_000
_MOST_DEPTH = 12


class _Circuit(NamedTuple):
    """One circuit: rates in bit/s by column, the addresses of all its devices."""

    name: str
    parent: str
    line: Line
    rates: Mapping[str, int]
    addresses: list[str]


def read(network: str, network_file: str, devices: str, devices_file: str, report: Report) -> list[Interface]:
    """An interface for each direction; [] where neither file says anything."""
    try:
        data: Any = json.loads(network)
    except (ValueError, RecursionError) as error:
        line = Line(network_file, getattr(error, "lineno", 0), "")
        report.lose(line, f"it is not JSON: {error}", "give network.json first, then ShapedDevices.csv")
        data = {}
    sites = data if isinstance(data, dict) else {}
    circuits = _circuits(devices, devices_file, report)
    if not circuits:
        return []
    found = []
    for name, device, column, key, side in _DIRECTIONS:
        builder = _Tree(network, network_file, report, column, key, side)
        classes = builder.sites(sites, 1)
        classes += builder.circuits_of({"", *_roots(circuits, builder.seen)}, circuits)
        bandwidth = sum(cls.limit or cls.guarantee or 0 for cls in classes)
        line = Line(network_file, 0, "")
        why = f"which device carries traffic {name.replace('-', ' ')}, and how much, is not in these files"
        mend = f"write the device in place of {device}, and what its link carries as `bandwidth`"
        report.lose(line, f"{why}: {quantities.rate_text(max(8, bandwidth))} is written", mend)
        found.append(Interface(name, device, max(8, bandwidth), line, classes))
        builder.attach(circuits)
        builder.prune(classes)
    return found


def _roots(circuits: list[_Circuit], seen: Mapping[str, Class]) -> set[str]:
    return {circuit.parent for circuit in circuits if circuit.parent not in seen}


def _circuits(text: str, file: str, report: Report) -> list[_Circuit]:
    rows = list(_rows(text, file, report))
    found: dict[str, _Circuit] = {}
    for line, row in rows:
        rates = {column: bits for column in _rate_columns() if (bits := _mbps(row.get(column, ""))) is not None}
        missing = [column for column in _rate_columns() if column not in rates]
        said = (part for key in ("IPv4", "IPv6") for part in re.split(r"[,\s]+", row.get(key, "")) if part)
        addresses = [quantities.network(part) for part in said]
        if missing or not addresses:
            why = f"it has no {missing[0]}" if missing else "it has no address"
            report.lose(line, why, "complete the row")
            continue
        if row.get("sqm", "").strip():
            report.lose(
                line,
                f"`sqm` {row['sqm'].strip()}: a leaf's queue is one for both directions",
                "choose one by `aqm` and `fairness`, such as cake",
            )
        key = row.get("Circuit ID", "") or f"row {line.number}"
        if key in found:
            found[key].addresses.extend(addresses)
            continue
        name = f"{key}-{row.get('Circuit Name', '')}"
        found[key] = _Circuit(name, row.get("Parent Node", "").strip(), line, rates, addresses)
    return list(found.values())


def _rate_columns() -> Iterator[str]:
    return (f"{way} {end} Mbps" for way in ("Download", "Upload") for end in ("Min", "Max"))


def _rows(text: str, file: str, report: Report) -> Iterator[tuple[Line, dict[str, str]]]:
    """The rows under the header, comments left out."""
    header: list[str] = []
    raw = text.split("\n")
    reader = csv.reader(io.StringIO(text.replace("\0", "")))
    while True:
        try:
            cells = next(reader, None)
        except csv.Error as error:
            report.lose(Line(file, reader.line_num, ""), f"this is no CSV: {error}", "give ShapedDevices.csv")
            continue
        if cells is None:
            break
        cells = [cell.strip() for cell in cells]
        if not any(cells) or cells[0].startswith("#"):
            continue
        line = Line(file, reader.line_num, raw[min(reader.line_num, len(raw)) - 1].strip())
        if not header:
            header = cells
            lacking = [name for name in (*_NEEDED, *_rate_columns()) if name not in header]
            if lacking:
                report.lose(line, f"the header lacks {', '.join(lacking)}", "give ShapedDevices.csv with its header")
                return
        else:
            yield line, dict(zip(header, cells, strict=False))


def _mbps(text: object) -> int | None:
    try:
        number = float(str(text))
    except ValueError:
        return None
    return round(number * _MBIT) if math.isfinite(number) and 0 < number < 10**8 else None


class _Tree:
    """The classes of one direction."""

    def __init__(self, text: str, file: str, report: Report, column: str, key: str, side: str) -> None:
        self._text, self._file, self._report = text, file, report
        self._column, self._key, self._side = column, key, side
        self.seen: dict[str, Class] = {}

    def sites(self, nodes: Mapping[str, Any], depth: int) -> list[Class]:
        """The sites of one level with all below them."""
        found = []
        for name, node in nodes.items():
            line = self._line(name)
            if not isinstance(node, dict) or depth > _MOST_DEPTH or name in self.seen:
                self._report.lose(line, "it is no site of its own", "give each node one name and a mapping of its own")
                continue
            cls = Class(name, line, limit=_mbps(node.get(f"{self._key}BandwidthMbps")))
            if cls.limit is None:
                self._report.lose(line, f"it says no {self._key}BandwidthMbps: only what is above limits it", "add it")
            self.seen[name] = cls
            below = node.get("children")
            cls.classes = self.sites(below, depth + 1) if isinstance(below, dict) else []
            found.append(cls)
        return found

    def circuits_of(self, parents: set[str], circuits: list[_Circuit]) -> list[Class]:
        """The circuits that hang at none of the sites."""
        return [self._circuit(one) for one in circuits if one.parent in parents and one.parent not in self.seen]

    def attach(self, circuits: list[_Circuit]) -> None:
        """The others, below their sites."""
        for one in circuits:
            if one.parent in self.seen:
                self.seen[one.parent].classes.append(self._circuit(one))

    def prune(self, classes: list[Class]) -> None:
        """Sites without subscribers take no packet."""
        for cls in list(classes):
            self.prune(cls.classes)
            if not cls.classes and not cls.rules:
                classes.remove(cls)
                self._report.lose(cls.line, "no circuit hangs below it", "take it out, or name it as a Parent Node")

    def _circuit(self, one: _Circuit) -> Class:
        cls = Class(one.name, one.line, one.rates[f"{self._column} Min Mbps"], one.rates[f"{self._column} Max Mbps"])
        versions = [[text for text in one.addresses if (":" in text) == six] for six in (False, True)]
        cls.rules = [Rule({self._side: list(texts)}, one.line) for texts in versions if texts]
        return cls

    def _line(self, name: str) -> Line:
        place = self._text.find(json.dumps(name))
        return Line(self._file, self._text.count("\n", 0, place) + 1 if place >= 0 else 0, name)
