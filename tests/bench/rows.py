"""The rows of the table: each measures both sides turn by turn, since the machine's speed changes under them."""

from __future__ import annotations

import itertools
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import psutil
from live_cpu import live_cpu_share
from sides import EVENT, Batch, Bcc, Bpftrace, Libbpf, events, kernel_headers

import ebpf_magic as em
from ebpf_magic import build
from ebpf_magic.hosts import registry
from ebpf_magic.session import read_types

_fresh = itertools.count(time.time_ns() % 1_000_000_000)


@dataclass(frozen=True)
class Row:
    """One line of the table: what was measured, what was promised, and whether it was kept."""

    what: str
    against: str
    target: str
    ours: str
    theirs: str
    ratio: str
    met: bool


@dataclass(frozen=True)
class Options:
    """How often to measure: `repeats` for what takes less than a second, fewer for the rest."""

    repeats: int = 9


def faster(what: str, against: str, at_least: float, mine: float, other: float) -> Row:
    """A row of two times in seconds."""
    ratio = other / mine
    target = f"{at_least:g} times faster"
    return Row(what, against, target, milliseconds(mine), milliseconds(other), f"{ratio:.1f} x", ratio >= at_least)


def milliseconds(seconds: float) -> str:
    return f"{seconds * 1000:,.1f} ms" if seconds < 0.1 else f"{seconds * 1000:,.0f} ms"


# A cell run again

RELOAD = """
HASH(counts, u32, u64);
SEC("tracepoint/syscalls/sys_enter_getpgid")
int on_call(void *ctx) {{ COUNT(counts, PID()); return {number}; }}
"""


def reload_once() -> tuple[float, float]:
    """Run the cell with a text it never had: seconds until the new one is attached, until the old one is gone."""
    source = RELOAD.format(number=next(_fresh))
    began = time.monotonic_ns()
    session = em.run(source, name="reloaded")
    gone = time.monotonic_ns()
    return (session.attached_ns - began) / 1e9, (gone - began) / 1e9


def reload_rows(options: Options) -> Iterator[Row]:
    with (
        tempfile.TemporaryDirectory() as folder,
        closing(Bcc(kernel_headers(Path(folder)))) as bcc,
        closing(Bpftrace()) as bpftrace,
        events(),
    ):
        ours, gone, of_bcc, of_bpftrace = [], [], [], []
        for turn in range(options.repeats + 2):
            attached_s, gone_s = reload_once()
            answer = bcc.ask("reload", number=next(_fresh), event=EVENT)
            bpftrace_ns = bpftrace.to_attached_ns()
            if turn >= 2:  # before that, caches are cold
                ours.append(attached_s)
                gone.append(gone_s)
                of_bcc.append(answer["attached_ns"] / 1e9)
                of_bpftrace.append(bpftrace_ns / 1e9)
        em.stop_all()
    # Medians: several processes take part, and the least of each would be luck.
    mine, until_gone = statistics.median(ours), milliseconds(statistics.median(gone))
    what = f"a cell run again with its text changed, until attached (until the old one is gone: {until_gone})"
    yield faster(what, "BCC, compile and attach in a warm process", 3, mine, statistics.median(of_bcc))
    yield faster("the same", "bpftrace, process start to attached", 3, mine, statistics.median(of_bpftrace))


# A session stopped

SYSCALLS = "getpgid getsid getpriority getrlimit getitimer getgroups getresuid getresgid getcpu getrandom".split()
STOPPED = """
ARRAY(calls, u64);
{programs}
"""
PROGRAM = """
SEC("tracepoint/syscalls/sys_enter_{name}")
int on_{name}(void *ctx) {{ COUNT(calls, 0); return 0; }}
"""


def stop_once(programs: int) -> float:
    """Seconds that stopping a session with so many attached programs takes."""
    cell = STOPPED.format(programs="".join(PROGRAM.format(name=name) for name in SYSCALLS[:programs]))
    session = em.run(cell, name="stopped")
    assert len(session.programs) == programs
    began = time.perf_counter_ns()
    session.stop()
    return (time.perf_counter_ns() - began) / 1e9


def stop_rows(options: Options) -> Iterator[Row]:
    ten, one = [], []
    for programs in (10, 1):
        stop_once(programs)  # compiled and calibrated once
    for _ in range(options.repeats):
        ten.append(stop_once(10))
        one.append(stop_once(1))
    mine, other = statistics.median(ten), statistics.median(one)
    yield Row(
        "10 programs attached, session stopped",
        "one program",
        "at most 2 times its time",
        milliseconds(mine),
        milliseconds(other),
        f"{mine / other:.2f} x",
        mine <= 2 * other,
    )


# Maps to DataFrames: the least of several times on both sides, as the work is the same each time.


def contents(entries: int, struct_key: bool) -> tuple[np.ndarray, np.ndarray]:
    """Keys and values, the same for every side: keys in no order, a hundred different names."""
    order = np.random.default_rng(entries).permutation(entries)
    values = np.arange(entries, dtype=np.uint64)
    if not struct_key:
        return order.astype(np.uint64) * 7919, values
    keys = np.zeros(entries, dtype=[("pid", "<u4"), ("comm", "S16")])
    keys["pid"] = order
    keys["comm"] = np.array([f"worker-{number}" for number in range(100)], dtype="S16")[order % 100]
    return keys, values


MAP = """
{struct}
HASH(m, {key}, u64, {entries});
SEC("tracepoint/syscalls/sys_enter_getpgid")
int on_call(void *ctx) {{ (void)&m; return 0; }}
"""


def filled_session(
    entries: int, struct_key: bool, keys: np.ndarray, values: np.ndarray, on: str = "auto"
) -> em.Session:
    """A session whose map `m` holds the contents."""
    struct = "struct who { u32 pid; char comm[16]; };" if struct_key else ""
    source = MAP.format(struct=struct, key="struct who" if struct_key else "u64", entries=entries)
    session = em.run(source, name="filled", on=on, attach=False)
    if struct_key:
        index = pd.MultiIndex.from_arrays([keys["pid"], keys["comm"].astype(str)], names=["pid", "comm"])
    else:
        index = pd.Index(keys, name="key")
    session.maps["m"].update(pd.DataFrame({"value": values}, index=index))
    return session


def read_once(session: em.Session, entries: int, total: int) -> float:
    """Seconds for one DataFrame; its contents are checked."""
    began = time.perf_counter_ns()
    frame = session.maps["m"].df()
    took = time.perf_counter_ns() - began
    assert len(frame) == entries and int(frame["value"].sum()) == total, "what was read is not what was written"
    return took / 1e9


def items_rows(options: Options) -> Iterator[Row]:
    entries = 131_072
    for struct_key, at_least in ((False, 15), (True, 8)):
        with tempfile.TemporaryDirectory() as folder, closing(Bcc(kernel_headers(Path(folder) / "headers"))) as bcc:
            keys, values = contents(entries, struct_key)
            files = write(Path(folder), keys, values)
            bcc.ask("fill", struct_key=struct_key, keys=str(files[0]), values=str(files[1]), entries=entries)
            ours, theirs = [], []
            with filled_session(entries, struct_key, keys, values) as session:
                read_once(session, entries, int(values.sum()))
                for _ in range(options.repeats):
                    ours.append(read_once(session, entries, int(values.sum())))
                    answer = bcc.ask("read")
                    assert (answer["rows"], answer["sum"]) == (entries, int(values.sum())), "BCC read something else"
                    theirs.append(answer["ns"] / 1e9)
        key = "{u32 pid; char comm[16]}" if struct_key else "u64"
        what = f"131,072-entry hash, key {key}, to DataFrame"
        yield faster(what, "BCC, loop over items()", at_least, min(ours), min(theirs))


PER_CPU = """
struct told {{ u64 calls, bytes, ns, errors; u32 least, most; }};
PERCPU_HASH(m, u64, struct told, {entries});
SEC("tracepoint/syscalls/sys_enter_getpgid")
int on_call(void *ctx) {{ (void)&m; return 0; }}
"""
TOLD = np.dtype([*((name, "<u8") for name in ("calls", "bytes", "ns", "errors")), ("least", "<u4"), ("most", "<u4")])


def percpu_rows(options: Options) -> Iterator[Row]:
    entries, cpus = 131_072, registry.get("auto").info.possible_cpus
    keys, _ = contents(entries, struct_key=False)
    values = np.zeros((entries, cpus), TOLD)
    for number, name in enumerate(TOLD.names or ()):
        values[name] = np.random.default_rng(number).integers(0, 1 << 20, values.shape)
    total = int(values["bytes"].sum())
    index = pd.MultiIndex.from_arrays([np.repeat(keys, cpus), np.tile(np.arange(cpus), entries)], names=["key", "cpu"])
    frame = pd.DataFrame({name: values[name].ravel() for name in TOLD.names or ()}, index=index)
    with tempfile.TemporaryDirectory() as folder, closing(Bcc(kernel_headers(Path(folder) / "headers"))) as bcc:
        files = write(Path(folder), keys, values)
        answer = bcc.ask("fill_per_cpu", keys=str(files[0]), values=str(files[1]), entries=entries)
        assert answer["cpus"] == cpus
        ours, theirs = [], []
        source = PER_CPU.format(entries=entries)
        with em.run(source, name="filled", attach=False, map_budget_bytes=1 << 30) as session:
            session.maps["m"].update(frame)
            for turn in range(options.repeats + 1):
                began = time.perf_counter_ns()
                read = session.maps["m"].df()
                took = time.perf_counter_ns() - began
                assert (len(read), int(read["bytes"].sum())) == (entries, total), (
                    "what was read is not what was written"
                )
                if turn:  # before that, memory is new
                    ours.append(took / 1e9)
            for _ in range(max(options.repeats // 3, 1)):
                answer = bcc.ask("read_per_cpu")
                assert (answer["rows"], answer["sum"]) == (entries, total), "BCC read something else"
                theirs.append(answer["ns"] / 1e9)
    what = f"131,072-entry per-CPU hash, {cpus} CPUs, struct of 6 fields, to DataFrame"
    yield faster(what, "BCC, loop over items()", 15, min(ours), min(theirs))


# Many programs and maps in one object

HEAD = "struct who { u32 pid, uid; char comm[16]; };"
PAIR = """
HASH(begun{n}, u32, u64);
HIST_BY(took{n}, struct who, "ns");
SEC("tracepoint/syscalls/sys_enter_read")
int enter{n}(void *ctx)
{{
    START(begun{n}, TID());
    return 0;
}}
SEC("tracepoint/syscalls/sys_exit_read")
int leave{n}(struct trace_event_raw_sys_exit *ctx)
{{
    struct who who = {{.pid = PID(), .uid = bpf_get_current_uid_gid()}};
    u64 took_ns = ELAPSED_NS(begun{n}, TID());
    if (!took_ns || ctx->ret < 0)
        return 0;
    COMM(who.comm);
    OBSERVE_BY(took{n}, who, took_ns);
    return 0;
}}
"""


def object_rows(options: Options) -> Iterator[Row]:
    host = registry.get("auto")
    target = build.KernelTarget(host.info.arch, host.info.build_id, host.btf)
    built = build.compile_cell(HEAD + "".join(PAIR.format(n=n) for n in range(25)), kernel=target)
    ours, theirs = [], []
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "object.o"
        file.write_bytes(built.object)
        with closing(Libbpf(Path(folder), file)) as libbpf:
            for turn in range(3 * options.repeats):
                fresh = replace(built)  # its types are not known yet
                began = time.perf_counter_ns()
                loaded = host.load(fresh.object, session=f"big{turn}", name="big", meanwhile=partial(read_types, fresh))
                session = em.Session("big", host, f"big{turn}", fresh, loaded, [], 0)
                took = time.perf_counter_ns() - began
                kinds = [column.kind for column in session.maps["took24"].spec.key.columns]
                assert (len(session.maps), len(loaded.programs)) == (50, 50) and kinds == ["int", "int", "char", "int"]
                session.stop()
                other, maps, programs = libbpf.load()
                assert (maps, programs) == (51, 50), (
                    "libbpf loaded something else"
                )  # the macros' counters are a map too
                ours.append(took / 1e9)
                theirs.append(other / 1e9)
    mine, other_s = min(ours), min(theirs)
    yield Row(
        "an object of 50 maps and 50 programs opened, loaded and typed",
        "libbpf's own open and load, in C",
        "at most 1.3 times its time",
        milliseconds(mine),
        milliseconds(other_s),
        f"{mine / other_s:.2f} x",
        mine <= 1.3 * other_s,
    )


def batch_rows(options: Options) -> Iterator[Row]:
    entries = 1_000_000
    for struct_key, at_most in ((False, 1.4), (True, 2.0)):
        keys, values = contents(entries, struct_key)
        ours, theirs = [], []
        with tempfile.TemporaryDirectory() as folder:
            files = write(Path(folder), keys, values)
            with (
                closing(Batch(Path(folder), *files, entries, keys.itemsize)) as batch,
                filled_session(entries, struct_key, keys, values) as session,
            ):
                read_once(session, entries, int(values.sum()))
                for _ in range(options.repeats):
                    ours.append(read_once(session, entries, int(values.sum())))
                    took, *seen = batch.read()
                    assert seen == [entries, int(values.sum())], "the C program read something else"
                    theirs.append(took / 1e9)
        mine, other = min(ours), min(theirs)
        key = "{u32 pid; char comm[16]}" if struct_key else "u64"
        yield Row(
            f"1,000,000-entry hash, key {key}, to DataFrame",
            "a C program, the same batch calls",
            f"at most {at_most:g} times its time",
            milliseconds(mine),
            milliseconds(other),
            f"{mine / other:.2f} x",
            mine / other <= at_most,
        )


def write(folder: Path, keys: np.ndarray, values: np.ndarray) -> tuple[Path, Path]:
    keys.tofile(folder / "keys")
    values.tofile(folder / "values")
    return folder / "keys", folder / "values"


# What it costs to have it

SHELL = "from IPython.core.interactiveshell import InteractiveShell\nshell = InteractiveShell.instance()\n"
PANDAS = "import pandas\n"
LOAD = "shell.run_line_magic('load_ext', 'ebpf_magic')\n"


def cpu_s(statements: str) -> float:
    """CPU time of statements in a fresh process with an IPython shell."""
    program = f"{SHELL}import time\nbegan = time.process_time()\n{statements}\nprint(time.process_time() - began)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    return float(done.stdout.splitlines()[-1])


def load_rows(options: Options) -> Iterator[Row]:
    # On top of pandas, so that what it imports itself counts whenever it is imported. The least of several: what is
    # more than that is the machine's noise.
    both, alone = [], []
    for _ in range(options.repeats):
        both.append(cpu_s(PANDAS + LOAD))
        alone.append(cpu_s(PANDAS))
    added = min(both) - min(alone)
    yield Row(
        "%load_ext ebpf_magic after import pandas, CPU time",
        "import pandas alone",
        "adds at most 0.15 s",
        milliseconds(min(both)),
        milliseconds(min(alone)),
        f"adds {added:.3f} s",
        added <= 0.15,
    )


def live_rows(options: Options) -> Iterator[Row]:
    with events():
        busy, idle, frames_per_s = live_cpu_share(rounds=max(options.repeats // 3, 1))
    share = busy - idle
    yield Row(
        f"live histogram at 10 Hz, kernel and agent ({frames_per_s:.1f} frames/s acknowledged)",
        "nothing running",
        "at most 2 % of one core",
        f"{busy * 100:.2f} %",
        f"{idle * 100:.2f} %",
        f"adds {share * 100:.2f} %",
        share <= 0.02 and frames_per_s > 8,
    )


# A kernel in a virtual machine

VM = "vm"
GUEST_MB, GUEST_CPUS = 512, 1


def first_frame_s(on: str) -> float:
    """Seconds until a cell that was never run before has given its first DataFrame."""
    source = RELOAD.format(number=next(_fresh))
    began = time.perf_counter_ns()
    with em.run(source, name="first", on=on) as session:
        session.maps["counts"].df()
        took = time.perf_counter_ns() - began
    return took / 1e9


def vm_rows(options: Options) -> Iterator[Row]:
    first_frame_s("local")
    first_frame_s(VM)  # its vmlinux.h and the precompiled prelude are made once for each kernel
    firsts, later, here = [], [], []
    for _ in range(max(options.repeats // 3, 1)):
        registry.close_all()
        firsts.append(first_frame_s(VM))
    first_frame_s("local")
    for _ in range(options.repeats):
        later.append(first_frame_s(VM))
        here.append(first_frame_s("local"))
    host = registry.get(VM)
    how = getattr(host, "acceleration", "")
    first = statistics.median(firsts)
    row = Row(f"first cell in a VM ({how}), boot to DataFrame", "", "at most 8 s", f"{first:.1f} s", "", "", first <= 8)
    yield row
    mine, other = statistics.median(later), statistics.median(here)
    yield Row(
        "a later cell in the same VM, to its DataFrame",
        "the same cell on local",
        "adds at most 0.5 s",
        milliseconds(mine),
        milliseconds(other),
        f"adds {mine - other:.2f} s",
        mine - other <= 0.5,
    )
    yield vm_map_row(options)
    registry.close_all()
    with em.hosts.vm(cpus=GUEST_CPUS, memory_mb=GUEST_MB):
        time.sleep(5)
        mine = psutil.Process().children(recursive=True)
        resident_mb = sum(each.memory_info().rss for each in mine if each.name().startswith("qemu-system")) / 1e6
    what = f"memory of QEMU with an idle guest of {GUEST_MB} MB"
    yield Row(what, "", "at most 450 MB", f"{resident_mb:.0f} MB", "", "", 0 < resident_mb <= 450)


def vm_map_row(options: Options) -> Row:
    entries = 131_072
    keys, values = contents(entries, struct_key=False)
    total = int(values.sum())
    there, here = [], []
    with filled_session(entries, False, keys, values, on=VM) as session:
        for _ in range(options.repeats):
            there.append(read_once(session, entries, total))
    with filled_session(entries, False, keys, values, on="local") as session:
        for _ in range(options.repeats):
            here.append(read_once(session, entries, total))
    mine, other = min(there), min(here)
    return Row(
        "131,072-entry hash, key u64, out of a VM to DataFrame",
        "the same map on local",
        "at most 10 times its time",
        milliseconds(mine),
        milliseconds(other),
        f"{mine / other:.1f} x",
        mine <= 10 * other,
    )


ALL = {
    "reload": reload_rows,
    "stop": stop_rows,
    "items": items_rows,
    "batch": batch_rows,
    "percpu": percpu_rows,
    "object": object_rows,
    "load": load_rows,
    "live": live_rows,
    "vm": vm_rows,
}
