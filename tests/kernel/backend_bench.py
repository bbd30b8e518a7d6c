"""A policy applied by the command line on a throwaway cable, for the tests of the backends."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from conftest import Lab

SHAPER = Path(sys.executable).parent / "shaper"


class Bench:
    """`shaper` on one device of the lab; its policy is made of `classes` in flow style, one a line."""

    def __init__(self, lab: Lab, device: str, folder: Path, *, backend: str, bandwidth: str = "20mbit") -> None:
        self.lab = lab
        self.device = device
        self.policy = folder / "policy.yaml"
        self.state = folder / "state"
        egress = f"bandwidth: {{egress: {bandwidth}}}, " if bandwidth else ""  # `backend` may say more of the interface
        self._head = f"{{device: {device}, {egress}policy: p, backend: {backend}}}"

    def write(self, classes: str) -> None:
        below = "".join(f"      {line.strip()}\n" for line in classes.strip().splitlines())
        self.policy.write_text(f"version: 1\ninterfaces:\n  wan: {self._head}\npolicies:\n  p:\n    classes:\n{below}")

    def shaper(self, command: str) -> tuple[int, Any]:
        """The exit code and the JSON that it printed."""
        argv = f"ip netns exec {self.lab.name} {SHAPER} {command} --state {self.state} --json".split()
        done = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False)
        assert done.stdout, done.stderr
        return done.returncode, json.loads(done.stdout)

    def apply(self, classes: str) -> list[dict[str, Any]]:
        """The steps that were taken."""
        self.write(classes)
        code, answer = self.shaper(f"apply {self.policy}")
        assert code == 0, answer
        steps: list[dict[str, Any]] = answer["interfaces"][0]["steps"]
        return steps

    def tc(self, what: str) -> str:
        return self.lab.run(f"tc {what} show dev {self.device}")

    def found(self) -> str:
        """All that tc sees on the device, and the devices; the flows of fq_codel and CAKE come and go."""
        lines = [line for what in ("qdisc", "class", "filter") for line in self.tc(what).splitlines()]
        return "\n".join(
            [
                *(line for line in lines if not line.startswith(("class fq_codel", "class cake"))),
                self.lab.run("ip -br link"),
            ]
        )

    def shaping(self) -> str:
        """Of these what shapes: not the hook, nor the device of the copies, which are there for what measures."""
        return "\n".join(line for line in self.found().splitlines() if "clsact" not in line and "shp-" not in line)

    def flood(self, address: str, *, rate: float, seconds: float, dscp: int) -> subprocess.Popen[str]:
        """UDP at a rate in bit/s, in frames of 1042 bytes."""
        script = self.policy.with_name(f"flood{dscp}.py")
        script.write_text(
            "import socket,time;"
            f"s=socket.socket(socket.AF_INET,socket.SOCK_DGRAM);s.setsockopt(0,1,{dscp << 2});"
            "b=time.monotonic();n=0\n"
            f"while time.monotonic()<b+{seconds}:\n"
            f"  s.sendto(n.to_bytes(8,'big')+bytes(992),('{address}',9));n+=1\n"
            f"  time.sleep(max(0,b+n*8336/{rate}-time.monotonic()))\n"
        )
        return self.lab.start(f"{sys.executable} {script}")
