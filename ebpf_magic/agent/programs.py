"""Running a program by BPF_PROG_RUN, and loading the smallest one there is."""

from __future__ import annotations

import ctypes as C
import errno as errnos
import os
import struct
import time
from typing import NamedTuple

from . import bpf, kinds, libbpf, privileges
from .declared import Program
from .fault import Fault, from_errno
from .libbpf import Library

_MAX_BYTES = 1 << 20
# r0 = 0; exit
EMPTY = struct.pack("<BBhi", 0xB7, 0, 0, 0) + struct.pack("<BBhi", 0x95, 0, 0, 0)


class Result(NamedTuple):
    """What a run gave: return value, nanoseconds a run, and ctx and data as the program left them."""

    retval: int
    duration_ns: int
    ctx: bytes
    data: bytes


def run(library: Library, fd: int, program: Program, ctx: bytes, data: bytes, repeat: int) -> Result:
    """Run a loaded program; raises `Fault`."""
    what = f"run {program.label}"
    if max(len(ctx), len(data)) > _MAX_BYTES or repeat >= 1 << 31:
        raise Fault("usage", what, f"ctx and data have at most {_MAX_BYTES} bytes, repeat is below 2**31")
    ctx_buffer, data_in = C.create_string_buffer(ctx, len(ctx)), C.create_string_buffer(data, len(data))
    data_out = C.create_string_buffer(len(data) + 256 if data else 0)
    options = libbpf.TestRunOpts(sz=C.sizeof(libbpf.TestRunOpts), repeat=0 if repeat == 1 else repeat)
    if ctx:
        options.ctx_in, options.ctx_size_in = C.addressof(ctx_buffer), len(ctx)
    if data:
        options.data_in, options.data_size_in = C.addressof(data_in), len(data)
        options.data_out, options.data_size_out = C.addressof(data_out), len(data_out)
    began = time.monotonic_ns()
    error = -library.bpf_prog_test_run_opts(fd, C.byref(options))
    took = time.monotonic_ns() - began
    if error in (bpf.ENOTSUPP, errnos.EOPNOTSUPP):
        raise Fault(
            "unsupported",
            what,
            f"the kernel cannot run {program.kind} programs by themselves",
            "syscall, raw_tp and tp_btf programs can be run so, and over packets those of the network.",
            errno=error,
            program=program.name,
        )
    if error:
        fault = from_errno("load", what, error, kinds.KINDS[program.kind].needs, program=program.name)
        if error == errnos.EINVAL:
            fault.fields["hint"] = (
                "syscall programs take no data and no repeat, and a ctx as large as what they read; "
                "raw_tp and tp_btf programs take a ctx of 64-bit arguments; those of the network a packet."
            )
        raise fault
    # A syscall program's ctx comes back in the buffer it went in; it reports no duration.
    return Result(options.retval, options.duration or took, ctx_buffer.raw, data_out.raw[: options.data_size_out])


def load_empty(library: Library, program_type: int, attach_type: int = 0, btf_id: int = 0, flags: int = 0) -> int:
    """Descriptor of a loaded program that does nothing; raises OSError."""
    options = libbpf.ProgLoadOpts(
        sz=C.sizeof(libbpf.ProgLoadOpts), expected_attach_type=attach_type, attach_btf_id=btf_id, prog_flags=flags
    )
    code = C.create_string_buffer(EMPTY, len(EMPTY))
    fd = library.bpf_prog_load(program_type, b"em_probe", b"GPL", C.addressof(code), len(EMPTY) // 8, C.byref(options))
    if fd < 0:
        raise OSError(-fd, os.strerror(-fd))
    return int(fd)


def try_loading(library: Library) -> str:
    """Why no tracing program can be loaded here; empty when one can."""
    try:
        os.close(load_empty(library, kinds.TRACEPOINT))
    except OSError as error:
        why, _ = privileges.explain(("BPF", "PERFMON"))
        return why or f"loading a program failed: {error.strerror}"
    return ""
