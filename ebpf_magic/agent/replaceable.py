"""The smallest program whose function can be replaced, and the one that replaces it: how the doctor tries freplace."""

from __future__ import annotations

import ctypes as C
import os
import struct

from . import kinds, libbpf
from .libbpf import Library
from .programs import EMPTY

_NAME = b"em_probe"
_INT, _FUNC, _FUNC_PROTO = 1, 12, 13
_GLOBAL, _SIGNED = 1, 1
_FUNCTION_ID, _PROGRAM_ID = 3, 4
# call the function behind the next instruction; exit; and the function
_CALLER = struct.pack("<BBhi", 0x85, 1 << 4, 0, 1) + struct.pack("<BBhi", 0x95, 0, 0, 0) + EMPTY


def _types() -> bytes:
    """BTF of two global functions ``int f(void)``: type 1 is int, 2 the prototype, 3 the one replaced, 4 its caller."""
    strings = b"\0int\0" + _NAME + b"\0"
    types = struct.pack("<IIII", 1, _INT << 24, 4, _SIGNED << 24 | 32)
    types += struct.pack("<III", 0, _FUNC_PROTO << 24, 1)
    types += struct.pack("<III", 5, _FUNC << 24 | _GLOBAL, 2)
    types += struct.pack("<III", 5, _FUNC << 24 | _GLOBAL, 2)
    header = struct.pack("<HBBIIIII", 0xEB9F, 1, 0, 24, 0, len(types), len(types), len(strings))
    return header + types + strings


def load(library: Library) -> int:
    """Descriptor of a program that replaces another's function; the other goes with it. Raises OSError."""
    btf_fd = _checked(library.bpf_btf_load(_types(), len(_types()), None))
    try:
        replaced_fd = _load(library, kinds.RAW_TRACEPOINT, _CALLER, [0, _PROGRAM_ID, 2, _FUNCTION_ID], btf_fd, 0)
        try:
            return _load(library, kinds.EXT, EMPTY, [0, _FUNCTION_ID], btf_fd, replaced_fd)
        finally:
            os.close(replaced_fd)
    finally:
        os.close(btf_fd)


def replace(library: Library, program_fd: int) -> int:
    """Descriptor of the link that puts it there; raises OSError."""
    return _checked(library.bpf_raw_tracepoint_open(None, program_fd))


def _load(library: Library, program_type: int, code: bytes, functions: list[int], btf_fd: int, replaced_fd: int) -> int:
    """Load a program; `functions`: instruction and type of each."""
    hold = C.create_string_buffer(code, len(code))
    where = (C.c_uint32 * len(functions))(*functions)
    options = libbpf.ProgLoadOpts(
        sz=C.sizeof(libbpf.ProgLoadOpts),
        prog_btf_fd=btf_fd,
        func_info=C.addressof(where),
        func_info_cnt=len(functions) // 2,
        func_info_rec_size=8,
        attach_prog_fd=replaced_fd,
        attach_btf_id=_FUNCTION_ID if replaced_fd else 0,
    )
    return _checked(
        library.bpf_prog_load(program_type, _NAME, b"GPL", C.addressof(hold), len(code) // 8, C.byref(options))
    )


def _checked(result: int) -> int:
    if result < 0:
        raise OSError(-result, os.strerror(-result))
    return int(result)
