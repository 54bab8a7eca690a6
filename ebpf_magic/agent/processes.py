"""Other processes: a hold of one that no other can take the id of, and copies of the sockets it has open."""

from __future__ import annotations

import ctypes as C
import errno
import os

THREAD = os.O_EXCL  # PIDFD_THREAD, since 64bef697d33b ("pidfd: implement PIDFD_THREAD flag"), v6.9
_PIDFD_OPEN, _PIDFD_GETFD = 434, 438  # of every architecture
_ENDED = frozenset({errno.ESRCH, errno.EBADF, errno.ENOENT})
_libc = C.CDLL(None, use_errno=True)
_libc.syscall.restype = C.c_long


def hold(pid: int, flags: int = 0) -> int:
    """Descriptor of a process, or with `THREAD` of a thread; raises OSError."""
    return _call(_PIDFD_OPEN, f"open process {pid}", pid, flags)


def holds_threads() -> bool:
    """Whether this kernel has descriptors of threads that are not the first of their process."""
    try:
        os.close(hold(os.getpid(), THREAD))
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
        return False
    return True


def all_ids() -> list[int]:
    """Every process's id."""
    return [int(name) for name in os.listdir("/proc") if name.isdigit()]


def sockets(pid: int) -> list[tuple[int, str]]:
    """Give number and name (``socket:[INODE]``) of a process's sockets; none where it may not be looked at."""
    try:
        numbers = os.listdir(f"/proc/{pid}/fd")
    except OSError:  # it ended meanwhile, or is not ours to look at
        return []
    found = []
    for number in numbers:
        try:
            name = os.readlink(f"/proc/{pid}/fd/{number}")
        except OSError:  # closed meanwhile
            continue
        if name.startswith("socket:"):
            found.append((int(number), name))
    return found


def copy(pid: int, number: int) -> int | None:
    """Descriptor of our own for one of a process's; None when that or the process is gone by now. Raises OSError."""
    try:
        process = hold(pid)
        try:
            return _call(_PIDFD_GETFD, f"copy a descriptor of process {pid}", process, number, 0)
        finally:
            os.close(process)
    except OSError as error:
        if error.errno in _ENDED:
            return None
        raise


def _call(call: int, what: str, *arguments: int) -> int:
    result = int(_libc.syscall(C.c_long(call), *map(C.c_int, arguments)))
    if result < 0:
        number = C.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")
    return result
