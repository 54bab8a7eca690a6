"""The compiler that waits: quick when it fits, never in the way, gone when it should be."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from objects import eventually

from ebpf_magic import build
from ebpf_magic.build import spare
from ebpf_magic.data.btf import Btf
from ebpf_magic.errors import CompileError

pytestmark = pytest.mark.live

KERNEL = build.KernelTarget("x86", "", lambda: Path("/sys/kernel/btf/vmlinux").read_bytes())
CELL = """HASH(counts, u32, u64);
SEC("tracepoint/syscalls/sys_enter_getppid")
int on_getppid(void *ctx) {
    COUNT(counts, PID());
    return 0;
}
"""


@pytest.fixture(autouse=True)
def none_waits() -> Iterator[None]:
    if build.find_toolchain().kind != "clang":
        pytest.skip("only clang is started ahead, and there is none")
    spare.close()
    yield
    spare.close()


def fresh() -> str:
    return f"{CELL}// {time.time_ns()}\n"


def compile_and_prepare() -> None:
    build.compile_cell(fresh(), kernel=KERNEL)
    build.prepare()


def test_object_is_the_one_the_plain_way_gives() -> None:
    source = fresh()
    plain = build.compile_cell(source, kernel=KERNEL)
    build.prepare()
    waiting = spare.take(spare._waiting.command if spare._waiting else ())
    assert waiting is not None
    made = waiting.compile("cell", source + "\n", 30)
    assert made is not None
    assert Btf.from_elf(made).map_specs() == Btf.from_elf(plain.object).map_specs()
    section = "tracepoint/syscalls/sys_enter_getppid"
    assert Btf.from_elf(made).line_info(section) == Btf.from_elf(plain.object).line_info(section)


def test_second_cell_is_compiled_by_it(monkeypatch: pytest.MonkeyPatch) -> None:
    compile_and_prepare()
    made = []
    compile_by_it = spare.Spare.compile

    def spy(self: spare.Spare, name: str, text: str, timeout_s: float) -> bytes | None:
        made.append(compile_by_it(self, name, text, timeout_s))
        return made[-1]

    monkeypatch.setattr(spare.Spare, "compile", spy)
    built = build.compile_cell(fresh(), kernel=KERNEL)
    assert made == [built.object]


def test_errors_are_told_as_ever() -> None:
    compile_and_prepare()
    with pytest.raises(CompileError) as caught:
        build.compile_cell(CELL.replace("PID()", "nonsense"), kernel=KERNEL)
    assert (caught.value.line, caught.value.column) == (4, 19)


def test_one_that_died_or_hangs_is_no_trouble() -> None:
    for number in (signal.SIGKILL, signal.SIGSTOP):
        compile_and_prepare()
        assert spare._waiting is not None
        os.killpg(spare._waiting.pid, number)
        if number == signal.SIGSTOP:
            assert spare._waiting.compile("cell", CELL, 0.2) is None
        assert build.compile_cell(fresh(), kernel=KERNEL).object


def test_nothing_of_it_stays(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    compile_and_prepare()
    assert len(os.listdir(tmp_path)) == 1
    build.compile_cell(fresh(), kernel=KERNEL)
    spare.close()
    assert os.listdir(tmp_path) == []


def test_killed_notebook_takes_it_along(tmp_path: Path) -> None:
    script = f"""
import os, signal
from pathlib import Path
from ebpf_magic import build
from ebpf_magic.build import spare
kernel = build.KernelTarget("x86", "", lambda: Path("/sys/kernel/btf/vmlinux").read_bytes())
build.compile_cell({fresh()!r}, kernel=kernel)
build.prepare()
print(spare._waiting.pid, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, env=environment, check=False)
    pid = int(done.stdout)
    assert eventually(lambda: not Path(f"/proc/{pid}").exists())
    assert eventually(lambda: os.listdir(tmp_path) == [])
