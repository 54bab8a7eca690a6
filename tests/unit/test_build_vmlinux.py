"""vmlinux.h of BTF that nobody vouches for: a guest's names are held to what names are, and what reads it may die."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest

from ebpf_magic.build import vmlinux
from ebpf_magic.errors import ToolchainError


def btf(*names: bytes, magic: bytes = b"\x9f\xeb") -> bytes:
    """BTF without types, but with names."""
    strings = b"\0" + b"".join(name + b"\0" for name in names)
    return struct.pack("<2sBBIIIII", magic, 1, 0, 24, 0, 0, 0, len(strings)) + strings


@pytest.fixture
def dump(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A program in the place of the one that has libbpf write the types."""
    program = tmp_path / "dump.py"
    monkeypatch.setattr(vmlinux, "_DUMP", program)
    return program


def test_what_is_written_is_between_head_and_tail(dump: Path) -> None:
    dump.write_text("import sys; print(len(sys.stdin.buffer.read()))")
    raw = btf(b"task_struct", b"long unsigned int", b"address_space(1)", b".data..percpu", b"core::fmt<u8>")
    header = vmlinux.vmlinux_h(raw)
    assert f"\n{len(raw)}\n".encode() in header
    assert header.startswith(b"#ifndef __VMLINUX_H__") and header.endswith(vmlinux.TAIL)


@pytest.mark.parametrize(
    "name",
    [b'x; asm(".incbin \\"/etc/passwd\\"")', b"x\n#include </etc/passwd>", b"x {", b"%:include", b"\xc3\xa9", b"/*"],
)
def test_a_name_that_could_be_code_is_refused(dump: Path, name: bytes) -> None:
    dump.write_text("raise SystemExit('not to be asked')")
    with pytest.raises(ToolchainError, match="its names are none that C has"):
        vmlinux.vmlinux_h(btf(b"task_struct", name))


@pytest.mark.parametrize("raw", [b"\x9f\xeb", b"ELF" * 20, btf(b"name", magic=b"\xeb\x9f")])
def test_what_is_no_btf_is_refused(dump: Path, raw: bytes) -> None:
    dump.write_text("raise SystemExit('not to be asked')")
    with pytest.raises(ToolchainError, match="no BTF of this byte order"):
        vmlinux.vmlinux_h(raw)


@pytest.mark.parametrize(
    ("program", "why"),
    [
        ("import os; os.kill(os.getpid(), 11)", "it is damaged: libbpf was ended by SIGSEGV"),
        ("import time; time.sleep(60)", "did not finish within 1 s"),
        ("import sys; print('the cause', 'do this', sep='\\n', file=sys.stderr); sys.exit(1)", "the cause\ndo this"),
        ("import sys; sys.exit(1)", "make vmlinux.h"),
    ],
)
def test_what_libbpf_does_with_it_harms_nobody(
    dump: Path, monkeypatch: pytest.MonkeyPatch, program: str, why: str
) -> None:
    monkeypatch.setattr(vmlinux, "_DEADLINE_S", 1 if "sleep" in program else 60)
    dump.write_text(program)
    with pytest.raises(ToolchainError) as caught:
        vmlinux.vmlinux_h(btf(b"name"))
    assert why in str(caught.value)
