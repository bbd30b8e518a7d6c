"""What comes in, policed on a kernel with policers: the changes of a plan, drift, and a running shaper's account."""

from __future__ import annotations

import json
import time
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from policed import SHAPER, Site

if TYPE_CHECKING:
    from conftest import Lab

pytestmark = pytest.mark.full


@pytest.fixture
def site(netns: Lab, tmp_path: Path) -> Site:
    return Site(netns, tmp_path)


def test_going_over_to_a_queue_and_back_and_clearing_leaves_nothing(site: Site) -> None:
    before = site.found()
    ping = f"ping -c 2 -i 0.05 -W 2 {site.pair.b_v4}"
    for more in ("ingress: police", "ingress: queue", "ingress: police, classifier: flower"):
        site.says("egress: 20mbit, ingress: 8mbit", more)
        site.apply()
        assert site.shaper(f"plan {site.policy}")[0] == 0, more
        assert ("shi-" in site.lab.run("ip -br link")) is (more == "ingress: queue")
        site.lab.run(ping)
    assert site.shaper("clear")[0] == 0
    assert site.found() == before
    assert not site.lab.run("tc actions ls action police").replace("total acts 0", "").strip()
    assert not site.lab.run("tc actions ls action gact").replace("total acts 0", "").strip()


def test_what_somebody_changes_is_drift_and_an_apply_puts_it_right(site: Site) -> None:
    site.apply()
    shown = site.lab.run("tc actions ls action police")
    index = next(words[words.index("police") + 1] for words in map(str.split, shown.splitlines()) if "police" in words)
    site.lab.run(
        f"tc actions change action police rate 9mbit burst 30k mtu 1mb conform-exceed drop/pipe index {int(index, 16)}"
    )
    assert site.status()["drift"], "named"
    site.apply()
    site.lab.run(f"tc filter del dev {site.pair.a} ingress pref 14")
    assert site.status()["drift"]
    site.apply()
    assert site.shaper(f"plan {site.policy}")[0] == 0


def test_run_leaves_it_alone_says_so_and_counts(site: Site) -> None:
    run = site.lab.start(f"{SHAPER} run {site.policy} --state {site.folder / 'state'} --json --listen 127.0.0.1:9917")
    assert run.stdout is not None
    assert json.loads(run.stdout.readline())["event"] == "ready"
    sent, got = site.offer(2.0, 1.0, voice=4e6)
    limit = time.monotonic() + 60
    while (cls := site.classes()["voice"])["sent_packets"] < got["voice"]["packets"]:
        assert time.monotonic() < limit, cls
    assert cls["dropped_packets"] == sent["voice"] - got["voice"]["packets"]
    one = site.status()
    assert one["controller"]["held"] == "what is policed lends nothing"
    assert one["controller"]["changes"] == 0 and not one["alarms"]
    assert one["capture"]["reason"].startswith("delay: no data, because nothing waits")
    text = site.lab.inside(lambda: urllib.request.urlopen("http://127.0.0.1:9917/metrics").read().decode())
    line = next(
        line
        for line in text.splitlines()
        if line.startswith("shaper_class_dropped_packets_total{") and '"ingress"' in line and '"voice"' in line
    )
    assert float(line.split()[-1]) == cls["dropped_packets"]
    run.terminate()
    _, err = run.communicate(timeout=30)
    assert run.returncode == 0, err
    assert site.shaper("clear")[0] == 0
    assert "clsact" not in site.found()
