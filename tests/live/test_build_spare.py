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
    build.settle()


def test_object_is_the_one_the_plain_way_gives() -> None:
    source = fresh()
    plain = build.compile_cell(source, kernel=KERNEL)
    build.settle()
    waiting = spare.take()
    assert waiting is not None
    waiting.give("cell", source + "\n")
    made = waiting.result(30)
    assert made is not None
    assert Btf.from_elf(made).map_specs() == Btf.from_elf(plain.object).map_specs()
    section = "tracepoint/syscalls/sys_enter_getppid"
    assert Btf.from_elf(made).line_info(section) == Btf.from_elf(plain.object).line_info(section)


def test_second_cell_is_compiled_by_it(monkeypatch: pytest.MonkeyPatch) -> None:
    compile_and_prepare()
    made = []
    its_result = spare.Spare.result

    def spy(self: spare.Spare, timeout_s: float) -> bytes | None:
        made.append(its_result(self, timeout_s))
        return made[-1]

    monkeypatch.setattr(spare.Spare, "result", spy)
    built = build.compile_cell(fresh(), kernel=KERNEL)
    assert made == [built.object]


def test_one_with_other_flags_is_not_taken() -> None:
    compile_and_prepare()
    source = fresh()
    licensed = source + 'char LICENSE[] SEC("license") = "Dual MIT/GPL";\n'
    assert b"Dual MIT/GPL" in build.compile_cell(licensed, kernel=KERNEL).object
    assert b"Dual MIT/GPL" not in build.compile_cell(source, kernel=KERNEL).object


def test_what_it_made_is_kept() -> None:
    compile_and_prepare()
    source = fresh()
    made = build.compile_cell(source, kernel=KERNEL)
    again = build.compile_cell(source, kernel=KERNEL)
    assert (made.cached, again.cached) == (False, True)
    assert again.object == made.object


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
            spare._waiting.give("cell", CELL)
            assert spare._waiting.result(0.2) is None
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
build.settle()
print(spare._waiting.pid, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, env=environment, check=False)
    pid = int(done.stdout)
    assert eventually(lambda: not Path(f"/proc/{pid}").exists())
    assert eventually(lambda: os.listdir(tmp_path) == [])


def test_where_it_cannot_be_started_nothing_fails_and_nothing_stays(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def refused(*args: object, **kwargs: object) -> None:
        raise BlockingIOError(11, "Resource temporarily unavailable")

    build.compile_cell(CELL, kernel=KERNEL)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(subprocess, "Popen", refused)
    build.settle()
    assert (spare.take(), list(tmp_path.iterdir())) == (None, [])
