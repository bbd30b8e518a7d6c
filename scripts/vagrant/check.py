"""`scripts/lab vagrant-check`: the Vagrantfile's machines for real, from `vagrant up` to `vagrant destroy`.

Prints a transcript: what each step saw, and its verdict. Rates are what an emulated processor carries; times under
emulation say nothing, so nothing is judged by them but that a thing happens at all. Exit code 1 when a step failed.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

from machines import Machines, StepError, expect, until, vagrant

POLICY = "/etc/shaper/policy.yaml"
SERVER = "10.10.100.2"
EF, CS1 = 0xB8, 0x20
"""DS fields, as iperf3's --tos takes them."""
CONFIRMED, LAPSED, ALONE, CUT_SHORT = 30, 40, 45, 50
"""Limits of voice in percent, of one change each; of 2 Mbit/s no other class has one of these."""
VOICE = 'class="voice"'


class Check:
    """The steps, in order; each gives the lines that it saw, or raises StepError."""

    machines: Machines

    def __init__(self, box: str) -> None:
        self._box = box

    def up(self) -> list[str]:
        """vagrant up: every machine boots, is joined and provisioned"""
        vagrant("box", "add", "--name", os.environ["SHAPER_BOX"], self._box, seconds=300)
        vagrant("up", seconds=2400)
        self.machines = Machines()
        script = (
            ". /etc/os-release; echo $(hostname): $PRETTY_NAME, Linux $(uname -r), $(systemctl --version | head -n 1)"
        )
        return [self.machines.ask(name, script).strip() for name in self.machines.names]

    def service(self) -> list[str]:
        """the service that `shaper install-service` wrote runs with four capabilities, its watchdog fed"""
        ask = self.machines.ask
        until("the service is up", self._is_active, seconds=900, every=3)
        bound = ask("router", "grep CapBnd /proc/$(systemctl show -P MainPID shaper)/status").split()[1]
        expect("capabilities in its bounding set", found=int(bound, 16).bit_count(), wanted=4)
        device = self._device()
        root = ask("router", f"tc qdisc show dev {device} root")
        if "htb 5a00:" not in root:
            raise StepError(f"the root of {device} is {root}")
        ping = ask("client", f"ping -q -c 5 {SERVER}").splitlines()[-1]
        if float(ping.split("/")[4]) < 20:
            raise StepError(f"the WAN of 10 ms each way is not there: {ping}")
        return [
            ask("router", "systemctl show shaper -P Type,ActiveState,SubState,WatchdogUSec | xargs").strip(),
            f"{device}, found by its MAC address: {root.strip()}",
            f"client - router - server: {ping}",
            ask("router", "systemd-analyze security --no-pager shaper | tail -n 1").strip("→ \n"),
        ]

    def traffic(self) -> list[str]:
        """calls of 100 kbit/s beside bulk of 3 Mbit/s on a link of 2: the calls arrive, bulk gets the rest"""
        before = self._voice_packets()
        calls, bulk = self._send(100, EF, port=5201), self._send(3000, CS1, port=5202)
        voice, rest = self._received(calls), self._received(bulk)
        if voice["lost_percent"] > 1:
            raise StepError(f"calls lost {voice['lost_percent']:.2f} %")
        got = rest["bits_per_second"] * (1 - rest["lost_percent"] / 100) * 1242 / 1200 / 1e6
        if not 1 < got < 2:
            raise StepError(f"bulk got {got:.3f} Mbit/s of the 2 that calls left almost alone")
        said = self.machines.ask("client", f"irtt client -Q -i 50ms -d 5s --dscp={EF} -o - {SERVER}")
        irtt = json.loads(said)["stats"]
        self.machines.ask("client", f"cd /tmp && flent ping --length 5 --host {SERVER} --output flent.txt", seconds=120)
        flent = self.machines.ask("client", "grep 'Ping (ms)' /tmp/flent.txt").splitlines()
        sent = voice["packets"] + irtt["packets_sent"]
        counted = self._voice_packets() - before
        if counted < sent * 0.99:
            raise StepError(f"voice counted {counted:.0f} packets, {sent} were sent with its mark")
        back, median = irtt["packets_received"], irtt["rtt"]["median"] / 1e6
        return [
            f"calls: {voice['packets']} packets, lost {voice['lost_percent']:.2f} %",
            f"bulk: {got:.3f} Mbit/s on the line, lost {rest['lost_percent']:.1f} %",
            f"irtt: {irtt['packets_sent']} packets sent, {back} back, round trip {median:.1f} ms",
            *(f"flent: {' '.join(line.split())}" for line in flent),
            f"class voice counted {counted:.0f} packets of {sent} sent with its mark (irtt's handshake has it too)",
        ]

    def sites(self) -> list[str]:
        """calls of the second site arrive beside the first one's bulk: the link is shared by classes, not by sites"""
        before = self._voice_packets()
        bulk = self._send(3000, CS1, port=5202)
        calls = self._received(self._send(100, EF, port=5201, site="client2"))
        rest = self._received(bulk)
        if calls["lost_percent"] > 1:
            raise StepError(f"the second site's calls lost {calls['lost_percent']:.2f} %")
        sent = calls["packets"]
        enough = before + sent * 0.99
        until(f"voice has counted the {sent} packets", lambda: self._voice_packets() >= enough, seconds=10)
        ping = self.machines.ask("client2", "ping -q -c 5 10.10.1.2").splitlines()[-1]
        return [
            f"the second site's calls: {sent} packets, lost {calls['lost_percent']:.2f} %",
            f"the first site's bulk beside them lost {rest['lost_percent']:.1f} %",
            f"class voice counted {self._voice_packets() - before:.0f} packets",
            f"from site to site: {ping}",
        ]

    def metrics(self) -> list[str]:
        """the server's Prometheus has scraped the router and has what the router says"""
        metric = self.machines.metric
        until("the target is up", lambda: metric('up{job="shaper"}') == 1, seconds=60)

        def agree() -> tuple[float, float] | None:
            scraped, said = metric(f"shaper_class_sent_packets_total{{{VOICE}}}"), self._voice_packets()
            return (scraped, said) if scraped == said else None

        scraped, said = until("Prometheus has the router's count", agree, seconds=60, every=6)
        rate = metric("max_over_time(rate(shaper_class_sent_bytes_total{class='bulk'}[20s])[5m:5s]) * 8 / 1e6") or 0
        if not 1 < rate < 2.1:
            raise StepError(f"bulk's highest rate by Prometheus is {rate:.3f} Mbit/s")
        return [
            f"shaper_class_sent_packets_total{{{VOICE}}} is {scraped:.0f} there, {said:.0f} at the router",
            f"bulk's highest rate over 20 s: {rate:.3f} Mbit/s",
        ]

    def agreement(self) -> list[str]:
        """calls beyond their limit break their SLA; within it again, it is restored"""
        flood = self._send(1000, EF, port=5201, seconds=400)
        until("Prometheus says missed", lambda: self._state("missed"), seconds=120, every=2)
        measured = self.machines.metric(f"shaper_class_sla_loss_measured_ratio{{{VOICE}}}")
        code = self._status_code()
        expect("the exit code of `shaper status` meanwhile", found=code, wanted=3)
        flood.terminate()
        flood.wait(timeout=30)
        self.machines.ask("client", "pkill -x iperf3; sleep 2", codes=(0, 1))
        calls = self._send(100, EF, port=5201, seconds=400)
        until("Prometheus says met", lambda: self._state("met"), seconds=120, every=2)
        code = self._status_code()
        expect("the exit code of `shaper status` then", found=code, wanted=0)
        calls.terminate()
        calls.wait(timeout=30)
        self.machines.ask("client", "pkill -x iperf3; sleep 2", codes=(0, 1))
        return [
            f"1 Mbit/s of calls, limit 400 kbit/s: missed, loss {measured:.1%}; `shaper status` ends with 3",
            "100 kbit/s of calls: met; `shaper status` ends with 0",
        ]

    def confirmed(self) -> list[str]:
        """a change that waits for its confirmation under systemd-run, and gets it"""
        ident = self._change(CONFIRMED, "30m")
        unit = f"shaper-confirm-{ident}.service"
        said = self.machines.ask(
            "router", f"systemctl show {unit} -P ActiveState,SubState,Description | xargs -d '\n'"
        ).strip()
        self._expect_limit(CONFIRMED)
        answer = self.machines.ask("router", f"shaper confirm {ident} -m 'looks well'").strip()
        until("the watchdog has gone", lambda: not self._watchdogs(), seconds=120)
        self._expect_limit(CONFIRMED)
        return [f"{unit}: {said}", answer, f"voice's limit is {CONFIRMED} % of the link"]

    def lapsed(self) -> list[str]:
        """a change that nobody confirms is rolled back"""
        self._change(LAPSED, "60s")
        self._expect_limit(LAPSED)
        until("it is rolled back", lambda: self._has_limit(CONFIRMED), seconds=300)
        until("the watchdog has gone", lambda: not self._watchdogs(), seconds=120)
        return [self._last(), f"voice's limit is {CONFIRMED} % of the link again"]

    def alone(self) -> list[str]:
        """the same while the service is stopped; started again, it does not take from its file what nobody confirmed"""
        self.machines.ask("router", "systemctl stop shaper")
        self._change(ALONE, "60s")
        self._expect_limit(ALONE)
        until("the watchdog alone has rolled it back", lambda: self._has_limit(CONFIRMED), seconds=300)
        said = self._last()
        self.machines.ask("router", "systemctl start shaper", seconds=900)
        self._expect_limit(CONFIRMED)
        return [said, f"the file says {ALONE} %, in force are the confirmed {CONFIRMED} %"]

    def rebooted(self) -> list[str]:
        """the router reboots before a change is confirmed: the last confirmed policy comes up by itself"""
        ask = self.machines.ask
        self._change(CUT_SHORT, "60m")
        self._expect_limit(CUT_SHORT)
        boot = ask("router", "cat /proc/sys/kernel/random/boot_id").strip()
        begun = time.monotonic()
        ask("router", "systemctl reboot", codes=(0, 255))
        self.machines.forget("router")

        def there() -> bool:
            return ask("router", "cat /proc/sys/kernel/random/boot_id", seconds=20).strip() not in ("", boot)

        until("the router is back", there, seconds=600, every=5)
        until(
            "the service is up",
            lambda: ask("router", "systemctl is-active shaper", codes=(0, 3)).strip() == "active",
            seconds=180,
        )
        took = time.monotonic() - begun
        self._expect_limit(CONFIRMED)
        said = self._history()
        why = next((line for line in reversed(said) if "went down" in line), "")
        if not why:
            raise StepError(f"the history does not say why: {said[-3:]}")
        until("Prometheus scrapes it again", lambda: self.machines.metric('up{job="shaper"}') == 1, seconds=90, every=3)
        ask("client", f"ping -q -c 3 {SERVER}")
        log = ask("router", "journalctl --no-pager -b -o cat -u shaper | grep 'in force\\|never confirmed'").strip()
        return [
            f"up again after {took:.0f} s, the file says {CUT_SHORT} %, in force are the confirmed {CONFIRMED} %",
            why,
            *log.splitlines(),
        ]

    def destroyed(self) -> list[str]:
        """vagrant destroy: no machine is left"""
        vagrant("destroy", "--force", seconds=300)
        left = subprocess.run(
            ["virsh", "-c", "qemu:///system", "list", "--all", "--name"], capture_output=True, text=True, check=True
        )
        expect("machines left", found=left.stdout.split(), wanted=[])
        return []

    def _is_active(self) -> bool:
        return self.machines.ask("router", "systemctl is-active shaper", codes=(0, 3)).strip() == "active"

    def _device(self) -> str:
        return self.machines.ask("router", "ip -o -4 address show to 10.10.100.254 | awk '{ print $2 }'").strip()

    def _send(
        self, kbit: int, tos: int, *, port: int, seconds: int = 15, site: str = "client"
    ) -> subprocess.Popen[str]:
        size = 200 if tos == EF else 1200
        command = f"iperf3 -c {SERVER} -p {port} -u -b {kbit}k -l {size} -S {tos} -t {seconds} --json"
        return self.machines.start(site, command)

    def _received(self, sender: subprocess.Popen[str]) -> dict[str, Any]:
        out, err = sender.communicate(timeout=180)
        try:
            return json.loads(out)["end"]["sum"]
        except (ValueError, KeyError) as error:
            raise StepError(f"iperf3: {out[-300:]} {err}") from error

    def _status_code(self) -> int:
        return json.loads(self.machines.ask("router", "shaper status --json", codes=(0, 3, 4)))["exit"]

    def _voice_packets(self) -> float:
        return self.machines.exported("shaper_class_sent_packets_total", VOICE)

    def _state(self, state: str) -> bool:
        return self.machines.metric(f'shaper_class_sla_state{{{VOICE},state="{state}"}}') == 1

    def _change(self, percent: int, confirm: str) -> str:
        """Voice's limit in the file that the service reads too, applied; the id of its confirmation."""
        edit = f"sed -i '/voice:/,/video:/s/limit: .*/limit: {percent}%/' {POLICY}"
        out = self.machines.ask(
            "router", f"{edit} && shaper apply {POLICY} --confirm {confirm} -m 'voice {percent} %' --json"
        )
        return json.loads(out)["confirmation"]["id"]

    def _has_limit(self, percent: int) -> bool:
        kbit = 20 * percent
        ceil = f"ceil {kbit // 1000}Mbit" if kbit % 1000 == 0 else f"ceil {kbit}Kbit"
        return f" {ceil} " in self.machines.ask("router", f"tc class show dev {self._device()}")

    def _expect_limit(self, percent: int) -> None:
        if not self._has_limit(percent):
            raise StepError(
                f"no class has a limit of {percent} %:\n"
                + self.machines.ask("router", f"tc class show dev {self._device()}")
            )

    def _watchdogs(self) -> str:
        return self.machines.ask("router", "systemctl list-units --plain --no-legend 'shaper-confirm-*'").strip()

    def _last(self) -> str:
        return self._history()[-1]

    def _history(self) -> list[str]:
        changes = json.loads(self.machines.ask("router", "shaper history --json"))["changes"]
        return [f"{one['what']} of {one['of']}: {one['why']} ({one['result']})" for one in changes]


def main() -> int:
    """Runs the steps; after one that failed the next is tried all the same, but for those that need machines."""
    check = Check(sys.argv[1])
    steps: list[Callable[[], list[str]]] = [
        check.up,
        check.service,
        check.traffic,
        *([check.sites] if os.environ.get("SHAPER_SITES") == "2" else []),
        check.metrics,
        check.agreement,
        check.confirmed,
        check.lapsed,
        check.alone,
        check.rebooted,
        check.destroyed,
    ]
    failed, begun = [], time.monotonic()
    for number, step in enumerate(steps, start=1):
        print(f"{number:2} {step.__name__}: {step.__doc__}", flush=True)
        started = time.monotonic()
        if "up" in failed and step != check.destroyed:
            verdict, lines = "not tried", []
        else:
            try:
                verdict, lines = "ok", step()
            except StepError as failure:
                verdict, lines = "FAILED", str(failure).splitlines()
        if verdict != "ok":
            failed.append(step.__name__)
        for line in lines:
            print(f"     {line}")
        print(f"   {verdict} ({time.monotonic() - started:.0f} s)", flush=True)
    print(
        f"{len(steps) - len(failed)} of {len(steps)} steps ok in {(time.monotonic() - begun) / 60:.0f} min", flush=True
    )
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
