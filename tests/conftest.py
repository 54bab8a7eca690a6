"""What every test shares: in CI nothing is left out in silence."""

from __future__ import annotations

import os
import signal
from collections.abc import Generator

import pytest

# What a checkout may lack: the folder of sample programs that lies beside the repository.
ALLOWED_SKIPS = ["shared/seed_programs"]
# What the machine's kernel lacks is tested in guests; those have all they are known to have, which may be said here.
_IN_GUEST = os.environ.get("EBPF_MAGIC_TEST_HOST", "").startswith("vm")
ALLOWED_SKIPS += (
    [f"this kernel lacks {name}:" for name in os.environ.get("EBPF_MAGIC_LACKS", "").split()]
    if _IN_GUEST
    else ["this kernel lacks"]
)


def pytest_configure() -> None:
    # A shell that starts a command in the background has it ignore SIGINT, and tests interrupt themselves.
    signal.signal(signal.SIGINT, signal.default_int_handler)


def _in_ci() -> bool:
    return os.environ.get("CI", "").lower() not in ("", "0", "false")


def _skip_reason(report: pytest.TestReport | pytest.CollectReport) -> str:
    longrepr = report.longrepr
    return str(longrepr[2]) if isinstance(longrepr, tuple) else str(longrepr)


def _fail_if_skipped(report: pytest.TestReport | pytest.CollectReport) -> None:
    """Turn a skip into a failure in CI: a machine that cannot run a test must not look as if it had."""
    if not (_in_ci() and report.skipped) or hasattr(report, "wasxfail"):
        return
    reason = _skip_reason(report)
    if not any(allowed in reason for allowed in ALLOWED_SKIPS):
        report.outcome = "failed"
        report.longrepr = f"skipped, which CI does not accept: {reason}"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    _fail_if_skipped(report)
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    report = yield
    _fail_if_skipped(report)
    return report
