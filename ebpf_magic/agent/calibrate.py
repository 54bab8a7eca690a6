"""What one hit of an attach kind costs beside the program, measured with an empty program on this kernel.

The agent hits its own probe: the same work is timed without and with it, the shortest of several times each, less what
the empty program itself took meanwhile (by the run statistics). The figure of tracepoint, raw_tp and tp_btf is
that of a system call's entry, which costs more than others: with one attached, every system call takes a longer way.
kprobe, fentry and their kin are put on a small function (lsm: its hook) that getpgid() calls.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from functools import partial
from itertools import repeat

from . import bpf, probes
from .libbpf import Library

_REPEATS, _LEAST_REPEATS = 9, 3
_ENOUGH_NS = 100_000_000  # where everything is slow, as in an emulated machine, three times will do
_OF_FILES = ("uprobe", "uretprobe", "uprobe.multi", "uretprobe.multi")
_CALLS = {"tracepoint": 2000, "raw_tp": 2000, "tp_btf": 2000, **dict.fromkeys(_OF_FILES, 200)}
_KPROBES = ("kprobe", "kretprobe", "kprobe.multi", "kretprobe.multi")
_FUNCTION_CALLS = {**dict.fromkeys(("fentry", "fexit", "fmod_ret", "lsm"), 2000), **dict.fromkeys(_KPROBES, 1000)}
_SPINS = 400_000  # some 10 ms of counting, for perf_event


def hook_ns(library: Library, kind: str) -> float | None:
    """Nanoseconds a hit; None for a kind that has no hook of its own, or cannot be measured here."""
    if kind not in _CALLS and kind not in _FUNCTION_CALLS and kind != "perf_event":
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
    if kind == "perf_event":
        work = _spin
    elif kind in _FUNCTION_CALLS:
        work = _call(partial(os.getpgid, os.getpid()), _FUNCTION_CALLS[kind])
    else:
        work = _call(os.getppid, _CALLS[kind])
    without_ns = min(_times(work, lambda: 0))
    with probes.attached(library, kind, program_fd):
        runs_before, _ = probes.run_counters(program_fd)
        times = _times(work, lambda: probes.run_counters(program_fd)[1])
        runs_after, _ = probes.run_counters(program_fd)
    runs = runs_after - runs_before
    if runs < len(times):
        return None
    hits = _CALLS.get(kind) or _FUNCTION_CALLS.get(kind) or runs / len(times)
    return max((min(times) - without_ns) / hits, 0.0)


def _times(work: Callable[[], None], aside_ns: Callable[[], int]) -> list[int]:
    """Time the work several times; what `aside_ns` grows by meanwhile does not count."""
    times: list[int] = []
    start = time.perf_counter_ns()
    while len(times) < _REPEATS and (len(times) < _LEAST_REPEATS or time.perf_counter_ns() - start < _ENOUGH_NS):
        aside_before, began = aside_ns(), time.perf_counter_ns()
        work()
        took = time.perf_counter_ns() - began
        times.append(took - (aside_ns() - aside_before))
    return times


def _call(call: Callable[[], int], count: int) -> Callable[[], None]:
    def work() -> None:
        for each in repeat(call, count):
            each()

    return work


def _spin() -> None:
    for _ in repeat(None, _SPINS):
        pass
