"""A map's entries one by one, where the kernel has no batches for its kind."""

from __future__ import annotations

import ctypes as C
import errno
import os
from typing import TYPE_CHECKING

from . import bpf
from .bpf import ElemAttr
from .map_kinds import ARRAYS

if TYPE_CHECKING:
    from .maps import MapInfo

# What the kernel says where it cannot do many, or two steps, in one.
NOT_IN_ONE = frozenset({bpf.ENOTSUPP, errno.EINVAL, errno.EOPNOTSUPP})
_PASSES = 8  # of an element walk, at most


def walk(fd: int, info: MapInfo, stride: int) -> tuple[memoryview, memoryview, int, int]:
    """Key by key, for kernels without batches: each key once, and walked until a pass finds nothing new.

    When the key at hand is deleted meanwhile, the kernel begins again at the front (a restart). An update moves an
    entry to the front of its bucket, where a pass may miss it; a further pass finds it.
    """
    found: dict[bytes, bytes] = {}
    restarts = 0
    for _ in range(_PASSES):
        before = len(found)
        restarts += _walk_once(fd, info, stride, found)
        if len(found) == before or info.type_name in ARRAYS:
            break
    keys, values = memoryview(b"".join(found)), memoryview(b"".join(found.values()))
    return keys, values, len(found), restarts


def _walk_once(fd: int, info: MapInfo, stride: int, found: dict[bytes, bytes]) -> int:
    key, value = C.create_string_buffer(info.key_size), C.create_string_buffer(stride)
    step = ElemAttr(fd, 0, C.addressof(key), 0)
    look = ElemAttr(fd, C.addressof(key), C.addressof(value), 0)
    visited: set[bytes] = set()
    restarts = 0
    was_known = False
    limit = 64 * (info.max_entries + 1024)
    while bpf.call(bpf.MAP_GET_NEXT_KEY, step) == 0:
        step.key = C.addressof(key)
        known = key.raw in visited
        restarts += known and not was_known
        was_known = known
        limit -= 1
        if limit < 0:
            raise OSError(errno.EBUSY, "its entries change faster than they can be walked")
        visited.add(key.raw)
        if bpf.call(bpf.MAP_LOOKUP_ELEM, look) == 0:
            found.setdefault(key.raw, value.raw)
        elif C.get_errno() != errno.ENOENT:  # deleted meanwhile, or an index that holds nothing
            raise OSError(C.get_errno(), os.strerror(C.get_errno()))
    if C.get_errno() != errno.ENOENT:
        raise OSError(C.get_errno(), os.strerror(C.get_errno()))
    return restarts


def drain(fd: int, info: MapInfo, stride: int) -> tuple[memoryview, memoryview, int, int]:
    """Look up and delete key by key until none is left, at most as many as make two full maps.

    In two steps where the kernel has none for both: only hashes have one, before 6.18 no stack trace has. Behind a key
    that is gone a hash begins again at the front, and what is addressed by an index has the next index, also of an
    entry that is not there.
    """
    key, value = C.create_string_buffer(info.key_size), C.create_string_buffer(stride)
    step = ElemAttr(fd, 0, C.addressof(key), 0)
    take = ElemAttr(fd, C.addressof(key), C.addressof(value), 0)
    keys: list[bytes] = []
    values: list[bytes] = []
    while len(keys) < 2 * info.max_entries and bpf.call(bpf.MAP_GET_NEXT_KEY, step) == 0:
        step.key = C.addressof(key)
        error = C.get_errno() if bpf.call(bpf.MAP_LOOKUP_AND_DELETE_ELEM, take) < 0 else 0
        if error in NOT_IN_ONE:
            error = C.get_errno() if bpf.call(bpf.MAP_LOOKUP_ELEM, take) < 0 else 0
            if not error and bpf.call(bpf.MAP_DELETE_ELEM, ElemAttr(fd, C.addressof(key), 0, 0)) < 0:
                error = C.get_errno()
        if error == 0:
            keys.append(key.raw)
            values.append(value.raw)
        elif error != errno.ENOENT:
            raise OSError(error, os.strerror(error))
    return memoryview(b"".join(keys)), memoryview(b"".join(values)), len(keys), 0


def take(fd: int, info: MapInfo, delete: bool) -> list[bytes]:
    """Values of a queue or stack: the head alone, which stays; or all, which go."""
    value = C.create_string_buffer(info.value_size)
    attr = ElemAttr(fd, 0, C.addressof(value), 0)
    command = bpf.MAP_LOOKUP_AND_DELETE_ELEM if delete else bpf.MAP_LOOKUP_ELEM
    taken: list[bytes] = []
    # A program may go on pushing: two full maps are enough.
    while len(taken) < (2 * info.max_entries if delete else 1):
        if bpf.call(command, attr) < 0:
            if C.get_errno() == errno.ENOENT:
                break
            raise OSError(C.get_errno(), os.strerror(C.get_errno()))
        taken.append(value.raw)
    return taken


def update(fd: int, key_size: int, stride: int, keys: int, values: int, count: int, flags: int) -> tuple[int, int]:
    """Element by element, for kernels without batches: how many went in, and the error that stopped it."""
    for index in range(count):
        # A map without keys takes no address of one.
        attr = ElemAttr(fd, keys + index * key_size if key_size else 0, values + index * stride, flags)
        if bpf.call(bpf.MAP_UPDATE_ELEM, attr) < 0:
            return index, C.get_errno()
    return count, 0
