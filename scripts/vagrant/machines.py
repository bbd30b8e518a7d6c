"""The machines of the Vagrantfile as the check drives them: vagrant, ssh, and the server's Prometheus."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import tempfile
import time
import urllib.parse
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

ROOT = Path(__file__).parents[2]
T = TypeVar("T")


class StepError(Exception):
    """A machine did not do what it should."""


def vagrant(*arguments: str, seconds: float, **environment: str) -> str:
    """What vagrant says. Raises StepError with the end of it."""
    done = _run(["vagrant", *arguments], seconds=seconds, env={**os.environ, **environment})
    if done.returncode:
        raise StepError(
            f"vagrant {' '.join(arguments)}: exit code {done.returncode}\n" + _tail(done.stdout + done.stderr)
        )
    return done.stdout + done.stderr


class Machines:
    """The machines once they are up, by their names."""

    def __init__(self) -> None:
        config = "\n".join(line for line in vagrant("ssh-config", seconds=120).splitlines() if not line.startswith("["))
        self._folder = Path(tempfile.mkdtemp())
        self._config = self._folder / "ssh"
        # One connection a machine: under emulation each new one takes a second.
        self._config.write_text(
            f"{config}\nHost *\n  ControlMaster auto\n  ControlPath {self._folder}/%n\n  ControlPersist yes\n"
            "  ConnectTimeout 10\n  ServerAliveInterval 10\n"
        )
        words = [line.split() for line in config.splitlines() if line.strip()]
        names = [word[1] for word in words if word[0] == "Host"]
        self.names = tuple(names)
        self._addresses = dict(zip(names, (word[1] for word in words if word[0] == "HostName"), strict=True))

    def command(self, machine: str, command: str) -> list[str]:
        """The words that run a shell command as root on a machine."""
        return ["ssh", "-F", str(self._config), machine, f"sudo bash -c {shlex.quote(command)}"]

    def ask(self, machine: str, command: str, *, codes: tuple[int, ...] = (0,), seconds: float = 400) -> str:
        """What a shell command prints as root on a machine. Raises StepError for exit codes that are not in `codes`."""
        done = _run(self.command(machine, command), seconds=seconds)
        if done.returncode not in codes:
            raise StepError(f"{machine}: {command}: exit code {done.returncode}\n" + _tail(done.stdout + done.stderr))
        return done.stdout

    def start(self, machine: str, command: str) -> subprocess.Popen[str]:
        """The same in the background."""
        return subprocess.Popen(
            self.command(machine, command),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            stdin=subprocess.DEVNULL,
        )

    def forget(self, machine: str) -> None:
        """Ends the connection to a machine that goes down."""
        _run(["ssh", "-F", str(self._config), "-O", "exit", machine], seconds=20)

    def metric(self, query: str) -> float | None:
        """The one value that the server's Prometheus has for a query, None where it has none."""
        answer = self._get("server", "9090/api/v1/query?" + urllib.parse.urlencode({"query": query}))
        found = json.loads(answer)["data"]["result"]
        if len(found) > 1:
            raise StepError(f"{query}: {len(found)} values")
        return float(found[0]["value"][1]) if found else None

    def exported(self, name: str, label: str) -> float:
        """The value of a series that has this label, as the router's shaper itself exports it."""
        lines = self._get("router", "9917/metrics").splitlines()
        values = [line.rpartition(" ")[2] for line in lines if line.startswith(f"{name}{{") and label in line]
        if len(values) != 1:
            raise StepError(f"the router exports {len(values)} times {name} with {label}")
        return float(values[0])

    def _get(self, machine: str, page: str) -> str:
        try:
            with urllib.request.urlopen(f"http://{self._addresses[machine]}:{page}", timeout=60) as answer:
                return answer.read().decode()
        except OSError as error:
            raise StepError(f"{machine} does not answer on port {page.partition('/')[0]}: {error}") from error


def until(what: str, look: Callable[[], T], *, seconds: float, every: float = 1.0) -> T:
    """The first thing that is true which `look` gives. Raises StepError after so many seconds."""
    limit = time.monotonic() + seconds
    said: object = None
    while time.monotonic() < limit:
        try:
            if found := look():
                return found
        except StepError as failure:
            said = failure
        time.sleep(every)
    raise StepError(f"not within {seconds:g} s: {what}" + (f" ({said})" if said else ""))


def expect(what: str, *, found: Any, wanted: Any) -> None:
    """Raises StepError where two things differ."""
    if found != wanted:
        raise StepError(f"{what}: {found!r}, not {wanted!r}")


def _run(words: list[str], *, seconds: float, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(
            words,
            cwd=ROOT,
            env=env,
            text=True,
            capture_output=True,
            stdin=subprocess.DEVNULL,
            timeout=seconds,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        said = b"".join(part for part in (error.stdout, error.stderr) if isinstance(part, bytes)).decode(
            errors="replace"
        )
        raise StepError(f"{' '.join(words)}: not done after {seconds:g} s\n" + _tail(said)) from error


def _tail(text: str) -> str:
    return "\n".join(f"    {line}" for line in text.strip().splitlines()[-25:])
