"""What can be probed: each kind by name and pattern; what is found can be attached, what is not has near names."""

from __future__ import annotations

import shlex
from collections.abc import Iterator

import pytest
import rights

import ebpf_magic as em
from ebpf_magic.errors import NoSuchNameError, UsageError
from ebpf_magic.hosts import registry

pytestmark = [pytest.mark.live, pytest.mark.any_host]


@pytest.fixture(autouse=True)
def stop_all() -> Iterator[None]:
    yield
    em.stop_all()


@pytest.mark.needs("tracepoint")
def test_all_kinds_by_one_pattern() -> None:
    frame = em.probes("*open*", on=rights.host_name())
    assert frame.columns.tolist() == ["kind", "name", "section", "detail", "module"]
    assert {"tracepoint", "syscall", "fentry", "lsm"} <= set(frame["kind"])
    found = frame.set_index(["kind", "name"])
    assert found.loc[("tracepoint", "syscalls/sys_enter_openat"), "section"] == "tracepoint/syscalls/sys_enter_openat"
    assert found.loc[("syscall", "openat"), "section"] == "tracepoint/syscalls/sys_enter_openat"
    assert found.loc[("lsm", "file_open"), "detail"] == "int file_open(struct file *file)"
    assert found.loc[("fentry", "vfs_open"), "detail"] == "int vfs_open(const struct path *path, struct file *file)"
    assert all("open" in name for name in frame["name"])
    assert not frame.duplicated(["kind", "name"]).any()


@pytest.mark.needs("kprobe")
def test_functions_that_take_kprobes() -> None:
    assert em.probes("do_sys_openat2", kind="kprobe", on=rights.host_name())["section"].tolist() == [
        "kprobe/do_sys_openat2"
    ]


@pytest.mark.parametrize(
    ("pattern", "kind", "section"),
    [
        ("sched/sched_switch", "tracepoint", "tracepoint/sched/sched_switch"),
        ("sched_swit*", "tracepoint", "tracepoint/sched/sched_switch"),
        ("sched_switch", "raw_tp", "raw_tp/sched_switch"),
        ("bpf_map_elem", "iter", "iter/bpf_map_elem"),
        ("tracepoint", "attach", "tracepoint/CATEGORY/NAME"),
    ],
)
def test_one_of_each_kind(pattern: str, kind: str, section: str) -> None:
    frame = em.probes(pattern, kind=kind, on=rights.host_name())
    assert frame["section"].tolist() == [section]
    assert frame["kind"].tolist() == [kind]


def test_a_raw_tracepoint_s_arguments_have_their_names() -> None:
    detail = em.probes("sched_switch", kind="raw_tp", on=rights.host_name())["detail"].item()
    assert detail.startswith("with types: tp_btf/sched_switch (bool preempt, struct task_struct *prev, struct task_str")


def test_iterators_are_those_that_can_be_attached() -> None:
    names = em.probes("*", kind="iter", on=rights.host_name())["name"]
    assert {"task", "task_file", "bpf_map", "bpf_map_elem", "tcp"} <= set(names)


def test_what_is_of_a_module_says_of_which() -> None:
    host = registry.get(rights.host_name())
    frame = em.probes("*", on=host.name)
    sizes = dict(row.split("\t") for row in host.find("module", "*"))
    said: list[str] = []
    host.sh("cd /sys/kernel/btf && for each in *; do echo $each $(stat -c %s $each); done", on_output=said.append)
    assert {f"{name} {size}" for name, size in sizes.items()} == set("".join(said).splitlines()) - {
        line for line in "".join(said).splitlines() if line.startswith("vmlinux ")
    }
    assert set(frame["module"]) - {""} <= {row.partition("\t")[0] for row in host.find("module", "*")}
    assert set(frame["kind"][frame["module"] != ""]) <= {"tracepoint", "raw_tp", "fentry", "kprobe"}
    if rights.IN_VM:  # whose files come over these
        found = frame[frame["kind"] == "fentry"].set_index("name")
        assert found.loc["p9_client_create", "module"] == "9pnet"
        assert found.loc["p9_client_create", "detail"].startswith("struct p9_client *p9_client_create(const char *")
        assert frame.set_index(["kind", "name"]).loc[("tracepoint", "9p/9p_client_req"), "module"] == "9pnet"


def test_what_is_in_a_file() -> None:
    frame = em.probes("libc.so.6:mallo*", on=rights.host_name())
    found = frame.set_index("kind").loc[["uprobe"]]
    malloc = found[found["name"].str.endswith(":malloc")].iloc[0]
    assert malloc["section"] == f"uprobe/{malloc['name']}"
    assert malloc["name"].startswith("/")


@pytest.mark.needs("uprobe")
def test_the_section_of_a_symbol_works_as_it_is() -> None:
    section = em.probes("libc.so.6:getppid", kind="uprobe", on=rights.host_name())["section"].item()
    session = em.run(
        f'HASH(hits, u32, u64); SEC("{section}") int f(void *ctx) {{ COUNT(hits, PID()); return 0; }}',
        "tested",
        on=rights.host_name(),
    )
    said: list[str] = []
    python = "import os; print(os.getpid()); [os.getppid() for _ in range(23)]"
    session.agent_host.sh(f"python3 -I -S -c {shlex.quote(python)}", on_output=said.append)
    assert session.maps["hits"].df().loc[int("".join(said)), "value"] == 23


# What DTRACE_PROBE2(em, made, ...) and DTRACE_PROBE(em, other) leave in a program.
NOTES = """
.macro note name, arguments
.balign 4
.4byte 8, 2f-1f, 3
.asciz "stapsdt"
1: .8byte 0x1000, 0, 0
.asciz "em"
.asciz "\\name"
.asciz "\\arguments"
2:
.endm
.section .note.stapsdt,"","note"
note made, "4@%edi -8@%rsi"
note other, ""
"""


def test_a_file_s_own_probes() -> None:
    host = registry.get(rights.host_name())
    said: list[str] = []
    make = "file=$(mktemp -u /tmp/em-XXXXXX.so); clang -c -x assembler - -o $file && echo $file"
    host.sh(f"printf %s {shlex.quote(NOTES)} | ({make})", on_output=said.append)
    path = "".join(said).strip()
    try:
        frame = em.probes(f"{path}:*", on=host.name)
        assert frame[["kind", "name", "section", "detail"]].to_numpy().tolist() == [
            ["usdt", f"{path}:em:made", f"usdt/{path}:em:made", "4@%edi -8@%rsi"],
            ["usdt", f"{path}:em:other", f"usdt/{path}:em:other", ""],
        ]
        assert em.probes(f"{path}:em:oth*", kind="usdt", on=host.name)["name"].tolist() == [f"{path}:em:other"]
        with pytest.raises(NoSuchNameError) as caught:
            em.probes(f"{path}:mode", on=host.name)
        assert caught.value.near == ["made"]
    finally:
        host.sh(f"rm {shlex.quote(path)}")


@pytest.mark.parametrize(
    ("pattern", "kind", "near"),
    [
        ("sys_enter_opnat", "tracepoint", "syscalls/sys_enter_openat"),
        ("sched/sched_swich", None, "sched/sched_switch"),
        ("vfs_raed", "fentry", "vfs_read"),
        ("fiel_open", "lsm", "file_open"),
        ("taks", "iter", "task"),
        ("opnat", "syscall", "openat"),
        ("sched_swich", "raw_tp", "sched_switch"),
        ("*opnat*", None, "openat"),
        ("libc.so.6:malok", None, "malloc"),
        ("tracepont", "attach", "tracepoint"),
    ],
)
def test_what_does_not_match_has_near_names(pattern: str, kind: str | None, near: str) -> None:
    with pytest.raises(NoSuchNameError, match="nothing matches") as caught:
        em.probes(pattern, kind=kind, on=rights.host_name())
    assert near in caught.value.near


def test_files_and_kinds_that_are_not_there() -> None:
    with pytest.raises(UsageError, match=r"no such file: /usr/bin/pythn3 \(near: /usr/bin/python3"):
        em.probes("/usr/bin/pythn3:main", on=rights.host_name())
    with pytest.raises(UsageError, match="not a little-endian 64-bit ELF file"):
        em.probes("/etc/passwd:main", on=rights.host_name())
    with pytest.raises(UsageError, match="/dev/zero is no regular file"):
        em.probes("/dev/zero:main", on=rights.host_name())
    with pytest.raises(UsageError, match="no such kind") as caught:
        em.probes("*", kind="tracepiont", on=rights.host_name())
    assert caught.value.near == ["tracepoint"]
