"""Every error of a cell: one exception whose text a person can act on, and nothing left in the kernel."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from pathlib import Path

import pytest
from IPython.core.interactiveshell import InteractiveShell

import ebpf_magic as em
from ebpf_magic.errors import (
    AttachError,
    CompileError,
    EbpfMagicError,
    LoadError,
    NoSuchNameError,
    ToolchainError,
    UnsupportedError,
    UsageError,
    VerifierError,
)
from ebpf_magic.hosts import registry

pytestmark = pytest.mark.live

HEAD = "HASH(counts, u32, u64);\n"


def fails(shell: InteractiveShell, cell: str, line: str = "broken --quiet") -> EbpfMagicError:
    """Run a cell as a notebook does; it must stop "Run All", bind nothing, and leave no session."""
    result = shell.run_cell(f"%%ebpf {line}\n{cell}", store_history=False)
    assert not result.success
    error = result.error_in_exec
    assert isinstance(error, EbpfMagicError), repr(error)
    assert "broken" not in shell.user_ns
    assert em.sessions() == []
    return error


def test_c_error_points_at_the_line_and_column(shell: InteractiveShell) -> None:
    error = fails(shell, HEAD + 'SEC("syscall") int f(void *ctx) {\n    return nonsense;\n}\n')
    assert isinstance(error, CompileError)
    assert (error.line, error.column) == (3, 12)
    assert "nonsense" in str(error)
    assert "return nonsense;" in str(error)
    assert "^" in str(error)
    assert "nonsense" in error.log


def test_c_error_inside_a_macro_points_at_the_cell(shell: InteractiveShell) -> None:
    error = fails(shell, HEAD + 'SEC("syscall") int f(void *ctx) {\n    COUNT(countz, 1);\n    return 0;\n}\n')
    assert isinstance(error, CompileError)
    assert error.line == 3
    assert "COUNT(countz, 1);" in str(error)


def test_verifier_rejection_points_at_the_line(shell: InteractiveShell) -> None:
    cell = (
        HEAD
        + 'SEC("tp/syscalls/sys_enter_getppid") int f(void *ctx) {\n'
        + "    u32 key = 1;\n"
        + "    u64 *value = bpf_map_lookup_elem(&counts, &key);\n"
        + "    *value += 1;\n"
        + "    return 0;\n}\n"
    )
    error = fails(shell, cell)
    assert isinstance(error, VerifierError)
    assert error.line == 5
    assert "*value += 1;" in str(error)
    assert "map_value_or_null" in str(error)
    assert "NULL" in error.hint
    assert error.program == "f"
    assert len(error.log) > len(str(error))
    assert "processed" in error.log


def test_verifier_rejection_in_a_function_called_by_the_program(shell: InteractiveShell) -> None:
    cell = (
        HEAD
        + "static __noinline u64 take(u32 key) {\n"
        + "    u64 *value = bpf_map_lookup_elem(&counts, &key);\n"
        + "    return *value;\n}\n"
        + 'SEC("tp/syscalls/sys_enter_getppid") int f(void *ctx) {\n    return take(PID());\n}\n'
    )
    error = fails(shell, cell)
    assert isinstance(error, VerifierError)
    assert error.line == 4


def test_unknown_section(shell: InteractiveShell) -> None:
    error = fails(shell, 'SEC("tracepiont/syscalls/sys_enter_openat") int f(void *ctx) { return 0; }\n')
    assert isinstance(error, (LoadError, UsageError))
    assert "tracepiont" in str(error)
    assert "tracepoint" in str(error)


def test_no_such_tracepoint_names_near_ones(shell: InteractiveShell) -> None:
    error = fails(shell, 'SEC("tracepoint/syscalls/sys_enter_opnat") int f(void *ctx) { return 0; }\n')
    assert isinstance(error, AttachError)
    assert "no such tracepoint" in str(error)
    assert any("sys_enter_openat" in name for name in error.near)


def test_no_such_raw_tracepoint_names_near_ones(shell: InteractiveShell) -> None:
    error = fails(shell, 'SEC("tp_btf/sys_entr") int f(void *ctx) { return 0; }\n')
    assert any("sys_enter" in name for name in error.near)


def test_no_such_symbol_names_near_ones(shell: InteractiveShell) -> None:
    error = fails(shell, 'SEC("uprobe/libc.so.6:getpppid") int f(void *ctx) { return 0; }\n')
    assert isinstance(error, AttachError)
    assert "getppid" in error.near


def test_no_such_file_for_a_uprobe(shell: InteractiveShell) -> None:
    error = fails(shell, 'SEC("uprobe//no/such/file:main") int f(void *ctx) { return 0; }\n')
    assert "/no/such/file" in str(error)


def test_attach_option_for_a_program_that_is_not_there(shell: InteractiveShell) -> None:
    error = fails(
        shell, 'SEC("perf_event") int sample(void *ctx) { return 0; }\n', "broken --attach sampel=cpu-clock:9hz"
    )
    assert "sampel" in str(error)
    assert "sample" in error.near


def test_program_that_needs_a_target_says_how_to_give_it(shell: InteractiveShell) -> None:
    error = fails(shell, 'SEC("perf_event") int sample(void *ctx) { return 0; }\n')
    assert "--attach sample=cpu-clock:99hz" in str(error)


@pytest.mark.parametrize("section", ["lirc_mode2", "lwt_in"])
def test_kinds_that_are_not_there_yet_say_so_by_name(shell: InteractiveShell, section: str) -> None:
    error = fails(shell, f'SEC("{section}") int f(void *ctx) {{ return 0; }}\n', "broken --allow-change")
    assert isinstance(error, UnsupportedError)
    assert section.split("/")[0] in str(error)


def test_a_map_that_is_no_table_says_so_by_name(shell: InteractiveShell) -> None:
    cell = (
        'struct { __uint(type, BPF_MAP_TYPE_RINGBUF); __uint(max_entries, 4096); } rb SEC(".maps");\n'
        'SEC("syscall") int f(void *ctx) { bpf_ringbuf_query(&rb, 0); return 0; }\n'
    )
    assert shell.run_cell(f"%%ebpf listed --quiet\n{cell}", store_history=False).success
    result = shell.run_cell('listed.maps["rb"].df()', store_history=False)
    em.stop_all()
    assert isinstance(result.error_in_exec, UnsupportedError)
    assert str(result.error_in_exec).startswith("read map rb (ringbuf): it carries events, not entries; ")


@pytest.mark.parametrize("cell", ["\n\n", "// nothing but a comment\n"])
def test_empty_cell(shell: InteractiveShell, cell: str) -> None:
    assert isinstance(fails(shell, cell), UsageError)


def test_cell_without_a_body_stops_too(shell: InteractiveShell) -> None:
    result = shell.run_cell("%%ebpf broken --quiet\n", store_history=False)
    assert not result.success
    assert "empty" in str(result.error_in_exec)


def test_unknown_option_and_bad_name(shell: InteractiveShell) -> None:
    assert "--quiet" in fails(shell, HEAD, "broken --quite").near
    assert isinstance(fails(shell, HEAD, "9lives"), UsageError)


@pytest.mark.parametrize("seed", [1, 2])
def test_a_megabyte_of_noise(shell: InteractiveShell, seed: int) -> None:
    alphabet = "abcxyz0189 \t\n{}()[]<>;,.\"'\\/*#%&|+-=~!?$@^`é\u2603"
    noise = "".join(random.Random(seed).choices(alphabet, k=1 << 20))
    error = fails(shell, f"x\n{noise}")
    assert isinstance(error, CompileError)
    assert error.line is not None
    assert len(str(error)) < 5000


def test_clang_that_is_missing_or_no_clang(shell: InteractiveShell, tmp_path: Path) -> None:
    error = fails(shell, HEAD, "broken --clang /no/such/clang")
    assert isinstance(error, ToolchainError)
    assert "/no/such/clang" in str(error)
    fake = tmp_path / "clang"
    fake.write_text("#!/bin/sh\nexit 3\n")
    fake.chmod(0o755)
    assert isinstance(fails(shell, HEAD, f"broken --clang {fake}"), ToolchainError)


def test_nothing_to_compile_with_says_what_to_install(
    shell: InteractiveShell, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    registry.get()  # while sudo can still be found
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("EBPF_MAGIC_CLANG", raising=False)
    monkeypatch.setitem(sys.modules, "ziglang", None)
    error = fails(shell, HEAD)
    assert isinstance(error, ToolchainError)
    assert "apt" in error.hint
    assert "ebpf-magic[zig]" in error.hint


def test_session_that_is_not_there(shell: InteractiveShell) -> None:
    with pytest.raises(NoSuchNameError):
        shell.run_line_magic("ebpf", "stop nowhere")


UNPRIVILEGED = """
import ebpf_magic as em
try:
    em.run('HASH(m, u32, u64); SEC("tp/syscalls/sys_enter_getppid") int f(void *c) { COUNT(m, 1); return 0; }')
except em.EbpfMagicError as error:
    print(type(error).__name__, error)
"""


def test_no_permission_names_the_capability_and_the_ways_out(tmp_path: Path) -> None:
    environment = {**os.environ, "XDG_DATA_HOME": str(tmp_path)}  # no kernel to boot there
    without_capabilities = ["setpriv", "--bounding-set=-all", "--inh-caps=-all", "--no-new-privs"]
    done = subprocess.run(
        [*without_capabilities, sys.executable, "-c", UNPRIVILEGED],
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.stdout.startswith("NoHostError"), done.stdout + done.stderr
    assert "CAP_BPF" in done.stdout
    assert "local:" in done.stdout
    assert "sudo" in done.stdout
    assert "ebpf-magic kernel fetch" in done.stdout
