"""Every attach kind counts a known number of hits; every failed attach says what was wrong."""

from __future__ import annotations

import mmap
import os
import struct
import time
from pathlib import Path

import pytest
from objects import GETPPID, compile_object, counting, empty, eventually

from ebpf_magic.errors import AttachError, LoadError, UnsupportedError, UsageError
from ebpf_magic.hosts.base import AgentHost, Loaded

pytestmark = pytest.mark.live

HITS = 23
KINDS = {
    "tracepoint": counting("tracepoint/syscalls/sys_enter_getppid"),
    "tp": counting("tp/syscalls/sys_enter_getppid"),
    "raw_tp": counting("raw_tp/sys_enter", condition=f"ctx[1] == {GETPPID}"),
    "tp_btf": counting("tp_btf/sys_enter", condition=f"ctx[1] == {GETPPID}"),
    "uprobe": counting("uprobe/libc.so.6:getppid"),
    "uretprobe": counting("uretprobe/libc.so.6:getppid"),
}


def counts(loaded: Loaded) -> dict[int, int]:
    snapshot = loaded.maps["counts"].read()
    keys = struct.unpack(f"<{snapshot.count}I", snapshot.keys)
    return dict(zip(keys, struct.unpack(f"<{snapshot.count}Q", snapshot.values), strict=True))


def ids(host: AgentHost, what: str) -> set[int]:
    return {row["id"] for row in host.list_kernel()[what]}


@pytest.mark.parametrize("kind", KINDS)
def test_counts_exactly_the_hits_between_attach_and_detach(agent_host: AgentHost, kind: str) -> None:
    loaded = agent_host.load(KINDS[kind], session="s", name="test")
    os.getppid()
    links = agent_host.attach("s")["links"]
    assert [link["kind"] for link in links] == ["tracepoint" if kind == "tp" else kind]
    for _ in range(HITS):
        os.getppid()
    assert agent_host.detach("s")["detach_ns"] > 0
    os.getppid()
    assert counts(loaded)[os.getpid()] == HITS
    stats = agent_host.stats("s")["programs"][0]
    assert stats["runs"] >= HITS
    assert stats["run_time_ns"] > 0
    assert agent_host.status()["sessions"]["s"] == {
        "state": "detached",
        "reason": "stop",
        "message": "",
        "warnings": [],
    }
    assert stats == agent_host.stats("s")["programs"][0]
    # The program is out of the kernel (freed after a grace period), the map is not.
    assert eventually(lambda: loaded.programs[0]["id"] not in ids(agent_host, "programs"))
    assert loaded.maps["counts"].info.id in ids(agent_host, "maps")


def test_a_uprobe_section_with_an_absolute_path(agent_host: AgentHost) -> None:
    libc = next(line.split()[-1] for line in Path("/proc/self/maps").read_text().splitlines() if "/libc.so" in line)
    loaded = agent_host.load(counting(f"uprobe/{libc}:getppid"), session="s", name="test")
    agent_host.attach("s")
    for _ in range(HITS):
        os.getppid()
    assert counts(loaded)[os.getpid()] == HITS


def test_targets_by_option(agent_host: AgentHost) -> None:
    for section, target in [
        ("uprobe", "libc.so.6:getppid"),
        ("tracepoint", "syscalls/sys_enter_getppid"),
        ("tracepoint", "syscalls:sys_enter_getppid"),
    ]:
        loaded = agent_host.load(counting(section), session="s", name="test")
        assert agent_host.attach("s", {"probe": target})["links"][0]["target"] == target
        for _ in range(HITS):
            os.getppid()
        assert counts(loaded)[os.getpid()] == HITS
        agent_host.close_session("s")


def test_perf_event_counts_page_faults(agent_host: AgentHost) -> None:
    pages = 1000
    loaded = agent_host.load(counting("perf_event"), session="s", name="test")
    memory = mmap.mmap(-1, pages * mmap.PAGESIZE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    memory.madvise(mmap.MADV_NOHUGEPAGE)
    agent_host.attach("s", {"probe": "page-faults:1"})
    for page in range(pages):
        memory[page * mmap.PAGESIZE] = 1
    agent_host.detach("s")
    memory.close()
    assert pages <= counts(loaded)[os.getpid()] < pages + 100


def test_perf_event_samples_the_cpu_clock(agent_host: AgentHost) -> None:
    loaded = agent_host.load(counting("perf_event"), session="s", name="test")
    agent_host.attach("s", {"probe": "cpu-clock:99hz"})
    until = time.process_time() + 0.5
    while time.process_time() < until:
        pass
    agent_host.detach("s")
    assert 25 <= counts(loaded)[os.getpid()] <= 75


def test_syscall_programs_are_loaded_and_run(agent_host: AgentHost) -> None:
    source = compile_object(
        "struct args { __u64 a, b, sum; };"
        'SEC("syscall") int add(struct args *ctx) { ctx->sum = ctx->a + ctx->b; return 7; }'
    )
    agent_host.load(source, session="s", name="test")
    assert agent_host.attach("s")["links"] == []
    result = agent_host.run_program("s", "add", ctx=struct.pack("<3Q", 40, 2, 0))
    assert result["retval"] == 7
    assert struct.unpack("<3Q", result["ctx_out"]) == (40, 2, 42)
    assert result["duration_ns"] > 0


def test_a_tracepoint_program_cannot_be_run_alone(agent_host: AgentHost) -> None:
    agent_host.load(empty("tp/syscalls/sys_enter_getppid"), session="s", name="test")
    with pytest.raises(UnsupportedError, match="the kernel cannot run tracepoint programs by themselves"):
        agent_host.run_program("s", "probe")


def test_several_programs_attach_all_or_nothing(agent_host: AgentHost) -> None:
    source = compile_object(
        'SEC("tp/syscalls/sys_enter_getppid") int good(void *ctx) { return 0; }\n'
        'SEC("tp/syscalls/sys_enter_getpidd") int bad(void *ctx) { return 0; }'
    )
    agent_host.load(source, session="s", name="test")
    with pytest.raises(AttachError) as caught:
        agent_host.attach("s")
    assert caught.value.program == "bad"
    assert agent_host.status()["sessions"]["s"]["state"] == "loaded"
    # While it was attached, others may have called it.
    before = [row["runs"] for row in agent_host.stats("s")["programs"]]
    os.getppid()
    assert [row["runs"] for row in agent_host.stats("s")["programs"]] == before


def test_no_such_tracepoint_names_near_ones(agent_host: AgentHost) -> None:
    agent_host.load(empty("tracepoint/syscalls/sys_enter_opnat"), session="s", name="test")
    with pytest.raises(AttachError) as caught:
        agent_host.attach("s")
    assert "attach tracepoint syscalls/sys_enter_opnat: no such tracepoint (near: " in str(caught.value)
    assert "sys_enter_openat" in caught.value.near
    assert caught.value.program == "probe"


def test_a_tracepoint_in_the_wrong_category_is_found(agent_host: AgentHost) -> None:
    agent_host.load(empty("tracepoint/syscall/sched_switch"), session="s", name="test")
    with pytest.raises(AttachError) as caught:
        agent_host.attach("s")
    assert caught.value.near == ["sched/sched_switch"]


def test_a_tracepoint_cannot_climb_out_of_its_folder(agent_host: AgentHost) -> None:
    agent_host.load(empty("tracepoint"), session="s", name="test")
    for target in ("../../etc/passwd", "syscalls/..", "a/b/c", "syscalls/", ""):
        with pytest.raises(AttachError):
            agent_host.attach("s", {"probe": target})


def test_a_tracepoint_program_that_reads_too_far(agent_host: AgentHost) -> None:
    source = compile_object('SEC("tp/syscalls/sys_enter_getppid") int probe(__u64 *ctx) { return ctx[100]; }')
    agent_host.load(source, session="s", name="test")
    with pytest.raises(AttachError, match="reads beyond the end of the tracepoint's record"):
        agent_host.attach("s")


def test_no_such_raw_tracepoint_names_near_ones(agent_host: AgentHost) -> None:
    agent_host.load(empty("raw_tp/sched_swich"), session="s", name="test")
    with pytest.raises(AttachError, match="attach raw_tp sched_swich: no such tracepoint") as caught:
        agent_host.attach("s")
    assert "sched_switch" in caught.value.near


def test_no_such_btf_tracepoint_names_near_ones(agent_host: AgentHost) -> None:
    with pytest.raises(AttachError, match="attach tp_btf/sched_swich: no such tracepoint") as caught:
        agent_host.load(empty("tp_btf/sched_swich"), session="s", name="test")
    assert "sched_switch" in caught.value.near


@pytest.mark.parametrize("target", ["sys_enter", "tp_btf:sys_enter"])
def test_a_bare_section_takes_the_target_that_is_named(agent_host: AgentHost, target: str) -> None:
    source = counting("tp_btf", condition=f"ctx[1] == {GETPPID}")
    loaded = agent_host.load(source, session="s", name="test", targets={"probe": target})
    assert [program["section"] for program in loaded.programs] == ["tp_btf/sys_enter"]
    agent_host.attach("s", {"probe": target})
    for _ in range(23):
        os.getppid()
    keys_values = loaded.maps["counts"].read()
    found = dict(
        zip(
            struct.unpack(f"<{keys_values.count}I", keys_values.keys),
            struct.unpack(f"<{keys_values.count}Q", keys_values.values),
            strict=True,
        )
    )
    assert found[os.getpid()] == 23


def test_a_bare_section_whose_target_is_not_there_has_near_names(agent_host: AgentHost) -> None:
    for section, target, near in [
        ("tp_btf", "sched_swich", "sched_switch"),
        ("iter", "taks", "task"),
        ("fentry", "vfs_raed", "vfs_read"),
    ]:
        with pytest.raises(AttachError, match=f"attach {section}.{target}: ") as caught:
            agent_host.load(empty(section), session="s", name="test", targets={"probe": target})
        assert near in caught.value.near


def test_a_bare_section_without_a_target_says_how_to_name_one(agent_host: AgentHost) -> None:
    with pytest.raises(AttachError, match="the section names no target") as caught:
        agent_host.load(empty("fentry"), session="s", name="test")
    assert caught.value.hint == 'Write SEC("fentry/FUNCTION"), or name one: --attach probe=vfs_read.'


def test_no_such_function_names_near_ones(agent_host: AgentHost) -> None:
    agent_host.load(empty("uprobe/libc.so.6:maloc"), session="s", name="test")
    with pytest.raises(AttachError, match=r"attach uprobe libc.so.6:maloc: no such function in .*libc") as caught:
        agent_host.attach("s")
    assert "malloc" in caught.value.near


@pytest.mark.parametrize(
    ("section", "target", "message"),
    [
        ("uprobe", "/no/such/file:main", "no such file: /no/such/file"),
        ("uprobe", "/etc/passwd:main", "/etc/passwd has no function symbols"),
        ("uprobe", "/dev/zero:main", "/dev/zero is no regular file"),
        ("uprobe", "malloc", "a uprobe is written PATH:FUNCTION"),
        ("perf_event", "cpu-clok:99hz", "no such software event: cpu-clok (near: cpu-clock)"),
        ("perf_event", "cpu-clock", "a perf event is written EVENT:FREQUENCYhz"),
        ("perf_event", "cpu-clock:999999999hz", "perf_event_max_sample_rate"),
        ("uprobe", None, "Name one: --attach probe=libc.so.6:malloc"),
        ("perf_event", None, "Name one: --attach probe=cpu-clock:99hz"),
        ("tracepoint", None, "Name one: --attach probe=syscalls/sys_enter_openat"),
    ],
)
def test_targets_that_cannot_be(agent_host: AgentHost, section: str, target: str | None, message: str) -> None:
    agent_host.load(empty(section), session="s", name="test")
    with pytest.raises(AttachError) as caught:
        agent_host.attach("s", {} if target is None else {"probe": target})
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("section", "target"), [("uprobe", "{}:main"), ("uprobe.multi", "{}:str*"), ("usdt", "{}:python:gc__start")]
)
def test_a_named_pipe_is_not_waited_for(agent_host: AgentHost, tmp_path: Path, section: str, target: str) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    agent_host.load(empty(section), session="s", name="test")
    with pytest.raises(AttachError, match=f"{pipe} is no regular file"):
        agent_host.attach("s", {"probe": target.format(pipe)})


def test_a_target_for_a_program_that_is_not_there(agent_host: AgentHost) -> None:
    agent_host.load(empty("uprobe"), session="s", name="test")
    with pytest.raises(UsageError, match="no such program"):
        agent_host.attach("s", {"prob": "libc.so.6:malloc"})


def test_an_unknown_section_lists_the_known_ones(agent_host: AgentHost) -> None:
    with pytest.raises(LoadError) as caught:
        agent_host.load(empty("tracepiont/syscalls/sys_enter_getppid"), session="s", name="test")
    text = str(caught.value)
    assert 'load program probe: unknown section SEC("tracepiont/syscalls/sys_enter_getppid")' in text
    assert caught.value.near[0] == "tracepoint/CATEGORY/NAME"
    assert "perf_event" in text
    assert caught.value.program == "probe"


@pytest.mark.parametrize("section", ["lwt_in"])
def test_kinds_that_are_not_offered_yet_are_named(agent_host: AgentHost, section: str) -> None:
    with pytest.raises(UnsupportedError) as caught:
        agent_host.load(empty(section), session="s", name="test", allow_change=True)
    assert f"{section.partition('/')[0]} programs" in str(caught.value)
    assert "not offered yet" in str(caught.value)
    assert caught.value.program == "probe"


def test_a_map_kind_that_nobody_knows_is_named(agent_host: AgentHost) -> None:
    source = compile_object(
        "struct { __uint(type, 99); __uint(max_entries, 16); __uint(key_size, 8); __uint(value_size, 8); }"
        ' m SEC(".maps");'
        'SEC("syscall") int probe(void *ctx) { return 0; }'
    )
    with pytest.raises(UnsupportedError, match="load map m: maps of kind 99 are not offered yet"):
        agent_host.load(source, session="s", name="test")
