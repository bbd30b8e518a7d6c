"""`shaper install-service`: a systemd unit that runs a policy with no more rights than it needs."""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path

import click

from shaper.cli.common import json_option, print_json
from shaper.cli.run import listening_address
from shaper.cli.unit import CAPABILITIES, DROP_IN, NAME, drop_in_text, is_untouched, unit_text
from shaper.errors import NotPermittedError, ShaperError, UnavailableError
from shaper.files import read_regular
from shaper.policy import read_policy

_FOLDER = "etc/systemd/system"
_UNSEEN = ("/tmp/", "/var/tmp/")  # PrivateTmp gives the service folders of its own there


@click.command("install-service")
@click.argument("policy_file", metavar="[POLICY]", type=click.Path(path_type=Path), required=False)
@click.option("--listen", metavar="HOST:PORT", help="Where the service's /metrics is [default: 127.0.0.1:9917].")
@click.option("--print", "show", is_flag=True, help="Print the unit, write nothing.")
@click.option("--remove", is_flag=True, help="Remove the unit.")
@click.option("--force", is_flag=True, help="Also a unit that somebody has changed.")
@click.option(
    "--root",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("/"),
    help="Write below this folder, such as an image's [default: /].",
)
@json_option
def install_service(
    policy_file: Path | None, listen: str | None, show: bool, remove: bool, force: bool, root: Path, as_json: bool
) -> None:
    """Write a hardened systemd unit for `shaper run POLICY`, and say how to enable it.

    It changes nothing that runs: enabling, starting and stopping stay with systemctl.
    """
    unit, drop_in = root / _FOLDER / NAME, root / _FOLDER / DROP_IN
    if remove:
        if policy_file is not None or show or listen is not None:
            raise click.UsageError("--remove takes neither a POLICY nor --listen nor --print")
        _remove(unit, drop_in, root, force=force, as_json=as_json)
        return
    if policy_file is None:
        raise click.UsageError("name the POLICY that the service runs")
    more = drop_in_text() if any(one.netns for one in read_policy(policy_file).interfaces) else ""
    arguments = ["run", str(policy_file.absolute()), "--state", "/var/lib/shaper", "--wait-device", "30s"]
    if listen is not None:
        listening_address(listen)
        arguments += ["--listen", listen]
    arguments.append("--last-good")
    command = [*_ourselves(), *arguments]
    text = unit_text(_ourselves(), [*arguments, "--capabilities", CAPABILITIES])
    if show:
        _show(unit, text, drop_in, more, as_json=as_json)
        return
    unseen = next((word for word in command if word.startswith(_UNSEEN)), None)
    if unseen is not None:
        raise ShaperError(f"the service would not see {unseen}: it has a /tmp of its own", hint="keep it elsewhere")
    _refuse_without_systemd(root, command)
    _refuse_changed(unit, force=force, but=text)
    _refuse_changed(drop_in, force=force, but=more)
    for path, content in ((unit, text), (drop_in, more)):
        try:
            _put(path, content)
        except OSError as error:
            raise _unwritable(path, error) from error
    _tell("written", unit, _commands(root, "daemon-reload", f"enable --now {NAME}"), as_json=as_json)


def _show(unit: Path, text: str, drop_in: Path, more: str, *, as_json: bool) -> None:
    if as_json:
        beside = {"drop_in": {"path": str(drop_in), "text": more}} if more else {}
        print_json({"schema": 1, "exit": 0, "unit": str(unit), "text": text, **beside})
        return
    click.echo(text, nl=False)
    if more:
        click.echo(f"\n# {drop_in}\n{more}", nl=False)


def _put(path: Path, text: str) -> None:
    """Writes the file whole; without a text it goes, and an empty folder of drop-ins with it. Raises OSError."""
    if not text:
        path.unlink(missing_ok=True)
        if path.parent.suffix == ".d":
            with contextlib.suppress(OSError):
                path.parent.rmdir()
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_suffix(".draft")
    draft.write_text(text)
    draft.chmod(0o644)
    draft.replace(path)


def _remove(unit: Path, drop_in: Path, root: Path, *, force: bool, as_json: bool) -> None:
    if not unit.exists():
        raise ShaperError(f"there is no {unit}", hint="the service is not installed here")
    for path in (unit, drop_in):
        _refuse_changed(path, force=force)
    for path in (unit, drop_in):
        try:
            _put(path, "")
        except OSError as error:
            raise _unwritable(path, error) from error
    _tell("removed", unit, _commands(root, f"disable --now {NAME}", "daemon-reload"), as_json=as_json)


def _commands(root: Path, *verbs: str) -> list[str]:
    """For this machine's systemd, or for the one that will start from `root`."""
    if root == Path("/"):
        return [f"systemctl {verb}" for verb in verbs]
    return [f"systemctl --root={root} {verb.replace(' --now', '')}" for verb in verbs if verb != "daemon-reload"]


def _tell(done: str, unit: Path, commands: list[str], *, as_json: bool) -> None:
    if as_json:
        print_json({"schema": 1, "exit": 0, "unit": str(unit), "done": done, "commands": commands})
        return
    click.echo(f"{unit}: {done}; now:")
    for command in commands:
        click.echo(f"  {command}")
    if done == "removed":
        click.echo("what it shaped stays until `shaper clear`")


def _ourselves() -> list[str]:
    """How this very program is started by absolute paths."""
    script = Path(sys.executable).parent / "shaper"
    return [str(script)] if script.is_file() else [sys.executable, "-m", "shaper"]


def _refuse_without_systemd(root: Path, command: list[str]) -> None:
    if root == Path("/") and not Path("/run/systemd/system").is_dir() and not Path("/", _FOLDER).is_dir():
        raise UnavailableError(
            "this machine has no systemd, and no unit was written",
            hint=f"let its own init start `{' '.join(command)}` and end it with SIGTERM; SIGHUP reads the policy again",
        )


def _refuse_changed(unit: Path, *, force: bool, but: str = "") -> None:
    """Raises ShaperError for a unit that is neither as we made it nor `but`."""
    if force:
        return
    try:
        text = read_regular(unit, most=2**20).decode(errors="replace")
    except FileNotFoundError:
        return
    except OSError as error:
        raise ShaperError(f"{unit} can't be read: {error.strerror}", hint="look at it, or use --force") from error
    if text != but and not is_untouched(text):
        raise ShaperError(
            f"{unit} was changed by somebody",
            hint=f"keep changes beside it (`systemctl edit {NAME}`), or give them up with --force",
        )


def _unwritable(unit: Path, error: OSError) -> ShaperError:
    kind = NotPermittedError if isinstance(error, PermissionError) else ShaperError
    return kind(f"{unit} can't be written: {error.strerror}", hint="be root, or name another place with --root DIR")
