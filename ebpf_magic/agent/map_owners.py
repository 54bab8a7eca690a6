"""Values that hang on tasks, sockets, cgroups and inodes: looked up by a descriptor of each owner in turn.

What a value is filed under in a reading is no descriptor but a name of its owner: a task's id, a socket's cookie, a
cgroup's path below its file system.
"""

from __future__ import annotations

import ctypes as C
import errno
import os
import socket
import struct
from collections.abc import Iterator
from typing import NamedTuple

from . import bpf, cgroups

KEYS = {"task_storage": "pid", "sk_storage": "cookie", "cgrp_storage": "cgroup"}
"""What the owners are named by."""

_SYS_PIDFD_OPEN, _SYS_PIDFD_GETFD = 434, 438  # of every architecture
_PIDFD_THREAD = os.O_EXCL  # since 64bef697d33b ("pidfd: implement PIDFD_THREAD flag"), v6.9
_SO_COOKIE = 57
_MAX_CGROUP_BYTES = 4096
_libc = C.CDLL(None, use_errno=True)
_libc.syscall.restype = C.c_long


class Entries(NamedTuple):
    """Owners' names, all of one size, and their values; `seen` counts the owners that were asked."""

    keys: list[bytes]
    values: list[bytes]
    seen: int


def read(map_fd: int, type_name: str, value_size: int) -> Entries:
    """Look up the value of every owner there is; raises OSError."""
    owners = {"task_storage": _tasks, "sk_storage": _sockets, "cgrp_storage": _cgroups}[type_name]()
    keys: list[bytes] = []
    values: list[bytes] = []
    seen = 0
    for name, fd in owners:
        seen += 1
        value = lookup(map_fd, fd, value_size)
        if value is not None:
            keys.append(name)
            values.append(value)
    if type_name == "cgrp_storage":
        width = max(map(len, keys), default=1)
        keys = [key.ljust(width, b"\0") for key in keys]
    return Entries(keys, values, seen)


def lookup(map_fd: int, owner_fd: int, value_size: int) -> bytes | None:
    """Look up the value of one owner; None when it has none, or has ended."""
    key, value = C.c_int(owner_fd), C.create_string_buffer(value_size)
    if bpf.call(bpf.MAP_LOOKUP_ELEM, bpf.ElemAttr(map_fd, C.addressof(key), C.addressof(value), 0)) == 0:
        return value.raw
    error = C.get_errno()
    if error in (errno.ENOENT, errno.ESRCH):
        return None
    raise OSError(error, os.strerror(error))


def delete(map_fd: int, owner_fd: int) -> bool:
    """Delete the value of one owner; whether it had one."""
    key = C.c_int(owner_fd)
    if bpf.call(bpf.MAP_DELETE_ELEM, bpf.ElemAttr(map_fd, C.addressof(key), 0, 0)) == 0:
        return True
    error = C.get_errno()
    if error in (errno.ENOENT, errno.ESRCH):
        return False
    raise OSError(error, os.strerror(error))


def open_owner(type_name: str, name: str) -> int:
    """Descriptor of an owner: a file for inode_storage, a cgroup's folder, a process id; raises OSError."""
    if type_name == "task_storage":
        return _pidfd(int(name), 0)
    if type_name == "cgrp_storage":
        root = cgroup_root()
        path = name if name.startswith(root) else root + "/" + name.lstrip("/")
        return os.open(path, os.O_PATH | os.O_DIRECTORY)
    return os.open(name, os.O_PATH)


def cgroup_root() -> str:
    """Where the cgroup v2 tree is mounted; raises OSError when it is nowhere."""
    root = cgroups.mount_point()
    if root is not None:
        return root
    raise OSError(errno.ENOENT, "no cgroup v2 file system is mounted")


def _tasks() -> Iterator[tuple[bytes, int]]:
    """Every task; before 6.9 only the first thread of each process, since no pidfd names another."""
    threads = True
    for pid in filter(str.isdigit, os.listdir("/proc")):
        for tid in _threads(pid) if threads else [pid]:
            try:
                fd = _pidfd(int(tid), 0 if tid == pid else _PIDFD_THREAD)
            except OSError as error:
                threads = threads and error.errno != errno.EINVAL
                continue  # it ended meanwhile
            try:
                yield struct.pack("<I", int(tid)), fd
            finally:
                os.close(fd)


def _threads(pid: str) -> list[str]:
    try:
        return os.listdir(f"/proc/{pid}/task")
    except OSError:  # it ended meanwhile
        return []


def _sockets() -> Iterator[tuple[bytes, int]]:
    """Every socket that a process holds, by a descriptor of our own; each once."""
    known: set[str] = set()
    for pid in filter(str.isdigit, os.listdir("/proc")):
        held = [(number, name) for number, name in _descriptors(pid) if name not in known]
        if not held:
            continue
        try:
            pidfd = _pidfd(int(pid), 0)
        except OSError:  # it ended meanwhile
            continue
        try:
            for number, name in held:
                fd = int(_libc.syscall(_SYS_PIDFD_GETFD, pidfd, int(number), 0))
                if fd < 0:
                    if C.get_errno() == errno.EPERM:
                        raise OSError(errno.EPERM, "to see other processes' sockets it needs CAP_SYS_PTRACE")
                    continue  # closed meanwhile
                known.add(name)
                with socket.socket(fileno=fd) as found:
                    yield found.getsockopt(socket.SOL_SOCKET, _SO_COOKIE, 8), fd
        finally:
            os.close(pidfd)


def _descriptors(pid: str) -> list[tuple[str, str]]:
    found = []
    try:
        numbers = os.listdir(f"/proc/{pid}/fd")
    except OSError:  # it ended meanwhile, or is not ours to look at
        return []
    for number in numbers:
        try:
            name = os.readlink(f"/proc/{pid}/fd/{number}")
        except OSError:  # closed meanwhile
            continue
        if name.startswith("socket:"):
            found.append((number, name))
    return found


def _cgroups() -> Iterator[tuple[bytes, int]]:
    root = cgroup_root()
    for path, _, _ in os.walk(root):
        name = os.fsencode(path[len(root) :] or "/")
        if len(name) > _MAX_CGROUP_BYTES:
            continue
        try:
            fd = os.open(path, os.O_PATH | os.O_DIRECTORY)
        except OSError:  # removed meanwhile
            continue
        try:
            yield name, fd
        finally:
            os.close(fd)


def _pidfd(pid: int, flags: int) -> int:
    fd = int(_libc.syscall(_SYS_PIDFD_OPEN, pid, flags))
    if fd < 0:
        raise OSError(C.get_errno(), f"open process {pid}: {os.strerror(C.get_errno())}")
    return fd
