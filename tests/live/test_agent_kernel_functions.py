"""Programs on functions of the kernel: each kind counts a known number of hits; what cannot be attached says why.

The work is done by commands on the host under test, with a name of their own that the programs look for.
"""

from __future__ import annotations

import struct

import pytest
from objects import compile_object, empty

from ebpf_magic.errors import AttachError, CommandError, GuardError, UsageError
from ebpf_magic.hosts.base import AgentHost, Loaded

pytestmark = [pytest.mark.live, pytest.mark.any_host]

EXECS = 23
# Called once for every program that was started, when the process has its new name already.
ON_EXEC = "security_bprm_committed_creds"
# What only commands do whose file is called em-work.
OF_WORK = """
static int is_work(void)
{
	__u64 comm[2] = {};
	bpf_get_current_comm(comm, sizeof comm);
	return comm[0] == 0x6b726f772d6d65; /* em-work, in a little-endian machine's order */
}
"""
WORK = 'set -e; cd "$(mktemp -d)"; ln -s /bin/true em-work; '
EXEC = WORK + f"i=0; while [ $i -lt {EXECS} ]; do ./em-work; i=$((i+1)); done; rm em-work"
# One that must not be counted shows as well as many that counting has not begun, or is over.
EXEC_ONCE = WORK + "./em-work; rm em-work"
SECTIONS = {
    "kprobe": f"kprobe/{ON_EXEC}",
    "kretprobe": f"kretprobe/{ON_EXEC}",
    "fentry": f"fentry/{ON_EXEC}",
    "fexit": f"fexit/{ON_EXEC}",
    "lsm": "lsm/bprm_committed_creds",
}
needed = [pytest.param(kind, marks=pytest.mark.needs(kind)) for kind in SECTIONS]


def counting_work(section: str) -> bytes:
    """An object whose one program counts the hits of commands called em-work in the array `count`."""
    return compile_object(
        OF_WORK
        + "struct { __uint(type, BPF_MAP_TYPE_ARRAY); __uint(max_entries, 1); __type(key, __u32); __type(value, __u64);"
        '} count SEC(".maps");\n'
        f'SEC("{section}") int probe(void *ctx)'
        "{ __u32 key = 0; __u64 *value = bpf_map_lookup_elem(&count, &key);"
        "if (value && is_work()) __sync_fetch_and_add(value, 1); return 0; }"
    )


def count(loaded: Loaded) -> int:
    (number,) = struct.unpack("<Q", loaded.maps["count"].read().values)
    return int(number)


def row(host: AgentHost, name: str = "probe") -> dict[str, int]:
    return next(row for row in host.stats("s")["programs"] if row["name"] == name)


@pytest.mark.parametrize("kind", needed)
def test_23_processes_make_23_execs(agent_host: AgentHost, kind: str) -> None:
    loaded = agent_host.load(counting_work(SECTIONS[kind]), session="s", name="test", allow_change=kind == "lsm")
    agent_host.sh(EXEC_ONCE)
    (link,) = agent_host.attach("s")["links"]
    assert (link["kind"], link["target"]) == (kind, SECTIONS[kind].partition("/")[2])
    agent_host.sh(EXEC)
    agent_host.detach("s")
    agent_host.sh(EXEC_ONCE)
    assert count(loaded) == EXECS
    assert row(agent_host)["runs"] >= EXECS
    assert row(agent_host)["missed_runs"] in (0, None)
    assert agent_host.status()["sessions"]["s"]["state"] == "detached"


@pytest.mark.parametrize("kind", ["kprobe", "kretprobe"])
@pytest.mark.needs("kprobe")
def test_a_target_by_option(agent_host: AgentHost, kind: str) -> None:
    loaded = agent_host.load(counting_work(kind), session="s", name="test")
    assert agent_host.attach("s", {"probe": ON_EXEC})["links"][0]["target"] == ON_EXEC
    agent_host.sh(EXEC)
    assert count(loaded) == EXECS


@pytest.mark.needs("fentry")
def test_a_bare_section_is_bound_to_the_target_that_is_named(agent_host: AgentHost) -> None:
    loaded = agent_host.load(counting_work("fentry"), session="s", name="test", targets={"probe": ON_EXEC})
    assert agent_host.attach("s", {"probe": ON_EXEC})["links"][0]["target"] == ON_EXEC
    agent_host.sh(EXEC)
    assert count(loaded) == EXECS


@pytest.mark.needs("kprobe")
def test_a_kprobe_at_an_offset(agent_host: AgentHost) -> None:
    loaded = agent_host.load(counting_work("kprobe"), session="s", name="test")
    agent_host.attach("s", {"probe": f"{ON_EXEC}+0x0"})
    agent_host.sh(EXEC)
    assert count(loaded) == EXECS


@pytest.mark.needs("fexit")
def test_programs_that_may_sleep(agent_host: AgentHost) -> None:
    source = compile_object('SEC("lsm.s/file_open") int probe(void *ctx) { return 0; }')
    agent_host.load(source, session="s", name="test", allow_change=True)
    assert agent_host.attach("s")["links"][0]["kind"] == "lsm"
    agent_host.sh("cat /proc/uptime >/dev/null")
    assert row(agent_host)["runs"] > 0


@pytest.mark.needs("fmod_ret")
def test_fmod_ret_changes_what_a_function_returns(agent_host: AgentHost) -> None:
    denying = 'SEC("fmod_ret/security_inode_mkdir") int probe(void *ctx) { return is_work() ? -1 : 0; }'
    denies(agent_host, denying)


@pytest.mark.needs("lsm")
def test_an_lsm_program_says_no(agent_host: AgentHost) -> None:
    denies(agent_host, 'SEC("lsm/inode_mkdir") int probe(void *ctx) { return is_work() ? -1 : 0; }')


def denies(host: AgentHost, program: str) -> None:
    """Load a program that forbids em-work to make folders; it does so from attach to detach, and nothing else."""
    host.load(compile_object(OF_WORK + program), session="s", name="test", allow_change=True)
    make = WORK.replace("/bin/true", "/bin/mkdir") + "mkdir other; ./em-work folder"
    host.sh(make)
    host.attach("s")
    said: list[str] = []
    with pytest.raises(CommandError):
        host.sh(make, on_output=said.append)
    assert "Operation not permitted" in "".join(said)
    host.detach("s")
    host.sh(make)


# What was missed

RECURSION = """
SEC("tp/syscalls/sys_enter_getppid") int first(void *ctx) { char c[16]; bpf_get_current_comm(c, 16); return 0; }
SEC("fentry/bpf_get_current_comm") int probe(void *ctx) { char c[16]; bpf_get_current_comm(c, 16); return 0; }
"""


@pytest.mark.needs("fentry")
def test_runs_the_kernel_skipped_because_the_program_was_running_are_counted(agent_host: AgentHost) -> None:
    """Each run of `probe` calls the function that it is attached to: the kernel skips that one."""
    agent_host.load(compile_object(RECURSION), session="s", name="test")
    agent_host.attach("s")
    agent_host.sh("python3 -I -S -c 'import os\nfor _ in range(100): os.getppid()'")
    agent_host.detach("s")
    runs = row(agent_host, "first")["runs"]
    assert runs >= 100
    assert (row(agent_host)["runs"], row(agent_host)["missed_runs"]) == (runs, runs)


SLEEPS = """
SEC("kprobe/do_nanosleep") int entered(void *ctx) { return 0; }
SEC("kretprobe/do_nanosleep") int left(void *ctx) { return 0; }
"""
SLEEPERS = 300


@pytest.mark.needs("kretprobe")
def test_returns_beyond_what_a_kretprobe_can_hold_are_counted(agent_host: AgentHost) -> None:
    """A kretprobe has room for so many calls at once; where the kernel does not count the rest, it is not known."""
    agent_host.load(compile_object(SLEEPS), session="s", name="test")
    agent_host.attach("s")
    agent_host.sh(
        "python3 -I -S -c 'import threading, time\n"
        f"sleepers = [threading.Thread(target=time.sleep, args=(1.5,)) for _ in range({SLEEPERS})]\n"
        "for sleeper in sleepers: sleeper.start()\n"
        "for sleeper in sleepers: sleeper.join()'"
    )
    running = row(agent_host, "left")
    agent_host.detach("s")
    entered, left = row(agent_host, "entered")["runs"], row(agent_host, "left")
    assert entered >= SLEEPERS
    assert left["runs"] < entered
    assert left["missed_runs"] is None or left["runs"] + left["missed_runs"] == entered
    assert left == running  # they are still told when the link is gone


# What cannot be attached


def refused(host: AgentHost, section: str, target: str | None = None) -> AttachError:
    with pytest.raises(AttachError) as caught:
        host.load(empty(section), session="s", name="test", allow_change=True)
        host.attach("s", {} if target is None else {"probe": target})
    assert caught.value.program == "probe"
    return caught.value


@pytest.mark.parametrize(
    ("section", "near"),
    [
        pytest.param("kprobe/do_sys_opnat2", "do_sys_openat2", marks=pytest.mark.needs("kprobe")),
        pytest.param("kretprobe/vfs_raed", "vfs_read", marks=pytest.mark.needs("kretprobe")),
        pytest.param("fentry/do_sys_opnat2", "do_sys_openat2", marks=pytest.mark.needs("BTF")),
        pytest.param("fexit/vfs_raed", "vfs_read", marks=pytest.mark.needs("BTF")),
        pytest.param("lsm/file_opn", "file_open", marks=pytest.mark.needs("BTF")),
    ],
)
def test_no_such_function_names_near_ones(agent_host: AgentHost, section: str, near: str) -> None:
    error = refused(agent_host, section)
    kind, _, name = section.partition("/")
    assert f"attach {kind} {name}: " in str(error)
    assert "no such" in error.why
    assert near in error.near


@pytest.mark.parametrize(
    ("section", "target", "why"),
    [
        ("kprobe", f"{ON_EXEC}+1", "no instruction begins at that offset"),
        ("kprobe/asm_exc_divide_error", None, "the kernel lets nobody probe this function"),
        ("kprobe/cleanup_module", None, "the kernel has several functions of that name"),
    ],
)
@pytest.mark.needs("kprobe")
def test_where_no_kprobe_can_be(agent_host: AgentHost, section: str, target: str | None, why: str) -> None:
    assert why in refused(agent_host, section, target).why


@pytest.mark.parametrize(
    ("section", "why"),
    [
        ("fentry/migrate_disable", "the kernel lets no program be attached there"),
        ("fentry/__bpf_prog_enter", "this function cannot be traced"),
        ("fentry.s/do_nanosleep", "do_nanosleep is not sleepable"),
        ("fmod_ret/do_nanosleep", "do_nanosleep() is not modifiable"),
    ],
)
@pytest.mark.needs("fentry")
def test_where_no_tracing_program_can_be(agent_host: AgentHost, section: str, why: str) -> None:
    assert why in refused(agent_host, section).why


@pytest.mark.parametrize(
    ("section", "target", "text"),
    [
        ("kprobe", "a b", "a kprobe is written FUNCTION or FUNCTION+OFFSET"),
        ("kprobe", "", "names no target"),
        ("kretprobe", f"{ON_EXEC}+5", "a kretprobe has no offset"),
        ("kprobe", None, "Name one: --attach probe=do_sys_openat2"),
        ("kretprobe", None, "Name one: --attach probe=do_sys_openat2"),
        ("fentry", None, 'Write SEC("fentry/FUNCTION")'),
        ("lsm", None, 'Write SEC("lsm/HOOK")'),
    ],
)
def test_targets_that_cannot_be(agent_host: AgentHost, section: str, target: str | None, text: str) -> None:
    assert text in str(refused(agent_host, section, target))


@pytest.mark.needs("fentry")
def test_the_target_of_fentry_is_settled_when_it_is_loaded(agent_host: AgentHost) -> None:
    agent_host.load(empty("fentry/vfs_read"), session="s", name="test")
    with pytest.raises(UsageError, match=r'Write SEC\("fentry/vfs_write"\)'):
        agent_host.attach("s", {"probe": "vfs_write"})


@pytest.mark.parametrize("section", ["lsm/file_open", "fmod_ret/security_inode_mkdir"])
def test_what_says_no_needs_permission_where_the_machine_is_not_its_own(agent_host: AgentHost, section: str) -> None:
    if agent_host.may_change:
        agent_host.load(empty(section), session="s", name="test")
        return
    with pytest.raises(GuardError, match="--allow-change"):
        agent_host.load(empty(section), session="s", name="test")


# What it costs

KINDS = ["kprobe", "kretprobe", "fentry", "fexit", "lsm"]


@pytest.mark.parametrize("kind", [pytest.param(kind, marks=pytest.mark.needs(kind)) for kind in KINDS])
def test_the_cost_of_a_hit_is_measured(agent_host: AgentHost, kind: str) -> None:
    hook_ns = agent_host.calibrate([kind])[kind]
    assert hook_ns is not None
    assert 0 <= hook_ns < 1_000_000
