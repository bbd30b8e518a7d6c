"""`shaper import` and `shaper export tc` as typed: where the policy goes, what the report says, and exit codes."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import click
import pytest
from import_samples import FOLDER
from starters import SHIPPED

from shaper.cli.common import fail
from shaper.cli.entry import cli
from shaper.compile.bpf import Assembler
from shaper.errors import ShaperError
from shaper.policy import parse_policy, read_policy
from shaper.policy.importers import fireqos, libreqos, tc, tcconfig, vyos
from shaper.report.imports import facts_table
from shaper.report.tc_script import bytecode

ROOT = Path(__file__).parents[2]
OFFICE = FOLDER / "fireqos/office/fireqos.conf"


class Done(NamedTuple):
    returncode: int
    stdout: str
    stderr: str


Shaper = Callable[..., Done]


@pytest.fixture
def shaper(capsys: pytest.CaptureFixture[str]) -> Shaper:
    """The command in this process, its failures rendered as `main` does."""

    def run(*words: str | Path) -> Done:
        arguments = [str(word) for word in words]
        try:
            code = cli.main(arguments, standalone_mode=False) or 0
        except click.UsageError as error:
            error.show()
            code = 64
        except ShaperError as error:
            code = fail(error, as_json="--json" in arguments)
        said = capsys.readouterr()
        return Done(int(code), said.out, said.err)

    return run


def test_the_policy_goes_to_one_side_and_the_report_to_the_other(shaper: Shaper) -> None:
    done = shaper("import", "fireqos", OFFICE)
    assert done.returncode == 0
    assert done.stdout == (OFFICE.parent / "expected.yaml").read_text()
    report = json.loads((OFFICE.parent / "report.json").read_text())
    assert done.stderr.count("not carried: ") == len(report)
    for one in report:
        assert f"{one['file']}:{one['line']}: not carried: {one['why']}" in done.stderr
        assert f"mend: {one['mend']}" in done.stderr


def test_the_same_as_json(shaper: Shaper) -> None:
    done = json.loads(shaper("import", "fireqos", OFFICE, "--json").stdout)
    assert done["policy"] == (OFFICE.parent / "expected.yaml").read_text()
    assert done["report"] == json.loads((OFFICE.parent / "report.json").read_text())


def test_a_file_is_written_over_only_when_told_to(shaper: Shaper, tmp_path: Path) -> None:
    target = tmp_path / "policy.yaml"
    target.write_text("mine\n")
    refused = shaper("import", "fireqos", OFFICE, "-o", target)
    assert (refused.returncode, target.read_text()) == (64, "mine\n")
    assert "--force" in refused.stderr
    assert shaper("import", "fireqos", OFFICE, "-o", target, "--force").returncode == 0
    assert shaper("check", target).returncode == 0


def test_nothing_useful_is_a_failure_with_its_reason(shaper: Shaper, tmp_path: Path) -> None:
    empty, strange = tmp_path / "empty", tmp_path / "strange"
    empty.write_text("")
    strange.write_bytes(b"\xff\xfe")
    for tool in ("fireqos", "vyos", "tcconfig"):
        for path in (empty, strange, tmp_path / "missing", tmp_path):
            done = shaper("import", tool, path)
            assert (done.returncode, done.stdout) == (65, "")
            assert "mend: " in done.stderr
            assert "fault in the shaper" not in done.stderr


def test_the_readme_has_the_table_that_the_importers_give() -> None:
    tools = [module.FACTS for module in (fireqos, vyos, tcconfig, libreqos, tc)]
    assert facts_table(tools) in (ROOT / "README.md").read_text()


def test_export_needs_no_kernel(shaper: Shaper) -> None:
    done = shaper("export", "tc", ROOT / "policies/branch-office.yaml")
    assert done.returncode == 0
    commands = [line for line in done.stdout.splitlines() if line and not line.startswith(("#", "set"))]
    assert all(re.match(r"(tc (qdisc|class|filter) add dev|ip link) ", line) for line in commands)
    interfaces = parse_policy((ROOT / "policies/branch-office.yaml").read_text(), source="x").interfaces
    classes = sum(line.startswith("tc class") for line in commands)
    assert classes == sum(1 + len(list(interface.walk())) for interface in interfaces)


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_export_and_explain_need_no_kernel_for_any_policy_that_ships(shaper: Shaper, path: Path) -> None:
    done = shaper("export", "tc", path)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    layered = any(one.link is not None for one in read_policy(path).interfaces)
    assert any(" stab " in line for line in lines) == layered
    assert not any("routing is off" in line for line in lines), "nobody looked at the machine's routing"


@pytest.mark.parametrize("backend", ["hfsc", "cake", "ets", "prio"])
def test_export_knows_every_backend(shaper: Shaper, tmp_path: Path, backend: str) -> None:
    (tmp_path / "policy.yaml").write_text(
        "version: 1\n"
        f"interfaces: {{wan: {{device: eth1, bandwidth: {{egress: 20mbit}}, backend: {backend}, policy: p}}}}\n"
        "policies: {p: {classes: {rest: {default: true}}}}\n"
    )
    done = shaper("export", "tc", tmp_path / "policy.yaml")
    assert (done.returncode, f" root handle 5a00: {backend} " in done.stdout) == (0, True)


def test_export_writes_what_is_done_to_packets_for_a_usual_kernel(shaper: Shaper, tmp_path: Path) -> None:
    (tmp_path / "policy.yaml").write_text(
        "version: 1\ninterfaces:\n  wan: {device: eth1, bandwidth: {egress: 20mbit}, policy: p}\n"
        "policies:\n  p: {classes: {rest: {default: true, set: {dscp: af21}, police: {cir: 2mbit, cbs: 100kb}}}}\n"
    )
    done = shaper("export", "tc", tmp_path / "policy.yaml")
    assert done.returncode == 0
    four, six, others = (line for line in done.stdout.splitlines() if " police " in line)
    assert "action pedit ex munge ip dsfield set 0x48 retain 0xfc pipe action csum ip4h pipe action police" in four
    assert "action pedit ex munge ip6 traffic_class set 0x48 retain 0xfc pipe action gact pipe action police" in six
    assert others.endswith("rate 2000000bit burst 100000b mtu 1048576b conform-exceed drop/pass")


def test_export_says_which_machine_finds_a_device(shaper: Shaper, tmp_path: Path) -> None:
    policy = tmp_path / "p.yaml"
    policy.write_text(
        "version: 1\n"
        'interfaces: {wan: {device: {pattern: "ppp*"}, bandwidth: {egress: 2mbit}, policy: p}}\n'
        "policies: {p: {classes: {rest: {default: true}}}}\n"
    )
    done = shaper("export", "tc", policy)
    assert done.returncode == 69
    assert "--here" in done.stderr


def test_bytecode_as_tc_reads_it() -> None:
    asm = Assembler()
    asm.ret(7)
    assert bytecode(asm.assemble()) == "1,6 0 0 7"
