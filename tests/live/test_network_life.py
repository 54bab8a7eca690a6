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
from network import SOCKMAP, congestion, filters, known_congestion_controls, wire
from objects import empty, eventually

from ebpf_magic import build
from ebpf_magic.errors import GuardError
from ebpf_magic.hosts.base import AgentHost

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


@pytest.mark.parametrize("section", ["xdp", "tc", "cgroup/dev", "sockops", "sk_lookup", "sk_msg", "netfilter"])
def test_what_changes_the_network_needs_allow_change(agent_host: AgentHost, section: str) -> None:
    with pytest.raises(GuardError, match="can change what the machine does"):
        agent_host.load(empty(section), session="s", name="test")


def test_a_qdisc_of_one_namespace_is_not_that_of_another() -> None:
    """Interface 1 is in every namespace: the doctor's there must not make a session forget its own."""
    said = rights.output(sys.executable, "-c", TWO_NAMESPACES.format(root=str(ROOT)))
    assert said.split("\n") == ["True", "False", ""]
