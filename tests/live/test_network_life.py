"""What holds programs of the network goes with the notebook and with the agent, also where no link owns it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import rights
from network import SOCKMAP, as_root, congestion, filters, known_congestion_controls, wire
from objects import empty, eventually

import ebpf_magic as em
from ebpf_magic import build
from ebpf_magic.errors import AgentTimeoutError, AttachError, GuardError
from ebpf_magic.hosts.base import AgentHost
from ebpf_magic.session import Session

pytestmark = pytest.mark.live

ROOT = Path(__file__).parents[2]
NOTEBOOK = """
import sys
sys.path.insert(0, {root!r})
import ebpf_magic as em
session = em.run({source!r}, "killed", on={on!r}, attach={attach!r}, allow_change=True)
print(session.agent_host.info.pid, session.program_rows[0]["id"], flush=True)
sys.stdin.read()
"""
TWO_NAMESPACES = """
import subprocess, sys
sys.path.insert(0, {root!r})
from ebpf_magic.agent import kinds, network_probes
from ebpf_magic.agent.attach import traffic
from ebpf_magic.agent.libbpf import Library
from ebpf_magic.agent.programs import load_empty

def there():
    tc = ["tc", "qdisc", "show", "dev", "lo", "clsact"]
    return "clsact" in subprocess.run(tc, capture_output=True, text=True, check=True).stdout

library = Library()
program = load_empty(library, kinds.SCHED_CLS)
with network_probes._empty_namespace():
    session = traffic.Filter(library, 1, "ingress", program, 1)
    with network_probes._empty_namespace():
        traffic.Filter(library, 1, "ingress", program, 1).close()
    print(there())
    session.close()
    print(there())
"""
UNLINKED_TABLE = """
import os, sys
sys.path.insert(0, {root!r})
from ebpf_magic.agent import declared, objects
from ebpf_magic.agent.attach import struct_ops
from ebpf_magic.agent.libbpf import Library

struct_ops.prefer_links = lambda library, pointers: None  # as before v6.4
library = Library()
with open({path!r}, "rb") as file:
    data = memoryview(bytearray(file.read()))
limits = objects.Limits(True, True, 1 << 20, 2)
loaded = objects.load(library, data, "test", limits, {{}}, objects.Wishes((), {{}}, {{}}, {{}}))
link = struct_ops.attach(library, "em_test", loaded.tables["em_test"])
print(os.getpid(), flush=True)
if sys.stdin.readline():
    link.handles[0].close()
    print("closed", flush=True)
    sys.stdin.read()
"""
COUNT_FRAMES = """
ARRAY(n, u64);
SEC("xdp") int probe(struct xdp_md *ctx)
{
    struct ethhdr *eth = (void *)(long)ctx->data;
    if ((void *)(eth + 1) <= (void *)(long)ctx->data_end && eth->h_proto == 0xb588)
        COUNT(n, 0);
    return XDP_PASS;
}
"""
SEND_FRAMES = """
import select, socket, sys
link = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
link.bind((sys.argv[1], 0))
sent = 0
while not select.select([sys.stdin], [], [], 0.002)[0]:
    sent += link.send(bytes([255] * 6 + [2, 0, 0, 0, 0, 1, 0x88, 0xb5]) + bytes(50)) == 64
    if sent == 1:
        print("begun", flush=True)
print(sent)
"""
SOCKMAP_CELL = f'#include <linux/bpf.h>\n#include <bpf/bpf_helpers.h>\n{SOCKMAP}char LICENSE[] SEC("license") = "GPL";'


@pytest.mark.parametrize("what", ["classic", "struct_ops", "sockmap", "xdp", "cgroup", "netfilter", "socket"])
def test_a_killed_notebook_leaves_nothing(what: str) -> None:
    def plain(section: str, value: int) -> str:
        return f'SEC("{section}") int probe(void *ctx) {{ return {value}; }}'

    source, target = {
        "classic": (plain("tc", 0), "tc:em-k0:ingress:3"),
        "struct_ops": (congestion(), ""),
        "sockmap": (SOCKMAP_CELL, "map:sockets"),
        "xdp": (plain("xdp", 2), "xdp:em-k0"),
        "cgroup": (plain("cgroup_skb/egress", 1), "cgroup:/"),
        "netfilter": (plain("netfilter", 1), "netfilter:ipv4:local_in:40121"),
        "socket": (plain("socket", 0), "socket:em-k0"),
    }[what]
    attach = {"probe": target} if target else None
    text = NOTEBOOK.format(root=str(ROOT), source=source, on=rights.host_name(), attach=attach)
    with wire("em-k"):
        process = subprocess.Popen(
            [sys.executable, "-c", text],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        assert process.stdout is not None
        with process:
            agent, program = map(int, process.stdout.readline().split())
            if what == "classic":
                assert "pref 3" in filters("em-k0")
            if what == "struct_ops":
                assert "em_test" in known_congestion_controls()
            os.killpg(process.pid, signal.SIGKILL)
        assert eventually(lambda: not os.path.exists(f"/proc/{agent}"))
        assert eventually(lambda: program not in {row["id"] for row in rights.list_kernel()["programs"]})
        assert filters("em-k0") == ""
        assert "em_test" not in known_congestion_controls()


@pytest.mark.needs("struct_ops", "xdp")
def test_a_killed_agent_leaves_no_table_behind(start_host: Callable[..., AgentHost]) -> None:
    """By a link, as this kernel has it: what was registered goes with who registered it."""
    host = start_host()
    target = build.KernelTarget(host.info.arch, host.info.build_id, host.btf)
    built = build.compile_cell(congestion(), kernel=target)
    host.load(built.object, session="s", name="test", allow_change=True)
    host.attach("s")
    assert "em_test" in known_congestion_controls()
    rights.kill(host.info.pid, signal.SIGKILL)
    assert eventually(lambda: "em_test" not in known_congestion_controls())


def keepers(agent: int) -> list[int]:
    """Processes that wait for the end of an agent."""
    return [int(pid) for pid in rights.output("cat", f"/proc/{agent}/task/{agent}/children").split()]


def are_gone(pids: list[int]) -> bool:
    return not any(os.path.exists(f"/proc/{pid}") for pid in pids)


@pytest.mark.needs("tc")
@pytest.mark.parametrize("ending", ["killed", "given up", "closed"])
def test_filters_of_the_classic_hook_go_with_the_agent(start_host: Callable[..., AgentHost], ending: str) -> None:
    """No link holds them: two of one session, one of another, and the qdisc that was made for them."""
    host = start_host()
    with wire("em-q"):
        for session, target in (("a", "em-q0:ingress:3"), ("b", "em-q0:egress:4"), ("c", "em-q0:ingress:5")):
            host.load(empty("tc"), session=session, name="test", allow_change=True)
            host.attach(session, {"probe": f"tc:{target}"})
        there = filters("em-q0")
        assert [f"pref {number}" in there for number in (3, 4, 5)] == [True] * 3
        waiting = keepers(host.info.pid)
        assert len(waiting) == 3
        if ending == "killed":
            rights.kill(host.info.pid, signal.SIGKILL)
        elif ending == "given up":
            host.deadline_s = 0.3
            rights.kill(host.info.pid, signal.SIGSTOP)
            with pytest.raises(AgentTimeoutError):
                host.status()
        else:
            host.close()
        assert eventually(lambda: filters("em-q0") == "" and are_gone(waiting), seconds=60)


@pytest.mark.needs("tc")
def test_a_killed_agent_leaves_a_qdisc_that_others_use(start_host: Callable[..., AgentHost]) -> None:
    host, other = start_host(), start_host()
    with wire("em-o"):
        for each, priority in ((host, 3), (other, 7)):
            each.load(empty("tc"), session="s", name="test", allow_change=True)
            each.attach("s", {"probe": f"tc:em-o0:ingress:{priority}"})
        waiting = keepers(host.info.pid)
        rights.kill(host.info.pid, signal.SIGKILL)
        assert eventually(lambda: are_gone(waiting), seconds=60)
        assert "pref 3" not in filters("em-o0")
        assert "pref 7" in filters("em-o0")


@pytest.mark.needs("struct_ops")
@pytest.mark.parametrize("ending", ["killed", "closed"])
def test_a_table_that_no_link_holds_goes_with_the_agent(tmp_path: Path, agent_host: AgentHost, ending: str) -> None:
    target = build.KernelTarget(agent_host.info.arch, agent_host.info.build_id, agent_host.btf)
    path = tmp_path / "table.o"
    path.write_bytes(build.compile_cell(congestion(), kernel=target).object)
    text = UNLINKED_TABLE.format(root=str(ROOT), path=str(path))
    process = subprocess.Popen(
        [*rights.prefix(), sys.executable, "-c", text], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    with process:
        assert process.stdout is not None and process.stdin is not None
        agent = int(process.stdout.readline())
        waiting = keepers(agent)
        assert len(waiting) == 1
        assert "em_test" in known_congestion_controls()
        if ending == "killed":
            rights.kill(agent, signal.SIGKILL)
        else:
            process.stdin.write("\n")
            process.stdin.flush()
            assert process.stdout.readline() == "closed\n"
            assert are_gone(waiting)
        assert eventually(lambda: "em_test" not in known_congestion_controls() and are_gone(waiting), seconds=60)


@pytest.mark.parametrize("section", ["xdp", "tc", "cgroup/dev", "sockops", "sk_lookup", "sk_msg", "netfilter"])
def test_what_changes_the_network_needs_allow_change(agent_host: AgentHost, section: str) -> None:
    with pytest.raises(GuardError, match="can change what the machine does"):
        agent_host.load(empty(section), session="s", name="test")


def test_a_qdisc_of_one_namespace_is_not_that_of_another() -> None:
    """Interface 1 is in every namespace: the doctor's there must not make a session forget its own."""
    said = rights.output(sys.executable, "-c", TWO_NAMESPACES.format(root=str(ROOT)))
    assert said.split("\n") == ["True", "False", ""]


@pytest.mark.needs("xdp")
@pytest.mark.parametrize("mtu", [1500, 9000], ids=["driver", "generic"])
def test_an_xdp_cell_that_runs_again_misses_no_frame_and_sees_none_twice(mtu: int) -> None:
    options = {"on": rights.host_name(), "attach": {"probe": "xdp:em-n0"}, "allow_change": True}
    command = [*rights.prefix(), sys.executable, "-c", SEND_FRAMES, "em-n1"]
    with wire("em-n"):
        as_root(f"ip link set em-n0 mtu {mtu} && ip link set em-n1 mtu {mtu}")
        sessions = [em.run(COUNT_FRAMES, "again", **options)]  # type: ignore[arg-type]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as sender:
            assert sender.stdout is not None
            assert sender.stdout.readline() == "begun\n"
            for number in range(5):
                sessions.append(em.run(f"{COUNT_FRAMES}// {number}\n", "again", **options))  # type: ignore[arg-type]
            said, _ = sender.communicate("\n")
        assert [session.state for session in sessions] == ["stopped"] * 5 + ["running"]
        assert [session.gap_ns for session in sessions] == [None, 0, 0, 0, 0, 0]  # type: ignore[union-attr]

        def seen() -> list[int]:
            return [int(session.maps["n"].df()["value"].sum()) for session in sessions]  # type: ignore[union-attr]

        assert eventually(lambda: sum(seen()) == int(said)), (said, seen())
        em.stop_all()
        assert "xdp" not in as_root("ip link show em-n0")


@pytest.mark.needs("xdp")
def test_a_cell_that_cannot_follow_gives_the_link_back() -> None:
    """What it took over before its other program was refused goes on with the program it had."""
    options = {"on": rights.host_name(), "allow_change": True}
    bad = 'SEC("tracepoint/syscalls/sys_enter_getpidd") int then(void *ctx) { return 0; }'
    with wire("em-n"):
        attach = {"probe": "xdp:em-n0"}
        first = em.run(COUNT_FRAMES, "again", attach=attach, **options)  # type: ignore[arg-type]
        assert isinstance(first, Session)
        with pytest.raises(AttachError, match="no such tracepoint"):
            em.run(COUNT_FRAMES + bad, "again", attach=attach, **options)  # type: ignore[arg-type]
        assert first.state == "running"
        send = SEND_FRAMES.replace("not select.select([sys.stdin], [], [], 0.002)[0]", "sent < 5")
        rights.output(sys.executable, "-c", send, "em-n1")
        assert eventually(lambda: first.maps["n"].df()["value"].sum() == 5)
        first.stop()
        assert "xdp" not in as_root("ip link show em-n0")
