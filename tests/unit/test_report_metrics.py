"""Metrics as Prometheus reads them: valid text, base units, absent where there is no data."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import urllib.error
import urllib.request
from collections.abc import Callable, Sequence
from dataclasses import replace

import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import generate_latest
from prometheus_client.openmetrics.exposition import generate_latest as generate_openmetrics
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse
from report_samples import BULK, HELD, PROBED, READ_ONCE, RUNNING, VIDEO, VOICE

from shaper.errors import ShaperError
from shaper.model.status import InterfaceStatus
from shaper.report.metrics import StatusCollector, serve

LAN = replace(READ_ONCE, interface="lan", device="eth2")
AWKWARD = replace(RUNNING, interface='a"b\\c\nd', classes=(replace(VOICE, path="bü/[red]{x}"),))

Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


def registry(read: Callable[[], Sequence[InterfaceStatus]]) -> CollectorRegistry:
    made = CollectorRegistry()
    made.register(StatusCollector(read))
    return made


def exposed(*statuses: InterfaceStatus) -> str:
    return generate_latest(registry(lambda: statuses)).decode()


def samples(*statuses: InterfaceStatus) -> Samples:
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in parse(exposed(*statuses))
        for sample in family.samples
    }


def of(path: str, tier: str, **more: str) -> frozenset[tuple[str, str]]:
    labels = {"interface": "wan", "device": "eth1", "direction": "egress", "class": path, "tier": tier, **more}
    return frozenset(labels.items())


WAN = frozenset({"interface": "wan", "device": "eth1", "direction": "egress"}.items())


@pytest.mark.parametrize("statuses", [(), (RUNNING,), (RUNNING, LAN), (HELD,), (READ_ONCE,), (AWKWARD,), (PROBED,)])
def test_promtool_finds_nothing_to_say(statuses: tuple[InterfaceStatus, ...]) -> None:
    promtool = os.environ.get("PROMTOOL") or shutil.which("promtool")
    if not promtool:
        pytest.skip("missing capability: promtool")
    done = subprocess.run(
        [promtool, "check", "metrics"],
        input=exposed(*statuses),
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_every_sample_is_of_a_declared_family_and_given_once() -> None:
    text = exposed(RUNNING, LAN, AWKWARD)
    families = {family.name: family for family in parse(text)}
    assert all(family.type != "unknown" and family.documentation for family in families.values())
    lines = [line.rpartition(" ")[0] for line in text.splitlines() if not line.startswith("#")]
    assert len(lines) == len(set(lines)) == len(samples(RUNNING, LAN, AWKWARD))


def test_openmetrics_is_valid_too() -> None:
    text = generate_openmetrics(registry(lambda: (RUNNING, LAN, AWKWARD))).decode()
    assert {"shaper_class_delay_seconds", "shaper_build"} <= {family.name for family in parse_openmetrics(text)}


def test_counters_and_rates_are_in_base_units() -> None:
    found = samples(RUNNING)
    video = of("video", "priority")
    assert found["shaper_class_sent_bytes_total", video] == VIDEO.sent_bytes
    assert found["shaper_class_dropped_packets_total", video] == 75
    assert found["shaper_class_ecn_marked_packets_total", video] == 42
    assert found["shaper_class_measured_lost_packets_total", video] == 74
    assert found["shaper_class_own_rate_packets_total", video] == 2_500
    assert found["shaper_class_borrowed_packets_total", video] == 5_000
    assert found["shaper_class_availability_ratio", video] == 27 / 39
    seconds = [found[f"shaper_class_{name}_seconds", video] for name in ("available", "unavailable")]
    assert [*seconds, found["shaper_class_availability_unknown_seconds", video]] == [27, 12, 3]
    assert found["shaper_class_burst_bytes", of("video", "priority", window="0.002")] == 3_028
    peak = found["shaper_class_burst_peak_to_mean_ratio", of("video", "priority", window="0.25")]
    assert peak == pytest.approx(218_750 / (6.4e6 / 8 * 0.25))
    assert found["shaper_class_ipdv_seconds", of("voice", "special", percentile="99")] == 0.0008
    assert not [name for name, labels in found if name == "shaper_class_ipdv_seconds" and ("class", "video") in labels]
    assert ("shaper_class_borrowed_packets_total", of("bulk", "standard")) not in found, "no HTB: absent, never 0"
    assert found["shaper_class_granted_rate_bytes_per_second", video] == 6_500_000 / 8
    assert found["shaper_class_shortfall_bytes_per_second", video] == 1_300_000 / 8
    assert found["shaper_class_shortfall_bytes_per_second", of("bulk", "standard")] == 0
    assert found["shaper_class_floor_bytes_per_second", of("bulk", "standard")] == 500_000 / 8
    assert found["shaper_interface_utilisation_ratio", WAN] == 0.964


def test_the_delay_histogram_has_a_boundary_at_the_threshold_and_adds_up() -> None:
    found = samples(RUNNING)
    bounds = {"0.01": 3000, "0.05": 5400, "0.1": 7500, "+Inf": 7500}
    for bound, count in bounds.items():
        assert found["shaper_class_delay_seconds_bucket", of("video", "priority", le=bound)] == count
    assert found["shaper_class_delay_seconds_count", of("video", "priority")] == 7500
    assert found["shaper_class_delay_seconds_sum", of("video", "priority")] == 201.5


def test_one_state_of_the_sla_is_set() -> None:
    found = samples(RUNNING)
    for path, tier, state in (
        ("voice", "special", "met"),
        ("video", "priority", "missed"),
        ("office/business", "priority", "no_data"),
        ("bulk", "standard", "none"),
    ):
        states = {
            each: found["shaper_class_sla_state", of(path, tier, state=each)]
            for each in ("met", "missed", "no_data", "none")
        }
        assert [each for each, value in states.items() if value] == [state]


def test_targets_and_what_was_measured_stand_side_by_side() -> None:
    found = samples(RUNNING)
    late = of("video", "priority", target="delay-p95")
    assert found["shaper_class_sla_delay_target_seconds", late] == 0.05
    assert found["shaper_class_sla_delay_measured_seconds", late] == 0.0712
    assert found["shaper_class_sla_samples", late] == 2700
    rate = of("video", "priority", target="throughput")
    assert found["shaper_class_sla_throughput_target_bytes_per_second", rate] == 2e6 / 8
    business = of("office/business", "priority", target="delay-p99")
    assert found["shaper_class_sla_delay_target_seconds", business] == 0.02
    assert ("shaper_class_sla_delay_measured_seconds", business) not in found
    assert found["shaper_class_sla_samples", business] == 0


def test_what_was_not_measured_is_absent() -> None:
    names = {name for name, _ in samples(READ_ONCE)}
    assert not {name for name in names if "delay_seconds" in name or "measured" in name or "capture" in name}
    assert not names & {
        "shaper_class_loss_ratio",
        "shaper_class_throughput_bytes_per_second",
        "shaper_class_offered_bytes_per_second",
        "shaper_interface_utilisation_ratio",
        "shaper_controller_ticks_total",
        "shaper_class_shortfall_bytes_per_second",
    }
    assert "shaper_class_sent_bytes_total" in names


def test_without_a_capture_it_says_so_and_gives_no_delay() -> None:
    blind = replace(
        RUNNING,
        classes=(replace(BULK, delay=None, measured_lost=None, histogram=READ_ONCE.classes[0].histogram),),
        capture=READ_ONCE.capture,
    )
    found = samples(blind)
    assert found["shaper_capture_running", WAN] == 0
    assert not [name for name, _ in found if name.startswith("shaper_class_delay")]
    assert ("shaper_capture_packets_total", WAN) not in found


def test_health_of_controller_and_capture() -> None:
    found = samples(HELD)
    assert found["shaper_controller_held", WAN] == 1
    assert found["shaper_controller_info", WAN | {("mode", "controlled"), ("policy", "branch-office")}] == 1
    assert found["shaper_capture_dropped_packets_total", WAN] == 400
    assert found["shaper_capture_drop_ratio", WAN] == pytest.approx(400 / 70400)
    assert found["shaper_interface_unshaped_packets_total", WAN] == 12
    assert found["shaper_interface_alarms", WAN] == 2


def test_a_status_that_cannot_be_read_does_not_kill_the_scrape() -> None:
    def fails() -> Sequence[InterfaceStatus]:
        raise ShaperError("no")

    found = {s.name: s.value for f in parse(generate_latest(registry(fails)).decode()) for s in f.samples}
    assert found == {"shaper_scrape_success": 0, "shaper_build_info": 1}


def get(port: int, path: str = "/metrics", host: str = "127.0.0.1") -> str:
    with urllib.request.urlopen(f"http://{host}:{port}{path}", timeout=5) as answer:
        return str(answer.read().decode())


def test_it_is_served_where_it_says_and_nowhere_else() -> None:
    with serve(lambda: (RUNNING,), port=0) as server:
        assert 'shaper_class_sent_bytes_total{class="video"' in get(server.port)
        with pytest.raises(urllib.error.HTTPError, match="404") as raised:
            get(server.port, "/")
        with raised.value as answer:
            assert answer.read() == b"the metrics are at /metrics\n"
        port = server.port
    with socket.socket() as listener:  # given back: free at once
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("127.0.0.1", port))


def test_a_port_that_is_taken_is_an_error() -> None:
    with serve(lambda: (), port=0) as server, pytest.raises(OSError, match="in use"):
        serve(lambda: (), port=server.port)


def test_a_client_that_says_nothing_does_not_keep_it_open() -> None:
    server = serve(lambda: (), port=0)
    with socket.create_connection(("127.0.0.1", server.port), timeout=5):
        assert "shaper_build_info" in get(server.port)
        server.close()


def test_a_probe_is_beside_the_classs_own_delays_and_never_among_them() -> None:
    found = samples(PROBED)
    labels = {"class": "office/business", "kind": "stamp", "to": "192.0.2.10"}

    def values(name: str) -> list[float]:
        return [
            value for (each, pairs), value in found.items() if each == name and labels.items() <= dict(pairs).items()
        ]

    assert values("shaper_class_probe_lost_packets_total") == [2]
    assert values("shaper_class_probe_loss_ratio") == [0.04]
    assert values("shaper_class_probe_round_trip_seconds_count") == [208]
    assert values("shaper_class_probe_wait_seconds_bucket") == [208, 208, 208]
    own = [
        v
        for (n, p), v in found.items()
        if n == "shaper_class_delay_seconds_count" and dict(p)["class"] == labels["class"]
    ]
    assert own == [0]


def test_a_figure_carries_what_it_is_worth() -> None:
    found = samples(RUNNING)
    bulk = of("bulk", "standard")
    assert found["shaper_class_delay_samples", of("bulk", "standard", source="capture")] == 5200
    assert found["shaper_class_delay_sampling", bulk] == 8
    assert found["shaper_class_delay_window_seconds", bulk] == 5
    assert found["shaper_class_delay_coverage_ratio", bulk] == 0.124
    assert found["shaper_class_queue_occupancy_ratio", bulk] == 0.98
    ends = {
        end: {
            labels["percentile"]: value
            for (name, pairs), value in found.items()
            if name == f"shaper_class_delay_{end}_seconds" and (labels := dict(pairs))["class"] == "bulk"
        }
        for end in ("low", "high")
    }
    assert ends == {"low": {"50": 0.0609, "95": 0.0638, "99": 0.0647}, "high": {"50": 0.0612, "95": 0.0642}}
    voice = of("voice", "special", percentile="99")
    assert found["shaper_class_jitter_seconds", voice] == pytest.approx(0.00086)
    assert ("shaper_class_delay_low_seconds", voice) not in found, "a full count has no interval"
    target = of("voice", "special", target="mos")
    assert found["shaper_class_sla_mos_target_score", target] == 4.2
    assert found["shaper_class_sla_mos_measured_score", target] == 4.39
