"""What a cell can do, with work of known size made where it runs: on this machine, or in a guest of another kernel."""

from __future__ import annotations

import math
import platform
import time
from collections.abc import Iterator

import numpy as np
import pytest
import rights
from objects import eventually

import ebpf_magic as em
from ebpf_magic.errors import AttachError, GuardError, MapError, VerifierError
from ebpf_magic.session import Session

pytestmark = [pytest.mark.live, pytest.mark.any_host]

HITS = 23
# Works by itself, and says its process: what the cells below look for is its name.
WORK = f"ebpf-magic workload file --count {HITS}"
MINE = """
static __always_inline int is_mine(void) {
    char comm[16] = {};
    COMM(comm);
    return bpf_strncmp(comm, 16, "workload-file") == 0;
}
"""
SECTIONS = {
    "tracepoint": "tracepoint/syscalls/sys_enter_openat",
    "tp": "tp/syscalls/sys_enter_openat",
    "kprobe": "kprobe/do_sys_openat2",
    "kretprobe": "kretprobe/do_sys_openat2",
    "fentry": "fentry/do_sys_openat2",
    "fexit": "fexit/do_sys_openat2",
    "lsm": "lsm/file_open",
}
NEEDS = {"tp": "tracepoint"}
# All system calls: the program finds out which.
RAW = {
    "raw_tp": 'SEC("raw_tp/sys_enter") int f(struct bpf_raw_tracepoint_args *ctx) { long number = ctx->args[1];',
    "tp_btf": 'SEC("tp_btf/sys_enter") int BPF_PROG(f, struct pt_regs *regs, long number) {',
}


@pytest.fixture(autouse=True)
def stop_all() -> Iterator[None]:
    yield
    em.stop_all()


def run(source: str, **options: object) -> Session:
    found = em.run(source, "tested", on=rights.host_name(), **{"max_cpu": 8.0, **options})
    assert isinstance(found, Session)
    return found


def work(session: Session, command: str = WORK) -> str:
    said: list[str] = []
    session.agent_host.sh(command, on_output=said.append)
    return "".join(said)


@pytest.mark.parametrize(
    "kind", [pytest.param(kind, marks=pytest.mark.needs(NEEDS.get(kind, kind))) for kind in SECTIONS]
)
def test_each_hit_is_counted_once(kind: str) -> None:
    session = run(
        f'{MINE}ARRAY(hits, u64);\nSEC("{SECTIONS[kind]}") int f(void *ctx)'
        " { if (is_mine()) COUNT(hits, 0); return 0; }",
        allow_change=True,
    )
    work(session)
    hits = session.maps["hits"].df()["value"]
    assert hits.tolist() == [HITS]
    assert session.stats().loc["f", "runs"] >= HITS
    session.stop()
    assert session.maps["hits"].df()["value"].tolist() == [HITS]


@pytest.mark.parametrize("kind", [pytest.param(kind, marks=pytest.mark.needs(kind)) for kind in RAW])
def test_each_system_call_is_seen(kind: str) -> None:
    number = {"x86_64": 257, "aarch64": 56}[platform.machine()]
    session = run(
        f"{MINE}ARRAY(hits, u64);\n{RAW[kind]} if (number == {number} && is_mine()) COUNT(hits, 0); return 0; }}"
    )
    work(session)
    assert session.maps["hits"].df()["value"].tolist() == [HITS]


@pytest.mark.needs("uprobe")
@pytest.mark.parametrize("kind", ["uprobe", "uretprobe"])
def test_each_call_of_a_library_is_counted(kind: str) -> None:
    session = run(
        f'HASH(hits, u32, u64);\nSEC("{kind}/libc.so.6:getppid") int f(void *ctx) {{ COUNT(hits, PID()); return 0; }}'
    )
    python = "import os; print(os.getpid()); [os.getppid() for _ in range(23)]"
    pid = int(work(session, f"python3 -I -S -c '{python}'"))
    assert session.maps["hits"].df().loc[pid, "value"] == HITS


@pytest.mark.needs("perf_event")
def test_samples_of_a_clock() -> None:
    session = run(
        'ARRAY(samples, u64); SEC("perf_event") int sample(void *ctx) { COUNT(samples, 0); return 0; }',
        attach={"sample": "cpu-clock:49hz"},
    )
    assert eventually(lambda: session.maps["samples"].df()["value"].sum() >= 5)


@pytest.mark.needs("syscall")
def test_a_program_is_run_by_hand() -> None:
    session = run('struct args { u64 n; }; SEC("syscall") int twice(struct args *ctx) { return ctx->n * 2; }')
    assert session.run("twice", ctx=(21).to_bytes(8, "little")).retval == 42


MAPS = {
    "hash": "HASH(m, u64, u64, 64);",
    "lru_hash": "LRU_HASH(m, u64, u64, 64);",
    "percpu_hash": "PERCPU_HASH(m, u64, u64, 64);",
    "array": "ARRAY(m, u64, 8);",
    "percpu_array": "PERCPU_ARRAY(m, u64, 8);",
}


@pytest.mark.parametrize("kind", MAPS)
def test_maps_are_read_changed_and_cleared(kind: str) -> None:
    session = run(
        f'{MAPS[kind]}\nSEC("syscall") int fill(void *ctx)'
        " { for (u64 i = 0; i < 8; i++) ADD(m, i, i + 1); return 0; }"
    )
    session.run("fill")
    session.run("fill")
    found = session.maps["m"]
    frame = found.df()
    assert found.type == kind
    assert frame.sort_index()["value"].tolist() == [2 * (i + 1) for i in range(8)]
    assert frame.attrs["read"] in ("batch", "element")
    if not kind.startswith("percpu"):
        found.update(frame * 10)
        assert found.df()["value"].sum() == 720
    if "hash" in kind:
        assert found.delete([3, 99]) == 1
        assert len(found.drain()) == 7
    found.clear()
    assert found.df()["value"].sum() == 0


def test_histograms_hold_their_bound() -> None:
    session = run(
        'HIST(sizes, "bytes");\nSEC("syscall") int fill(void *ctx)'
        " { for (u64 i = 1; i <= 100; i++) OBSERVE(sizes, i * 1000); return 0; }"
    )
    session.run("fill")
    found = session.maps["sizes"].percentiles([50, 99])
    exact = np.percentile(np.arange(1, 101) * 1000, [50, 99], method="inverted_cdf")
    assert (abs(found["value_bytes"] - exact) <= found["error_bytes"]).all()
    assert session.maps["sizes"].histogram().total == 100


def test_what_it_prints_comes_once() -> None:
    session = run('SEC("syscall") int say(void *ctx) { bpf_printk("line %d", 7); return 0; }')
    session.run("say")
    assert eventually(lambda: "line 7" in session.log["text"].tolist())
    session.stop()
    assert session.log["text"].tolist().count("line 7") == 1


@pytest.mark.needs("tracepoint")
def test_the_cost_is_measured() -> None:
    session = run(
        'ARRAY(n, u64); SEC("tracepoint/syscalls/sys_enter_openat") int f(void *ctx) { COUNT(n, 0); return 0; }'
    )
    work(session)
    row = session.stats().loc["f"]
    assert row["runs"] >= HITS
    assert row["run_time_ns"] > 0
    assert 0 < row["cpu_share"] < 1
    assert row["missed_runs"] == 0
    assert math.isnan(row["hook_ns_estimate"]) or row["hook_ns_estimate"] >= 0


@pytest.mark.needs("tracepoint")
def test_limits_are_held_where_it_runs() -> None:
    with pytest.raises(GuardError, match="budget"):
        run('HASH(m, u64, u64, 1 << 24); SEC("syscall") int f(void *ctx) { COUNT(m, 1); return 0; }')
    began = time.monotonic()
    session = run(
        'ARRAY(n, u64); SEC("tp/syscalls/sys_enter_openat") int f(void *ctx) { COUNT(n, 0); return 0; }', for_s=0.5
    )
    assert eventually(lambda: session.state == "stopped")
    assert time.monotonic() - began >= 0.5


@pytest.mark.needs("tracepoint")
def test_a_cell_run_again_keeps_its_maps() -> None:
    cell = 'HASH(n, u32, u64); SEC("tp/syscalls/sys_enter_openat") int f(void *ctx) { COUNT(n, PID()); return %d; }'
    first = run(cell % 0)
    work(first)
    seen = first.maps["n"].df()["value"].sum()
    second = run(cell % 1, keep_maps=True)
    assert first.state == "stopped"
    assert second.maps["n"].df()["value"].sum() >= seen >= HITS


UNCHECKED = """HASH(n, u32, u64);
SEC("syscall") int f(void *ctx) {
    u32 key = 0;
    u64 *value = bpf_map_lookup_elem(&n, &key);
    return *value;
}
"""


def test_what_is_wrong_is_said_and_nothing_stays() -> None:
    with pytest.raises(AttachError) as attach:
        run('SEC("tp/syscalls/sys_enter_opnat") int f(void *ctx) { return 0; }')
    assert "sys_enter_openat" in " ".join(attach.value.near)
    with pytest.raises(VerifierError) as verifier:
        run(UNCHECKED)
    assert verifier.value.line == 1 + UNCHECKED[: UNCHECKED.index("return")].count("\n")
    session = run('HASH(m, u32, u64, 2); SEC("syscall") int f(void *ctx) { COUNT(m, 1); return 0; }')
    frame = session.maps["m"].df()
    with pytest.raises(MapError, match="full"):
        session.maps["m"].update(frame.reindex([1, 2, 3]).fillna(1).astype("uint64"))
    session.stop()
    assert em.sessions() == []
