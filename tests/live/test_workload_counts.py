"""Each workload is in the kernel what it says it is: counted by tracepoints, by the name of the process."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import rights
from objects import eventually

import ebpf_magic
from ebpf_magic import workload

pytestmark = pytest.mark.live

# One row for each process name and event; only of the workloads, whatever else this machine does.
CELL = r"""
struct event { char comm[16]; char what[16]; };
HASH(counts, struct event, u64);
static __always_inline int note(const char *what, int size, u64 number)
{
    struct event event = {};
    bpf_get_current_comm(event.comm, sizeof event.comm);
    if (event.comm[0] != 'w' || event.comm[4] != 'l' || event.comm[8] != '-')
        return 0;
    __builtin_memcpy(event.what, what, size);
    u64 *value = bpf_map_lookup_elem(&counts, &event);
    if (value)
        __sync_fetch_and_add(value, number);
    else
        bpf_map_update_elem(&counts, &event, &number, BPF_ANY);
    return 0;
}
#define NOTE(what) note(what, sizeof what - 1, 1)
#define SYSCALL(name) SEC("tracepoint/syscalls/sys_enter_" #name) int on_##name(void *ctx) { return NOTE(#name); }
SYSCALL(openat)
SYSCALL(read)
SYSCALL(close)
SYSCALL(pwrite64)
SYSCALL(fdatasync)
SYSCALL(connect)
SYSCALL(accept4)
SYSCALL(sendto)
SYSCALL(clock_nanosleep)
SEC("tracepoint/sched/sched_process_fork") int on_fork(void *ctx) { return NOTE("fork"); }
SEC("tracepoint/sched/sched_process_exec") int on_exec(void *ctx) { return NOTE("exec"); }
SEC("tracepoint/sched/sched_process_exit") int on_exit(void *ctx) { return NOTE("exit"); }
SEC("tracepoint/sched/sched_switch") int on_switch(struct trace_event_raw_sched_switch *ctx)
{
    return ctx->prev_state == 1 ? NOTE("sleep") : 0;
}
SEC("tracepoint/sock/inet_sock_set_state") int on_state(struct trace_event_raw_inet_sock_set_state *ctx)
{
    return ctx->newstate == BPF_TCP_SYN_SENT ? NOTE("syn_sent") : 0;
}
"""
BLOCK_CELL = r"""
struct event { char comm[16]; u32 bytes; };
HASH(counts, struct event, u64);
SEC("tracepoint/block/block_bio_queue") int on_queue(struct trace_event_raw_block_bio *ctx)
{
    struct event event = {.bytes = ctx->nr_sector * 512};
    bpf_get_current_comm(event.comm, sizeof event.comm);
    COUNT(counts, event);
    return 0;
}
"""


@pytest.fixture
def counters() -> Iterator[ebpf_magic.Session]:
    # All system calls of a busy machine pass here.
    with ebpf_magic.run(CELL, "counters", on=rights.host_name(), max_cpu=8.0) as session:
        yield session


def work(*arguments: str) -> dict[str, Any]:
    command = [sys.executable, "-I", "-S", workload.__file__, *arguments, "--json"]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    told: dict[str, Any] = json.loads(done.stdout)
    return told


def seen(session: ebpf_magic.Session, comm: str) -> dict[str, int]:
    frame = session.maps["counts"].df()
    assert isinstance(frame, pd.DataFrame)
    counts: dict[str, int] = frame["value"].xs(comm, level="comm").to_dict()
    return counts


def test_file_is_so_many_opens_reads_and_closes(counters: ebpf_magic.Session, tmp_path: Path) -> None:
    told = work("file", "--count", "1000", "--folder", str(tmp_path))
    assert told["counts"] == {"openat": 1000, "read": 1000, "close": 1000, "read_bytes": 512_000}
    assert seen(counters, "workload-file") == {"openat": 1000, "read": 1000, "close": 1000, "exit": 1}
    assert list(tmp_path.iterdir()) == []


def test_fork_is_so_many_forks_execs_and_exits(counters: ebpf_magic.Session, tmp_path: Path) -> None:
    told = work("fork", "--count", "23", "--folder", str(tmp_path))
    assert told["counts"] == {"fork": 23, "exec": 23, "exit": 23}
    assert seen(counters, "workload-fork")["fork"] == 23
    children = seen(counters, "workload-exec")
    assert (children["exec"], children["exit"]) == (23, 23)


def test_net_is_so_many_connections(counters: ebpf_magic.Session) -> None:
    told = work("net", "--count", "50", "--bytes", "3000")
    assert told["counts"]["sent_bytes"] == told["served"]["received_bytes"] == 150_000
    client = seen(counters, "workload-net")
    assert (client["connect"], client["syn_sent"], client["close"]) == (50, 50, 50)
    assert client["sendto"] == told["counts"]["sendto"]
    assert seen(counters, "workload-serve")["accept4"] == 50


def test_cpu_is_so_many_sleeps_and_the_time_between(counters: ebpf_magic.Session) -> None:
    told = work("cpu", "--count", "40", "--burst", "2")
    assert told["counts"]["cpu_time_ns"] >= 40 * 2_000_000
    counts = seen(counters, "workload-cpu")
    assert (counts["clock_nanosleep"], counts["exit"]) == (40, 1)
    # One that is preempted when it has set its state, and before it goes to sleep by itself, is told as running.
    assert 0 < counts["sleep"] <= 40


def test_disk_is_so_many_synchronised_writes(counters: ebpf_magic.Session, tmp_path: Path) -> None:
    told = work("disk", "--count", "64", "--block", "64K", "--folder", str(tmp_path))
    assert told["counts"] == {"pwrite64": 64, "fdatasync": 64, "written_bytes": 64 << 16}
    counts = seen(counters, "workload-disk")
    assert counts == {"pwrite64": 64, "fdatasync": 64, "exit": 1, **_sleeps(counts)}


def test_disk_is_so_many_requests_to_a_disk(tmp_path: Path) -> None:
    if not _lies_on_a_disk(tmp_path):
        pytest.skip(f"{tmp_path} lies on no disk")
    with ebpf_magic.run(BLOCK_CELL, "requests", on=rights.host_name()) as session:
        told = work("disk", "--count", "64", "--block", "64K", "--folder", str(tmp_path))
        assert told["direct"]
        asked = session.maps["counts"].df()["value"].loc["workload-disk"]
    # A file may lie in pieces, and has times, which are written as well.
    assert 56 <= asked[64 << 10] <= 64
    assert 64 << 16 <= (asked * asked.index.to_numpy()).sum() <= 72 << 16


def test_net_crosses_into_another_network_namespace(counters: ebpf_magic.Session) -> None:
    name = f"ebpf_magic-{os.getpid()}"
    if shutil.which("ip") is None or os.getuid() != 0:
        pytest.skip("needs root and ip for a network namespace")
    _ip("netns", "add", name)
    try:
        _ip("link", "add", "em-test0", "type", "veth", "peer", "name", "em-test1", "netns", name)
        _ip("addr", "add", "198.51.100.1/30", "dev", "em-test0")
        _ip("link", "set", "em-test0", "up")
        _ip("-n", name, "addr", "add", "198.51.100.2/30", "dev", "em-test1")
        _ip("-n", name, "link", "set", "em-test1", "up")
        told = work("net", "--count", "20", "--netns", name)
    finally:
        _ip("netns", "delete", name)  # and the pair with it
    assert told["address"] == "198.51.100.2"
    assert told["served"] == {"accept4": 20, "received_bytes": 20_000}
    assert seen(counters, "workload-net")["connect"] == 20


def test_the_command_line_does_the_same(counters: ebpf_magic.Session, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "ebpf_magic.cli", "workload", "file", "--count", "77", "--folder", str(tmp_path)]
    told = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout
    assert "77 opens" in told
    assert seen(counters, "workload-file")["openat"] == 77
    assert eventually(lambda: not list(tmp_path.iterdir()))


def _sleeps(counts: dict[str, int]) -> dict[str, int]:
    """How often it waited, which is the disk's affair."""
    return {"sleep": counts["sleep"]} if "sleep" in counts else {}


def _lies_on_a_disk(folder: Path) -> bool:
    device = os.stat(folder).st_dev
    return os.path.exists(f"/sys/dev/block/{os.major(device)}:{os.minor(device)}")


def _ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True)
