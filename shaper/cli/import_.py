"""`shaper import`: another tool's configuration as a policy of ours, and a report of what is not in it."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import click

from shaper.cli.common import Command, json_option, open_kernel, print_json
from shaper.errors import Exit
from shaper.files import read_regular
from shaper.kernel.foreign import selectors
from shaper.policy.importers import Imported, fireqos, imported, libreqos, tc, tcconfig, vyos
from shaper.policy.importers.draft import ImportFailedError, Interface, Report
from shaper.report.imports import lost_json, lost_view
from shaper.report.render import console

_MOST = 16 * 2**20


@click.group(name="import")
def import_() -> None:
    """Write a policy from another tool's configuration; what cannot be carried over is reported.

    The policy goes to standard output, the report to standard error. Exit code 65 where nothing could be read.
    """


def _options(command: Command) -> Command:
    command = json_option(command)
    command = click.option("--force", is_flag=True, help="Write over the file of --output.")(command)
    return click.option(
        "--output", "-o", type=click.Path(dir_okay=False, path_type=Path), help="Write the policy to this file."
    )(command)


def _file(name: str) -> Callable[[Command], Command]:
    return click.argument(name.lower().replace(".", "_"), metavar=name, type=click.Path(path_type=Path))


def _text(path: Path) -> str:
    """The text of a file. Raises ImportFailedError."""
    try:
        return read_regular(path, most=_MOST).decode()
    except UnicodeDecodeError as error:
        raise ImportFailedError(f"{path}: {error.reason} at byte {error.start}", hint="save it as UTF-8") from None
    except (OSError, ValueError) as error:
        reason = (getattr(error, "strerror", None) or str(error)).lower()
        raise ImportFailedError(f"{path}: {reason}", hint="name a file that is there and that you may read") from None


def _deliver(result: Imported, output: Path | None, *, force: bool, as_json: bool) -> None:
    if output is not None:
        try:
            with output.open("w" if force else "x") as file:
                file.write(result.text)
        except FileExistsError:
            raise click.UsageError(f"{output} is there already; `--force` writes over it") from None
        except OSError as error:
            raise click.FileError(str(output), hint=error.strerror) from None
    if as_json:
        print_json({"schema": 1, "exit": int(Exit.OK), "policy": result.text, "report": lost_json(result.lost)})
        return
    if output is None:
        click.echo(result.text, nl=False)
    lost_view(result.lost, out=console(sys.stderr))


@import_.command(name="fireqos")
@_file("FILE")
@_options
def fireqos_(file: Path, output: Path | None, force: bool, as_json: bool) -> None:
    """Of FireQOS: fireqos.conf."""
    _one(fireqos.read, file, fireqos.FACTS.tool, "`interface` lines", output, force, as_json)


@import_.command(name="tcconfig")
@_file("FILE")
@_options
def tcconfig_(file: Path, output: Path | None, force: bool, as_json: bool) -> None:
    """Of tcconfig: the JSON that tcshow prints."""
    _one(
        tcconfig.read,
        file,
        tcconfig.FACTS.tool,
        "devices with `outgoing` rules that set a rate",
        output,
        force,
        as_json,
    )


@import_.command(name="vyos")
@_file("FILE")
@_options
def vyos_(file: Path, output: Path | None, force: bool, as_json: bool) -> None:
    """Of VyOS: config.boot, or `set` lines."""
    _one(vyos.read, file, vyos.FACTS.tool, "`qos policy shaper` with a bandwidth", output, force, as_json)


@import_.command(name="libreqos")
@_file("NETWORK.json")
@_file("SHAPEDDEVICES.csv")
@_options
def libreqos_(network_json: Path, shapeddevices_csv: Path, output: Path | None, force: bool, as_json: bool) -> None:
    """Of LibreQoS: network.json and ShapedDevices.csv."""
    report = Report()
    sites, circuits = _text(network_json), _text(shapeddevices_csv)
    found = libreqos.read(sites, network_json.name, circuits, shapeddevices_csv.name, report)
    result = imported(found, report, tool=libreqos.FACTS.tool, nothing="circuits with rates and addresses")
    _deliver(result, output, force=force, as_json=as_json)


@import_.command(name="tc")
@click.argument("device")
@_options
def tc_(device: str, output: Path | None, force: bool, as_json: bool) -> None:
    """Of a running device: its HTB classes and the filters that name them."""
    report = Report()
    with open_kernel() as kernel:
        tree = kernel.read(device)
        filters = selectors(device, kernel.link(device).index)
    found = tc.read(tree, filters, report)
    result = imported(found, report, tool=f"the running {device}", nothing="an HTB qdisc with classes at the root")
    _deliver(result, output, force=force, as_json=as_json)


def _one(
    read: Callable[[str, str, Report], list[Interface]],
    path: Path,
    tool: str,
    nothing: str,
    output: Path | None,
    force: bool,
    as_json: bool,
) -> None:
    report = Report()
    found = read(_text(path), path.name, report)
    _deliver(
        imported(found, report, tool=tool, nothing=f"{nothing} are not in {path}"), output, force=force, as_json=as_json
    )
