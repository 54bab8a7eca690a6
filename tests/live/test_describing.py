"""Targets as C with a cell: each cell is compiled, loaded, attached, and where the work is known it counts it."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest
import rights
from IPython.core.interactiveshell import InteractiveShell

import ebpf_magic as em
from ebpf_magic import build, kernel_types
from ebpf_magic.build.vmlinux import vmlinux_h
from ebpf_magic.data import c_types, kinds, tracepoint
from ebpf_magic.errors import NoSuchNameError, UsageError
from ebpf_magic.hosts import registry
from ebpf_magic.session import Session

pytestmark = [pytest.mark.live, pytest.mark.any_host]

# Target, the kind it is, and what its cell needs of a kernel.
TARGETS = [
    ("sched_switch", "tracepoint", "tracepoint"),
    ("tracepoint/sched/sched_process_exec", "tracepoint", "tracepoint"),
    ("syscalls/sys_exit_read", "tracepoint", "tracepoint"),
    ("kmem:kmalloc", "tracepoint", "tracepoint"),
    ("tp/block/block_rq_issue", "tracepoint", "tracepoint"),
    ("openat", "syscall", "tracepoint"),
    ("syscall/getppid", "syscall", "tracepoint"),
    ("raw_tp/sched_switch", "raw_tp", "tp_btf"),
    ("tp_btf/sched_process_fork", "raw_tp", "tp_btf"),
    ("struct task_struct", "struct", "tp_btf"),
    ("sk_buff", "struct", "tp_btf"),
    ("struct tcp_sock", "struct", "syscall"),
    ("task_struct.se", "struct", "tp_btf"),
    ("vfs_read", "function", "fentry"),
    ("fexit/vfs_read", "function", "fexit"),
    ("kprobe/vfs_read", "function", "kprobe"),
    ("kretprobe/vfs_read", "function", "kretprobe"),
    ("lsm/file_open", "lsm", "lsm"),
    ("task_getpgid", "lsm", "lsm"),
    ("iter/task", "iter", "iter"),
    ("iter/task_file", "iter", "iter"),
    ("iter/tcp", "iter", "iter"),
    ("iter/bpf_map_elem", "iter", "iter"),
    ("iter/ksym", "iter", "iter"),
]


@pytest.fixture(autouse=True)
def stop_all() -> Iterator[None]:
    yield
    em.stop_all()


def described(target: str) -> em.describing.Description:  # type: ignore[name-defined]
    return em.describe(target, on=rights.host_name())


@pytest.mark.parametrize(
    ("target", "kind"), [pytest.param(name, kind, marks=pytest.mark.needs(need)) for name, kind, need in TARGETS]
)
def test_each_cell_runs(target: str, kind: str) -> None:
    found = described(target)
    assert found.kind == kind
    session = em.run(found.source, "tested", on=rights.host_name(), max_cpu=8.0, **found.options)
    assert isinstance(session, Session)
    assert session.state == "running"
    assert found.cell.split("\n", 1)[1] == found.source
    assert repr(found) == f"{found.c}\n\n{found.cell}".rstrip()
    if target in ("iter/task", "iter/task_file", "iter/ksym"):
        assert len(session.iter["dump"].df()) > 10


@pytest.mark.needs("tracepoint")
def test_the_cell_of_a_system_call_counts_it() -> None:
    found = described("openat")
    assert found.c == "long openat(int dfd, const char *filename, int flags, umode_t mode);"
    session = em.run(found.source, "tested", on=rights.host_name())
    session.agent_host.sh("ebpf-magic workload file --count 23")
    assert session.maps["hits"].df()["value"].sum() >= 23


@pytest.mark.needs("iter")
def test_an_iterator_over_a_map_has_its_entries() -> None:
    found = described("iter/bpf_map_elem")
    assert found.cell.startswith("%%ebpf bpf_map_elem --attach dump=seen\n")
    session = em.run(found.source, "tested", on=rights.host_name(), **found.options)
    frame = session.maps["seen"].df()
    frame.loc[7, "value"] = 49
    session.maps["seen"].update(frame.astype("uint64"))
    assert session.iter["dump"].df().to_numpy().tolist() == [[7, 49]]


@pytest.mark.needs("tracepoint")
@pytest.mark.parametrize(
    "name", ["sched/sched_switch", "syscalls/sys_enter_openat", "sched/sched_process_exec", "kmem/kmalloc",
             "block/block_rq_issue", "net/net_dev_xmit", "irq/irq_handler_entry", "signal/signal_generate"]
)  # fmt: skip
def test_the_members_of_a_record_lie_where_the_kernel_puts_them(name: str) -> None:
    """The compiler's word for where each member is, against tracefs'."""
    host = registry.get(rights.host_name())
    record = tracepoint.fields(host.tracepoint_format(*name.split("/")))
    assert len(record) > 4
    source = f"{tracepoint.struct('made', record)}\nstruct made *anchor;\nstruct made kept;"
    target = build.KernelTarget(host.info.arch, host.info.build_id, host.btf)
    btf = build.compile_cell(source, kernel=target).btf
    members = btf.members(btf.type(btf.names(kinds.STRUCT)["made"]))
    places = {member.name: member.offset_bits // 8 for member in members if not re.fullmatch(r"_\d+", member.name)}
    assert places == {field.name: field.offset for field in record}


def test_structs_are_written_as_libbpf_writes_them() -> None:
    """Every struct, union and enum of the kernel with a name, against the header that libbpf makes of the same BTF."""
    host = registry.get(rights.host_name())
    btf = kernel_types.of(host)
    header = vmlinux_h(host.btf()).decode()
    wanted = {}
    for match in re.finditer(r"^(struct|union|enum) (\w+) \{\n(?:.*\n)*?\}.*;$", header, re.MULTILINE):
        wanted[match[1], match[2]] = match[0]
    numbers = {"struct": [kinds.STRUCT], "union": [kinds.UNION], "enum": [kinds.ENUM, kinds.ENUM64]}
    compared = 0
    different = []
    for (keyword, name), text in wanted.items():
        ids = [btf.names(number)[name] for number in numbers[keyword] if name in btf.names(number)]
        if not ids or f"{name}___" in header:  # of several of one name we have the first
            continue
        compared += 1
        if _plain(c_types.definition(btf, ids[0])) != _plain(text):
            different.append(name)
    assert compared > 5000
    assert different == []


def _plain(text: str) -> str:
    """Leave out what says nothing of the type itself: padding and attributes that libbpf adds, and how it is set."""
    text = re.sub(r"\n\s*(?:long: \d+|int: \d+|short: \d+|char: \d+|: \d+);(?=\n)", "", text)
    text = re.sub(r"___\d+\b", "", text)  # libbpf's numbers for several of one name
    text = re.sub(r"__attribute__\(\((?:\w|\([^)]*\))*\)\)", "", text)
    return re.sub(r"\s+", "", text).replace("(void)", "()")  # libbpf writes both


def test_a_member_by_its_path() -> None:
    found = described("task_struct.se.load")
    assert re.match(
        r"/\* struct task_struct\.se\.load: byte \d+ \*/\nstruct load_weight load;\n\nstruct load_weight \{", found.c
    )
    with pytest.raises(NoSuchNameError, match=r"describe struct task_struct\.see: no such member") as caught:
        described("task_struct.see")
    assert "se" in caught.value.near


def test_types_that_no_cell_is_for() -> None:
    assert described("enum tcp_ca_state").c.startswith("enum tcp_ca_state {\n\tTCP_CA_Open = 0,")
    assert described("typedef pid_t").c == "typedef __kernel_pid_t pid_t;"
    assert described("pid_t").cell == ""


def test_a_member_of_what_no_cell_is_for() -> None:
    found = described("atomic_t.counter")
    assert (found.c, found.cell) == ("/* typedef atomic_t.counter: byte 0 */\nint counter;", "")


def test_a_cell_has_a_name_that_python_takes() -> None:
    assert described("struct class").cell.startswith("%%ebpf on_class\n")
    assert em.describing.Description("tracepoint", "9p/9p_client_req", "", "x").cell == "%%ebpf on_9p_9p_client_req\nx"  # type: ignore[attr-defined]
    assert em.cell_texts.record_name("9p_client_req") == "_9p_client_req_record"  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("target", "near"),
    [
        ("sched_swich", "sched_switch"),
        ("vfs_raed", "vfs_read"),
        ("task_strct", "task_struct"),
        ("struct task_strct", "task_struct"),
        ("iter/taks", "task"),
        ("lsm/fiel_open", "file_open"),
        ("tp_btf/sched_swich", "sched_switch"),
        ("syscall/opnat", "openat"),
        ("fentry/vfs_raed", "vfs_read"),
    ],
)
def test_typing_errors_have_near_names(target: str, near: str) -> None:
    with pytest.raises(NoSuchNameError) as caught:
        described(target)
    assert near in caught.value.near


@pytest.mark.needs("tracepoint")
def test_a_tracepoint_that_does_not_exist() -> None:
    with pytest.raises(em.errors.AttachError, match="no such tracepoint") as caught:
        described("syscalls/sys_enter_opnat")
    assert "sys_enter_openat" in caught.value.near
    with pytest.raises(UsageError, match="it names nothing"):
        described("iter/")


def test_in_a_notebook(shell: InteractiveShell) -> None:
    on = rights.host_name()
    frame: Any = shell.run_line_magic("ebpf", f"probes --kind iter --on {on} task*")
    assert "task_file" in frame["name"].tolist()
    found: Any = shell.run_line_magic("ebpf", f"describe --on {on} struct task_struct")
    assert found.name == "task_struct"
    assert found._repr_markdown_().startswith("```c\nstruct task_struct {\n")
    assert shell.run_line_magic("ebpf", f"describe --on {on} iter/task").cell.startswith("%%ebpf task\n")


def test_a_definition_is_c_that_compiles() -> None:
    text = described("struct list_head").c + "\n" + described("enum tcp_ca_state").c
    subprocess.run(["cc", "-fsyntax-only", "-x", "c", "-"], input=text.encode(), check=True)
