"""Compiled objects of others: what is none says what it is instead."""

from __future__ import annotations

import os
import struct
from pathlib import Path

import pytest

from ebpf_magic import build
from ebpf_magic.data.variables import declared
from ebpf_magic.errors import LoadError, NoSuchNameError

DATA = Path(__file__).parent / "data"


def elf(kind: int = 1, machine: int = 247, bits: int = 2, order: int = 1) -> bytes:
    return b"\x7fELF" + bytes([bits, order, 1]) + bytes(9) + struct.pack("<HH", kind, machine) + bytes(44)


@pytest.mark.parametrize(
    ("raw", "says"),
    [
        (b"", "it is empty"),
        (b"int main(void) { return 0; }", "it is no ELF object"),
        (b"BC\xc0\xde" + bytes(100), "LLVM bitcode"),
        (b"!<arch>\n" + bytes(100), "an archive"),
        (elf(machine=62), "for x86-64, not for BPF"),
        (elf(machine=183), "for arm64, not for BPF"),
        (elf(machine=9999), "for machine 9999, not for BPF"),
        (elf(bits=1), "a 32-bit ELF file"),
        (elf(order=2), "a big-endian machine"),
        (elf(kind=3), "a linked file"),
        (elf()[:40], "cut short"),
        (elf()[:32] + b"\xff" * 32, "damaged"),
    ],
)
def test_what_is_no_object_is_said(tmp_path: Path, raw: bytes, says: str) -> None:
    path = tmp_path / "prog.o"
    path.write_bytes(raw)
    with pytest.raises(LoadError, match=says) as caught:
        build.read_object(path)
    assert str(caught.value).startswith(f"load {path}: ")


def test_a_file_that_is_not_there_has_near_names(tmp_path: Path) -> None:
    (tmp_path / "prog.bpf.o").write_bytes(b"")
    with pytest.raises(NoSuchNameError, match=r"no such file \(near: prog.bpf.o\)"):
        build.read_object(tmp_path / "prog.bpf.0")


@pytest.mark.parametrize(
    ("path", "name"),
    [("a/prog.bpf.o", "prog"), ("my-prog.o", "my_prog"), ("9p.o", "object_9p"), ("class.o", "object_class")],
)
def test_a_session_is_named_by_the_file_as_python_takes_it(path: str, name: str) -> None:
    assert build.name_of(path) == name


def test_a_folder_is_no_object(tmp_path: Path) -> None:
    with pytest.raises(LoadError, match="Is a directory"):
        build.read_object(tmp_path)


def test_a_named_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "prog.o")
    with pytest.raises(LoadError, match="it is no regular file"):
        build.read_object(tmp_path / "prog.o")


def test_objects_are_typed_by_their_btf_or_by_size() -> None:
    typed = build.read_object(DATA / "kinds.bpf.o")
    assert typed.btf.map_specs()
    assert typed.object == (DATA / "kinds.bpf.o").read_bytes()
    assert set(build.read_object(DATA / "aya.bpf.o").btf.map_specs()) == {"COUNTS", "TOTAL", "PINNED"}
    assert build.read_object(DATA / "rejected.bpf.o").btf is not None


def test_variables_without_btf_are_bytes_where_their_symbols_are() -> None:
    found = declared(build.read_object(DATA / "rust" / "counts.bpf.o").btf)
    assert {name: (one.section, one.offset, one.layout.dtype.itemsize) for name, one in found.items()} == {
        "STEP": (".rodata", 0, 8)
    }


@pytest.mark.parametrize(
    ("path", "name"),
    [("/a/prog.bpf.o", "prog"), ("my-prog.o", "my_prog"), ("7.o", "object_7"), (".o", "object_")],
)
def test_names_of_sessions(path: str, name: str) -> None:
    assert build.name_of(path) == name
