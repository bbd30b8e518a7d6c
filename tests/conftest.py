"""Hypothesis profiles, quick while developing and deep where a change lands; and which tests belong to which kernel."""

from __future__ import annotations

import os
from collections.abc import Generator

import pytest
from hypothesis import HealthCheck, settings

settings.register_profile("dev", max_examples=5, deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile(
    "ci", max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow], print_blob=True
)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "dev"))

LAB = os.environ.get("LAB_KERNEL", "")
"""`full`, `virtual` or `qemu` inside one of the lab's kernels (scripts/lab), else empty."""
_COMMANDS = {"full": "scripts/lab run", "virtual": "scripts/lab run --virtual-time", "qemu": "scripts/lab qemu"}


def pytest_runtest_setup(item: pytest.Item) -> None:
    """A test of the lab's tiers runs in its tier only."""
    for tier, command in _COMMANDS.items():
        if item.get_closest_marker(tier) and tier != LAB:
            pytest.skip(f"missing capability: the {tier} tier ({command} -- .venv/bin/python -m pytest -m {tier})")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Inside the lab's kernel nothing is missing: a test that skips there has failed."""
    report = yield
    if LAB and report.skipped and not hasattr(report, "wasxfail"):
        report.outcome = "failed"
        report.longrepr = f"skipped where nothing may: {report.longrepr}"
    return report
