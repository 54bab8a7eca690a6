"""The first notebook for a user who may load nothing: it runs all the same, in a kernel of its own, and says so."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [pytest.mark.live, pytest.mark.slow]

# No capability, and none to be had by sudo.
POWERLESS = ["setpriv", "--bounding-set=-all", "--inh-caps=-all", "--no-new-privs"]


def test_the_demo_needs_no_right_to_load_programs(tmp_path: Path) -> None:
    command = [*POWERLESS, sys.executable, "-m", "ebpf_magic.cli", "demo", "--output", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=280, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "in a virtual machine, on a kernel of its own" in done.stdout
    assert "the kernel counted 200 opens by this process, on vm" in done.stdout
    assert "data:image/png;base64," in (tmp_path / "01-first-probe.html").read_text()
