"""The smallest map of a kind, made and let go of: whether this kernel has such maps."""

from __future__ import annotations

import ctypes as C
import mmap
import os
import struct

from . import bpf
from .map_kinds import TYPE_NAMES

# Kinds that came late, or need more than CONFIG_BPF_SYSCALL; and what they need.
NEEDS = {
    "bloom_filter": "it needs Linux 5.16",
    "user_ringbuf": "it needs Linux 6.1",
    "task_storage": "it needs Linux 5.11 with BTF",
    "inode_storage": "it needs CONFIG_BPF_LSM",
    "sk_storage": "it needs CONFIG_NET, Linux 5.2",
    "cgrp_storage": "it needs CONFIG_CGROUPS, Linux 6.2",
    "arena": "it needs a JIT that knows arenas, Linux 6.9 on x86_64",
}
_NUMBERS = {name: number for number, name in TYPE_NAMES.items()}
_NO_PREALLOC, _MMAPABLE = 1, 1 << 10
# struct btf_header, one type (int, 4 bytes, signed), and the strings.
_BTF = (
    struct.pack("<HBBIIIII", 0xEB9F, 1, 0, 24, 0, 16, 16, 5)
    + struct.pack("<4I", 1, 1 << 24, 4, 1 << 24 | 32)
    + b"\0int\0"
)


class _BtfAttr(C.Structure):
    _fields_ = [
        ("btf", C.c_uint64),
        ("log", C.c_uint64),
        ("btf_size", C.c_uint32),
        ("log_size", C.c_uint32),
        ("log_level", C.c_uint32),
    ]


def create(kind: str) -> int:
    """Descriptor of an empty map of that kind; raises OSError."""
    attr = bpf.CreateAttr(_NUMBERS[kind], 0, 4, 1, map_name=b"em_probe")
    if kind == "arena":
        attr.value_size, attr.map_flags = 0, _MMAPABLE
    elif kind == "user_ringbuf":
        attr.value_size, attr.max_entries = 0, mmap.PAGESIZE
    elif kind.endswith("_storage"):
        attr.key_size, attr.max_entries, attr.map_flags = 4, 0, _NO_PREALLOC
        attr.btf_fd, attr.btf_key_type_id, attr.btf_value_type_id = _btf(), 1, 1
    try:
        return bpf.check(bpf.MAP_CREATE, attr, f"create a {kind}")
    finally:
        if attr.btf_fd:
            os.close(attr.btf_fd)


def _btf() -> int:
    raw = C.create_string_buffer(_BTF, len(_BTF))
    return bpf.check(bpf.BTF_LOAD, _BtfAttr(C.addressof(raw), 0, len(_BTF), 0, 0), "load BTF")
