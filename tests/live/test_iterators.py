"""Iterators: the kernel's objects read as rows or text, what narrows them, and what is said when one cannot be read."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pandas as pd
import pytest
import rights
from objects import eventually
from working import working

import ebpf_magic as em
from ebpf_magic.errors import (
    AttachError,
    EbpfMagicError,
    IteratorError,
    NoSuchNameError,
    StoppedError,
    UnsupportedError,
    UsageError,
)
from ebpf_magic.session import Session

pytestmark = [pytest.mark.live, pytest.mark.any_host, pytest.mark.needs("iter")]

TASKS = """
struct row { u32 pid; u32 tid; u32 ppid; char comm[16]; };
SEC("iter/task") int tasks(struct bpf_iter__task *ctx)
{
    struct task_struct *task = ctx->task;
    if (!task)
        return 0;
    struct row row = {.pid = task->tgid, .tid = task->pid, .ppid = task->real_parent->tgid};
    bpf_probe_read_kernel_str(row.comm, sizeof(row.comm), task->comm);
    ROW(ctx, row);
    return 0;
}
"""
ENTRIES = """
%s
struct row { u32 key; u64 value; };
SEC("iter/bpf_map_elem") int dump(struct bpf_iter__bpf_map_elem *ctx)
{
    u32 *key = ctx->key;
    u64 *value = ctx->value;
    if (!key || !value)
        return 0;
    struct row row = {.key = *key, .value = *value};
    %s
    return 0;
}
"""
# Rows of 24 bytes.
MILLION = (ENTRIES % ("ARRAY(numbers, u64, 1000000);", "ROW(ctx, row);")).replace("u32 key;", "u64 key; u64 more;")
CHILDREN = 'wait(children=children(23, "em-iter-child"))'


@pytest.fixture(autouse=True)
def stop_all() -> Iterator[None]:
    yield
    em.stop_all()


def run(source: str, **options: Any) -> Session:
    found = em.run(source, "tested", on=rights.host_name(), **options)
    assert isinstance(found, Session)
    return found


def test_rows_are_typed_as_they_were_declared() -> None:
    session = run(TASKS)
    with working(session.agent_host, CHILDREN) as made:
        frame = session.iter["tasks"].df()
    found = frame[frame["ppid"] == made["pid"]]
    assert set(found["comm"]) == {"em-iter-child"}
    assert sorted(found["pid"]) == sorted(found["tid"]) == sorted(made["children"])
    assert frame.dtypes.astype(str).to_dict() == {"pid": "uint32", "tid": "uint32", "ppid": "uint32", "comm": "str"}
    assert frame.attrs["ended_ns"] > frame.attrs["began_ns"]
    assert session.iter["tasks"].objects == "task"
    # What it cost is told, as of every program.
    assert session.stats().loc["tasks", "runs"] >= len(frame)


def test_each_reading_begins_anew() -> None:
    session = run(TASKS)
    with working(session.agent_host, CHILDREN) as made:
        assert session.iter["tasks"].df()["pid"].isin(made["children"]).sum() == 23
    assert eventually(lambda: not session.iter["tasks"].df()["pid"].isin(made["children"]).any())


def test_text_comes_as_lines() -> None:
    session = run(
        'HASH(first, u32, u64); HASH(second, u64, u64);\nSEC("iter/bpf_map") int lines(struct bpf_iter__bpf_map *ctx)'
        '{ struct bpf_map *map = ctx->map; if (map) BPF_SEQ_PRINTF(ctx->meta->seq, "%u %s\\n", map->id, map->name);'
        " return 0; }"
    )
    frame = session.iter["lines"].df()
    assert frame.columns.tolist() == ["line"]
    for name in session.maps:
        line = f"{session.maps[name].handle.info.id} {name}"
        assert line in frame["line"].tolist()
        assert line in session.iter["lines"].text().splitlines()


def test_text_of_nothing_is_no_line() -> None:
    session = run('SEC("iter/task") int quiet(struct bpf_iter__task *ctx) { return 0; }')
    assert session.iter["quiet"].df().empty
    assert session.iter["quiet"].text() == ""


@pytest.mark.parametrize("declared", ["HASH(numbers, u32, u64, 200000);", "ARRAY(numbers, u64, 100000);"])
def test_the_entries_of_a_map_of_the_session(declared: str) -> None:
    session = run(ENTRIES % (declared, "ROW(ctx, row);"), attach={"dump": "numbers"})
    session.maps["numbers"].update(
        pd.DataFrame({"value": range(7, 100_007)}, index=pd.RangeIndex(100_000, name="key")).astype("uint64")
    )
    frame = session.iter["dump"].df().sort_values("key")
    assert frame["key"].tolist() == list(range(100_000))
    assert frame["value"].tolist() == list(range(7, 100_007))
    assert session.programs.loc["dump", "target"] == "numbers"


def test_what_is_longer_than_a_piece_comes_whole() -> None:
    """A million rows of 24 bytes are more than the 16 MB that one answer carries."""
    session = run(MILLION, attach={"dump": "numbers"})
    frame = session.iter["dump"].df()
    assert len(frame) == 1_000_000
    assert (frame["key"] == frame.index).all()


def test_bounds_are_held_and_the_next_reading_is_whole() -> None:
    session = run(MILLION, attach={"dump": "numbers"})
    with pytest.raises(IteratorError, match=r"it wrote more than 1,000,000 bytes\nmax_bytes= allows more"):
        session.iter["dump"].df(max_bytes=1_000_000)
    with pytest.raises(IteratorError, match="it was not done within 1e-09 s, after"):
        session.iter["dump"].df(deadline_s=1e-9)
    assert len(session.iter["dump"].df()) == 1_000_000


def test_a_program_that_writes_too_much_midway() -> None:
    too_much = "for (int i = 0; i < (row.key == 500 ? 4000 : 1); i++) ROW(ctx, row);"
    session = run(ENTRIES % ("ARRAY(numbers, u64, 1000);", too_much), attach={"dump": "numbers"})
    with pytest.raises(IteratorError, match="does not fit the kernel's buffer of 8 pages") as caught:
        session.iter["dump"].df()
    assert "(after 8,000 bytes)" in str(caught.value)
    assert session.state == "running"


def test_a_program_that_asks_for_the_same_object_for_ever() -> None:
    session = run('SEC("iter/task") int again(struct bpf_iter__task *ctx) { return 1; }')
    with pytest.raises(IteratorError, match="returned 1 again and again"):
        session.iter["again"].df()


def test_text_among_rows_is_no_row() -> None:
    session = run(TASKS.replace("ROW", 'if (!ctx->meta->seq_num) BPF_SEQ_PRINTF(ctx->meta->seq, "x"); ROW'))
    with pytest.raises(IteratorError, match=r"no whole number of rows of 28 bytes\nWrite with ROW alone"):
        session.iter["tasks"].df()
    assert len(session.iter["tasks"].raw()) % 28 == 1


def test_a_row_by_a_function_and_one_in_place() -> None:
    session = run(
        """
        struct row { u32 pid; };
        static __noinline int give(struct bpf_iter__task *ctx, u32 pid) 
        { struct row row = {pid}; ROW(ctx, row); return 0; }
        SEC("iter/task") int called(struct bpf_iter__task *ctx)
        { struct task_struct *task = ctx->task; return task ? give(ctx, task->pid) : 0; }
        SEC("iter/task") int in_place(struct bpf_iter__task *ctx)
        { struct task_struct *task = ctx->task; if (task) ROW(ctx, (struct row){.pid = task->pid}); return 0; }
        SEC("iter/task") int text(struct bpf_iter__task *ctx)
        { struct task_struct *task = ctx->task; 
          if (task) BPF_SEQ_PRINTF(ctx->meta->seq, "%d\\n", task->pid); return 0; }
        """
    )
    with working(session.agent_host, CHILDREN) as made:
        for name in ("called", "in_place"):
            assert set(made["children"]) <= set(session.iter[name].df()["pid"])
        assert set(map(str, made["children"])) <= set(session.iter["text"].df()["line"])


def test_rows_of_two_types_are_refused() -> None:
    body = TASKS.replace(
        "ROW(ctx, row);", "ROW(ctx, row); struct other { u64 pid; } other = {row.pid}; ROW(ctx, other);"
    )
    with pytest.raises(UnsupportedError, match=r"rows of several types: other, row\nWrite all its rows as one type"):
        run(body)


def test_one_process_and_one_thread() -> None:
    threads = (
        "import threading\n"
        "for _ in range(4): threading.Thread(target=time.sleep, args=(1000,), daemon=True).start()\n"
        "wait(tids=[int(tid) for tid in os.listdir('/proc/self/task')])"
    )
    session = run('SEC("syscall") int f(void *ctx) { return 0; }')
    with working(session.agent_host, threads) as made:
        assert len(made["tids"]) == 5
        for where, expected in ((f"pid:{made['pid']}", made["tids"]), (f"tid:{made['pid']}", [made["pid"]])):
            frame = run(TASKS, attach={"tasks": where}).iter["tasks"].df()
            assert sorted(frame["tid"]) == sorted(expected)
            assert set(frame["pid"]) == {made["pid"]}


CGROUPS = """
struct row { u64 id; u32 level; };
SEC("iter/cgroup") int cgroups(struct bpf_iter__cgroup *ctx)
{
    struct cgroup *cgroup = ctx->cgroup;
    if (!cgroup)
        return 0;
    struct row row = {.id = cgroup->kn->id, .level = cgroup->level};
    ROW(ctx, row);
    return 0;
}
"""


def test_one_cgroup_and_all() -> None:
    session = run(CGROUPS)
    said: list[str] = []
    session.agent_host.sh("cat /proc/self/mountinfo", on_output=said.append)
    mounts = [line.split() for line in "".join(said).splitlines() if " - cgroup2 " in line]
    assert mounts, said
    folder = mounts[0][4]
    session.agent_host.sh(f"stat -c %i {folder}", on_output=said.append)
    inode = said[-1]
    everything = session.iter["cgroups"].df()
    assert everything.iloc[0].tolist() == [int(inode), 0]
    assert everything["id"].is_unique
    one = run(CGROUPS, attach={"cgroups": f"self:{folder}"}).iter["cgroups"].df()
    assert one.to_numpy().tolist() == [[int(inode), 0]]
    shown = run(CGROUPS.replace("u64 id", "u64 id AS(cgroup)"), attach={"cgroups": f"self:{folder}"})
    assert shown.iter["cgroups"].df()["id"].tolist() == ["/"]
    with pytest.raises(AttachError, match=r"/tmp is no cgroup"):
        run(CGROUPS, attach={"cgroups": "/tmp"})
    with pytest.raises(AttachError, match=r"orders are self, pre, post, up"):
        run(CGROUPS, attach={"cgroups": f"prefer:{folder}"})
    with pytest.raises(AttachError, match=r"No such file or directory") as caught:
        run(CGROUPS, attach={"cgroups": f"{folder}.oldx"})
    assert folder in caught.value.near or not folder.count("/")


@pytest.mark.parametrize(
    ("section", "near"), [("iter/taks", "task"), ("iter/bpf_map_elm", "bpf_map_elem"), ("iter.s/task_vm", "task_vma")]
)
def test_no_such_iterator(section: str, near: str) -> None:
    with pytest.raises(AttachError, match="the kernel has no such iterator") as caught:
        run(f'SEC("{section}") int f(void *ctx) {{ return 0; }}')
    assert near in caught.value.near


def test_maps_that_cannot_be_gone_through() -> None:
    cell = ENTRIES % ("HASH(numbers, u32, u64); HASH(others, u32, u64);", "ROW(ctx, row);")
    with pytest.raises(
        AttachError, match=r"(?s)none is named\n.*\nName one: --attach dump=numbers\. Maps of the session: n"
    ):
        run(cell)
    with pytest.raises(AttachError, match="the session has no such map") as caught:
        run(cell, attach={"dump": "numbres"})
    assert caught.value.near == ["numbers"]
    with pytest.raises(AttachError, match="reads beyond the map's keys of 4 or values of 4 bytes"):
        run(ENTRIES % ("HASH(numbers, u32, u32);", "ROW(ctx, row);"), attach={"dump": "numbers"})
    with pytest.raises(AttachError, match="it is a hash; sockmap takes sockmap, sockhash"):
        run('HASH(numbers, u32, u64); SEC("iter/sockmap") int f(void *ctx) { return 0; }', attach={"f": "numbers"})


def test_targets_that_mean_nothing() -> None:
    with pytest.raises(UsageError, match="an iterator over bpf_prog goes over all there are"):
        run('SEC("iter/bpf_prog") int f(void *ctx) { return 0; }', attach={"f": "numbers"})
    with pytest.raises(UsageError, match="or is written pid:123 or tid:123"):
        run(TASKS, attach={"tasks": "pid:0"})


def test_names_and_states() -> None:
    session = run(TASKS)
    with pytest.raises(NoSuchNameError, match="no such iterator") as caught:
        session.iter["taks"]
    assert caught.value.near == ["tasks"]
    assert repr(session.iter["tasks"]) == "<Iterator tasks: rows of task, of tested>"
    session.stop()
    with pytest.raises(StoppedError, match="an iterator keeps nothing"):
        session.iter["tasks"].df()


def test_an_iterator_that_was_only_loaded() -> None:
    session = run(TASKS, attach=False)
    with pytest.raises(StoppedError, match="the session is loaded, not attached"):
        session.iter["tasks"].df()


def test_reading_does_not_count_against_the_limit_of_cpu() -> None:
    session = run(
        ENTRIES % ("ARRAY(numbers, u64, 100000);", "ROW(ctx, row);"), attach={"dump": "numbers"}, max_cpu=1e-5
    )
    for _ in range(5):
        assert len(session.iter["dump"].df()) == 100_000
    assert session.agent_host.status()["sessions"][session.token]["state"] == "attached"


def test_a_reading_that_was_not_finished_holds_nothing() -> None:
    """What proves it is the fixture that finds no program left."""
    session = run(MILLION, attach={"dump": "numbers"})
    host = session.agent_host
    piece, more = host.iterate(session.token, "dump", True)
    assert more
    assert 0 < len(piece) < 24_000_000
    session.stop()


def test_what_is_asked_of_the_agent_in_the_wrong_order() -> None:
    session = run(TASKS + 'SEC("syscall") int other(void *ctx) { return 0; }')
    host = session.agent_host
    with pytest.raises(UsageError, match="no reading of it has begun"):
        host.iterate(session.token, "tasks", False)
    with pytest.raises(UsageError, match=r"it is no iterator\nAn iterator is SEC"):
        host.iterate(session.token, "other", True)


def test_the_section_that_rows_leave_is_no_cause_of_a_failure() -> None:
    with pytest.raises(EbpfMagicError) as caught:
        run(TASKS + 'ARRAY(none, u64, 0); SEC("syscall") int f(void *ctx) { COUNT(none, 0); return 0; }')
    assert "em.rows" not in str(caught.value) + caught.value.log
