"""What the agent tells: hello, BTF, the log, statistics and costs, features, and everything in the kernel."""

from __future__ import annotations

import os
import struct
import subprocess
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import rights
from objects import compile_object, counting, empty, eventually

from ebpf_magic.hosts.base import AgentHost

pytestmark = pytest.mark.live

PRINTING = compile_object(
    """
struct args { __u64 n; };
SEC("syscall") int say(struct args *ctx) { bpf_printk("line %d of me", ctx->n); return 0; }
SEC("syscall") int broken(struct args *ctx) { bpf_printk("one\\ntwo"); return 0; }
"""
)


A_MAP = (
    "struct {{ __uint(type, BPF_MAP_TYPE_ARRAY); __uint(max_entries, 1); __type(key, __u32); __type(value, __u64); }} "
    'em_{} SEC(".maps");'
)


def say(host: AgentHost, number: int) -> None:
    host.run_program("s", "say", ctx=struct.pack("<Q", number))


def agent_uid(host: AgentHost) -> int:
    return 0 if host.name == "sudo" else os.getuid()


def test_hello(agent_host: AgentHost) -> None:
    info = agent_host.info
    assert info.release == os.uname().release
    assert info.machine == os.uname().machine
    assert info.online_cpus == os.cpu_count()
    assert info.possible_cpus >= info.online_cpus
    assert info.page_size == os.sysconf("SC_PAGE_SIZE")
    assert len(bytes.fromhex(info.build_id)) == 20
    assert info.uid == agent_uid(agent_host)
    assert "BPF" in info.capabilities
    assert info.load_problem == ""


def test_btf_is_the_kernels(agent_host: AgentHost) -> None:
    assert agent_host.btf() == Path("/sys/kernel/btf/vmlinux").read_bytes()


def test_printed_lines_come_once_with_time_cpu_pid_and_comm(agent_host: AgentHost) -> None:
    agent_host.load(PRINTING, session="s", name="test")
    began = time.monotonic()
    for number in range(5):
        say(agent_host, number)
    reply = agent_host.log("s")
    ended = time.monotonic()
    lines = [line for line in reply["lines"] if line["pid"] == agent_host.info.pid]
    assert [line["text"] for line in lines] == [f"line {number} of me" for number in range(5)]
    assert all(began - 0.01 <= line["time_s"] <= ended + 0.01 for line in lines)
    assert all(0 <= line["cpu"] < agent_host.info.possible_cpus for line in lines)
    assert all(line["comm"].startswith("python") for line in lines)
    assert reply["dropped"] == 0
    assert [line for line in agent_host.log("s")["lines"] if line["pid"] == agent_host.info.pid] == []


def test_a_line_break_within_a_line_is_kept(agent_host: AgentHost) -> None:
    agent_host.load(PRINTING, session="s", name="test")
    agent_host.run_program("s", "broken", ctx=bytes(8))
    say(agent_host, 3)
    texts = [line["text"] for line in agent_host.log("s")["lines"] if line["pid"] == agent_host.info.pid]
    assert texts == ["one\ntwo", "line 3 of me"]


def test_more_lines_than_are_kept_are_counted(agent_host: AgentHost) -> None:
    total = 60_000
    source = compile_object(
        'SEC("syscall") int many(void *ctx) { for (int i = 0; i < 1000; i++) bpf_printk("n %d", i); return 0; }'
    )
    agent_host.load(source, session="s", name="test")
    for _ in range(total // 1000):
        agent_host.run_program("s", "many")
    seen = dropped = 0
    while (reply := agent_host.log("s"))["lines"]:
        seen += len(reply["lines"])
        dropped += reply["dropped"]
    assert dropped > 0
    assert seen + dropped >= total


def instances(host: AgentHost, of: AgentHost | None = None) -> list[str]:
    """The tracefs instances of an agent (its own, or another's), seen through its own mounts."""
    names = rights.output("ls", f"/proc/{host.info.pid}/root/sys/kernel/tracing/instances").split()
    return [name for name in names if name.startswith(f"ebpf_magic-{(of or host).info.pid}-")]


def test_the_log_has_an_instance_of_its_own_only_while_needed(agent_host: AgentHost) -> None:
    agent_host.load(empty("syscall"), session="quiet", name="test")
    assert instances(agent_host) == []
    agent_host.load(PRINTING, session="s", name="test")
    assert len(instances(agent_host)) == 1
    agent_host.close_session("s")
    assert instances(agent_host) == []


def test_instances_of_killed_agents_are_swept(start_host: Callable[..., AgentHost]) -> None:
    killed, witness = start_host(), start_host()
    killed.load(PRINTING, session="s", name="test")
    (left,) = instances(killed)
    rights.kill(killed.info.pid, 9)
    killed.close()
    assert left in instances(witness, of=killed)
    start_host()
    assert left not in instances(witness, of=killed)


def test_statistics_count_runs_and_time(agent_host: AgentHost) -> None:
    agent_host.load(counting("tp/syscalls/sys_enter_getppid"), session="s", name="test")
    agent_host.attach("s")
    first = agent_host.stats("s")
    for _ in range(1000):
        os.getppid()
    second = agent_host.stats("s")
    assert second["programs"][0]["runs"] - first["programs"][0]["runs"] >= 1000
    assert second["time_ns"] > first["time_ns"]
    assert 0 < second["programs"][0]["run_time_ns"] < second["time_ns"] - first["time_ns"]
    assert second["programs"][0]["missed_runs"] == 0
    assert second["programs"][0]["hook_ns"] is None


def test_calibration_tells_cheap_hooks_from_dear_ones(agent_host: AgentHost) -> None:
    kinds = ["tracepoint", "raw_tp", "tp_btf", "uprobe", "uretprobe", "perf_event", "syscall", "nonsense"]
    hook_ns = agent_host.calibrate(kinds)
    assert hook_ns["syscall"] is None
    assert hook_ns["nonsense"] is None
    measured = {kind: value for kind, value in hook_ns.items() if value is not None}
    assert set(measured) == {"tracepoint", "raw_tp", "tp_btf", "uprobe", "uretprobe", "perf_event"}
    assert all(0 <= value < 1_000_000 for value in measured.values())
    assert measured["uprobe"] > measured["raw_tp"]
    assert agent_host.calibrate(kinds) == hook_ns  # kept, not measured again
    agent_host.load(counting("tp/syscalls/sys_enter_getppid"), session="s", name="test")
    assert agent_host.stats("s")["programs"][0]["hook_ns"] == hook_ns["tracepoint"]


def test_features_are_tried_and_come_with_a_way_out(agent_host: AgentHost) -> None:
    checks = {check["name"]: check for check in agent_host.features()}
    for kind in ("tracepoint", "raw_tp", "tp_btf", "uprobe", "uretprobe", "perf_event", "syscall"):
        assert checks[f"{kind} programs"]["ok"], checks[f"{kind} programs"]
    for kind in ("kprobe", "fentry", "lsm", "iter", "xdp", "tc", "cgroup_skb", "struct_ops"):
        assert f"{kind} programs" in checks
    for name in ("libbpf", "BTF", "tracefs", "bpffs", "lockdown", "JIT", "BPF statistics", "CAP_BPF", "CAP_SYS_ADMIN"):
        assert name in checks
    assert all(check["hint"] for check in checks.values() if not check["ok"])
    assert all(check["detail"] for check in checks.values())


def test_the_list_names_owners(agent_host: AgentHost) -> None:
    loaded = agent_host.load(counting("tp/syscalls/sys_enter_getppid"), session="s", name="test")
    listed = agent_host.list_kernel()
    program = next(row for row in listed["programs"] if row["id"] == loaded.programs[0]["id"])
    assert (program["name"], program["type"], program["uid"]) == ("probe", "tracepoint", agent_uid(agent_host))
    assert loaded.maps["counts"].info.id in program["map_ids"]
    assert agent_host.info.pid in {pid for pid, _ in program["pids"]}
    held = next(row for row in listed["maps"] if row["id"] == loaded.maps["counts"].info.id)
    assert (held["name"], held["type"], held["key_size"], held["value_size"], held["max_entries"]) == (
        "counts",
        "hash",
        4,
        8,
        1024,
    )
    owners = {pid for pid, _ in held["pids"]}
    assert agent_host.info.pid in owners
    assert (os.getpid() in owners) == agent_host.passes_fds


def test_a_list_that_fits_no_answer_comes_in_pages(agent_host: AgentHost) -> None:
    """1,000 maps are some 150 KiB of JSON, several pages; while others list at the same time each gets them all."""
    built = compile_object("\n".join(A_MAP.format(number) for number in range(250)))
    made: set[int] = set()
    for number in range(4):
        loaded = agent_host.load(built, session=f"s{number}", name="test")
        made |= {item.info.id for name, item in loaded.maps.items() if name.startswith("em_")}
        for item in loaded.maps.values():
            item.close()
    assert len(made) == 1000
    with ThreadPoolExecutor(3) as pool:
        lists = [pool.submit(agent_host.list_kernel) for _ in range(3)]
    for each in lists:
        ids = [row["id"] for row in each.result()["maps"]]
        assert len(ids) == len(set(ids))
        assert made <= set(ids)
    for number in range(4):
        agent_host.close_session(f"s{number}")


def test_it_may_hold_many_maps_where_its_user_may_open_few_files(agent_host: AgentHost) -> None:
    lines = Path(f"/proc/{agent_host.info.pid}/limits").read_text().splitlines()
    soft, hard = next(line.split()[3:5] for line in lines if line.startswith("Max open files"))
    assert soft == hard or int(soft) >= 1 << 16


def test_mounts_of_the_agent_are_its_own(agent_host: AgentHost) -> None:
    def mounts() -> list[str]:
        lines = Path("/proc/self/mounts").read_text().splitlines()
        return [line for line in lines if line.split()[2] in ("bpf", "tracefs", "cgroup2")]

    before = mounts()
    agent_host.features()
    assert mounts() == before


def test_statistics_are_switched_off_with_the_last_session(agent_host: AgentHost) -> None:
    def held() -> bool:
        return "bpf-stats" in rights.output("ls", "-l", f"/proc/{agent_host.info.pid}/fd")

    assert not held()
    agent_host.load(empty("syscall"), session="s", name="test")
    assert held()
    agent_host.close_session("s")
    assert eventually(lambda: not held())


def test_a_module_of_the_agent_runs_by_itself() -> None:
    """`python -m ebpf_magic.agent` serves a byte stream on descriptor 0, and ends with it."""
    import sys

    command = [sys.executable, "-m", "ebpf_magic.agent"]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, cwd=Path(__file__).parents[2], check=False)
    assert done.returncode == 0
