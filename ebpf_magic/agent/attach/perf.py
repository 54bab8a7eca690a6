"""perf events: software clocks and counters that a program can be attached to."""

from __future__ import annotations

import ctypes as C
import errno
import fcntl
import os
import platform
import re
from typing import NamedTuple

from .. import tracefs

SOFTWARE = {
    "cpu-clock": 0,
    "task-clock": 1,
    "page-faults": 2,
    "context-switches": 3,
    "cpu-migrations": 4,
    "minor-faults": 5,
    "major-faults": 6,
    "alignment-faults": 7,
    "emulation-faults": 8,
}
_TYPE_SOFTWARE, _TYPE_TRACEPOINT = 1, 2
_IOC_ENABLE, _IOC_SET_BPF = 0x2400, 0x40042408
_FLAG_FREQ = 1 << 10
_FLAG_FD_CLOEXEC = 8
_SYSCALL = {"x86_64": 298, "aarch64": 241, "riscv64": 241, "s390x": 331, "ppc64le": 319}.get(platform.machine(), 241)
_TARGET = re.compile(r"(?P<event>[\w-]+):(?P<number>\d+)(?P<hz>hz)?", re.IGNORECASE)
_libc = C.CDLL(None, use_errno=True)
_libc.syscall.restype = C.c_long


class Sampling(NamedTuple):
    """What to sample: the event, and every how many of it or how often a second."""

    event: str
    number: int
    is_frequency: bool


class _Attr(C.Structure):
    _fields_ = [
        ("type", C.c_uint32),
        ("size", C.c_uint32),
        ("config", C.c_uint64),
        ("sample", C.c_uint64),
        ("sample_type", C.c_uint64),
        ("read_format", C.c_uint64),
        ("flags", C.c_uint64),
        ("wakeup", C.c_uint32),
        ("bp_type", C.c_uint32),
        ("config1", C.c_uint64),
        ("config2", C.c_uint64),
        ("rest", C.c_uint64 * 5),
    ]


def parse(target: str) -> Sampling | None:
    """Read ``cpu-clock:99hz`` or ``page-faults:1``; None when it is neither."""
    match = _TARGET.fullmatch(target.strip())
    if match is None or int(match["number"]) == 0 or int(match["number"]) >= 1 << 63:
        return None
    return Sampling(match["event"].lower(), int(match["number"]), bool(match["hz"]))


def open_event(sampling: Sampling, pid: int, cpu: int) -> int:
    """Descriptor of a new software event; raises OSError."""
    flags = _FLAG_FREQ if sampling.is_frequency else 0
    attr = _Attr(type=_TYPE_SOFTWARE, config=SOFTWARE[sampling.event], sample=sampling.number, flags=flags)
    return _open(attr, pid, cpu, sampling.event)


def open_tracepoint(name: str) -> int:
    """Descriptor of an event for the tracepoint ``CATEGORY/NAME``; raises OSError."""
    root = tracefs.tracing()
    if root is None:
        raise OSError(errno.EACCES, "tracefs cannot be read")
    with open(f"{root}/events/{name}/id") as text:
        number = int(text.read())
    return _open(_Attr(type=_TYPE_TRACEPOINT, config=number, sample=1), -1, 0, f"tracepoint {name}")


def open_probe(kind: str, name: bytes, offset: int, is_return: bool, pid: int) -> int:
    """Descriptor of a kprobe (by function) or uprobe (by file and offset); raises OSError."""
    try:
        with open(f"/sys/bus/event_source/devices/{kind}/type") as text:
            number = int(text.read())
    except FileNotFoundError:
        raise OSError(errno.ENOSYS, f"this kernel is built without {kind}s") from None
    hold = C.create_string_buffer(name)
    attr = _Attr(type=number, config=int(is_return), config1=C.addressof(hold), config2=offset)
    return _open(attr, pid, -1 if pid > 0 else 0, kind)


def set_program(event_fd: int, program_fd: int) -> None:
    """Run a program on an event, until the event is closed; raises OSError."""
    fcntl.ioctl(event_fd, _IOC_SET_BPF, program_fd)
    fcntl.ioctl(event_fd, _IOC_ENABLE, 0)


def _open(attr: _Attr, pid: int, cpu: int, what: str) -> int:
    attr.size = C.sizeof(_Attr)
    fd = _libc.syscall(
        C.c_long(_SYSCALL), C.byref(attr), C.c_int(pid), C.c_int(cpu), C.c_int(-1), C.c_ulong(_FLAG_FD_CLOEXEC)
    )
    if fd < 0:
        raise OSError(C.get_errno(), f"open perf event {what}: {os.strerror(C.get_errno())}")
    return int(fd)
