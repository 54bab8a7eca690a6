"""Links, and what is attached without one, by the bpf() system call; no libbpf."""

from __future__ import annotations

import ctypes as C
from collections.abc import Sequence

from .bpf import LINK_CREATE, LINK_UPDATE, OBJ_GET_INFO_BY_FD, PROG_ATTACH, PROG_DETACH, InfoAttr, call, check

_KPROBES = (3, 4)  # BPF_PERF_EVENT_KPROBE, BPF_PERF_EVENT_KRETPROBE


class _KprobeLinkInfo(C.Structure):
    """The kernel's struct bpf_link_info of a perf event's link that is a kprobe."""

    _fields_ = [
        ("type", C.c_uint32),
        ("id", C.c_uint32),
        ("prog_id", C.c_uint32),
        ("gap", C.c_uint32),
        ("perf_type", C.c_uint32),
        ("perf_gap", C.c_uint32),
        ("func_name", C.c_uint64),
        ("name_len", C.c_uint32),
        ("offset", C.c_uint32),
        ("addr", C.c_uint64),
        ("missed", C.c_uint64),
    ]


class _KprobeMultiLinkInfo(C.Structure):
    """The kernel's struct bpf_link_info of a kprobe.multi link."""

    _fields_ = [
        ("type", C.c_uint32),
        ("id", C.c_uint32),
        ("prog_id", C.c_uint32),
        ("gap", C.c_uint32),
        ("addrs", C.c_uint64),
        ("count", C.c_uint32),
        ("flags", C.c_uint32),
        ("missed", C.c_uint64),
    ]


class _LinkInfo(C.Structure):
    """The kernel's struct bpf_link_info, as far as all links to a cgroup, namespace or interface are alike."""

    _fields_ = [
        ("type", C.c_uint32),
        ("id", C.c_uint32),
        ("prog_id", C.c_uint32),
        ("gap", C.c_uint32),
        ("target", C.c_uint32),  # ifindex, inode number of the namespace, or the lower half of the cgroup's id
        ("rest", C.c_uint32 * 11),
    ]


class _LinkAttr(C.Structure):
    _fields_ = [
        ("prog_fd", C.c_uint32),
        ("target", C.c_uint32),
        ("attach_type", C.c_uint32),
        ("flags", C.c_uint32),
        ("more", C.c_uint32 * 8),
    ]


class _UpdateAttr(C.Structure):
    _fields_ = [("link_fd", C.c_uint32), ("prog_fd", C.c_uint32), ("flags", C.c_uint32), ("old_prog_fd", C.c_uint32)]


class _AttachAttr(C.Structure):
    _fields_ = [("target_fd", C.c_uint32), ("prog_fd", C.c_uint32), ("attach_type", C.c_uint32), ("flags", C.c_uint32)]


class KprobeMultiAttr(C.Structure):
    """What LINK_CREATE takes for kprobe.multi."""

    _fields_ = [
        ("prog_fd", C.c_uint32),
        ("target_fd", C.c_uint32),
        ("attach_type", C.c_uint32),
        ("link_flags", C.c_uint32),
        ("flags", C.c_uint32),
        ("count", C.c_uint32),
        ("names", C.c_uint64),
        ("addresses", C.c_uint64),
        ("cookies", C.c_uint64),
    ]


class UprobeMultiAttr(C.Structure):
    """What LINK_CREATE takes for uprobe.multi."""

    _fields_ = [
        ("prog_fd", C.c_uint32),
        ("target_fd", C.c_uint32),
        ("attach_type", C.c_uint32),
        ("link_flags", C.c_uint32),
        ("path", C.c_uint64),
        ("offsets", C.c_uint64),
        ("semaphores", C.c_uint64),
        ("cookies", C.c_uint64),
        ("count", C.c_uint32),
        ("flags", C.c_uint32),
        ("pid", C.c_uint32),
        ("gap", C.c_uint32),
    ]


def link_create(prog_fd: int, target: int, attach_type: int, flags: int = 0, more: Sequence[int] = ()) -> int:
    """Descriptor of a new link to an interface (by index), cgroup, namespace or map (by descriptor); raises OSError.

    `more` are the 32-bit fields that only some attach types have. The descriptor is close-on-exec.
    """
    attr = _LinkAttr(prog_fd, target, attach_type, flags)
    for index, value in enumerate(more):
        attr.more[index] = value & 0xFFFFFFFF
    return check(LINK_CREATE, attr, "create a link")


def link_update(link_fd: int, prog_fd: int) -> None:
    """Have a link run another program, from one event to the next; raises OSError."""
    check(LINK_UPDATE, _UpdateAttr(link_fd, prog_fd), "exchange a link's program")


def link_target(fd: int) -> int:
    """Interface, namespace or cgroup that a link is attached to, as a number; 0 once that is gone."""
    info = _LinkInfo()
    check(OBJ_GET_INFO_BY_FD, InfoAttr(fd, C.sizeof(info), C.addressof(info)), "read link info")
    return int(info.target)


def kprobe_missed(link_fd: int) -> int | None:
    """Hits of a kprobe that never came to the program: taken while another ran, or beyond a kretprobe's maxactive.

    None where the kernel does not tell: before 3acf8ace6823 ("bpf: Add missed value to kprobe perf link info"), v6.7.
    """
    info = _KprobeLinkInfo()
    attr = InfoAttr(link_fd, C.sizeof(info), C.addressof(info))
    if call(OBJ_GET_INFO_BY_FD, attr) < 0 or attr.info_len < C.sizeof(info) or info.perf_type not in _KPROBES:
        return None
    return int(info.missed)


def kprobe_multi_missed(link_fd: int) -> int | None:
    """Hits that a kprobe.multi link never handed to its program.

    None where the kernel does not tell: before e2b2cd592adb ("bpf: Add missed value to kprobe_multi link info"), v6.7.
    """
    info = _KprobeMultiLinkInfo()
    attr = InfoAttr(link_fd, C.sizeof(info), C.addressof(info))
    if call(OBJ_GET_INFO_BY_FD, attr) < 0 or attr.info_len < C.sizeof(info):
        return None
    return int(info.missed)


def prog_attach(prog_fd: int, target_fd: int, attach_type: int) -> None:
    """Attach without a link: until `prog_detach`, or until the target is gone; raises OSError."""
    check(PROG_ATTACH, _AttachAttr(target_fd, prog_fd, attach_type), "attach a program")


def prog_detach(prog_fd: int, target_fd: int, attach_type: int) -> None:
    """Undo `prog_attach`; raises OSError."""
    check(PROG_DETACH, _AttachAttr(target_fd, prog_fd, attach_type), "detach a program")
