"""The bpf() system call and what it says about programs and maps; no libbpf."""

from __future__ import annotations

import ctypes as C
import os
import platform
from typing import Any

MAP_CREATE = 0
MAP_LOOKUP_ELEM, MAP_UPDATE_ELEM, MAP_DELETE_ELEM, MAP_GET_NEXT_KEY = 1, 2, 3, 4
PROG_LOAD, OBJ_PIN, OBJ_GET, BTF_LOAD, BTF_GET_FD_BY_ID = 5, 6, 7, 18, 19
PROG_ATTACH, PROG_DETACH = 8, 9
PROG_GET_NEXT_ID, MAP_GET_NEXT_ID, PROG_GET_FD_BY_ID, MAP_GET_FD_BY_ID, OBJ_GET_INFO_BY_FD = 11, 12, 13, 14, 15
MAP_LOOKUP_AND_DELETE_ELEM = 21
MAP_LOOKUP_BATCH, MAP_LOOKUP_AND_DELETE_BATCH, MAP_UPDATE_BATCH, MAP_DELETE_BATCH = 24, 25, 26, 27
LINK_CREATE, LINK_UPDATE = 28, 29
LINK_GET_FD_BY_ID, LINK_GET_NEXT_ID, ENABLE_STATS = 30, 31, 32
ITER_CREATE = 33
NAME_BYTES = 16
ENOTSUPP = 524  # the kernel's own "this kind cannot do that"; not in Python's errno
RDONLY = 1 << 3  # BPF_F_RDONLY, of a map's descriptor

_SYS_BPF = {"x86_64": 321, "aarch64": 280, "riscv64": 280, "s390x": 351, "ppc64le": 361}.get(platform.machine(), 280)
_libc = C.CDLL(None, use_errno=True)
_syscall = _libc.syscall
_syscall.restype = C.c_long
_syscall.argtypes = [C.c_long, C.c_int, C.c_void_p, C.c_uint]


class ProgInfo(C.Structure):
    """The kernel's struct bpf_prog_info; a kernel that knows less of it leaves zeros."""

    _fields_ = [
        ("type", C.c_uint32),
        ("id", C.c_uint32),
        ("tag", C.c_uint8 * 8),
        ("jited_prog_len", C.c_uint32),
        ("xlated_prog_len", C.c_uint32),
        ("jited_prog_insns", C.c_uint64),
        ("xlated_prog_insns", C.c_uint64),
        ("load_time", C.c_uint64),
        ("created_by_uid", C.c_uint32),
        ("nr_map_ids", C.c_uint32),
        ("map_ids", C.c_uint64),
        ("name", C.c_char * NAME_BYTES),
        ("ifindex", C.c_uint32),
        ("gpl_compatible", C.c_uint32),
        ("netns_dev", C.c_uint64),
        ("netns_ino", C.c_uint64),
        ("nr_jited_ksyms", C.c_uint32),
        ("nr_jited_func_lens", C.c_uint32),
        ("jited_ksyms", C.c_uint64),
        ("jited_func_lens", C.c_uint64),
        ("btf_id", C.c_uint32),
        ("func_info_rec_size", C.c_uint32),
        ("func_info", C.c_uint64),
        ("nr_func_info", C.c_uint32),
        ("nr_line_info", C.c_uint32),
        ("line_info", C.c_uint64),
        ("jited_line_info", C.c_uint64),
        ("nr_jited_line_info", C.c_uint32),
        ("line_info_rec_size", C.c_uint32),
        ("jited_line_info_rec_size", C.c_uint32),
        ("nr_prog_tags", C.c_uint32),
        ("prog_tags", C.c_uint64),
        ("run_time_ns", C.c_uint64),
        ("run_cnt", C.c_uint64),
        ("recursion_misses", C.c_uint64),
        ("verified_insns", C.c_uint32),
        ("attach_btf_obj_id", C.c_uint32),
        ("attach_btf_id", C.c_uint32),
        ("pad", C.c_uint32),
    ]


class MapInfoRaw(C.Structure):
    """The kernel's struct bpf_map_info; a kernel that knows less of it leaves zeros."""

    _fields_ = [
        ("type", C.c_uint32),
        ("id", C.c_uint32),
        ("key_size", C.c_uint32),
        ("value_size", C.c_uint32),
        ("max_entries", C.c_uint32),
        ("map_flags", C.c_uint32),
        ("name", C.c_char * NAME_BYTES),
        ("ifindex", C.c_uint32),
        ("btf_vmlinux_value_type_id", C.c_uint32),
        ("netns_dev", C.c_uint64),
        ("netns_ino", C.c_uint64),
        ("btf_id", C.c_uint32),
        ("btf_key_type_id", C.c_uint32),
        ("btf_value_type_id", C.c_uint32),
        ("pad", C.c_uint32),
        ("map_extra", C.c_uint64),
    ]


class BtfInfo(C.Structure):
    """The beginning of the kernel's struct bpf_btf_info."""

    _fields_ = [("btf", C.c_uint64), ("btf_size", C.c_uint32), ("id", C.c_uint32)]


class ElemAttr(C.Structure):
    """What the commands for one element of a map take."""

    _fields_ = [("map_fd", C.c_uint32), ("key", C.c_uint64), ("value", C.c_uint64), ("flags", C.c_uint64)]


class CreateAttr(C.Structure):
    """What MAP_CREATE takes, to the types of key and value."""

    _fields_ = [
        ("map_type", C.c_uint32),
        ("key_size", C.c_uint32),
        ("value_size", C.c_uint32),
        ("max_entries", C.c_uint32),
        ("map_flags", C.c_uint32),
        ("inner_map_fd", C.c_uint32),
        ("numa_node", C.c_uint32),
        ("map_name", C.c_char * NAME_BYTES),
        ("map_ifindex", C.c_uint32),
        ("btf_fd", C.c_uint32),
        ("btf_key_type_id", C.c_uint32),
        ("btf_value_type_id", C.c_uint32),
    ]


class InfoAttr(C.Structure):
    """What OBJ_GET_INFO_BY_FD takes."""

    _fields_ = [("bpf_fd", C.c_uint32), ("info_len", C.c_uint32), ("info", C.c_uint64)]


class _IdAttr(C.Structure):
    _fields_ = [("id", C.c_uint32), ("next_id", C.c_uint32), ("open_flags", C.c_uint32)]


class _PathAttr(C.Structure):
    _fields_ = [("pathname", C.c_uint64), ("bpf_fd", C.c_uint32), ("file_flags", C.c_uint32)]


class _StatsAttr(C.Structure):
    _fields_ = [("type", C.c_uint32)]


class _IterAttr(C.Structure):
    _fields_ = [("link_fd", C.c_uint32), ("flags", C.c_uint32)]


def call(command: int, attr: C.Structure) -> int:
    """One bpf() system call; -1 and ctypes' errno on failure, as libc has it."""
    return int(_syscall(_SYS_BPF, command, C.addressof(attr), C.sizeof(attr)))


def check(command: int, attr: C.Structure, what: str) -> int:
    """One bpf() system call; raises OSError with `what` on failure."""
    result = call(command, attr)
    if result < 0:
        number = C.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")
    return result


def prog_info(fd: int) -> ProgInfo:
    """Ask the kernel about a program."""
    info = ProgInfo()
    check(OBJ_GET_INFO_BY_FD, InfoAttr(fd, C.sizeof(info), C.addressof(info)), "read program info")
    return info


def prog_map_ids(fd: int) -> list[int]:
    """Ids of the maps a program uses."""
    ids = (C.c_uint32 * max(prog_info(fd).nr_map_ids, 1))()
    info = ProgInfo(nr_map_ids=len(ids), map_ids=C.addressof(ids))
    check(OBJ_GET_INFO_BY_FD, InfoAttr(fd, C.sizeof(info), C.addressof(info)), "read program info")
    return list(ids)[: info.nr_map_ids]


def prog_func_info(fd: int, records: type[C.Array[Any]]) -> list[Any]:
    """Read where a program's functions begin, and what types they have: struct bpf_func_info each."""
    found = records()
    info = ProgInfo(nr_func_info=len(found), func_info_rec_size=C.sizeof(found._type_), func_info=C.addressof(found))
    check(OBJ_GET_INFO_BY_FD, InfoAttr(fd, C.sizeof(info), C.addressof(info)), "read program info")
    return list(found)


def map_create(map_type: int, key_size: int, value_size: int, max_entries: int) -> int:
    """Descriptor of a new map without a name; raises OSError."""
    return check(MAP_CREATE, CreateAttr(map_type, key_size, value_size, max_entries), "create a map")


def map_info(fd: int) -> MapInfoRaw:
    """Ask the kernel about a map."""
    info = MapInfoRaw()
    check(OBJ_GET_INFO_BY_FD, InfoAttr(fd, C.sizeof(info), C.addressof(info)), "read map info")
    return info


def btf_of(btf_id: int) -> bytes:
    """BTF that was loaded into the kernel, raw; raises OSError."""
    fd = fd_by_id(BTF_GET_FD_BY_ID, btf_id)
    if fd is None:
        return b""
    try:
        info = BtfInfo()
        check(OBJ_GET_INFO_BY_FD, InfoAttr(fd, C.sizeof(info), C.addressof(info)), "read BTF info")
        raw = C.create_string_buffer(info.btf_size)
        info = BtfInfo(btf=C.addressof(raw), btf_size=len(raw))
        check(OBJ_GET_INFO_BY_FD, InfoAttr(fd, C.sizeof(info), C.addressof(info)), "read BTF")
        return raw.raw
    finally:
        os.close(fd)


def pin(fd: int, path: str) -> None:
    """Pin a map or program in a bpffs; raises OSError."""
    name = C.create_string_buffer(os.fsencode(path))
    check(OBJ_PIN, _PathAttr(C.addressof(name), fd, 0), f"pin at {path}")


def get_pinned(path: str, flags: int = 0) -> int:
    """Descriptor of what is pinned there; raises OSError."""
    name = C.create_string_buffer(os.fsencode(path))
    return check(OBJ_GET, _PathAttr(C.addressof(name), 0, flags), f"open the pin {path}")


def is_map(fd: int) -> bool:
    """Whether a descriptor is one of a map, and not of a program or link."""
    return os.readlink(f"/proc/self/fd/{fd}") == "anon_inode:bpf-map"


def next_id(command: int, after: int) -> int | None:
    """Id of the next program, map or link; None at the end."""
    attr = _IdAttr(after)
    if call(command, attr) < 0:
        number = C.get_errno()
        if number == 2:  # ENOENT
            return None
        raise OSError(number, f"list kernel ids: {os.strerror(number)}")
    return int(attr.next_id)


def fd_by_id(command: int, number: int, flags: int = 0) -> int | None:
    """Descriptor of a program, map, link or BTF; None when it is gone by now."""
    attr = _IdAttr(number, 0, flags)
    fd = call(command, attr)
    if fd < 0:
        error = C.get_errno()
        if error == 2:  # ENOENT
            return None
        raise OSError(error, f"open by kernel id: {os.strerror(error)}")
    return fd


def enable_stats() -> int:
    """Switch run statistics on until the returned descriptor is closed. Requires SYS_ADMIN and 5.8."""
    return check(ENABLE_STATS, _StatsAttr(0), "switch run statistics on")


def create_iter(link_fd: int) -> int:
    """Descriptor of a new iterator, read from its beginning, for an iter program's link."""
    return check(ITER_CREATE, _IterAttr(link_fd, 0), "begin the iterator")


def memlock_bytes(fd: int) -> int:
    """Kernel memory of a map as its fdinfo has it; before 6.4 an estimate of the kernel's own."""
    info = os.open(f"/proc/self/fdinfo/{fd}", os.O_RDONLY)
    try:
        _, found, rest = os.read(info, 4096).partition(b"\nmemlock:")
    finally:
        os.close(info)
    return int(rest.split(None, 1)[0]) if found else 0
