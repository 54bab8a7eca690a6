"""Running a program over many packets in one request: BPF_PROG_RUN once each, in a loop beside the kernel."""

from __future__ import annotations

import ctypes as C
import errno as errnos
import os
from array import array
from typing import NamedTuple

from . import bpf, kinds, libbpf
from .declared import Program
from .fault import Fault, from_errno
from .libbpf import Library

MAX_PACKETS, MAX_BYTES = 1 << 14, 16 << 20  # of one request: the guard's clock waits for it
_ROOM_BYTES = 512  # what a program may add in front and behind


class Results(NamedTuple):
    """Of each packet: return value, nanoseconds, and the length of what became of it; then all of that."""

    verdicts: array[int]
    durations_ns: array[int]
    lengths: array[int]
    data: bytearray


def run(
    library: Library, fd: int, program: Program, lengths: array[int], data: memoryview, repeat: int, first: int
) -> Results:
    """Run a loaded program over packets that lie one behind the other; raises `Fault`, which counts from `first`."""
    what = f"run {program.label}"
    if sum(lengths) != len(data) or len(lengths) > MAX_PACKETS or len(data) > MAX_BYTES or repeat >= 1 << 31:
        why = f"a request has at most {MAX_PACKETS:,} packets of {MAX_BYTES:,} bytes together, and their lengths add up"
        raise Fault("usage", what, why)
    found = Results(array("I"), array("I"), array("I"), bytearray())
    room = max(lengths, default=0) + _ROOM_BYTES
    given, taken = (C.c_char * max(len(data), 1)).from_buffer_copy(bytes(data) or b"\0"), C.create_string_buffer(room)
    options = libbpf.TestRunOpts(data_out=C.addressof(taken))
    at = 0
    for number, length in enumerate(lengths, first):
        options.sz = C.sizeof(libbpf.TestRunOpts)
        options.data_in, options.data_size_in = C.addressof(given) + at, length
        options.data_size_out, options.repeat = room, 0 if repeat == 1 else repeat
        error = -library.bpf_prog_test_run_opts(fd, C.byref(options))
        if error:
            raise _refused(what, program, error, number, length)
        found.verdicts.append(options.retval)
        found.durations_ns.append(options.duration)
        found.lengths.append(options.data_size_out)
        found.data.extend(memoryview(taken)[: options.data_size_out])
        at += length
    return found


def _refused(what: str, program: Program, error: int, number: int, length: int) -> Fault:
    if error in (bpf.ENOTSUPP, errnos.EOPNOTSUPP):
        return Fault(
            "unsupported",
            what,
            f"the kernel cannot run {program.kind} programs over packets",
            "xdp, tc, cgroup_skb, socket, flow_dissector and netfilter programs can be run so.",
            errno=error,
            program=program.name,
        )
    fault = from_errno("load", what, error, kinds.KINDS[program.kind].needs, program=program.name)
    if error in (errnos.EINVAL, errnos.ENOMEM, errnos.EMSGSIZE):
        fault.fields["why"] = f"the kernel refused packet {number}, of {length:,} bytes: {os.strerror(error)}"
        fault.fields["hint"] = (
            "It has a whole Ethernet header (14 bytes) and, but for xdp.frags programs, fits into a page."
        )
    return fault
