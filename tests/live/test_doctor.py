"""The doctor: what works is seen to work, and what does not comes with the way to mend it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import rights

import ebpf_magic as em

pytestmark = pytest.mark.live


def test_what_works_here_is_said_to_work() -> None:
    found = em.doctor()
    host = rights.host_name()
    assert found.loc["compiler", "ok"]
    for kind in ("tracepoint", "raw_tp", "tp_btf", "uprobe", "uretprobe", "perf_event", "syscall"):
        assert found.loc[f"{host}: {kind} programs", "ok"], found.loc[f"{host}: {kind} programs"].to_dict()
    assert found.loc[f"{host}: BTF", "ok"]
    for check, row in found[~found["ok"]].iterrows():
        assert row["mend"], check


def test_without_rights_it_tells_what_is_missing_and_what_would_do(tmp_path: Path) -> None:
    without_capabilities = ["setpriv", "--bounding-set=-all", "--inh-caps=-all", "--no-new-privs"]
    if rights.host_name() == "sudo":
        without_capabilities = ["setpriv", "--no-new-privs"]
    done = subprocess.run(
        [*without_capabilities, sys.executable, "-m", "ebpf_magic.cli", "doctor"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env=os.environ | {"XDG_DATA_HOME": str(tmp_path)},  # no kernel to boot either
    )
    assert done.returncode == 1
    lines = done.stdout.splitlines()
    assert any(line.startswith("no  host local") for line in lines), done.stdout + done.stderr
    assert any("CAP_BPF" in line and line.startswith("no") for line in lines)
    assert any("sudo" in line and "->" in line for line in lines)
    assert any("ebpf-magic kernel fetch" in line and "->" in line for line in lines)
