"""The public API on the running kernel: known workloads, exact answers."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import rights
from objects import eventually

import ebpf_magic as em
from ebpf_magic.errors import (
    GuardError,
    NoSuchNameError,
    StoppedError,
    UsageError,
)

pytestmark = pytest.mark.live

GETPPID = """
HASH(counts, u32, u64);
SEC("tracepoint/syscalls/sys_enter_getppid")
int on_getppid(void *ctx) { COUNT(counts, PID()); return 0; }
"""


@pytest.fixture(autouse=True)
def stop_all() -> Iterator[None]:
    yield
    em.stop_all()


def work(times: int = 23) -> None:
    for _ in range(times):
        os.getppid()


def test_cell_of_the_design_counts_exactly() -> None:
    session = em.run(GETPPID, name="calls")
    work()
    frame = session.maps["counts"].df()
    assert frame.loc[os.getpid(), "value"] == 23
    assert frame.index.name == "key"
    assert frame.index.dtype == np.dtype("u4")
    assert frame["value"].dtype == np.dtype("u8")
    assert frame.attrs["read"] == "batch"
    assert 0 < frame.attrs["began_ns"] <= frame.attrs["ended_ns"]
    assert frame.attrs["restarts"] == 0
    assert [stage.name for stage in session.stages] == ["compiled", "loaded", "attached"]
    assert em.sessions() == [session]
    session.stop()
    work()
    assert session.state == "stopped"
    assert em.sessions() == []
    assert session.maps["counts"].df().loc[os.getpid(), "value"] == 23


def test_with_stops_and_programs_are_described() -> None:
    with em.run(GETPPID) as session:
        programs = session.programs
        assert list(programs.index) == ["on_getppid"]
        row = programs.loc["on_getppid"]
        assert row["section"] == "tracepoint/syscalls/sys_enter_getppid"
        assert row["target"] == "syscalls/sys_enter_getppid"
        assert min(row["insns"], row["verified_insns"], row["xlated_bytes"], row["jited_bytes"]) > 0
    assert session.state == "stopped"
    session.stop()


def test_stats_tell_program_time_and_hook_cost_apart() -> None:
    with em.run(GETPPID) as session:
        work(1000)
        row = session.stats().loc["on_getppid"]
        assert row["runs"] >= 1000
        assert row["run_time_ns"] > 0
        assert row["ns_per_run"] == row["run_time_ns"] / row["runs"]
        assert row["hook_ns_estimate"] > 0
        assert row["missed_runs"] == 0
    assert session.stats().loc["on_getppid", "runs"] >= row["runs"]


def test_struct_keys_enums_and_text() -> None:
    source = """
    enum side { LEFT = 1, RIGHT = 2 };
    struct who { u32 pid; enum side side; char comm[16]; };
    HASH(counts, struct who, u64);
    SEC("tracepoint/syscalls/sys_enter_getppid")
    int on_getppid(void *ctx) {
        struct who who = {.pid = PID(), .side = RIGHT};
        COMM(who.comm);
        COUNT(counts, who);
        return 0;
    }
    """
    with em.run(source) as session:
        work()
        frame = session.maps["counts"].df()
    assert frame.index.names == ["pid", "side", "comm"]
    comm = Path("/proc/self/comm").read_text().strip()
    assert frame["value"].to_dict()[(os.getpid(), "RIGHT", comm)] == 23


def test_percpu_hash_and_array() -> None:
    source = """
    PERCPU_HASH(by_pid, u32, u64);
    PERCPU_ARRAY(slots, u64, 4);
    ARRAY(shared, u64, 2);
    SEC("tracepoint/syscalls/sys_enter_getppid")
    int on_getppid(void *ctx) {
        COUNT(by_pid, PID());
        ADD(slots, 3, 2);
        COUNT(shared, 1);
        return 0;
    }
    """
    with em.run(source) as session:
        work()
        maps = session.maps
        assert maps["by_pid"].df().loc[os.getpid(), "value"] == 23
        spread = maps["by_pid"].df(per_cpu=True)
        assert spread.index.names == ["key", "cpu"]
        assert spread.xs(os.getpid(), level="key")["value"].sum() == 23
        assert maps["slots"].df()["value"].tolist()[:3] == [0, 0, 0]
        assert maps["slots"].df().loc[3, "value"] >= 46
        assert maps["shared"].df().loc[1, "value"] >= 23
        maps["slots"].clear()
        maps["shared"].clear()
        assert len(maps["shared"].df()) == 2


def test_update_delete_clear_and_drain() -> None:
    with em.run('HASH(m, u32, u64); SEC("syscall") int nothing(void *ctx) { COUNT(m, 1000000); return 0; }') as session:
        counts = session.maps["m"]
        frame = pd.DataFrame({"value": [10, 20, 30]}, index=pd.Index([1, 2, 3], name="key"))
        counts.update(frame)
        assert counts.df()["value"].to_dict() == {1: 10, 2: 20, 3: 30}
        assert counts.delete([2, 77]) == 1
        assert counts.drain()["value"].to_dict() == {1: 10, 3: 30}
        assert counts.df().empty
        counts.update(frame)
        assert counts.delete(frame.index[0]) == 1  # one key stands for itself
        assert counts.df()["value"].to_dict() == {2: 20, 3: 30}
        counts.clear()
        assert counts.df().empty
        session.run("nothing")
        assert counts.df()["value"].to_dict() == {1000000: 1}


def test_syscall_program_returns_what_it_returns() -> None:
    with em.run('ARRAY(a, u64); SEC("syscall") int add(void *ctx) { ADD(a, 0, 7); return 42; }') as session:
        for _ in range(3):
            assert session.run("add").retval == 42
        assert session.maps["a"].df().loc[0, "value"] == 21
        with pytest.raises(NoSuchNameError) as caught:
            session.run("ad")
        assert caught.value.near == ["add"]
    with pytest.raises(StoppedError):
        session.run("add")


def test_histogram_percentiles_hold_their_bound() -> None:
    source = """
    struct span { u64 value; };
    HIST(sizes, "bytes");
    HIST_BY(by_parity, u32, "bytes");
    SEC("syscall") int observe(struct span *ctx) {
        OBSERVE(sizes, ctx->value);
        OBSERVE_BY(by_parity, (u32)(ctx->value & 1), ctx->value);
        return 0;
    }
    """
    values = np.random.default_rng(1).lognormal(9, 3, 500).astype("u8")
    with em.run(source) as session:
        for value in values:
            session.run("observe", ctx=int(value).to_bytes(8, "little"))
        wanted = [1, 25, 50, 90, 99, 100]
        found = session.maps["sizes"].percentiles(wanted)
        exact = np.percentile(values, wanted, method="inverted_cdf")
        assert (abs(found["value_bytes"].to_numpy() - exact) <= found["error_bytes"].to_numpy()).all()
        assert session.maps["sizes"].df()["count"].sum() == len(values)
        assert session.maps["by_parity"].histogram().total == len(values)
        by = session.maps["by_parity"].percentiles([50])
        for parity in (0, 1):
            one = np.percentile(values[values % 2 == parity], 50, method="inverted_cdf")
            row = by.xs((parity, 50))
            assert abs(row["value_bytes"] - one) <= row["error_bytes"]


def slept_ns(seconds: float) -> int:
    began = time.perf_counter_ns()
    time.sleep(seconds)
    return time.perf_counter_ns() - began


def test_latency_of_a_known_sleep() -> None:
    source = """
    HASH(start, u32, u64);
    HIST(latency, "ns");
    SEC("tracepoint/syscalls/sys_enter_clock_nanosleep") int enter(void *ctx) {
        if (PID() == SLEEPER) START(start, TID());  // others sleep as they like
        return 0;
    }
    SEC("tracepoint/syscalls/sys_exit_clock_nanosleep") int leave(void *ctx) {
        u64 ns = ELAPSED_NS(start, TID());
        if (ns) OBSERVE(latency, ns);
        return 0;
    }
    """
    with em.run(source.replace("SLEEPER", str(os.getpid()))) as session:
        longest_ns = max(slept_ns(0.01) for _ in range(20))
        found = session.maps["latency"].percentiles([50])
        assert session.maps["latency"].histogram().total >= 20
    assert 9e6 < found["value_ns"].iloc[0] < longest_ns + 1e6


def test_what_could_not_be_counted_is_counted() -> None:
    source = """
    HASH(small, u64, u64, 4);
    HASH(start, u32, u64);
    SEC("syscall") int fill(void *ctx) {
        for (int i = 0; i < 10; i++)
            COUNT(small, i);
        ELAPSED_NS(start, 1);
        return 0;
    }
    """
    with em.run(source) as session:
        session.run("fill")
        assert session.missed()["small"] == {"full": 6, "unseen": 0}
        assert session.missed()["start"] == {"full": 0, "unseen": 1}
        words = " ".join(session.lost())
        assert "6 updates refused" in words
        assert "1 ends without a START" in words
    assert session.missed()["small"]["full"] == 6


def test_printk_is_in_the_log() -> None:
    source = 'SEC("syscall") int say(void *ctx) { bpf_printk("said %d", 42); return 0; }'
    with em.run(source) as session:
        for _ in range(3):
            session.run("say")
        assert eventually(lambda: list(session.log["text"]).count("said 42") == 3)
    log = session.log
    assert list(log["text"]).count("said 42") == 3
    assert (log["pid"] > 0).all()


def test_uprobe_perf_event_raw_tp_and_tp_btf() -> None:
    source = """
    HASH(hits, u32, u64);
    HASH(samples, u32, u64);
    SEC("uprobe/libc.so.6:getppid") int on_call(void *ctx) { COUNT(hits, PID()); return 0; }
    SEC("perf_event") int sample(void *ctx) { COUNT(samples, PID()); return 0; }
    SEC("raw_tp/sys_enter") int on_raw(void *ctx) { return 0; }
    SEC("tp_btf/sys_exit") int on_btf(void *ctx) { return 0; }
    """
    with em.run(source, attach={"sample": "cpu-clock:99hz"}) as session:
        work()
        until = time.process_time() + 1.0
        while time.process_time() < until:
            pass
        assert session.maps["hits"].df().loc[os.getpid(), "value"] == 23
        samples = session.maps["samples"].df().loc[os.getpid(), "value"]
        assert 50 <= samples <= 150
        stats = session.stats()
        assert set(stats.index) == {"on_call", "sample", "on_raw", "on_btf"}
        assert stats.loc["on_call", "hook_ns_estimate"] > stats.loc["on_raw", "hook_ns_estimate"]


def test_libbpf_style_cell_with_its_own_includes() -> None:
    source = """
    #include <linux/bpf.h>
    #include <bpf/bpf_helpers.h>
    struct {
        __uint(type, BPF_MAP_TYPE_HASH); __type(key, __u32); __type(value, __u64); __uint(max_entries, 64);
    } m SEC(".maps");
    SEC("tp/syscalls/sys_enter_getppid") int count(void *ctx) {
        __u32 pid = bpf_get_current_pid_tgid() >> 32;
        __u64 one = 1, *value = bpf_map_lookup_elem(&m, &pid);
        if (value) __sync_fetch_and_add(value, 1); else bpf_map_update_elem(&m, &pid, &one, BPF_ANY);
        return 0;
    }
    """
    with em.run(source) as session:
        work()
        assert session.maps["m"].df().loc[os.getpid(), "value"] == 23


class TestHotReload:
    def test_new_one_replaces_the_old_and_misses_nothing_between(self) -> None:
        stop = threading.Event()
        made = 0

        def call() -> None:
            nonlocal made
            while not stop.is_set():
                os.getppid()
                made += 1

        first = em.run(GETPPID, name="reload")
        thread = threading.Thread(target=call)
        thread.start()
        time.sleep(0.1)
        second = em.run(GETPPID + "// changed\n", name="reload")
        stop.set()
        thread.join()
        assert (first.state, second.state) == ("stopped", "running")
        assert em.sessions() == [second]
        both = sum(int(session.maps["counts"].df().loc[os.getpid(), "value"]) for session in (first, second))
        assert both >= made
        assert second.swap_ns is not None
        assert 0 <= second.swap_ns[0] <= second.swap_ns[1]

    def test_failure_leaves_the_old_one_running(self) -> None:
        first = em.run(GETPPID, name="reload")
        for bad in ("this is not C", GETPPID.replace("getppid", "getpppid"), "   "):
            with pytest.raises(em.EbpfMagicError):
                em.run(bad, name="reload")
        work()
        assert first.state == "running"
        assert em.sessions() == [first]
        assert first.maps["counts"].df().loc[os.getpid(), "value"] == 23

    def test_keep_maps_carries_what_did_not_change(self) -> None:
        source = GETPPID + "HASH(other, u32, u64);\n"
        first = em.run(source, name="reload")
        work()
        second = em.run(source.replace("other, u32, u64", "other, u64, u64"), name="reload", keep_maps=True)
        work()
        assert second.maps["counts"].df().loc[os.getpid(), "value"] == 46
        assert second.maps["other"].df().empty
        third = em.run(source, name="reload")
        assert os.getpid() not in third.maps["counts"].df().index
        assert first.state == second.state == "stopped"


class TestGuard:
    def test_for_stops_by_itself_and_the_data_stay(self) -> None:
        session = em.run(GETPPID, name="short", for_s=3)
        work()
        assert session.state == "running"
        assert eventually(lambda: session.state == "stopped")
        assert "after 3 s" in session.message
        assert session.maps["counts"].df().loc[os.getpid(), "value"] == 23

    def test_program_that_takes_too_much_is_detached(self) -> None:
        source = """
        static long spin(u32 i, void *ctx) { bpf_ktime_get_ns(); return 0; }
        SEC("tracepoint/syscalls/sys_enter_getppid")
        int on_getppid(void *ctx) { bpf_loop(1 << 14, spin, NULL, 0); return 0; }
        """
        session = em.run(source, name="heavy", max_cpu=0.1)

        def over() -> bool:
            work(1000)
            return session.state == "stopped"

        assert eventually(over)
        assert "--max-cpu" in session.message

    def test_program_that_changes_behaviour_needs_to_be_allowed(self) -> None:
        source = 'SEC("tp/syscalls/sys_enter_getppid") int kill(void *ctx) { bpf_send_signal(0); return 0; }'
        with pytest.raises(GuardError) as caught:
            em.run(source)
        assert "bpf_send_signal" in str(caught.value)
        assert "--allow-change" in str(caught.value)
        with em.run(source, attach=False, allow_change=True) as session:
            assert session.state == "running"

    def test_maps_beyond_the_budget_are_refused(self) -> None:
        source = (
            'PERCPU_HASH(big, u64, u64, 10000000); SEC("syscall") int nothing(void *ctx) { COUNT(big, 1); return 0; }'
        )
        with pytest.raises(GuardError) as caught:
            em.run(source)
        assert "--map-budget" in str(caught.value)


@pytest.mark.parametrize(
    ("options", "word"),
    [
        ({"name": "not a name"}, "Python name"),
        ({"name": "for"}, "Python name"),
        ({"engine": "magic"}, "engine"),
        ({"on": "loacl"}, "local"),
        ({"for_s": -1.0}, "above 0"),
        ({"max_cpu": 0.0}, "max_cpu"),
        ({"map_budget_bytes": 0}, "budget"),
    ],
)
def test_options_that_cannot_be_meant(options: dict[str, object], word: str) -> None:
    with pytest.raises(em.EbpfMagicError) as caught:
        em.run(GETPPID, **options)  # type: ignore[arg-type]
    assert word in str(caught.value)


def test_map_that_is_not_there_names_the_near_one() -> None:
    with em.run(GETPPID) as session:
        with pytest.raises(NoSuchNameError) as caught:
            session.maps["count"]
        assert caught.value.near == ["counts"]
        with pytest.raises(UsageError):
            session.maps["counts"].percentiles([50])
        with pytest.raises(UsageError):
            session.maps["counts"].live(interval_s=0)
    with pytest.raises(StoppedError):
        session.maps["counts"].clear()


def test_dead_agent_is_one_clear_error_and_the_next_cell_works() -> None:
    from ebpf_magic.hosts import registry

    session = em.run(GETPPID, name="orphan")
    work()
    rights.kill(registry.get("auto").info.pid, 9)
    assert eventually(lambda: session.state == "failed")
    again = em.run(GETPPID, name="orphan")
    work()
    assert again.maps["counts"].df().loc[os.getpid(), "value"] == 23


def test_interrupt_while_compiling_or_loading_leaves_nothing() -> None:
    import _thread

    timer = threading.Timer(0.03, _thread.interrupt_main)
    source = GETPPID + f"// {time.time_ns()}\n"
    timer.start()
    try:
        em.run(source, name="interrupted")
        timer.join()
        time.sleep(60)
    except KeyboardInterrupt:
        pass
    em.stop_all()
    work()
    with em.run(GETPPID) as session:
        work()
        assert session.maps["counts"].df().loc[os.getpid(), "value"] == 23


def test_of_two_threads_that_run_one_name_only_one_session_stays() -> None:
    found: list[em.Session] = []
    threads = [threading.Thread(target=lambda: found.append(em.run(GETPPID, name="same"))) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(session.state for session in found) == ["running", "stopped", "stopped"]
    assert [session.state for session in em.sessions()] == ["running"]


def test_an_interrupt_while_stopping_leaves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(self: em.Map) -> None:
        raise KeyboardInterrupt

    session = em.run(GETPPID, name="interrupted")
    monkeypatch.setattr(em.Map, "keep_final", interrupted)
    with pytest.raises(KeyboardInterrupt):
        session.stop()
    assert (session.state, em.sessions()) == ("stopped", [])
    assert session.agent_host.status()["sessions"] == {}


def test_an_interrupt_after_attaching_leaves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    from ebpf_magic import build
    from ebpf_magic.hosts import registry

    def interrupted() -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(build, "settle", interrupted)
    with pytest.raises(KeyboardInterrupt):
        em.run(GETPPID, name="interrupted")
    assert em.sessions() == []
    assert registry.get("auto").status()["sessions"] == {}
