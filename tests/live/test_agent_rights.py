"""With fewer rights: what is missing is named; with sudo it works all the same."""

from __future__ import annotations

import os
import shutil
import struct
import subprocess
from collections.abc import Callable, Iterator

import pytest
import rights
from objects import compile_object, counting, empty, eventually

from ebpf_magic.errors import AgentTimeoutError, NoHostError, NotPermittedError
from ebpf_magic.hosts import local as local_module
from ebpf_magic.hosts.base import AgentHost
from ebpf_magic.hosts.local import local, sudo

pytestmark = pytest.mark.live

# Imports first: an ordinary user may not be allowed to read the interpreter's folder, or this one.
DROP = """
import ctypes, importlib, os, pkgutil, subprocess, sys, traceback; sys.path.append({folder!r})
import agent
for module in pkgutil.walk_packages(agent.__path__, "agent."):
    importlib.import_module(module.name)
from agent.__main__ import main
CAPABILITIES = {capabilities}
libc = ctypes.CDLL(None)
libc.prctl(8, 1, 0, 0, 0)  # PR_SET_KEEPCAPS
if os.getuid() == 0:
    os.setgroups([]); os.setresgid(65534, 65534, 65534); os.setresuid(65534, 65534, 65534)
libc.prctl(4, 1, 0, 0, 0)  # PR_SET_DUMPABLE
low, high = CAPABILITIES & 0xFFFFFFFF, CAPABILITIES >> 32
header = (ctypes.c_uint32 * 2)(0x20080522, 0)
assert libc.capset(header, (ctypes.c_uint32 * 6)(low, low, 0, high, high, 0)) == 0
sys.exit(main())
"""


@pytest.fixture
def start_as_nobody(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[int], AgentHost]]:
    """Start an agent as the user nobody with these capabilities."""
    name, prefix = rights.host_name(), rights.prefix()
    if os.getuid() != 0 and not prefix:
        pytest.skip("only root can become another user")
    started: list[AgentHost] = []

    def start(capabilities: int) -> AgentHost:
        text = DROP.replace("{capabilities}", hex(capabilities))
        monkeypatch.setattr(local_module, "_START", text)
        started.append(local_module._start(name, prefix, pass_fds=True))
        return started[-1]

    yield start
    for host in started:
        host.close()


BPF, PERFMON, DAC_READ_SEARCH, SYS_ADMIN, NET_ADMIN = 1 << 39, 1 << 38, 1 << 2, 1 << 21, 1 << 12


def test_without_any_right(start_as_nobody: Callable[[int], AgentHost]) -> None:
    host = start_as_nobody(0)
    assert host.info.uid == 65534
    assert host.info.capabilities == []
    assert host.info.load_problem == "not permitted: CAP_BPF and CAP_PERFMON missing (uid 65534)"
    with pytest.raises(NotPermittedError) as caught:
        host.load(counting("tp/syscalls/sys_enter_getppid"), session="s", name="test")
    text = str(caught.value)
    assert "CAP_BPF and CAP_PERFMON missing" in text
    assert "sudo" in text
    assert "VM" in text
    with pytest.raises(NotPermittedError, match="CAP_SYS_ADMIN missing"):
        host.list_kernel()
    checks = {check["name"]: check for check in host.features()}
    assert not checks["tracepoint programs"]["ok"]
    assert "CAP_BPF and CAP_PERFMON" in checks["tracepoint programs"]["detail"]
    with pytest.raises(NoHostError, match="CAP_BPF and CAP_PERFMON missing"):
        local()


def test_with_bpf_and_perfmon_alone(start_as_nobody: Callable[[int], AgentHost]) -> None:
    host = start_as_nobody(BPF | PERFMON)
    assert host.info.load_problem == ""
    loaded = host.load(empty("raw_tp/sys_enter"), session="raw", name="test")
    assert "no run statistics, and so no --max-cpu" in loaded.notes[0]
    host.attach("raw")
    host.load(counting("tp/syscalls/sys_enter_getppid"), session="s", name="test")
    with pytest.raises(NotPermittedError, match="CAP_DAC_READ_SEARCH"):
        host.attach("s")
    host.load(counting("uprobe/libc.so.6:getppid"), session="u", name="test")
    with pytest.raises(NotPermittedError, match="CAP_SYS_ADMIN missing"):
        host.attach("u")


def test_what_the_network_needs(start_as_nobody: Callable[[int], AgentHost]) -> None:
    host = start_as_nobody(BPF | PERFMON)
    with pytest.raises(NotPermittedError, match="CAP_NET_ADMIN missing"):
        host.load(empty("xdp"), session="x", name="test", allow_change=True)
    host.load(empty("socket"), session="s", name="test")
    with pytest.raises(NotPermittedError, match="attach socket lo: not permitted: CAP_NET_RAW missing"):
        host.attach("s", {"probe": "socket:lo"})
    checks = {check["name"]: check for check in host.features()}
    assert "CAP_NET_ADMIN missing" in checks["tc programs"]["detail"]
    host = start_as_nobody(BPF | PERFMON | NET_ADMIN)
    host.load(
        compile_object('SEC("tc") int probe(void *ctx) { return -1; }'), session="t", name="test", allow_change=True
    )
    assert host.attach("t", {"probe": "tc:lo:ingress"})["links"][0]["target"] == "tc:lo:ingress"


def needs_sudo() -> None:
    if shutil.which("sudo") is None or subprocess.run(["sudo", "-n", "true"], check=False).returncode:
        pytest.skip("sudo -n does not work for this user")


@pytest.mark.parametrize("pass_fds", [True, False], ids=["fds", "bytes"])
def test_sudo_counts_and_leaves_nothing(pass_fds: bool) -> None:
    needs_sudo()
    host = sudo(pass_fds)
    try:
        assert host.name == "sudo"
        assert host.info.uid == 0
        loaded = host.load(counting("tp/syscalls/sys_enter_getppid"), session="s", name="test")
        host.attach("s")
        for _ in range(23):
            os.getppid()
        snapshot = loaded.maps["counts"].read()
        keys = struct.unpack(f"<{snapshot.count}I", snapshot.keys)
        assert dict(zip(keys, struct.unpack(f"<{snapshot.count}Q", snapshot.values), strict=True))[os.getpid()] == 23
        loaded.maps["counts"].close()
    finally:
        host.close()
    assert not is_running(host.info.pid)


def test_a_silent_agent_under_sudo_is_ended() -> None:
    needs_sudo()
    host = sudo()
    host.deadline_s = 0.3
    subprocess.run(["sudo", "-n", "kill", "-STOP", str(host.info.pid)], check=True)
    with pytest.raises(AgentTimeoutError):
        host.status()
    assert eventually(lambda: not is_running(host.info.pid))  # only sudo is a child of ours, to be waited for
    host.close()


def test_descriptors_that_may_not_be_used(
    start_host: Callable[..., AgentHost], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As before Linux 5.19 for a plain user: maps are then read through the agent."""

    def refuse(fd: int) -> None:
        raise PermissionError(1, "Operation not permitted")

    host = start_host()
    monkeypatch.setattr("ebpf_magic.agent.maps.info", refuse)
    loaded = host.load(counting("tp/syscalls/sys_enter_getppid"), session="s", name="test")
    assert not host.passes_fds
    host.attach("s")
    os.getppid()
    assert loaded.maps["counts"].read().count >= 1


def is_running(pid: int) -> bool:
    """Whether it runs; what is dead and only waits to be reaped does not."""
    try:
        with open(f"/proc/{pid}/stat") as text:
            return text.read().rpartition(")")[2].split()[0] not in "ZX"
    except FileNotFoundError:
        return False


def test_without_sudo(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")
    with pytest.raises(NoHostError, match="there is no sudo on the path"):
        sudo()


def test_sudo_that_wants_a_password(monkeypatch: pytest.MonkeyPatch, tmp_path: object) -> None:
    fake = os.path.join(str(tmp_path), "sudo")
    with open(fake, "w") as file:
        file.write("#!/bin/sh\necho 'sudo: a password is required' >&2\nexit 1\n")
    os.chmod(fake, 0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    with pytest.raises(NoHostError, match="sudo: a password is required") as caught:
        sudo()
    assert "NOPASSWD" in str(caught.value)


def test_without_libbpf(monkeypatch: pytest.MonkeyPatch) -> None:
    start = local_module._START.replace(
        "sys.exit", "from agent import libbpf; libbpf.PATHS = ('libbpf.so.none',); sys.exit"
    )
    monkeypatch.setattr(local_module, "_START", start)
    with pytest.raises(NoHostError, match="libbpf cannot be used") as caught:
        local()
    assert "apt install libbpf1" in str(caught.value)


def test_opening_a_map_by_id_says_what_it_takes(start_as_nobody: Callable[[int], AgentHost]) -> None:
    host = start_as_nobody(BPF | PERFMON)
    with pytest.raises(NotPermittedError, match="open map 1: not permitted: CAP_SYS_ADMIN missing"):
        host.open_map(1)
