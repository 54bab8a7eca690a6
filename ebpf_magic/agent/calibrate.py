"""What one hit of an attach kind costs beside the program, measured with an empty program on this kernel.

The agent hits its own probe: the same work is timed without and with it, the shortest of several times each, and what
the empty program itself took (by the run statistics) is taken off. The figure of tracepoint, raw_tp and tp_btf is
that of a system call's entry, which costs more than others: with one attached, every system call takes a longer way.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from itertools import repeat

from . import bpf, kinds, probes
from .libbpf import Library

_REPEATS = 9
_CALLS = {"tracepoint": 2000, "raw_tp": 2000, "tp_btf": 2000, "uprobe": 200, "uretprobe": 200}
_SPINS = 400_000  # some 10 ms of counting, for perf_event


def hook_ns(library: Library, kind: str) -> float | None:
    """Nanoseconds a hit; None for a kind that has no hook, or cannot be measured here."""
    if kind not in kinds.SECTIONS or kind == "syscall":
        return None
    try:
        stats_fd = bpf.enable_stats()
    except OSError:  # without run statistics the program's own time cannot be told apart
        return None
    try:
        program_fd = probes.load(library, kind)
        try:
            return _measure(library, kind, program_fd)
        finally:
            os.close(program_fd)
    except OSError:  # this kind does not work here; the doctor says why
        return None
    finally:
        os.close(stats_fd)


def _measure(library: Library, kind: str, program_fd: int) -> float | None:
    work = _spin if kind == "perf_event" else _call(_CALLS[kind])
    without_ns = min(_times(work))
    with probes.attached(library, kind, program_fd):
        runs_before, run_time_before = probes.run_counters(program_fd)
        with_ns = min(_times(work))
        runs_after, run_time_after = probes.run_counters(program_fd)
    runs = runs_after - runs_before
    if runs < _REPEATS:
        return None
    program_ns = (run_time_after - run_time_before) / runs
    hits = _CALLS.get(kind) or runs / _REPEATS
    return max((with_ns - without_ns) / hits - program_ns, 0.0)


def _times(work: Callable[[], None]) -> list[int]:
    times = []
    for _ in range(_REPEATS):
        began = time.perf_counter_ns()
        work()
        times.append(time.perf_counter_ns() - began)
    return times


def _call(count: int) -> Callable[[], None]:
    def work() -> None:
        for call in repeat(os.getppid, count):
            call()

    return work


def _spin() -> None:
    for _ in repeat(None, _SPINS):
        pass
