"""An arena: where it lies, and its memory, read through a mapping of this process's own."""

from __future__ import annotations

import ctypes as C
import errno
import itertools
import mmap
import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from . import bpf
from .libbpf import Library

if TYPE_CHECKING:
    from .declared import MapSpec

# Beyond what processes use, and on arm64 within the 52 bits of a small address space.
_FIRST_ARENA = 1 << (44 if platform.machine() == "x86_64" else 32)
_ARENA_STEP = 1 << 33
_PLACES = 1 << 12
_numbers = itertools.count()
_FAILED = C.c_void_p(-1).value
_libc = C.CDLL(None, use_errno=True)
_libc.mmap.restype = C.c_void_p
_libc.mmap.argtypes = [C.c_void_p, C.c_size_t, C.c_int, C.c_int, C.c_int, C.c_long]
_libc.munmap.argtypes = [C.c_void_p, C.c_size_t]


def place(library: Library, specs: list[MapSpec]) -> None:
    """Give each arena an address: without one, no program that points into it loads before it has been mapped."""
    for spec in specs:
        if spec.type_name == "arena" and not spec.extra:
            # Another than any session's before it: libbpf maps an arena over what lies there.
            place = _FIRST_ARENA + next(_numbers) % _PLACES * _ARENA_STEP
            library.bpf_map__set_map_extra(spec.pointer, place)


def read(fd: int, offset: int, size: int) -> bytes:
    """Read a part of an arena; raises OSError.

    A page that no program has allocated is allocated by reading it, as by any process that maps the arena; where the
    arena forbids that (BPF_F_SEGV_ON_FAULT) it is EIO.
    """
    info = bpf.map_info(fd)
    length = info.max_entries * mmap.PAGESIZE
    if offset + size > length:
        raise OSError(errno.EINVAL, f"{size:,} bytes at {offset:,} lie outside its {length:,}")
    with _mapped(fd, info.map_extra, length) as address:
        # By way of a file, not by the pointer: then a page that is not to be had is an error and no SIGSEGV.
        memory = os.open("/proc/self/mem", os.O_RDONLY | os.O_CLOEXEC)
        try:
            data = os.pread(memory, size, address + offset)
        finally:
            os.close(memory)
    if len(data) < size:
        raise OSError(errno.EIO, f"no program has allocated what lies at {offset + len(data):,}")
    return data


@contextmanager
def _mapped(fd: int, place: int, length: int) -> Iterator[int]:
    """Address of the whole arena: where it was declared to be, since the kernel maps it nowhere else."""
    with open("/proc/self/maps") as mappings:
        if place and any(line.startswith(f"{place:x}-") for line in mappings):
            yield place  # libbpf does that since 1.4, while it holds the map
            return
    address = _libc.mmap(place or None, length, mmap.PROT_READ, mmap.MAP_SHARED, fd, 0)
    if address == _FAILED:
        raise OSError(C.get_errno(), f"map it: {os.strerror(C.get_errno())}")
    try:
        yield address
    finally:
        _libc.munmap(address, length)
