"""tracefs (and its kin), where they are mounted; where not, mounted in a mount namespace of the agent's own."""

from __future__ import annotations

import ctypes as C
import os

MOUNTS = {
    "tracefs": "/sys/kernel/tracing",
    "bpf": "/sys/fs/bpf",
    "securityfs": "/sys/kernel/security",
    "cgroup2": "/sys/fs/cgroup",
}
_DEBUGFS_TRACING = "/sys/kernel/debug/tracing"
_CLONE_NEWNS = 0x00020000
_MS_REC, _MS_SLAVE = 0x4000, 1 << 19
_own_namespace = False
# The root folder as everybody else sees it, once this process has mounts of its own.
_people = -1
_libc = C.CDLL(None, use_errno=True)


def tracing() -> str | None:
    """Folder of tracefs, if it can be read."""
    # libbpf takes debugfs first as well.
    for path in (_DEBUGFS_TRACING, MOUNTS["tracefs"]):
        if os.access(f"{path}/events", os.R_OK | os.X_OK):
            return path
    return None


def ensure_tracing() -> str:
    """Make tracefs readable for this process; what stands in the way, or an empty text."""
    return "" if tracing() else mount("tracefs")


def mount(kind: str) -> str:
    """Mount one of `MOUNTS` where only this process sees it; what stands in the way, or an empty text."""
    global _own_namespace, _people
    if not _own_namespace:
        people = os.open("/", os.O_PATH | os.O_CLOEXEC)
        if _libc.unshare(_CLONE_NEWNS) or _libc.mount(b"none", b"/", None, C.c_ulong(_MS_REC | _MS_SLAVE), None):
            why = os.strerror(C.get_errno())
            os.close(people)
            return f"{kind} is not mounted, and a private mount is refused: {why}"
        _people, _own_namespace = people, True
    if _libc.mount(kind.encode(), MOUNTS[kind].encode(), kind.encode(), C.c_ulong(0), None):
        return f"{kind} cannot be mounted: {os.strerror(C.get_errno())}"
    return ""


def seen_by_people(path: str) -> str:
    """Path that leads to what others see there, past the mounts of this process's own."""
    return path if _people < 0 else f"/proc/self/fd/{_people}{path}"


def is_mounted(kind: str) -> bool:
    """Whether this process sees that file system at its usual place."""
    with open("/proc/self/mounts") as mounts:
        return any(line.split()[1:3] == [MOUNTS[kind], kind] for line in mounts)
