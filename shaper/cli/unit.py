"""The text of the systemd unit: what it may do, when it starts, and whether somebody has changed it since."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

NAME = "shaper.service"
CAPABILITIES = "/run/shaper/capabilities.json"
"""What the kernel can do: probed by the unit before it starts the service."""
_MARK = "# Made by `shaper install-service`; sha256 of what follows: "

_UNIT = """\
[Unit]
Description=Holds the SLAs of a shaping policy (shaper)
Wants=network.target
After=network-pre.target network.target
StartLimitIntervalSec=0

[Service]
Type=notify
NotifyAccess=main
# What the kernel can do is tried out in a network namespace of the probe's own, which takes more rights than the
# service has. Where the probe fails the service does, and says so.
ExecStartPre=-+/bin/sh -c '"$$@" >{capabilities}' probe {program} doctor --json
ExecStart={start}
ExecReload=/bin/kill -HUP $MAINPID
# However it ended: of a controller that was killed, or that hung until the watchdog below ended it, the last allocation
# does not stay. Nothing is sent where it ended well.
ExecStopPost=-+{program} rollback --static --state /var/lib/shaper -m "shaper.service ended"
Restart=on-failure
RestartSec=5
# A wrong policy, wrong usage or a missing right does not mend itself.
RestartPreventExitStatus=64 65 77
TimeoutStartSec=120
WatchdogSec=30

# Queues, captured packets, BPF programs, and nothing else.
CapabilityBoundingSet=CAP_NET_ADMIN CAP_NET_RAW CAP_BPF CAP_PERFMON
NoNewPrivileges=yes
RestrictAddressFamilies=AF_NETLINK AF_PACKET AF_UNIX AF_INET AF_INET6
SystemCallFilter=@system-service bpf perf_event_open
SystemCallErrorNumber=EPERM
SystemCallArchitectures=native

# It writes to its state folder; caches of its libraries are gone with it.
StateDirectory=shaper
StateDirectoryMode=0750
RuntimeDirectory=shaper
Environment=HOME=/run/shaper
ProtectSystem=strict
ProtectHome=read-only
PrivateTmp=yes
PrivateDevices=yes
ProtectClock=yes
ProtectControlGroups=yes
ProtectHostname=yes
ProtectKernelLogs=yes
ProtectKernelModules=yes
ProtectKernelTunables=yes
ProtectProc=invisible
RestrictNamespaces=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
LockPersonality=yes
KeyringMode=private
RemoveIPC=yes
UMask=0027

[Install]
WantedBy=multi-user.target
"""


DROP_IN = f"{NAME}.d/50-netns.conf"
_NETNS = """\
[Service]
# The policy names a network namespace: entering one takes this, and setns(2).
CapabilityBoundingSet=CAP_SYS_ADMIN
RestrictNamespaces=net
"""


def drop_in_text() -> str:
    """What a service needs beside its unit for a policy that names a network namespace, its own hash first."""
    return f"{_MARK}{_hash(_NETNS)}\n{_NETNS}"


def unit_text(program: Sequence[str], arguments: Sequence[str] = ()) -> str:
    """The unit that runs the program, which is the shaper, with these arguments; its own hash in its first line."""
    words = {"program": program, "start": (*program, *arguments)}
    lines = {name: " ".join(map(_quoted, each)) for name, each in words.items()}
    body = _UNIT.format(capabilities=CAPABILITIES, **lines)
    return f"{_MARK}{_hash(body)}\n{body}"


def is_untouched(text: str) -> bool:
    """Whether it is a unit of ours that nobody has changed."""
    mark, _, body = text.partition("\n")
    return mark == _MARK + _hash(body)


def _hash(body: str) -> str:
    return hashlib.sha256(body.encode()).hexdigest()


def _quoted(word: str) -> str:
    """As systemd.service(5) reads it: specifiers and variables doubled, everything unusual in quotes."""
    word = word.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%").replace("$", "$$")
    word = "".join(char if char.isprintable() else "".join(f"\\x{byte:02x}" for byte in char.encode()) for char in word)
    plain = all(char.isalnum() or char in "/._-+:=@%" for char in word)
    return word if word and plain else f'"{word}"'
