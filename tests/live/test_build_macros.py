"""The macros of ebpf_magic.h in the running kernel: known workloads, exact counts, and nothing lost in silence."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator

import pytest

import ebpf_magic as em
from ebpf_magic.data import histogram

pytestmark = pytest.mark.live


@pytest.fixture(autouse=True)
def stop_all() -> Iterator[None]:
    yield
    em.stop_all()


def session(cell: str, **options: object) -> em.Session:
    return em.run(cell, **options)  # type: ignore[arg-type]


def counts(frame: object) -> dict[object, int]:
    return {key: int(value) for key, value in frame["value"].items()}  # type: ignore[index]


def test_count_and_add() -> None:
    cell = """
    struct two { u32 a; u32 b; };
    HASH(ones, u32, u64); HASH(sums, struct two, u32); ARRAY(slots, s64, 3); PERCPU_HASH(each, u32, u64);
    PERCPU_ARRAY(sum_all, u64); LRU_HASH(recent, u32, u64, 100);
    SEC("syscall") int f(void *ctx)
    {
        struct two two = {1, 2};
        u32 i = 0;
        COUNT(ones, 7);
        COUNT(ones, i++);  /* evaluated once */
        COUNT(ones, i);
        ADD(sums, two, 5);
        ADD(sums, (struct two){.a = 1, .b = 2}, 6);
        ADD(sums, {3, 4}, i);
        COUNT(slots, 2);
        ADD(slots, 1, -3);
        COUNT(each, 9);
        ADD(sum_all, 0, 4);
        COUNT(recent, 1);
        return 0;
    }"""
    s = session(cell)
    for _ in range(10):
        s.run("f")
    assert counts(s.maps["ones"].df()) == {7: 10, 0: 10, 1: 10}
    assert counts(s.maps["sums"].df()) == {(1, 2): 110, (3, 4): 10}
    assert counts(s.maps["slots"].df()) == {0: 0, 1: -30, 2: 10}
    assert counts(s.maps["each"].df()) == {9: 10}
    assert counts(s.maps["sum_all"].df()) == {0: 40}
    assert counts(s.maps["recent"].df()) == {1: 10}
    assert all(missed == {"full": 0, "unseen": 0} for missed in s.missed().values())


def test_nothing_is_lost_between_threads() -> None:
    cell = """
    HASH(counts, u32, u64); PERCPU_HASH(each, u32, u64);
    SEC("tracepoint/syscalls/sys_enter_getppid") int f(void *ctx)
    {
        if (PID() == ME) { u32 key = bpf_get_prandom_u32() & 1023; COUNT(counts, key); COUNT(each, key); }
        return 0;
    }"""
    s = session(cell.replace("ME", str(os.getpid())))

    def work() -> None:
        for _ in range(20_000):
            os.getppid()

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for name in ("counts", "each"):
        assert s.maps[name].df()["value"].sum() == 80_000
        assert s.missed()[name]["full"] == 0


def test_what_a_full_map_refuses_is_counted() -> None:
    cell = """
    struct two { u32 a; u32 b; };
    HASH(few, u32, u64, 3); HASH(begun, u32, u64, 2); HIST_BY(lat, u32, "ns", 4); ARRAY(slots, u64, 2);
    HASH(wide, struct two, u64, 1);
    SEC("syscall") int f(u32 *ctx)
    {
        u32 key = *ctx;
        COUNT(few, key);
        START(begun, key);
        OBSERVE_BY(lat, key, 100);
        COUNT(slots, key);
        ADD(wide, {key, key}, 2);
        return 0;
    }"""
    s = session(cell)
    for _ in range(2):
        for key in range(10):
            s.run("f", key.to_bytes(4, "little"))
    full = {name: missed["full"] for name, missed in s.missed().items()}
    assert full == {"few": 14, "begun": 16, "lat": 12, "slots": 16, "wide": 18}
    assert counts(s.maps["few"].df()) == {0: 2, 1: 2, 2: 2}
    assert counts(s.maps["wide"].df()) == {(0, 0): 4}


def test_elapsed_time_and_a_start_never_seen() -> None:
    cell = """
    HASH(begun, u32, u64); PERCPU_ARRAY(clock, u64); ARRAY(out, u64, 8);
    SEC("syscall") int f(void *ctx)
    {
        u64 got[6], before = NOW_NS();
        got[0] = ELAPSED_NS(begun, 1);
        START(begun, 1);
        for (int i = 0; i < 100; i++)
            bpf_get_prandom_u32();
        got[1] = ELAPSED_NS(begun, 1);
        got[2] = ELAPSED_NS(begun, 1);
        got[3] = ELAPSED_NS(clock, 0);
        START(clock, 0);
        got[4] = ELAPSED_NS(clock, 0);
        got[5] = NOW_NS() - before;
        for (int i = 0; i < 6; i++)
            ADD(out, i, got[i]);
        return 0;
    }"""
    s = session(cell)
    s.run("f")
    got = list(counts(s.maps["out"].df()).values())
    assert (got[0], got[2], got[3]) == (0, 0, 0)
    assert 0 < got[1] < got[5]
    assert 0 < got[4] < got[5]
    assert len(s.maps["begun"].df()) == 0
    assert s.missed()["begun"] == {"full": 0, "unseen": 2}
    assert s.missed()["clock"] == {"full": 0, "unseen": 1}


def test_buckets_are_those_the_frames_are_made_of() -> None:
    cell = """
    HASH(buckets, u64, u64, 20000); HIST(hist_all, "bytes");
    SEC("syscall") int f(u64 *ctx) { u64 v = *ctx; OBSERVE(hist_all, v); ADD(buckets, v, EM_BUCKET(v)); return 0; }"""
    values = {v for e in range(64) for d in (-1, 0, 1) for v in [(1 << e) + d, (3 << e) // 2 + d] if 0 <= v < 1 << 64}
    values |= set(range(70)) | {(1 << 64) - 1}
    s = session(cell)
    for value in values:
        s.run("f", value.to_bytes(8, "little"))
    expected = {value: int(histogram.index(value)) for value in values}
    assert counts(s.maps["buckets"].df()) == expected
    assert max(expected.values()) == 975
    assert s.maps["hist_all"].df()["count"].sum() == len(values)


def test_histogram_by_key() -> None:
    cell = """
    struct two { u64 a; u32 b; };
    HIST_BY(lat, struct two, "ns"); HIST_BY(sizes, u64, "bytes");
    SEC("syscall") int f(void *ctx)
    {
        struct two key;
        __builtin_memset(&key, 0, sizeof(key));
        key.a = 1; key.b = 2;
        OBSERVE_BY(lat, key, 5);
        OBSERVE_BY(sizes, 77, 1000);
        OBSERVE_BY(sizes, 78, 1);
        return 0;
    }"""
    s = session(cell)
    for _ in range(4):
        s.run("f")
    for name, total in (("lat", 4), ("sizes", 8)):
        assert s.maps[name].df()["count"].sum() == total
    assert sorted(s.maps["sizes"].df().index.get_level_values(0)) == [77, 78]


def test_who_and_where() -> None:
    cell = """
    struct who { u32 pid; u32 tid; u32 cpu; char comm[16]; };
    HASH(seen, struct who, u64);
    SEC("syscall") int f(void *ctx)
    {
        struct who who = {.pid = PID(), .tid = TID(), .cpu = CPU()};
        COMM(who.comm);
        COUNT(seen, who);
        return 0;
    }"""
    s = session(cell)
    s.run("f")
    pid, tid, cpu, comm = s.maps["seen"].df().index[0]
    assert os.path.exists(f"/proc/{pid}/task/{tid}")
    assert 0 <= cpu < (os.cpu_count() or 1)
    with open(f"/proc/{pid}/task/{tid}/comm") as file:
        assert file.read().strip() == comm


@pytest.mark.parametrize("clang", ["clang", "zig"])
def test_a_probe_with_every_macro_verifies(clang: str) -> None:
    from test_build_compile import EVERYTHING, compilers

    if clang not in compilers():
        pytest.skip(f"{clang} is not installed")
    s = session(EVERYTHING, clang=clang)
    for _ in range(1000):
        os.close(os.open("/dev/null", os.O_RDONLY))
    assert counts(s.maps["hash"].df())[os.getpid()] >= 1000
    assert s.maps["lat"].df()["count"].sum() >= 1000
