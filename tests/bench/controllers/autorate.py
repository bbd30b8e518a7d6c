"""The field's autorate law (cake-autorate 3, its default settings) for the egress of a link that moves, on CAKE.

A thread beside `shaper run --drift report`, which measures and leaves CAKE's bandwidth alone. What is left out: other
reflectors and their replacement, sleep and stall handling; here one reflector stands for six, and answers.
"""

from __future__ import annotations

import contextlib
import os
import socket
import struct
import subprocess
import threading
import time
from collections import deque
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True)
class Settings:
    """By upstream's names; kbit/s, ms and ratios."""

    min_rate: int = 5_000
    base_rate: int = 20_000
    max_rate: int = 80_000
    reflector_ping_interval: float = 300.0
    pingers: int = 6
    owd_delta_delay_thr: float = 30.0
    avg_owd_delta_max_adjust_up_thr: float = 10.0
    avg_owd_delta_max_adjust_down_thr: float = 60.0
    bufferbloat_detection_window: int = 6
    bufferbloat_detection_thr: int = 3
    alpha_baseline_increase: float = 0.001
    alpha_baseline_decrease: float = 0.9
    shaper_rate_min_adjust_down_bufferbloat: float = 0.99
    shaper_rate_max_adjust_down_bufferbloat: float = 0.75
    shaper_rate_min_adjust_up_load_high: float = 1.0
    shaper_rate_max_adjust_up_load_high: float = 1.04
    shaper_rate_adjust_down_load_low: float = 0.99
    shaper_rate_adjust_up_load_low: float = 1.01
    high_load_thr: float = 0.75
    bufferbloat_refractory_period: float = 300.0
    decay_refractory_period: float = 1000.0
    monitor_achieved_rates_interval: float = 200.0
    initial_owd_baseline: float = 100.0
    mtu_bits: int = 1514 * 8


@dataclass
class Law:
    """`on_delay` for each answer: (one-way delay in ms, achieved kbit/s, ms of a clock) -> kbit/s."""

    settings: Settings = field(default_factory=Settings)

    def __post_init__(self) -> None:
        self.rate = float(self.settings.base_rate)
        self.baseline = self.settings.initial_owd_baseline
        self.late: deque[bool] = deque(maxlen=self.settings.bufferbloat_detection_window)
        self.deltas: deque[float] = deque(maxlen=self.settings.bufferbloat_detection_window)
        self.bloated = self.decayed = -1e9

    def on_delay(self, owd: float, achieved: float, now: float) -> float:
        """The rate from now on."""
        own = self.settings
        alpha = own.alpha_baseline_increase if owd >= self.baseline else own.alpha_baseline_decrease
        self.baseline += alpha * (owd - self.baseline)
        delta = owd - self.baseline
        threshold = own.owd_delta_delay_thr + own.mtu_bits / self.rate  # and the time to serialise a packet
        self.late.append(delta > threshold)
        self.deltas.append(delta)
        mean = sum(self.deltas) / len(self.deltas)
        rested = now > self.bloated + own.bufferbloat_refractory_period
        if sum(self.late) >= own.bufferbloat_detection_thr:
            if rested:
                span = own.avg_owd_delta_max_adjust_down_thr - threshold
                part = min(1.0, max(0.0, (mean - threshold) / span)) if span > 0 else 1.0
                least, most = own.shaper_rate_min_adjust_down_bufferbloat, own.shaper_rate_max_adjust_down_bufferbloat
                self.rate *= least - part * (least - most)
                self.bloated = now
        elif achieved > own.high_load_thr * self.rate:
            if rested:
                part = (threshold - mean) / (threshold - own.avg_owd_delta_max_adjust_up_thr)
                least, most = own.shaper_rate_min_adjust_up_load_high, own.shaper_rate_max_adjust_up_load_high
                self.rate *= least + min(1.0, max(0.0, part)) * (most - least)
        elif now > self.decayed + own.decay_refractory_period:
            if self.rate > own.base_rate:
                self.rate = max(float(own.base_rate), self.rate * own.shaper_rate_adjust_down_load_low)
            else:
                self.rate = min(float(own.base_rate), self.rate * own.shaper_rate_adjust_up_load_low)
            self.decayed = now
        self.rate = min(float(own.max_rate), max(float(own.min_rate), self.rate))
        return self.rate


def begin(device: str, reflector: str) -> None:
    """Lets it work in a thread that ends with the process."""
    threading.Thread(target=_work, args=(device, reflector), daemon=True).start()


def _work(device: str, reflector: str) -> None:
    law, identity, number = Law(), os.getpid() & 0xFFFF, 0
    counter = Path("/sys/class/net") / device / "statistics/tx_bytes"
    held, looked, sent, achieved = round(law.rate), 0.0, 0, 0.0
    with socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP) as sock:
        sock.setblocking(False)
        while True:
            number += 1
            with contextlib.suppress(OSError):  # the device may not be up yet
                sock.sendto(_echo(identity, number), (reflector, 0))
            time.sleep(law.settings.reflector_ping_interval / law.settings.pingers / 1e3)
            now = time.monotonic() * 1e3
            if now - looked >= law.settings.monitor_achieved_rates_interval:
                total = int(counter.read_text())
                achieved = (total - sent) * 8 / (now - looked) if looked else 0.0
                looked, sent = now, total
            with contextlib.suppress(BlockingIOError):
                while True:
                    answer = sock.recv(2048)
                    kind, of = answer[20], struct.unpack_from("!H", answer, 24)[0]
                    if kind == 0 and of == identity:
                        (stamp,) = struct.unpack_from("!d", answer, 28)
                        law.on_delay((_ms() - stamp) / 2, achieved, now)
            if round(law.rate) != held:
                held = round(law.rate)
                command = ["tc", "qdisc", "change", "dev", device, "root", "cake", "bandwidth", f"{held}kbit"]
                subprocess.run(command, check=False, capture_output=True)  # before the policy is applied there is none


def _ms() -> float:
    return time.monotonic() * 1e3


def _echo(identity: int, number: int) -> bytes:
    body = struct.pack("!d", _ms())
    header = struct.pack("!BBHHH", 8, 0, 0, identity, number & 0xFFFF)
    words = struct.unpack(f"!{(len(header) + len(body)) // 2}H", header + body)
    total = sum(words)
    total = (total & 0xFFFF) + (total >> 16)
    return struct.pack("!BBHHH", 8, 0, ~(total + (total >> 16)) & 0xFFFF, identity, number & 0xFFFF) + body
