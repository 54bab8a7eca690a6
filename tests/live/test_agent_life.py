"""The agent's life: killed, stopped, left behind, used a hundred times; the kernel is as it was before."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import rights
from objects import HASH_U64, compile_object, counting, empty, eventually, one_map
from test_agent_attach import KINDS

from ebpf_magic.errors import AgentError, AgentTimeoutError, StoppedError
from ebpf_magic.hosts.base import AgentHost

pytestmark = pytest.mark.live

ROOT = Path(__file__).parents[2]
NOTEBOOK = """
import sys
sys.path.insert(0, {root!r})
from ebpf_magic.hosts.local import {host}
host = {host}(pass_fds={pass_fds})
loaded = host.load(open({path!r}, "rb").read(), session="s", name="test")
host.attach("s", {targets!r})
print(host.info.pid, loaded.programs[0]["id"], *(handle.info.id for handle in loaded.maps.values()), flush=True)
sys.stdin.read()
"""
# It calls through the array that it stands in: each holds the other.
LOOP = """
int p(void *ctx);
struct { __uint(type, BPF_MAP_TYPE_PROG_ARRAY); __uint(max_entries, 1); __uint(key_size, 4);
	__array(values, int(void *)); } jump SEC(".maps") = { .values = { [0] = (void *)&p } };
SEC("tp/syscalls/sys_enter_getppid") int p(void *ctx) { bpf_tail_call(ctx, &jump, 0); return 0; }
"""
EVERY_KIND = {
    **{kind: (data, {}) for kind, data in KINDS.items()},
    "perf_event": (counting("perf_event"), {"probe": "cpu-clock:99hz"}),
    "uprobe.multi": (counting("uprobe.multi/libc.so.6:getp?id"), {}),
    "tail calls": (compile_object(LOOP), {}),
    "syscall": (one_map(HASH_U64.format(10)), {}),
    "printing": (
        compile_object('SEC("tp/syscalls/sys_enter_getppid") int p(void *ctx) { bpf_printk("x"); return 0; }'),
        {},
    ),
}


def start_notebook(tmp_path: Path, kind: str, pass_fds: bool) -> tuple[subprocess.Popen[str], int, int, list[int]]:
    """A process with a program attached: itself, its agent's pid, the program's id, the maps' ids."""
    data, targets = EVERY_KIND[kind]
    path = tmp_path / "probe.o"
    path.write_bytes(data)
    host = rights.host_name()
    source = NOTEBOOK.format(root=str(ROOT), host=host, pass_fds=pass_fds, path=str(path), targets=targets)
    command = [sys.executable, "-c", source]
    process = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True
    )
    assert process.stdout is not None
    agent, program, *maps = map(int, process.stdout.readline().split())
    return process, agent, program, maps


def is_gone(agent: int, program: int, maps: list[int]) -> bool:
    objects = rights.list_kernel()
    return (
        not os.path.exists(f"/proc/{agent}")
        and program not in {row["id"] for row in objects["programs"]}
        and not set(maps) & {row["id"] for row in objects["maps"]}
    )


@pytest.mark.parametrize("pass_fds", [True, False], ids=["fds", "bytes"])
@pytest.mark.parametrize("kind", EVERY_KIND)
def test_a_killed_notebook_leaves_nothing(tmp_path: Path, kind: str, pass_fds: bool) -> None:
    process, agent, program, maps = start_notebook(tmp_path, kind, pass_fds)
    with process:
        assert not is_gone(agent, program, maps)
        os.killpg(process.pid, signal.SIGKILL)  # the whole group: the agent is in a session of its own
    assert eventually(lambda: is_gone(agent, program, maps))


def test_a_killed_agent_leaves_nothing_and_is_an_error_at_once(agent_host: AgentHost) -> None:
    loaded = agent_host.load(KINDS["tracepoint"], session="s", name="test")
    agent_host.attach("s")
    rights.kill(agent_host.info.pid, signal.SIGKILL)
    with pytest.raises(AgentError, match="killed by SIGKILL"):
        agent_host.stats("s")
    with pytest.raises(AgentError, match="Run the cell again: it starts a new one"):
        agent_host.status()
    assert not agent_host.alive
    program = loaded.programs[0]["id"]
    assert eventually(lambda: program not in {row["id"] for row in rights.list_kernel()["programs"]})
    if agent_host.passes_fds:
        assert loaded.maps["counts"].read().count >= 0
        loaded.maps["counts"].close()
    else:
        with pytest.raises(AgentError):
            loaded.maps["counts"].read()


def test_a_new_host_starts_after_a_dead_one(start_host: Callable[..., AgentHost]) -> None:
    first = start_host()
    rights.kill(first.info.pid, signal.SIGKILL)
    with pytest.raises(AgentError):
        first.status()
    first.close()
    first.close()
    assert start_host().status() == {"sessions": {}}


def test_a_silent_agent_is_given_up_within_the_deadline(agent_host: AgentHost) -> None:
    loaded = agent_host.load(KINDS["tracepoint"], session="s", name="test")
    agent_host.attach("s")
    agent_host.deadline_s = 0.3
    rights.kill(agent_host.info.pid, signal.SIGSTOP)
    with pytest.raises(AgentTimeoutError, match=r"no answer within 0\.3 s; the agent was ended"):
        agent_host.stats("s")
    with pytest.raises(AgentError):
        agent_host.stats("s")
    program = loaded.programs[0]["id"]
    assert eventually(lambda: program not in {row["id"] for row in rights.list_kernel()["programs"]})


def test_sigterm_cleans_up(agent_host: AgentHost) -> None:
    loaded = agent_host.load(KINDS["raw_tp"], session="s", name="test")
    agent_host.attach("s")
    rights.kill(agent_host.info.pid, signal.SIGTERM)
    program = loaded.programs[0]["id"]
    assert eventually(lambda: program not in {row["id"] for row in rights.list_kernel()["programs"]})


def test_an_interrupt_never_cuts_a_frame(agent_host: AgentHost) -> None:
    """KeyboardInterrupt in the middle of calls; afterwards each answer still belongs to its question."""
    handle = agent_host.load(one_map(HASH_U64.format(100_000)), session="s", name="test").maps["m"]
    handle.update(bytes(8), bytes(8), 1)
    interrupted = 0
    for delay_ms in range(20):
        timer = threading.Timer(delay_ms / 2000, os.kill, (os.getpid(), signal.SIGINT))
        try:
            timer.start()
            for _ in range(1000):
                agent_host.status()
                handle.read()
            time.sleep(5)
        except KeyboardInterrupt:
            interrupted += 1
        timer.join()
    assert interrupted == 20
    assert agent_host.status()["sessions"]["s"]["state"] == "loaded"
    assert handle.read().count == 1


def test_calls_from_many_threads(agent_host: AgentHost) -> None:
    problems: list[BaseException] = []

    def work(number: int) -> None:
        try:
            for turn in range(20):
                token = f"{number}-{turn}"
                agent_host.load(empty("raw_tp/sys_enter"), session=token, name="test")
                assert agent_host.stats(token)["programs"][0]["name"] == "probe"
                agent_host.close_session(token)
        except BaseException as error:
            problems.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert problems == []
    assert agent_host.status()["sessions"] == {}


def test_a_forked_child_does_not_keep_the_agent(start_host: Callable[..., AgentHost]) -> None:
    host = start_host()
    child = os.fork()
    if child == 0:
        time.sleep(300)
        os._exit(0)
    try:
        host.close()
        assert host._link.ending() == "it ended with exit code 0"  # by itself: it was not killed
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


FORKING = """
import os, sys
sys.path[:0] = {path!r}
import ebpf_magic
cell = 'HASH(m, u32, u64); SEC("tracepoint/syscalls/sys_enter_getppid") int p(void *c) {{ COUNT(m, PID()); return 0; }}'
session = ebpf_magic.run(cell, name="s", on={host!r})
if os.fork() == 0:
    try:
        session.agent_host.status()
    except ebpf_magic.errors.AgentError as error:
        print(error.why.splitlines()[0], flush=True)
    session.agent_host.close()
    with ebpf_magic.run(cell, name="own", on={host!r}) as own:
        print(own.state, own.agent_host is session.agent_host, flush=True)
    sys.exit()
print(os.waitstatus_to_exitcode(os.wait()[1]), flush=True)
os.getppid()
print(session.state, session.maps["m"].df().loc[os.getpid(), "value"])
"""


def test_a_forked_child_ends_at_once_and_leaves_the_session_alone() -> None:
    words = [sys.executable, "-c", FORKING.format(path=sys.path, host=rights.host_name())]
    done = subprocess.run(words, capture_output=True, text=True, timeout=60, check=True)
    said = ["the agent is gone: it belongs to the process that this one was forked from", "running False", "0"]
    assert done.stdout.splitlines() == [*said, "running 1"]


def resources(host: AgentHost) -> tuple[int, int, int]:
    """Descriptors of this process and of the agent, and the agent's sessions."""
    return (
        len(os.listdir("/proc/self/fd")),
        len(rights.output("ls", f"/proc/{host.info.pid}/fd").split()),
        len(host.status()["sessions"]),
    )


def resident_kb(pid: int) -> int:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS:"))


def cycle(host: AgentHost, rounds: int) -> None:
    data = compile_object(
        f'struct {{ {HASH_U64.format(1000)} }} m SEC(".maps"); __u64 n SEC(".bss.em");'
        'SEC("raw_tp/sys_enter") int probe(void *ctx) { __u64 k = 0; n++; return bpf_map_lookup_elem(&m, &k) != 0; }'
    )
    for _ in range(rounds):
        loaded = host.load(data, session="s", name="test")
        host.attach("s")
        host.detach("s")
        for handle in loaded.maps.values():
            handle.read()
            handle.close()
        host.close_session("s")


def test_cycles_leave_both_sides_as_they_were(agent_host: AgentHost) -> None:
    cycle(agent_host, 20)
    before = resources(agent_host)
    growths = []
    for _ in range(3):  # a leak is one every time; what an allocator keeps for later is not
        memory_before = resident_kb(agent_host.info.pid), resident_kb(os.getpid())
        cycle(agent_host, int(os.environ.get("EBPF_MAGIC_CYCLES", "100")))
        assert resources(agent_host) == before
        memory = resident_kb(agent_host.info.pid), resident_kb(os.getpid())
        growths.append((memory[0] - memory_before[0], memory[1] - memory_before[1]))
        if max(growths[-1]) < 2000:
            break
    else:
        pytest.fail(f"memory grew by these kB, of the agent and of this process: {growths}")


def test_many_links_are_detached_at_once(agent_host: AgentHost) -> None:
    count = 20
    source = compile_object(
        "".join(f'SEC("tp/syscalls/sys_enter_getppid") int p{i}(void *ctx) {{ return 0; }}\n' for i in range(count))
    )
    agent_host.load(source, session="s", name="test")
    assert len(agent_host.attach("s")["links"]) == count
    agent_host.detach("s")
    runs = [row["runs"] for row in agent_host.stats("s")["programs"]]
    os.getppid()
    assert [row["runs"] for row in agent_host.stats("s")["programs"]] == runs


def test_closing_an_unknown_session_is_fine_and_other_verbs_say_so(agent_host: AgentHost) -> None:
    agent_host.close_session("nobody")
    for call in (agent_host.attach, agent_host.detach, agent_host.stats, agent_host.log):
        with pytest.raises(StoppedError, match="session nobody: there is none of that name"):
            call("nobody")


def test_the_agent_imports_nothing_of_the_rest(agent_host: AgentHost) -> None:
    maps = rights.output("cat", f"/proc/{agent_host.info.pid}/maps")
    assert "site-packages" not in maps
    assert "libbpf" in maps
