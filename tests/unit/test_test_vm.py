"""`scripts/test-vm`: the guests' tests run at the same time, all is shown, and what fails in one fails."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "scripts" / "test-vm"
# Stands for pytest. It goes on once as many have begun as are to run at the same time, and fails for one kernel.
PYTHON = """#!/bin/sh
[ "$CI" = true ] && echo "begins on $EBPF_MAGIC_TEST_HOST"
touch "$AT_ONCE.$EBPF_MAGIC_TEST_HOST"
for _ in $(seq 500); do [ "$(ls "$AT_ONCE".* | wc -l)" -ge "$WANTED" ] && break; sleep 0.01; done
[ "$(ls "$AT_ONCE".* | wc -l)" -ge "$WANTED" ] || echo alone
echo "ends on $EBPF_MAGIC_TEST_HOST"
[ "$EBPF_MAGIC_TEST_HOST" != "vm:$BROKEN" ]
"""


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    for folder in ("scripts", ".venv/bin", "commands"):
        (tmp_path / folder).mkdir(parents=True)
    shutil.copy(SCRIPT, tmp_path / "scripts")
    for name, text in {".venv/bin/python": PYTHON, "commands/nproc": '#!/bin/sh\necho "$PROCESSORS"\n'}.items():
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o755)
    return tmp_path


def environment(checkout: Path, processors: int, wanted: int, broken: str = "") -> dict[str, str]:
    return {
        "PATH": f"{checkout}/commands:{os.environ['PATH']}",
        "PROCESSORS": str(processors),
        "AT_ONCE": str(checkout / "at-once"),
        "WANTED": str(wanted),
        "BROKEN": broken,
        "TMPDIR": str(checkout),
    }


def run(checkout: Path, *kernels: str, processors: int = 2, wanted: int = 2, broken: str = "") -> tuple[int, str]:
    words = [str(checkout / "scripts/test-vm"), *kernels]
    settings = environment(checkout, processors, wanted, broken)
    done = subprocess.run(words, env=settings, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=60)
    assert not list(checkout.glob("tmp.*"))
    return done.returncode, done.stdout


def test_both_run_at_the_same_time_and_each_is_shown_in_one_piece(checkout: Path) -> None:
    status, said = run(checkout, "6.1", "6.12")
    assert status == 0
    assert said.splitlines() == [
        line
        for name in ("6.1", "6.12")
        for line in (f"test-vm: in a guest of {name}", f"begins on vm:{name}", f"ends on vm:{name}")
    ]


@pytest.mark.parametrize("broken", ["6.1", "6.12"])
@pytest.mark.parametrize("processors", [1, 2])
def test_what_fails_in_one_fails(checkout: Path, broken: str, processors: int) -> None:
    status, said = run(checkout, "6.1", "6.12", processors=processors, wanted=processors, broken=broken)
    assert status == 1
    assert "alone" not in said
    assert said.count("ends on") == 2, "the other one is tested all the same"
    assert said.splitlines()[-1] == f"test-vm: failed in a guest of: {broken}"


def test_without_a_processor_for_each_it_is_one_after_the_other(checkout: Path) -> None:
    status, said = run(checkout, "5.10", "6.1", "6.12", processors=2, wanted=1)
    assert status == 0
    ends, begins = ([said.index(f"{what} on vm:{name}\n") for name in ("5.10", "6.1")] for what in ("ends", "begins"))
    assert ends[0] < begins[1] < ends[1] < said.index("begins on vm:6.12")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_when_it_is_ended_nothing_goes_on(checkout: Path, number: signal.Signals) -> None:
    words = [str(checkout / "scripts/test-vm"), "6.1", "6.12"]
    with subprocess.Popen(words, env=environment(checkout, 2, 9), stdout=subprocess.DEVNULL) as script:
        deadline = time.monotonic() + 10
        while len(list(checkout.glob("at-once.*"))) < 2 and time.monotonic() < deadline:
            time.sleep(0.01)
        children = Path(f"/proc/{script.pid}/task/{script.pid}/children").read_text().split()
        script.send_signal(number)
    assert script.returncode == -number
    assert len(children) == 2
    while any(Path(f"/proc/{child}").exists() for child in children) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not any(Path(f"/proc/{child}").exists() for child in children)
    assert not list(checkout.glob("tmp.*"))


def test_no_kernel_is_a_mistake(checkout: Path) -> None:
    assert run(checkout) == (2, "test-vm: which kernel? such as: scripts/test-vm 6.1 6.12\n")
