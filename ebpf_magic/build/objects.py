"""Objects that somebody else compiled: checked, and made into what libbpf takes."""

from __future__ import annotations

import errno
import keyword
import os
import re
import stat
import struct
from functools import cached_property
from pathlib import Path

from ebpf_magic.build.compiler import Built
from ebpf_magic.build.source import Source
from ebpf_magic.data.btf import Btf
from ebpf_magic.data.elf import BtfError, Elf
from ebpf_magic.data.legacy_maps import EMPTY_BTF, modernised
from ebpf_magic.data.wrapped_maps import unwrapped
from ebpf_magic.errors import LoadError, NoSuchNameError

MAX_BYTES = 256 << 20
_EM_BPF, _ET_REL = 247, 1
_MACHINES = {3: "x86", 40: "arm", 62: "x86-64", 183: "arm64", 243: "riscv", 22: "s390", 21: "ppc64"}
_COMPILE = "A BPF object is made by: clang -target bpf -O2 -g -c prog.c -o prog.o"


class Object(Built):
    """A compiled object without a cell; what `Built` says of the compiling is empty."""

    @cached_property
    def btf(self) -> Btf:
        """The types of its maps and globals; empty where it has no BTF, and then everything is bytes."""
        elf = Elf(self.object)
        return Btf.from_elf(self.object) if elf.section(".BTF") else Btf(EMPTY_BTF, elf=elf)


def read_object(path: str | os.PathLike[str]) -> Object:
    """Read an object and make it ready to be loaded; map declarations of Rust's aya become libbpf's.

    Parameters
    ----------
    path : str or path-like
        An ELF object for BPF, as clang, bpf2go or aya make it.

    Raises
    ------
    LoadError
        It is no such object, or is damaged.
    NoSuchNameError
        There is no such file.
    """
    what = f"load {os.fspath(path)}"
    try:
        found = os.stat(path)
        if stat.S_ISDIR(found.st_mode):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        if not stat.S_ISREG(found.st_mode):  # reading a named pipe would wait for ever
            raise LoadError(what, "it is no regular file", _COMPILE)
        if found.st_size > MAX_BYTES:
            raise LoadError(what, f"it is larger than {MAX_BYTES >> 20} MiB")
        raw = Path(path).read_bytes()
    except FileNotFoundError:
        raise NoSuchNameError(what, "no such file", near=_beside(path)) from None
    except OSError as error:
        raise LoadError(what, error.strerror or str(error), errno=error.errno) from None
    except ValueError as error:  # no file has a NUL in its name
        raise LoadError(what, str(error)) from None
    why, hint = _foreign(raw)
    if why:
        raise LoadError(what, why, hint)
    try:
        ready = Object(unwrapped(modernised(raw)), Source(""), False, "none", 0, "")
        ready.btf.map_specs()
    except BtfError as error:
        raise LoadError(what, f"it is damaged: {error.why}", _COMPILE) from None
    return ready


def name_of(path: str | os.PathLike[str]) -> str:
    """Name for the session of an object: that of its file, as far as Python takes it."""
    stem = os.path.basename(os.fspath(path)).partition(".")[0]
    name = re.sub(r"\W", "_", stem)
    return name if name.isidentifier() and not keyword.iskeyword(name) else f"object_{name}"


def _foreign(raw: bytes) -> tuple[str, str]:
    """Why a file is no BPF object, and what to do; empty where it is one."""
    if raw[:4] in (b"BC\xc0\xde", b"\xde\xc0\x17\x0b"):
        return "it is LLVM bitcode, not an object", "Compile it without -emit-llvm; for Rust, link it with bpf-linker."
    if raw[:8] == b"!<arch>\n":
        return "it is an archive, not an object", "Load one of its members; for Rust, what bpf-linker made."
    if raw[:4] != b"\x7fELF":
        return ("it is empty" if not raw else "it is no ELF object"), _COMPILE
    if len(raw) < 64:
        return "it is cut short", _COMPILE
    if raw[4] != 2:
        return "it is a 32-bit ELF file; BPF objects are 64-bit ones", _COMPILE
    if raw[5] != 1:
        return "it is for a big-endian machine", "Compile it with -target bpfel."
    kind, machine = struct.unpack_from("<HH", raw, 16)
    if machine != _EM_BPF:
        return f"it is for {_MACHINES.get(machine, f'machine {machine}')}, not for BPF", _COMPILE
    if kind != _ET_REL:
        return "it is a linked file, not an object", _COMPILE
    return "", ""


def _beside(path: str | os.PathLike[str]) -> list[str]:
    from difflib import get_close_matches

    folder, name = os.path.split(os.fspath(path))
    try:
        names = os.listdir(folder or ".")
    except OSError:
        return []
    return get_close_matches(name, names)
