"""The guard: each limit is broken by a program made for it, and the refusal names figure, limit and option."""

from __future__ import annotations

import os
import random
import struct
import time
from collections.abc import Callable

import pytest
from objects import GETPPID, HASH_U64, compile_object, counting, empty, eventually, one_map

from ebpf_magic.errors import AgentError, GuardError, LoadError, UnsupportedError, UsageError, VerifierError
from ebpf_magic.hosts.base import AgentHost

pytestmark = pytest.mark.live


@pytest.mark.parametrize("section", ["xdp", "tc", "cgroup_skb/egress"])
def test_kinds_that_change_behaviour_need_allow_change(agent_host: AgentHost, section: str) -> None:
    with pytest.raises(GuardError) as caught:
        agent_host.load(empty(section), session="s", name="test")
    assert "can change what the machine does" in str(caught.value)
    assert "--allow-change" in str(caught.value)
    assert caught.value.program == "probe"
    agent_host.load(empty(section), session="s", name="test", allow_change=True)


@pytest.mark.parametrize("section", ["xdp", "tc", "cgroup_skb/egress"])
def test_what_is_only_loaded_may_be_of_any_kind_and_is_never_attached(agent_host: AgentHost, section: str) -> None:
    agent_host.load(empty(section), session="s", name="test", attaches=False)
    for targets in ({}, {"probe": "lo"}):
        with pytest.raises(UsageError, match="it was loaded not to be attached"):
            agent_host.attach("s", targets)


def test_what_sends_packets_when_it_is_only_run_needs_allow_change(agent_host: AgentHost) -> None:
    source = 'SEC("tc") int probe(struct __sk_buff *skb) { return bpf_clone_redirect(skb, 1, 0); }'
    with pytest.raises(GuardError, match=r"calls bpf_clone_redirect\(\)"):
        agent_host.load(compile_object(source), session="s", name="test", attaches=False)


WRITES = (
    'SEC("tp/syscalls/sys_enter_getppid") int probe(void *ctx)'
    "{ char c = 0; bpf_probe_write_user((void *)8, &c, 1); return 0; }"
)
SIGNALS_IN_SUBPROGRAM = (
    "static __attribute__((noinline)) int hidden(int n) { return bpf_send_signal(n); }\n"
    'SEC("tp/syscalls/sys_enter_getppid") int probe(void *ctx) { return hidden(bpf_get_prandom_u32() == 7 ? 0 : 0); }'
)


@pytest.mark.parametrize(
    ("source", "helper"), [(WRITES, "bpf_probe_write_user"), (SIGNALS_IN_SUBPROGRAM, "bpf_send_signal")]
)
def test_helpers_that_change_behaviour_need_allow_change(agent_host: AgentHost, source: str, helper: str) -> None:
    with pytest.raises(GuardError) as caught:
        agent_host.load(compile_object(source), session="s", name="test")
    assert f"calls {helper}()" in str(caught.value)
    assert "--allow-change" in str(caught.value)
    with pytest.raises(GuardError):  # BPF_PROG_RUN would run it
        agent_host.load(compile_object(source), session="s", name="test", attaches=False)


def test_a_signal_is_allowed_when_allowed(agent_host: AgentHost) -> None:
    agent_host.load(compile_object(SIGNALS_IN_SUBPROGRAM), session="s", name="test", allow_change=True)


def test_maps_beyond_the_budget_are_refused_before_loading(agent_host: AgentHost) -> None:
    big = one_map(HASH_U64.format(10_000_000))
    with pytest.raises(GuardError) as caught:
        agent_host.load(big, session="s", name="test")
    text = str(caught.value)
    assert "the budget is 256.0 MiB" in text
    assert "m: hash of 10,000,000 entries, 866.4 MiB" in text
    assert "--map-budget 867M" in text
    loaded = agent_host.load(big, session="s", name="test", map_budget_bytes=867 << 20)
    assert loaded.maps["m"].memory_bytes < 867 << 20


def test_per_cpu_maps_count_every_possible_cpu(agent_host: AgentHost) -> None:
    entries, cpus = 1_000_000, agent_host.info.possible_cpus
    source = one_map(
        f"__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY); __uint(max_entries, {entries}); "
        "__type(key, __u32); __type(value, __u64);"
    )
    needed = entries * 8 * (cpus + 1)
    with pytest.raises(GuardError, match=f"on {cpus} possible CPUs"):
        agent_host.load(source, session="s", name="test", map_budget_bytes=needed - 1)
    loaded = agent_host.load(source, session="s", name="test", map_budget_bytes=needed)
    assert abs(loaded.maps["m"].memory_bytes - needed) < 8192


@pytest.mark.parametrize("kind", ["HASH", "LRU_HASH", "PERCPU_HASH", "LRU_PERCPU_HASH", "ARRAY", "PERCPU_ARRAY"])
def test_the_computed_memory_is_the_kernels(agent_host: AgentHost, kind: str) -> None:
    from ebpf_magic.agent.map_kinds import memory_bytes as map_memory_bytes

    source = one_map(
        f"__uint(type, BPF_MAP_TYPE_{kind}); __uint(max_entries, 10000); __type(key, __u32); __type(value, __u64[3]);"
    )
    memory = agent_host.load(source, session="s", name="test").maps["m"].memory_bytes
    computed = map_memory_bytes(kind.lower(), 4, 24, 10000, agent_host.info.possible_cpus)
    assert abs(computed / memory - 1) < 0.02


BUSY = f"""
SEC("raw_tp/sys_enter") int probe(__u64 *ctx)
{{
	if (ctx[1] != {GETPPID})
		return 0;
	for (int i = 0; i < 20000; i++)
		bpf_ktime_get_ns();
	return 0;
}}
"""


def test_max_cpu_detaches_a_greedy_session(agent_host: AgentHost) -> None:
    agent_host.load(compile_object(BUSY), session="s", name="test", max_cpu=0.05)
    agent_host.load(counting("raw_tp/sys_enter"), session="modest", name="test", max_cpu=64.0)
    agent_host.attach("s")
    agent_host.attach("modest")
    deadline = time.monotonic() + 60
    while agent_host.status()["sessions"]["s"]["state"] == "attached" and time.monotonic() < deadline:
        os.getppid()
    status = agent_host.status()["sessions"]["s"]
    assert (status["state"], status["reason"]) == ("detached", "max_cpu")
    assert "the limit is 5%; --max-cpu" in status["message"]
    assert agent_host.status()["sessions"]["modest"]["state"] == "attached"
    assert agent_host.stats("s")["programs"][0]["runs"] > 0


def test_for_ends_a_session_and_its_maps_stay_readable(agent_host: AgentHost) -> None:
    loaded = agent_host.load(counting("tp/syscalls/sys_enter_getppid"), session="s", name="test", for_s=2)
    began = time.monotonic()
    agent_host.attach("s")
    os.getppid()
    assert eventually(lambda: agent_host.status()["sessions"]["s"]["state"] == "detached")
    assert time.monotonic() - began >= 2
    status = agent_host.status()["sessions"]["s"]
    assert (status["reason"], status["message"]) == ("for", "stopped after 2 s, as --for asked")
    os.getppid()
    snapshot = loaded.maps["counts"].read()
    keys = struct.unpack(f"<{snapshot.count}I", snapshot.keys)
    assert dict(zip(keys, struct.unpack(f"<{snapshot.count}Q", snapshot.values), strict=True))[os.getpid()] == 1


def test_a_verifier_rejection_names_program_and_section_and_keeps_the_log(agent_host: AgentHost) -> None:
    source = compile_object(
        'SEC("tp/syscalls/sys_enter_getpid") int good(void *ctx) { return 0; }\n'
        'SEC("tp/syscalls/sys_enter_getppid") int bad(__u64 *ctx) { return *(int *)(ctx[3]); }'
    )
    with pytest.raises(VerifierError) as caught:
        agent_host.load(source, session="s", name="test")
    error = caught.value
    assert error.program == "bad"
    assert 'load program bad, SEC("tp/syscalls/sys_enter_getppid")' in str(error)
    assert "invalid mem access" in str(error)
    assert error.log.startswith(("0: R1=ctx", "reg type unsupported", "func#0", "processed")) or "R1=ctx" in error.log
    assert "processed" in error.log


def test_a_verifier_log_of_megabytes_comes_back_whole(agent_host: AgentHost) -> None:
    branches = "\n".join(f"if (bpf_get_prandom_u32() == {i}) x += bpf_ktime_get_ns() & {i};" for i in range(3000))
    source = compile_object(
        f'SEC("tp/syscalls/sys_enter_getppid") int bad(__u64 *ctx) {{ __u64 x = 0; {branches} return *(int *)x; }}'
    )
    with pytest.raises(VerifierError) as caught:
        agent_host.load(source, session="s", name="test")
    log = caught.value.log
    assert len(log) > 1_000_000
    assert log.lstrip().startswith(("func#0", "0:", "reg type"))
    assert "processed" in log.splitlines()[-1] or "processed" in log.splitlines()[-2]


def test_a_verifier_log_larger_than_the_first_buffer_comes_back_whole(agent_host: AgentHost) -> None:
    source = compile_object(
        'SEC("tp/syscalls/sys_enter_getppid") int bad(__u64 *ctx) { __u64 x = 0;'
        f'for (int i = 0; i < 6000; i++) {{ {"x += bpf_ktime_get_ns();" * 40} asm volatile(""); }} return *(int *)x; }}'
    )
    with pytest.raises(VerifierError) as caught:
        agent_host.load(source, session="s", name="test")
    log = caught.value.log
    assert len(log) > 16 << 20
    assert log.lstrip().startswith(("func#0", "0:", "reg type"))
    assert "processed" in log[-300:]


@pytest.mark.parametrize(
    "noise", [b"", b"\x7fELF", b"x" * 4096, os.urandom(1 << 20)], ids=["empty", "short", "text", "noise"]
)
def test_what_is_no_object(agent_host: AgentHost, noise: bytes) -> None:
    with pytest.raises(LoadError, match="open object test"):
        agent_host.load(noise, session="s", name="test")


def test_a_damaged_object_costs_at_most_its_agent(start_host: Callable[..., AgentHost]) -> None:
    """libbpf does not survive every damage: then it is one clear error, and the next host works."""
    good = counting("tp/syscalls/sys_enter_getppid")
    chance = random.Random(2)
    host = start_host()
    for _ in range(100):
        data = bytearray(good)
        for _ in range(chance.randint(1, 20)):
            data[chance.randrange(len(data))] = chance.randrange(256)
        try:
            host.load(bytes(data), session="s", name="test")
        except AgentError as error:
            assert "killed by SIG" in str(error)
            assert not host.alive
            host.close()
            host = start_host()
        except (LoadError, UnsupportedError, VerifierError, GuardError):
            pass
        host.close_session("s")
    host.load(good, session="good", name="test")


def test_a_session_name_is_taken_once(agent_host: AgentHost) -> None:
    agent_host.load(empty("syscall"), session="s", name="test")
    with pytest.raises(UsageError, match="there is one of that name"):
        agent_host.load(empty("syscall"), session="s", name="test")
