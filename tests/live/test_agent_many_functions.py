"""Many functions by a pattern, system calls by name, USDT probes: exact counts, and why something is refused."""

from __future__ import annotations

import struct

import pytest
import rights
from objects import compile_object, counting, empty

from ebpf_magic.errors import AttachError, KernelError, NotPermittedError
from ebpf_magic.hosts.base import AgentHost, Loaded

pytestmark = [pytest.mark.live, pytest.mark.any_host]

CALLS = """
import os
pid = os.getpid()
print(pid)
for _ in range(10):
    os.getppid()
for _ in range(13):
    os.getpgid(pid)
"""
KINDS = {
    "uprobe.multi/libc.so.6:getp?id": "libc.so.6:getp?id",
    "uretprobe.multi/libc.so.6:getp?id": "libc.so.6:getp?id",
    "uprobe.multi.s/libc.so.6:getp?id": "libc.so.6:getp?id",
    "kprobe.multi/security_task_getp?id": "security_task_getp?id",
    "kretprobe.multi/security_task_getp?id": "security_task_getp?id",
    "ksyscall/getpgid": "getpgid",
    "kretsyscall/getpgid": "getpgid",
}


def said(host: AgentHost, command: str) -> str:
    lines: list[str] = []
    host.sh(command, on_output=lines.append)
    return "".join(lines)


def calls(host: AgentHost) -> int:
    """Make 10 calls of getppid() and 13 of getpgid(); the process that made them."""
    return int(said(host, f"python3 -I -S -c '{CALLS}'"))


def counts(loaded: Loaded) -> dict[int, int]:
    snapshot = loaded.maps["counts"].read()
    keys = struct.unpack(f"<{snapshot.count}I", snapshot.keys)
    return dict(zip(keys, struct.unpack(f"<{snapshot.count}Q", snapshot.values), strict=True))


def kind_of(section: str) -> str:
    return section.partition("/")[0].removesuffix(".s")


@pytest.mark.parametrize(
    "section", [pytest.param(section, marks=pytest.mark.needs(kind_of(section))) for section in KINDS]
)
def test_what_is_called_between_attach_and_detach_is_counted(agent_host: AgentHost, section: str) -> None:
    loaded = agent_host.load(counting(section), session="s", name="test")
    before = calls(agent_host)
    (link,) = agent_host.attach("s")["links"]
    during = calls(agent_host)
    agent_host.detach("s")
    after = calls(agent_host)
    expected = 23 if "libc" in section else 13
    assert counts(loaded).get(during) == expected
    assert not {before, after} & counts(loaded).keys()
    functions = {"u": "2 functions", "k": "1 function"}[section[0]] if "multi" in section else ""
    assert (link["kind"], link["target"], link["detail"]) == (kind_of(section), KINDS[section], functions)
    assert agent_host.stats("s")["programs"][0]["missed_runs"] in (0, None)


@pytest.mark.parametrize(
    ("section", "target"),
    [
        pytest.param("uprobe.multi", "uprobe.multi:libc.so.6:getp?id", marks=pytest.mark.needs("uprobe.multi")),
        pytest.param("kprobe.multi", "security_task_getp?id", marks=pytest.mark.needs("kprobe.multi")),
        pytest.param("ksyscall", "ksyscall:getpgid", marks=pytest.mark.needs("ksyscall")),
    ],
)
def test_a_target_by_option(agent_host: AgentHost, section: str, target: str) -> None:
    loaded = agent_host.load(counting(section), session="s", name="test")
    assert agent_host.attach("s", {"probe": target})["links"][0]["target"] == target.removeprefix(f"{section}:")
    pid = calls(agent_host)
    assert counts(loaded)[pid] == (23 if section.startswith("u") else 13)


READS = """
struct { __uint(type, BPF_MAP_TYPE_HASH); __uint(max_entries, 1024); __type(key, __u64); __type(value, __u32); }
	names SEC(".maps");
SEC("%s") int probe(__u64 *regs)
{
	__u64 text = 0;
	__u32 one = 1;
	/* di, the first argument on x86; x0 on arm64 */
	bpf_copy_from_user(&text, sizeof(text), (void *)regs[sizeof(void *) == 8 && %d ? 14 : 0]);
	bpf_map_update_elem(&names, &text, &one, BPF_ANY);
	return 0;
}
"""


@pytest.mark.parametrize("section", ["uprobe.s", "uprobe.multi.s"])
def test_a_program_that_sleeps_reads_memory_that_may_have_to_be_fetched(agent_host: AgentHost, section: str) -> None:
    if "multi" in section and "uprobe.multi" in rights.lacks():
        assert "Invalid argument" in rights.lacks()["uprobe.multi"]
        return
    source = compile_object(READS % (f"{section}/libc.so.6:puts", agent_host.info.arch == "x86"))
    loaded = agent_host.load(source, session="s", name="test")
    agent_host.attach("s")
    agent_host.sh("python3 -I -S -c 'import ctypes; ctypes.CDLL(None).puts(b\"em-puts\")'")
    keys = loaded.maps["names"].read().keys
    assert b"em-puts\0" in [bytes(keys[at : at + 8]) for at in range(0, len(keys), 8)]


KILLED = """
import os, time
me = os.getpid()
print(me, flush=True)
os.getppid()
if os.fork() == 0:
    time.sleep(0.3)
    os.kill(me, 9)
    os._exit(0)
while True: os.getppid()
"""


@pytest.mark.needs("uprobe")
def test_a_process_that_ends_while_its_uprobe_is_attached(agent_host: AgentHost) -> None:
    loaded = agent_host.load(counting("uprobe/libc.so.6:getppid"), session="s", name="test")
    agent_host.attach("s")
    first = int(said(agent_host, f"python3 -I -S -c '{KILLED}' || true").split()[0])
    second = calls(agent_host)
    agent_host.detach("s")
    assert counts(loaded)[first] > 0
    assert counts(loaded)[second] == 10
    assert agent_host.status()["sessions"]["s"]["message"] == ""


@pytest.mark.needs("uprobe")
def test_a_file_that_is_deleted_while_its_uprobe_is_attached(agent_host: AgentHost) -> None:
    libc = said(agent_host, "ldd /bin/true | sed -n 's/.*=> \\(.*libc[.]so[^ ]*\\).*/\\1/p'").strip()
    copy = said(agent_host, f'd=$(mktemp -d); cp {libc} "$d/libc.so.6"; printf %s "$d/libc.so.6"')
    loaded = agent_host.load(counting(f"uprobe/{copy}:getppid"), session="s", name="test")
    agent_host.attach("s")
    pid = int(said(agent_host, f"LD_LIBRARY_PATH={copy.rpartition('/')[0]} python3 -S -c '{CALLS}'"))
    agent_host.sh(f"rm -r {copy.rpartition('/')[0]}")
    agent_host.detach("s")
    assert counts(loaded)[pid] == 10


# What cannot be attached


def refused(host: AgentHost, section: str, target: str | None = None) -> KernelError:
    host.load(empty(section), session="s", name="test")
    with pytest.raises((AttachError, NotPermittedError)) as caught:
        host.attach("s", {} if target is None else {"probe": target})
    assert caught.value.program == "probe"
    return caught.value


def test_where_there_are_no_fprobes_that_is_said(agent_host: AgentHost) -> None:
    if "kprobe.multi" in rights.lacks():
        error = refused(agent_host, "kprobe.multi/security_task_getp?id")
        if isinstance(error, NotPermittedError):  # lockdown: not even the functions' names are shown
            assert "lockdown or a security module forbids it" in error.why
            return
        assert error.why.startswith(("this kernel is built without fprobes", "this kernel does not list its functions"))
        assert "--on vm:6.12" in error.hint
    else:
        agent_host.load(empty("kprobe.multi/security_task_getp?id"), session="s", name="test")
        assert agent_host.attach("s")["links"][0]["detail"] == "1 function"


def test_where_there_is_no_uprobe_multi_that_is_said(agent_host: AgentHost) -> None:
    if "uprobe.multi" in rights.lacks():
        assert "this kernel has no uprobe.multi" in refused(agent_host, "uprobe.multi/libc.so.6:getp?id").why
    else:
        agent_host.load(empty("uprobe.multi/libc.so.6:getp?id"), session="s", name="test")
        assert agent_host.attach("s")["links"][0]["detail"] == "2 functions"


@pytest.mark.parametrize(
    ("section", "why", "near"),
    [
        pytest.param(
            *("kprobe.multi/do_sys_opnat2*", "the kernel has no function like that", "do_sys_openat2"),
            marks=pytest.mark.needs("kprobe.multi"),
        ),
        pytest.param(
            *("ksyscall/opnat2", "the kernel has no such system call", "openat2"), marks=pytest.mark.needs("ksyscall")
        ),
        ("uprobe.multi/libc.so.6:getpppid*", "no function like that in", "getppid"),
        ("uprobe.multi/libc.so.99:getppid", "no such file: libc.so.99", ""),
        ("uprobe.multi//etc/hostname:getppid", "/etc/hostname has no function symbols", ""),
    ],
)
def test_no_such_target(agent_host: AgentHost, section: str, why: str, near: str) -> None:
    error = refused(agent_host, section)
    assert f"attach {section.replace('/', ' ', 1)}: " in str(error)
    assert why in error.why
    assert near in error.near or not near


@pytest.mark.needs("kprobe.multi")
def test_a_pattern_that_matches_very_much_is_refused(agent_host: AgentHost) -> None:
    error = refused(agent_host, "kprobe.multi/*")
    assert "10,000 is the limit" in error.why
    assert "narrower pattern" in error.hint


@pytest.mark.parametrize(
    ("section", "target", "text"),
    [
        ("kprobe.multi", "libc.so.6:str*", "is written as a pattern of function names"),
        ("kretprobe.multi", "a b", "is written as a pattern of function names"),
        ("kprobe.multi", None, "Name one: --attach probe=vfs_*"),
        ("uprobe.multi", "getppid", "is written PATH:PATTERN"),
        ("uretprobe.multi", None, "Name one: --attach probe=libc.so.6:str*"),
        ("ksyscall", "__x64_sys_openat", "It has no prefix: ksyscall/openat"),
        ("kretsyscall", "syscalls/sys_exit_openat", "is written by the system call's name"),
        ("usdt", "python3:gc__start", "is written PATH:PROVIDER:NAME"),
        ("usdt", "a:b:c:d", "is written PATH:PROVIDER:NAME"),
        ("usdt", None, "Name one: --attach probe=python3:python:gc__start"),
        ("usdt", "no-such-program:python:gc__start", "no such file: no-such-program"),
        ("usdt", "true:python:gc__start", "/true has no USDT probes"),
    ],
)
def test_targets_that_cannot_be(agent_host: AgentHost, section: str, target: str | None, text: str) -> None:
    assert text in str(refused(agent_host, section, target))


def test_no_such_usdt_probe_names_near_ones(agent_host: AgentHost) -> None:
    error = refused(agent_host, "usdt/python3:python:gc_start")
    assert "no such USDT probe in /usr/bin/python3" in error.why
    assert "python:gc__start" in error.near


def test_a_usdt_program_needs_its_header(agent_host: AgentHost) -> None:
    error = refused(agent_host, "usdt/python3:python:gc__start")
    assert "not the one that USDT needs" in error.why
    assert "#include <bpf/usdt.bpf.h>" in error.hint
