"""Reading and changing a map through a descriptor, on whichever side holds it; raw system calls, no libbpf.

Everything goes in batches where the kernel has them (hash kinds since 5.6, per-CPU arrays since 5.13): the kernel
locks one bucket at a time, so in a batched read no key comes twice and a key that is there throughout is never missed,
whatever is inserted and deleted meanwhile. Elsewhere elements are walked one by one, see `map_walks`.
"""

from __future__ import annotations

import contextlib
import ctypes as C
import errno
import mmap
import os
import sys
import time
from array import array
from typing import Any, NamedTuple

from . import bpf, map_kinds, map_owners, map_walks
from .map_kinds import ARRAYS, KEYLESS, PER_CPU, TYPE_NAMES

__all__ = [
    "ARRAYS",
    "KEYLESS",
    "PER_CPU",
    "TYPE_NAMES",
    "MapInfo",
    "Snapshot",
    "clear",
    "contains",
    "delete",
    "info",
    "read",
    "reads_by_agent",
    "unreadable",
    "update",
    "value_stride",
]

# Below this, mapping and unmapping pages takes longer than clearing them.
_SMALL_BYTES = 64 << 10
_CHUNK = 1 << 16  # entries a system call
_FIRST_BYTES = 256 << 20  # larger buffers grow as they fill; below that they are as large as the map can be
_STORES: dict[int, Any] = {1: C.c_uint8, 2: C.c_uint16, 4: C.c_uint32, 8: C.c_uint64}


class MapInfo(NamedTuple):
    """What the kernel says about a map: sizes in bytes, the kernel's type number, the name cut at 15 characters."""

    type: int
    id: int
    key_size: int
    value_size: int
    max_entries: int
    flags: int
    name: str

    @property
    def type_name(self) -> str:
        """The type in libbpf's words: ``percpu_hash``."""
        return TYPE_NAMES.get(self.type, str(self.type))


class Snapshot(NamedTuple):
    """A map's entries: keys and values as raw bytes, and how and when (CLOCK_MONOTONIC) they were read.

    `read` is "batch", "element", "head" (the one entry that would come out next) or "owners" (asked one by one: tasks,
    sockets, cgroups); `restarts` counts how often an element walk began again.
    """

    keys: memoryview
    values: memoryview
    count: int  # type: ignore[assignment]  # a field, where tuples have a method
    read: str
    began_ns: int
    ended_ns: int
    restarts: int


class _BatchAttr(C.Structure):
    _fields_ = [
        ("in_batch", C.c_uint64),
        ("out_batch", C.c_uint64),
        ("keys", C.c_uint64),
        ("values", C.c_uint64),
        ("count", C.c_uint32),
        ("map_fd", C.c_uint32),
        ("elem_flags", C.c_uint64),
        ("flags", C.c_uint64),
    ]


class _Pages:
    """Memory for a reading: from the heap for a small one, else anonymous pages, touched only where written."""

    def __init__(self, size: int) -> None:
        self._pages: bytearray | mmap.mmap
        if size <= _SMALL_BYTES:
            self._pages = bytearray(max(size, 1))
            return
        self._pages = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        with contextlib.suppress(OSError, AttributeError):  # a kernel without huge pages: only more page faults
            self._pages.madvise(mmap.MADV_HUGEPAGE)

    @property
    def address(self) -> int:
        return C.addressof(C.c_char.from_buffer(self._pages))

    def resize(self, size: int) -> None:
        if isinstance(self._pages, bytearray):
            self._pages.extend(bytes(size - len(self._pages)))
        else:
            self._pages.resize(size)

    def view(self, size: int) -> memoryview:
        return memoryview(self._pages)[:size]


def info(fd: int) -> MapInfo:
    """Type and sizes of the map behind a descriptor."""
    raw = bpf.map_info(fd)
    name = bytes(raw.name).decode(errors="replace")
    return MapInfo(raw.type, raw.id, raw.key_size, raw.value_size, raw.max_entries, raw.map_flags, name)


def value_stride(info: MapInfo, possible_cpus: int) -> int:
    """Bytes of one value as it is looked up: of a per-CPU map, one value a possible CPU, each rounded up to 8."""
    if info.type_name in PER_CPU:
        return (info.value_size + 7) // 8 * 8 * possible_cpus
    return info.value_size


def unreadable(info: MapInfo) -> tuple[str, str] | None:
    """Why the entries of such a map cannot be read, and what to do instead; None where they can."""
    way, why, hint = map_kinds.reading(info.type_name, info.value_size)
    return None if way else (why, hint)


def reads_by_agent(type_name: str) -> bool:
    """Whether only the agent can read it: it takes the right to see every task, socket and cgroup, and its mounts."""
    return type_name in map_kinds.BY_OWNER or type_name in ("inode_storage", "arena")


def read(fd: int, info: MapInfo, possible_cpus: int, delete: bool = False) -> Snapshot:
    """Read all entries, and delete each as it is read if asked to.

    Parameters
    ----------
    fd : int
        The map.
    info : MapInfo
        What `info` said about it.
    possible_cpus : int
        Of the kernel the map lives in.
    delete : bool
        Look up and delete in one step: every entry is handed out exactly once. Kinds that the kernel has no such step
        for (an LPM trie) are looked up, then deleted: what is changed in between is lost.

    Raises
    ------
    OSError
        The kernel refused; the text says what was tried.
    """
    if delete and info.type_name in ARRAYS:
        raise OSError(errno.EINVAL, "an array's entries cannot be deleted; clear() sets them to zero")
    way, why, _ = map_kinds.reading(info.type_name, info.value_size)
    if not way:
        raise OSError(errno.EOPNOTSUPP, why)
    stride = value_stride(info, possible_cpus)
    began_ns = time.monotonic_ns()
    if way == "owners":
        return _read_owners(fd, info, delete)
    if way == "head":
        taken = map_walks.take(fd, info, delete)
        return Snapshot(
            memoryview(b""), memoryview(b"".join(taken)), len(taken), "head", began_ns, time.monotonic_ns(), 0
        )
    batch = _read_batches(fd, info, stride, delete) if way == "batch" else None
    if batch is not None:
        keys, values, count = batch
        return Snapshot(keys, values, count, "batch", began_ns, time.monotonic_ns(), 0)
    keys, values, count, restarts = (map_walks.drain if delete else map_walks.walk)(fd, info, stride)
    return Snapshot(keys, values, count, "element", began_ns, time.monotonic_ns(), restarts)


def update(fd: int, info: MapInfo, possible_cpus: int, keys: Any, values: Any, count: int, flags: int = 0) -> None:
    """Insert or overwrite `count` entries; raises OSError that says how many went in before the kernel refused."""
    stride = value_stride(info, possible_cpus)
    _check_sizes(keys, count * info.key_size, "keys")
    _check_sizes(values, count * stride, "values")
    if count == 0:
        return
    key_address, key_hold = _address(keys)
    value_address, value_hold = _address(values)
    attr = _BatchAttr(0, 0, key_address, value_address, count, fd, flags, 0)
    done, error = 0, 0
    if bpf.call(bpf.MAP_UPDATE_BATCH, attr) < 0:
        error = C.get_errno()
        done = attr.count if attr.count < count else 0
        if error in map_walks.NOT_IN_ONE and done == 0:
            done, error = map_walks.update(fd, info.key_size, stride, key_address, value_address, count, flags)
    del key_hold, value_hold
    if error:
        why = "the map is full" if error in (errno.E2BIG, errno.ENOMEM) else os.strerror(error)
        raise OSError(error, f"{why} after {done} of {count} entries")


def contains(fd: int, info: MapInfo, values: Any, count: int) -> bytes:
    """Ask a bloom filter about `count` values: for each a byte, 1 where it may hold it, 0 where it does not."""
    _check_sizes(values, count * info.value_size, "values")
    address, hold = _address(values)
    found = bytearray(count)
    for index in range(count):
        look = bpf.ElemAttr(fd, 0, address + index * info.value_size, 0)
        if bpf.call(bpf.MAP_LOOKUP_ELEM, look) == 0:
            found[index] = 1
        elif C.get_errno() != errno.ENOENT:
            raise OSError(C.get_errno(), os.strerror(C.get_errno()))
    del hold
    return bytes(found)


def delete(fd: int, info: MapInfo, keys: Any, count: int) -> int:
    """Delete entries by key; how many were there to delete."""
    _check_sizes(keys, count * info.key_size, "keys")
    if info.type_name in ARRAYS:
        raise OSError(errno.EINVAL, "an array's entries cannot be deleted; update them instead")
    address, hold = _address(keys)
    position = deleted = 0
    while position < count:
        attr = _BatchAttr(0, 0, address + position * info.key_size, 0, count - position, fd, 0, 0)
        error = C.get_errno() if bpf.call(bpf.MAP_DELETE_BATCH, attr) < 0 else 0
        if error in map_walks.NOT_IN_ONE:
            attr_one = bpf.ElemAttr(fd, address + position * info.key_size, 0, 0)
            error = C.get_errno() if bpf.call(bpf.MAP_DELETE_ELEM, attr_one) < 0 else 0
            attr.count = 0 if error else 1
        if error not in (0, errno.ENOENT):
            raise OSError(error, os.strerror(error))
        deleted += attr.count
        position += attr.count + (1 if error else 0)  # a batch stops at a key that is not there: go on behind it
    del hold
    return deleted


def clear(fd: int, info: MapInfo, possible_cpus: int) -> None:
    """Delete every entry; of an array, set every entry to zero."""
    if info.type_name not in ARRAYS:
        read(fd, info, possible_cpus, delete=True)
        return
    stride = value_stride(info, possible_cpus)
    for start in range(0, info.max_entries, _CHUNK):
        indices = array("I", range(start, min(start + _CHUNK, info.max_entries)))
        zeros = _Pages(len(indices) * stride).view(len(indices) * stride)
        update(fd, info, possible_cpus, indices, zeros, len(indices))


def poke(fd: int, info: MapInfo, offset: int, data: Any) -> None:
    """Overwrite bytes of a mapped array's memory, such as a variable of a data section: nothing beside them is touched.

    A number of 1, 2, 4 or 8 bytes at its own alignment is written in one store: a program never sees half of it.
    """
    raw = bytes(data)
    if not 0 <= offset <= info.value_size * info.max_entries - len(raw):
        raise OSError(errno.EINVAL, f"{len(raw)} bytes at {offset} lie outside it")
    size = -(-info.value_size * info.max_entries // mmap.PAGESIZE) * mmap.PAGESIZE
    with mmap.mmap(fd, size, mmap.MAP_SHARED, mmap.PROT_READ | mmap.PROT_WRITE) as memory:
        store = _STORES.get(len(raw))
        if store is not None and offset % len(raw) == 0:
            cell = store.from_buffer(memory, offset)
            cell.value = int.from_bytes(raw, sys.byteorder)
            del cell  # else the memory could not be unmapped
        else:
            memory[offset : offset + len(raw)] = raw


def _read_batches(fd: int, info: MapInfo, stride: int, delete: bool) -> tuple[memoryview, memoryview, int] | None:
    """All entries by batches; None where this kernel has none for this map."""
    chunk = min(_CHUNK, max(info.max_entries, 1))
    # One chunk of room beyond the map's size: a batch needs room even when nothing is left to come.
    room = info.max_entries + chunk
    if room * (info.key_size + stride) > _FIRST_BYTES:
        room = 2 * chunk
    keys, values = _Pages(room * info.key_size), _Pages(room * stride)
    token = (C.c_uint8 * max(info.key_size, 8))()
    attr = _BatchAttr(out_batch=C.addressof(token), map_fd=fd)
    command = bpf.MAP_LOOKUP_AND_DELETE_BATCH if delete else bpf.MAP_LOOKUP_BATCH
    count = 0
    while True:
        if room - count < chunk:
            room = 2 * room + chunk
            keys.resize(room * info.key_size)
            values.resize(room * stride)
        attr.keys = keys.address + count * info.key_size
        attr.values = values.address + count * stride
        attr.count = chunk
        error = C.get_errno() if bpf.call(command, attr) < 0 else 0
        if error == errno.ENOSPC:  # one bucket holds more entries than the chunk has room for
            chunk *= 4
            continue
        if error in map_walks.NOT_IN_ONE and count == 0:
            return None
        if error not in (0, errno.ENOENT):
            raise OSError(error, os.strerror(error))
        count += attr.count
        # An array has all its entries always; one more call, only to be told so, costs as much as a small one.
        if error == errno.ENOENT or (info.type_name in ARRAYS and count >= info.max_entries):
            return keys.view(count * info.key_size), values.view(count * stride), count
        attr.in_batch = attr.out_batch


def _read_owners(fd: int, info: MapInfo, delete: bool) -> Snapshot:
    if delete:
        raise OSError(errno.EOPNOTSUPP, "values that hang on tasks, sockets and cgroups go with these")
    began_ns = time.monotonic_ns()
    keys, values, _ = map_owners.read(fd, info.type_name, info.value_size)
    joined = memoryview(b"".join(keys)), memoryview(b"".join(values))
    return Snapshot(*joined, len(keys), "owners", began_ns, time.monotonic_ns(), 0)


def _address(buffer: Any) -> tuple[int, object]:
    """Address of a bytes-like object's memory, and what must be held while it is used."""
    view = memoryview(buffer)
    if view.readonly or not view.contiguous:
        data = view.tobytes()
        return C.cast(C.c_char_p(data), C.c_void_p).value or 0, data
    hold = (C.c_char * view.nbytes).from_buffer(view)
    return C.addressof(hold), hold


def _check_sizes(buffer: Any, expected: int, what: str) -> None:
    size = memoryview(buffer).nbytes
    if size != expected:
        raise OSError(errno.EINVAL, f"{size} bytes of {what}, expected {expected}")
