"""An empty program attached to something harmless, one way for each attach kind: for calibration and for the doctor."""

from __future__ import annotations

import ctypes as C
import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager

from . import bpf, bpf_links, kinds, network_probes, replaceable
from .attach import functions, perf
from .libbpf import Library
from .programs import load_empty

# What getpgid(PID) calls, and little else does: in the kernel's BTF, and open to ftrace.
FUNCTION = b"security_task_getpgid"
_HOOK = b"task_getpgid"
_SAMPLE_NS = 20_000
# Kinds that are only loaded.
LOADED_ONLY = frozenset({"syscall", "struct_ops"})
# Kind: expected attach type, and the name whose BTF id the program is bound to.
_TRACING = {
    "tp_btf": (kinds.TRACE_RAW_TP, b"sys_enter"),
    "fentry": (kinds.TRACE_FENTRY, FUNCTION),
    "fexit": (kinds.TRACE_FEXIT, FUNCTION),
    "fmod_ret": (kinds.MODIFY_RETURN, FUNCTION),
    "iter": (kinds.TRACE_ITER, b"task"),
    "lsm": (kinds.LSM_MAC, _HOOK),
}
_TYPES = {
    "tracepoint": kinds.TRACEPOINT,
    "raw_tp": kinds.RAW_TRACEPOINT,
    "perf_event": kinds.PERF_EVENT,
    **dict.fromkeys(("kprobe", "kretprobe", "ksyscall", "kretsyscall"), kinds.KPROBE),
    **dict.fromkeys(("uprobe", "uretprobe", "usdt"), kinds.KPROBE),
}
_MULTI = {
    **dict.fromkeys(("kprobe.multi", "kretprobe.multi"), kinds.TRACE_KPROBE_MULTI),
    **dict.fromkeys(("uprobe.multi", "uretprobe.multi"), kinds.TRACE_UPROBE_MULTI),
}
_SEMAPHORES = "/sys/bus/event_source/devices/uprobe/format/ref_ctr_offset"
_SYSCALL_PREFIX = {"x86_64": "__x64_", "aarch64": "__arm64_"}


def load(library: Library, kind: str) -> int:
    """Descriptor of an empty program for that kind; raises OSError."""
    if kind in network_probes.TYPES:
        return network_probes.load(library, kind)
    if kind == "syscall":
        return load_empty(library, kinds.SYSCALL, flags=kinds.SLEEPABLE)
    if kind in _TYPES:
        return load_empty(library, _TYPES[kind])
    if kind in _MULTI:
        return load_empty(library, kinds.KPROBE, _MULTI[kind])
    if kind == "freplace":
        return replaceable.load(library)
    attach_type, name = _TRACING[kind]
    btf_id = library.libbpf_find_vmlinux_btf_id(name, attach_type)
    if btf_id < 0:
        raise OSError(-btf_id, f"the kernel's BTF has no {name.decode()} for {kind}")
    return load_empty(library, kinds.LSM if kind == "lsm" else kinds.TRACING, attach_type, btf_id)


@contextmanager
def attached(library: Library, kind: str, program_fd: int) -> Iterator[None]:
    """Attach it while the block runs; raises OSError."""
    if kind in LOADED_ONLY:
        yield
        return
    if kind in network_probes.TYPES:
        with network_probes.attached(library, kind, program_fd):
            yield
        return
    fd = _attach(library, kind, program_fd)
    try:
        yield
    finally:
        os.close(fd)


def _attach(library: Library, kind: str, program_fd: int) -> int:
    """Descriptor that holds the program to its hook."""
    if kind == "lsm" and "bpf" not in (functions.security_modules() or ["bpf"]):
        raise OSError(errno.EOPNOTSUPP, "bpf is not among the kernel's security modules: it would never be called")
    if kind == "freplace":
        return replaceable.replace(library, program_fd)
    if kind in _MULTI:
        return _attach_multi(kind, program_fd)
    if kind == "iter":
        return _checked(library.bpf_link_create(program_fd, 0, kinds.TRACE_ITER, None))
    if kind == "raw_tp" or kind in _TRACING:
        return _checked(library.bpf_raw_tracepoint_open(b"sys_enter" if kind == "raw_tp" else None, program_fd))
    event = _event(kind)
    try:
        perf.set_program(event, program_fd)
    except BaseException:
        os.close(event)
        raise
    return event


def _event(kind: str) -> int:
    if kind == "tracepoint":
        return perf.open_tracepoint("syscalls/sys_enter_getppid")
    if kind == "perf_event":
        return perf.open_event(perf.Sampling("cpu-clock", _SAMPLE_NS, False), 0, -1)
    if kind in ("kprobe", "kretprobe"):
        return perf.open_probe("kprobe", FUNCTION, 0, kind == "kretprobe", -1)
    if kind in ("ksyscall", "kretsyscall"):
        name = f"{_SYSCALL_PREFIX.get(os.uname().machine, '')}sys_getppid"
        return perf.open_probe("kprobe", name.encode(), 0, kind == "kretsyscall", -1)
    if kind == "usdt" and not os.path.exists(_SEMAPHORES):
        raise OSError(errno.EOPNOTSUPP, "the kernel cannot count up the semaphore of a probe")
    path, offset = _getppid()
    return perf.open_probe("uprobe", path.encode(), offset, kind == "uretprobe", os.getpid())


def _attach_multi(kind: str, program_fd: int) -> int:
    """Descriptor of a link to one function."""
    flags, attach_type = int("ret" in kind), _MULTI[kind]
    attr: C.Structure
    if attach_type == kinds.TRACE_KPROBE_MULTI:
        name = C.create_string_buffer(FUNCTION)
        names = (C.c_void_p * 1)(C.addressof(name))
        attr = bpf_links.KprobeMultiAttr(program_fd, 0, attach_type, 0, flags, 1, C.addressof(names))
    else:
        file, offset = _getppid()
        path, places = C.create_string_buffer(file.encode()), (C.c_uint64 * 1)(offset)
        attr = bpf_links.UprobeMultiAttr(
            *(program_fd, 0, attach_type, 0, C.addressof(path), C.addressof(places)),
            *(0, 0, 1, flags, os.getpid()),
        )
    return bpf.check(bpf.LINK_CREATE, attr, f"attach {kind}")


def _getppid() -> tuple[str, int]:
    """File and offset of the getppid() that this process calls."""
    address = C.cast(C.CDLL(None).getppid, C.c_void_p).value or 0
    with open("/proc/self/maps") as lines:
        for line in lines:
            span, _, offset, _, _, *path = line.split(maxsplit=5)
            start, end = (int(part, 16) for part in span.split("-"))
            if start <= address < end and path:
                return path[0].strip(), address - start + int(offset, 16)
    raise OSError(errno.ENOENT, "getppid() is in no mapped file")


def _checked(result: int) -> int:
    if result < 0:
        raise OSError(-result, os.strerror(-result))
    return int(result)


def run_counters(program_fd: int) -> tuple[int, int]:
    """Count a program's runs and the nanoseconds they took."""
    info = bpf.prog_info(program_fd)
    return info.run_cnt, info.run_time_ns
