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

from . import bpf, cgroups, processes

KEYS = {"task_storage": "pid", "sk_storage": "cookie", "cgrp_storage": "cgroup"}
"""What the owners are named by."""

LOOKED_UP = frozenset({"task_storage", "cgrp_storage", "inode_storage"})
"""Kinds whose values are asked for owner by owner, see `open_owner`."""

_ENDED = frozenset({errno.ESRCH, errno.EINVAL, errno.ENOENT})  # what is said of a task that has, one as the other
_SO_COOKIE = 57
_MAX_CGROUP_BYTES = 4096


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
        return processes.hold(int(name))
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
    threads = processes.holds_threads()
    for pid in processes.all_ids():
        for tid in _threads(pid) if threads else [pid]:
            try:
                fd = processes.hold(tid, 0 if tid == pid else processes.THREAD)
            except OSError as error:
                if error.errno not in _ENDED:
                    raise
                continue
            try:
                yield struct.pack("<I", tid), fd
            finally:
                os.close(fd)


def _threads(pid: int) -> list[int]:
    try:
        return [int(name) for name in os.listdir(f"/proc/{pid}/task")]
    except OSError:  # it ended meanwhile
        return []


def _sockets() -> Iterator[tuple[bytes, int]]:
    """Every socket that a process holds, by a descriptor of our own; each once."""
    known: set[str] = set()
    for pid in processes.all_ids():
        for number, name in processes.sockets(pid):
            if name in known:
                continue
            try:
                fd = processes.copy(pid, number)
            except PermissionError:
                raise OSError(errno.EPERM, "to see other processes' sockets it needs CAP_SYS_PTRACE") from None
            if fd is not None:
                known.add(name)
                with socket.socket(fileno=fd) as found:
                    yield found.getsockopt(socket.SOL_SOCKET, _SO_COOKIE, 8), fd


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
