"""`shaper completion`: the script by which a shell completes commands, options, policies, interfaces and devices."""

from __future__ import annotations

import socket
from pathlib import Path

import click
from click.shell_completion import CompletionItem, get_completion_class

from shaper.errors import ShaperError
from shaper.policy import read_policy
from shaper.run.state import default_folder, known_devices

_VARIABLE = "_SHAPER_COMPLETE"
"""Where click looks for what a shell asks; it follows from the program's name."""


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion(ctx: click.Context, shell: str) -> None:
    """Print the completion script of a shell.

    \b
    bash: shaper completion bash > /etc/bash_completion.d/shaper
    zsh:  shaper completion zsh > "${fpath[1]}/_shaper"
    fish: shaper completion fish > ~/.config/fish/completions/shaper.fish
    """
    kind = get_completion_class(shell)
    assert kind is not None
    # Not through `source`, which would start a bash only to ask for its version.
    one = kind(ctx.find_root().command, {}, "shaper", _VARIABLE)
    click.echo(one.source_template % one.source_vars())


def interface_names(ctx: click.Context, _: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """The interfaces of the policy that stands on the line already."""
    # Where an option still lacks its value click leaves the arguments before it unread.
    path = next(filter(None, (ctx.params.get("policy_file"), *ctx.args)), None)
    if path is None:
        return []
    try:
        policy = read_policy(Path(path))
    except ShaperError:  # said when the command is run
        return []
    named = {one.name: one.device for one in policy.interfaces}  # one for both directions
    return [CompletionItem(name, help=device) for name, device in named.items() if name.startswith(incomplete)]


def device_names(ctx: click.Context, _: click.Parameter, incomplete: str) -> list[str]:
    """The devices that the state folder knows; where it knows none, or can't be read, this machine's."""
    folder = ctx.params.get("folder")
    try:
        names = known_devices(folder or default_folder())
    except OSError:
        names = ()
    return [name for name in names or (name for _, name in socket.if_nameindex()) if name.startswith(incomplete)]
