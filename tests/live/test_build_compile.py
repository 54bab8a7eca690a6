"""Cells made into objects by the compilers that are here, for the running kernel's types."""

from __future__ import annotations

import importlib.util
import os
import random
import re
import shutil
import subprocess
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import pytest

from ebpf_magic.build import Built, KernelTarget, compile_cell
from ebpf_magic.build.compiler import keep
from ebpf_magic.data.btf import Btf
from ebpf_magic.data.elf import Elf
from ebpf_magic.errors import CompileError, ToolchainError, UnsupportedError

pytestmark = pytest.mark.live

BTF = Path("/sys/kernel/btf/vmlinux")
SEEDS = Path(__file__).parents[3] / "shared/seed_programs"
CELL = """HASH(counts, u32, u64);
SEC("tracepoint/syscalls/sys_enter_openat")
int on_open(void *ctx) { COUNT(counts, PID()); return 0; }
"""
EVERYTHING = """struct who { u32 pid; char comm[16]; };
struct two { u32 pid; u32 cpu; };
HASH(hash, u32, u64); LRU_HASH(lru, struct two, u32, 5); ARRAY(array, s64, 4);
PERCPU_HASH(percpu_hash, struct who, u64, 1 << 10); PERCPU_ARRAY(percpu_array, u64);
HASH(begun, u64, u64); HIST(lat, "ns"); HIST_BY(sizes, u64, "bytes"); HIST_BY(waits, struct two, "ns", 77);
SEC("tracepoint/syscalls/sys_enter_openat")
int on_open(void *ctx)
{
	struct who who = {PID()};
	struct two two = {PID(), CPU()};
	COMM(who.comm);
	COUNT(hash, who.pid);
	COUNT(lru, two);
	COUNT(lru, (struct two){.pid = 1, .cpu = 2});
	COUNT(lru, {1, 2});
	ADD(lru, {1, 2}, 5);
	ADD(lru, (struct two){1, 2}, 5);
	ADD(array, 3, -1);
	COUNT(percpu_hash, who);
	ADD(percpu_array, 0, NOW_NS());
	START(begun, TID());
	u64 ns = ELAPSED_NS(begun, TID());
	if (ns)
		OBSERVE(lat, ns);
	OBSERVE_BY(sizes, 12, ns);
	OBSERVE_BY(waits, two, ns);
	OBSERVE_BY(waits, {1, 2}, ELAPSED_NS(begun, TID()));
	return 0;
}
"""


def compilers() -> list[str]:
    return ["clang", *(["zig"] if importlib.util.find_spec("ziglang") else [])]


def kernel(arch: str = "x86", build_id: str = "0123456789abcdef" * 2) -> KernelTarget:
    return KernelTarget(arch, build_id, BTF.read_bytes)


@pytest.fixture(scope="module")
def shared_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(autouse=True)
def own_cache(shared_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep the user's own cache out of it; vmlinux.h and the preludes are made once for all tests here."""
    if not BTF.exists():
        pytest.skip("this kernel has no BTF")
    if not shutil.which("clang"):
        pytest.skip("clang is not installed")
    monkeypatch.setenv("XDG_CACHE_HOME", str(shared_cache))
    monkeypatch.delenv("EBPF_MAGIC_CLANG", raising=False)


def code(built: Built) -> dict[str, bytes | None]:
    elf = Elf(built.object)
    return {section.name: elf.data(section.name) for section in elf.sections if "/" in section.name}


def test_a_cell_is_compiled_precompiled_and_then_remembered() -> None:
    first = compile_cell(CELL, kernel=kernel())
    again = compile_cell(CELL, kernel=kernel())
    assert (first.cached, first.prelude, first.warnings) == (False, "precompiled", "")
    assert (again.cached, again.prelude, again.object) == (True, "precompiled", first.object)
    assert 0 < again.compile_ns < first.compile_ns
    assert not compile_cell(CELL + "\n", kernel=kernel()).cached
    assert not compile_cell(CELL, kernel=kernel(build_id="fedcba9876543210" * 2)).cached


@pytest.mark.parametrize("arch", ["x86", "arm64"])
@pytest.mark.parametrize("clang", compilers())
def test_every_macro_compiles_the_same_with_either_prelude(clang: str, arch: str) -> None:
    fast = compile_cell(EVERYTHING, kernel=kernel(arch), clang=clang)
    # A flag that is not known to be harmless builds without the precompiled prelude.
    plain = compile_cell(EVERYTHING, kernel=kernel(arch), clang=clang, cflags=["-fno-common"])
    assert (fast.prelude, plain.prelude) == ("precompiled", "plain")
    assert fast.warnings == plain.warnings == ""
    assert code(fast) == code(plain) != {}
    specs = Btf.from_elf(fast.object).map_specs()
    assert {name: (spec.kind, spec.unit) for name, spec in specs.items() if spec.kind} == {
        "lat": ("hist", "ns"),
        "sizes": ("hist_by", "bytes"),
        "waits": ("hist_by", "ns"),
    }
    entries = {name: spec.max_entries for name, spec in specs.items()}
    assert entries == {
        "hash": 10240, "lru": 5, "array": 4, "percpu_hash": 1024, "percpu_array": 1,
        "begun": 10240, "lat": 1, "sizes": 16384, "waits": 77,
    }  # fmt: skip
    missed = [variable.name for variable in Btf.from_elf(fast.object).variables(".data.em")]
    assert sorted(missed) == sorted(f"{name}__missed" for name in entries if name != "lat")


@pytest.mark.parametrize("clang", compilers())
def test_the_same_cell_is_the_same_object_anywhere(clang: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = compile_cell(CELL, kernel=kernel(), clang=clang, cflags=["-fno-common"])
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tmp").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "tmp"))
    again = compile_cell(CELL, kernel=kernel(), clang=clang, cflags=["-fno-common", "-Wno-unused"])
    assert not again.cached
    assert again.object == first.object
    assert os.listdir(tmp_path / "tmp") == []
    assert re.search(rb"u64|cell", first.object)


def test_lines_and_their_text_are_the_cells() -> None:
    built = compile_cell(CELL, kernel=kernel())
    infos = Btf.from_elf(built.object).line_info("tracepoint/syscalls/sys_enter_openat")
    named = {(info.file.removeprefix("./"), info.line, info.text.strip()) for info in infos if info.line}
    assert named == {("cell", 3, CELL.splitlines()[2])}


def test_seed_program_unchanged() -> None:
    seed = SEEDS / "count_opens.bpf.c"
    if not seed.exists():
        pytest.skip("../shared/seed_programs is not beside this clone")
    built = compile_cell(seed.read_text(), kernel=kernel())
    elf = Elf(built.object)
    assert built.prelude == "none"
    assert elf.data("license") == b"GPL\0"
    assert "kprobe/do_sys_openat2" in {section.name for section in elf.sections}
    assert list(Btf.from_elf(built.object).map_specs()) == ["counter_map"]


@pytest.mark.parametrize("include", ['"ebpf_magic.h"', "<ebpf_magic.h>"])
@pytest.mark.parametrize(
    "before", ["", '#include "vmlinux.h"\n', "#include <vmlinux.h>\n", "#include <linux/types.h>\n"]
)
@pytest.mark.parametrize("clang", compilers())
def test_short_names_by_an_explicit_include(clang: str, before: str, include: str) -> None:
    built = compile_cell(f"{before}#include {include}\n{CELL}", kernel=kernel(), clang=clang)
    assert built.prelude == "none"
    assert Elf(built.object).data("license") == b"GPL\0"


def test_no_short_names_without_it() -> None:
    with pytest.raises(CompileError) as caught:
        compile_cell(f'#include "vmlinux.h"\n#include <bpf/bpf_helpers.h>\n{CELL}', kernel=kernel())
    assert caught.value.line == 3
    assert '#include "ebpf_magic.h"' in str(caught.value)


@pytest.mark.parametrize("own", ["", "#include <linux/bpf.h>\n"])
@pytest.mark.parametrize(("declared", "licence"), [("", b"GPL\0"), ("Dual MIT/GPL", b"Dual MIT/GPL\0")])
def test_licence(own: str, declared: str, licence: bytes) -> None:
    line = f'char mine[] __attribute__((section("license"), used)) = "{declared}";' if declared else "int x;"
    assert Elf(compile_cell(own + line, kernel=kernel()).object).data("license") == licence


def test_licence_in_a_header_of_ones_own_comes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.h").write_text('char mine[] __attribute__((section("license"), used)) = "Proprietary";\n')
    built = compile_cell('#include "mine.h"\nint x;', kernel=kernel())
    assert (Elf(built.object).data("license") or b"").startswith(b"Proprietary\0")


def test_a_header_of_ones_own_that_changes_is_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    header = tmp_path / "a name.h"
    header.write_text("int one;\n")
    cell = '#include <linux/bpf.h>\n#include "a name.h"\nint x;'
    assert not compile_cell(cell, kernel=kernel()).cached
    assert compile_cell(cell, kernel=kernel()).cached
    header.write_text("int one, two;\n")
    changed = compile_cell(cell, kernel=kernel())
    assert not changed.cached
    assert "two" in Elf(changed.object).symbols
    header.unlink()
    with pytest.raises(CompileError, match=r"a name\.h' file not found"):
        compile_cell(cell, kernel=kernel())


@pytest.mark.parametrize(
    ("flags", "prelude"),
    [
        (["-DSAMPLES_OF_MINE=100", "-Wno-unused"], "precompiled"),
        (["-D__TARGET_ARCH_arm64"], "plain"),
        (["-DBPF_NO_PRESERVE_ACCESS_INDEX"], "plain"),
        (["-DCOUNT=1"], "plain"),
        (["-O1"], "plain"),
        (["-mcpu=v2"], "plain"),
        (["-std=gnu11"], "plain"),
    ],
)
def test_flags_and_the_precompiled_prelude(flags: list[str], prelude: str) -> None:
    assert compile_cell("int x;", kernel=kernel(), cflags=flags).prelude == prelude


def test_a_leading_definition_that_the_prelude_asks_for_comes_before_it() -> None:
    read = 'SEC("raw_tp/x") int f(void *ctx) { return ((struct task_struct *)ctx)->pid; }'

    def relocations(definition: str) -> tuple[str, bytes]:
        built = compile_cell(definition + read, kernel=kernel())
        return built.prelude, (Elf(built.object).data(".BTF.ext") or b"")[24:32]

    usual, without = relocations("#define SAMPLES 1\n"), relocations("#define BPF_NO_PRESERVE_ACCESS_INDEX\n")
    assert usual[0] == "precompiled"
    assert without[0] == "plain"
    assert int.from_bytes(usual[1][4:], "little") > 0  # bytes of CO-RE relocations
    assert int.from_bytes(without[1][4:], "little") == 0


def test_a_damaged_precompiled_prelude_is_built_again(shared_cache: Path) -> None:
    compile_cell(CELL + "// 1", kernel=kernel())
    preludes = list((shared_cache / "ebpf_magic/prelude").iterdir())
    assert preludes
    for prelude in preludes:
        prelude.write_bytes(prelude.read_bytes()[:100_000])
    assert compile_cell(CELL + "// 2", kernel=kernel()).prelude == "plain"
    assert compile_cell(CELL + "// 3", kernel=kernel()).prelude == "precompiled"


def test_a_damaged_object_is_built_again(shared_cache: Path) -> None:
    cell = CELL + "// damage"
    good = compile_cell(cell, kernel=kernel())
    keep()
    newest = max((shared_cache / "ebpf_magic/objects").iterdir(), key=lambda path: path.stat().st_mtime_ns)
    newest.write_bytes(newest.read_bytes()[:-1] + b"!")
    again = compile_cell(cell, kernel=kernel())
    assert not again.cached
    assert again.object == good.object


def test_a_damaged_vmlinux_is_made_again(shared_cache: Path) -> None:
    other = kernel(build_id="00112233445566778899aabbccddeeff")
    compile_cell(CELL, kernel=other)
    header = shared_cache / "ebpf_magic/vmlinux/00112233445566778899aabbccddeeff-x86/vmlinux.h"
    whole = header.read_bytes()
    header.write_bytes(whole[:1000])
    compile_cell(CELL + "// again", kernel=other)
    assert header.read_bytes() == whole


def test_btf_is_asked_for_once_a_kernel() -> None:
    asked = []

    def btf() -> bytes:
        asked.append(1)
        return BTF.read_bytes()

    target = KernelTarget("x86", "aa" * 16, btf)
    for i in range(3):
        compile_cell(f"{CELL}// {i}", kernel=target)
    assert len(asked) == 1


def test_without_a_cache_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    for clang in compilers():
        built = compile_cell(CELL, kernel=kernel(), clang=clang)
        assert (built.prelude, built.cached) == ("plain", False)


def test_kernels_without_a_build_id_are_told_apart_by_their_btf() -> None:
    with pytest.raises(ToolchainError):
        compile_cell(CELL, kernel=KernelTarget("x86", "", lambda: b"\0"))
    first = compile_cell(CELL, kernel=kernel(build_id=""))
    assert (first.prelude, first.cached) == ("precompiled", False)
    assert compile_cell(CELL, kernel=kernel(build_id="")).cached


def test_a_kernel_without_btf() -> None:
    target = KernelTarget("x86", "bb" * 16, lambda: b"")
    with pytest.raises(ToolchainError, match="CONFIG_DEBUG_INFO_BTF"):
        compile_cell(CELL, kernel=target)
    assert compile_cell("#include <linux/bpf.h>\nint x;", kernel=target).prelude == "none"


def test_libbpfs_headers_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Path, "is_file", lambda self: False)
    with pytest.raises(ToolchainError, match="apt install libbpf-dev"):
        compile_cell("int missing;", kernel=kernel())


def test_an_architecture_that_is_not_there_yet() -> None:
    with pytest.raises(UnsupportedError, match="riscv"):
        compile_cell(CELL, kernel=kernel("riscv"))


@pytest.mark.parametrize("clang", compilers())
@pytest.mark.parametrize(
    ("body", "why", "line", "column"),
    [
        ("COUNT(counts, pidd);", "undeclared identifier 'pidd'", 4, 16),
        ("return nonsense;", "undeclared identifier 'nonsense'", 4, 9),
        ("ADD(counts, 1);", "too few arguments", 4, 2),
        ("ADD(counts, 1, 2, 3);", "too many arguments", 4, 20),
        ("COUNT(pairs, 5);", "", 4, 2),
        ("ADD(pairs, 5, 5);", "the key of this map is a struct", 4, 13),
        ("COUNT(small, 5);", "a number of 32 or 64 bits", 4, 2),
        ("COUNT(own, 5);", "was not made by HASH", 4, 2),
        ("CONT(counts, 5);", "there is no function or macro CONT", 4, 2),
        ("char big[600]; bpf_get_current_comm(big, 600);", "512 bytes of stack", None, None),
        ("#error my own", "my own", 4, 2),
    ],
)
def test_errors_point_at_the_cell(clang: str, body: str, why: str, line: int | None, column: int | None) -> None:
    maps = "HASH(counts, u32, u64); HASH(pairs, struct two, u64); HASH(small, u32, u16);"
    own = (
        'struct two { u32 a, b; }; struct { __uint(type, 1); __type(key, u32); __type(value, u64); } own SEC(".maps");'
    )
    with pytest.raises(CompileError) as caught:
        compile_cell(
            f'{own}\n{maps}\nSEC("raw_tp/x") int f(void *ctx) {{\n\t{body}\nreturn 0; }}', kernel=kernel(), clang=clang
        )
    assert why in caught.value.why
    if line:
        assert caught.value.line == line
        assert caught.value.column in (column, *([None] if column is None else []), *range(2, 20))
        assert body in str(caught.value)


@pytest.mark.parametrize("noise", ["(", "{", "a", '"\\', "#include <nosuch.h>\n", "@\0 "[0] + " "])
def test_a_megabyte_of_noise_is_one_error(noise: str) -> None:
    with pytest.raises(CompileError) as caught:
        compile_cell(noise * ((1 << 20) // len(noise)), kernel=kernel())
    assert len(str(caught.value)) < 5000


def _compile_all(seed: int) -> list[bytes]:
    return [compile_cell(f"{CELL}// {i}", kernel=kernel(build_id="cc" * 16)).object for i in range(3)]


def test_several_notebooks_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with ProcessPoolExecutor(4, mp_context=get_context("spawn")) as pool:
        results = list(pool.map(_compile_all, range(4)))
    assert all(result == results[0] for result in results)
    left = [path.name for path in tmp_path.rglob(".new-*")]
    assert left == []


def test_vmlinux_h_is_what_bpftool_makes() -> None:
    from ebpf_magic.build.vmlinux import vmlinux_h

    bpftool = shutil.which("bpftool") or shutil.which("bpftool", path="/usr/sbin")
    if not bpftool:
        pytest.skip("bpftool is not installed")
    theirs = subprocess.run(
        [bpftool, "btf", "dump", "file", BTF, "format", "c"], capture_output=True, text=True, check=True
    )

    def types(header: str) -> set[str]:
        return set(
            re.findall(r"^(?:struct|union|enum) \w+ \{|^typedef .*;", header.replace("()", "(void)"), re.MULTILINE)
        )

    assert types(vmlinux_h(BTF.read_bytes()).decode()) == types(theirs.stdout)


def test_damaged_btf_is_written_or_refused() -> None:
    from ebpf_magic.build.vmlinux import TAIL, vmlinux_h

    raw = BTF.read_bytes()
    types = slice(24, 24 + int.from_bytes(raw[12:16], "little"))
    chance = random.Random(6)
    for _ in range(6):
        damaged = bytearray(raw)
        for _ in range(50):
            damaged[chance.randrange(types.start, types.stop)] ^= 1 << chance.randrange(8)
        try:
            assert vmlinux_h(bytes(damaged)).endswith(TAIL)
        except ToolchainError as error:
            assert error.why
