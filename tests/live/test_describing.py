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
from ebpf_magic.agent.kinds import KINDS as SECTIONS
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
    ("kprobe:vfs_rea*", "functions", "kprobe.multi"),
    ("kretprobe.multi/vfs_rea*", "functions", "kretprobe.multi"),
    ("ksyscall:openat", "syscall", "ksyscall"),
    ("kretsyscall/openat", "syscall", "kretsyscall"),
    ("kfunc/tcp_slow_start", "kfunc", "fentry"),
    ("uprobe:libc.so.6:malloc", "uprobe", "uprobe"),
    ("uretprobe/libc.so.6:malloc", "uprobe", "uretprobe"),
    ("libc.so.6:malloc", "uprobe", "uprobe"),
    ("uprobe.multi/libc.so.6:mallo*", "uprobe", "uprobe.multi"),
    ("uretprobe.multi/libc.so.6:mallo*", "uprobe", "uretprobe.multi"),
    ("usdt/python3:python:gc__start", "usdt", "usdt"),
    ("enum tcp_ca_state", "enum", "syscall"),
    ("typedef pid_t", "typedef", "syscall"),
    ("union sigval", "union", "syscall"),
    ("iter/task", "iter", "iter"),
    ("iter/task_file", "iter", "iter"),
    ("iter/tcp", "iter", "iter"),
    ("iter/bpf_map_elem", "iter", "iter"),
    ("iter/ksym", "iter", "iter"),
]


# Kinds of programs whose example depends on nothing that runs, and what each needs.
KINDS = {
    "xdp": "xdp", "tc": "tc", "netfilter": "netfilter", "sk_lookup": "sk_lookup", "flow_dissector": "flow_dissector",
    "sk_skb": "sk_skb", "sk_msg": "sk_msg", "sk_reuseport": "sk_reuseport", "socket": "socket",
    "cgroup_skb": "cgroup_skb", "cgroup_sock": "cgroup_sock", "cgroup_sock_addr": "cgroup_sock_addr",
    "cgroup_device": "cgroup_device", "cgroup_sysctl": "cgroup_sysctl", "cgroup_sockopt": "cgroup_sockopt",
    "sock_ops": "sock_ops", "lsm_cgroup": "lsm_cgroup", "perf_event": "perf_event", "syscall": "syscall",
    "xdp_devmap": "devmap", "xdp_cpumap": "cpumap", "tracepoint": "tracepoint", "tp_btf": "tp_btf",
    "fentry": "fentry", "fmod_ret": "fmod_ret", "kprobe": "kprobe", "uprobe": "uprobe", "iter": "iter",
}  # fmt: skip


UNATTACHED = ("syscall", "xdp_devmap", "xdp_cpumap")


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


@pytest.mark.parametrize("kind", [pytest.param(kind, marks=pytest.mark.needs(need)) for kind, need in KINDS.items()])
def test_each_kind_of_programs_has_one_that_works(kind: str) -> None:
    found = described(f"attach/{kind}")
    assert found.kind == "attach"
    assert f'SEC("{SECTIONS[kind].sections[0]}")' in found.c
    session = em.run(found.source, "tested", on=rights.host_name(), max_cpu=8.0, **found.options)
    assert session.state == "running"
    assert session.programs["target"].ne("").all() or found.options.get("attach") is False or kind in UNATTACHED


def test_every_kind_of_programs_is_described() -> None:
    for kind, about in SECTIONS.items():
        found = described(f"attach {kind}")
        assert (found.kind, found.name) == ("attach", kind)
        if "/" in about.sections[-1]:  # a bare word may be a system call or a struct
            assert described(about.sections[-1]).name == kind


@pytest.mark.parametrize(
    ("pattern", "kind"),
    [
        ("sched/sched_p*", "tracepoint"),
        ("sched_p*", "raw_tp"),
        ("get*id", "syscall"),
        ("vfs_rea*", "fentry"),
        ("task_get*", "lsm"),
        ("bpf*", "iter"),
        ("s*", "attach"),
        ("libc.so.6:mallo*", "uprobe"),
        ("/usr/bin/python3:gc__*", "usdt"),
    ],
)
def test_what_probes_finds_can_be_described(pattern: str, kind: str) -> None:
    """Each row as it is, and its section, which is how a person copies it."""
    frame = em.probes(pattern, kind=kind, on=rights.host_name())
    assert len(frame) > 1
    for _, row in frame.iterrows():
        found = em.describe(row, on=rights.host_name())
        assert row["name"] == found.name
        assert found.c
        if "/" in row["section"]:
            assert described(row["section"]).c
            assert kind in ("attach", "syscall", "raw_tp") or f'SEC("{row["section"]}")' in found.source


@pytest.mark.needs("kprobe")
def test_a_function_without_types_can_be_described() -> None:
    frame = em.probes("*.isra.*", kind="kprobe", on=rights.host_name())
    found = em.describe(frame.iloc[0], on=rights.host_name())
    assert found.c.startswith("/* The kernel's BTF does not say what ")
    assert f'SEC("kprobe/{frame["name"].iloc[0]}")' in found.source


def test_what_is_of_a_module() -> None:
    """A type, a function and a tracepoint of each loaded module that has them; a guest's 9p is always one."""
    host = registry.get(rights.host_name())
    types = dict(kernel_types.each(host))
    assert set(types) - {""} == {row.partition("\t")[0] for row in host.find("module", "*")}
    seen = set()
    for module, btf in list(types.items())[1:4]:
        of = f"/* Of module {module}. */"
        struct = next(name for name in btf.names(kinds.STRUCT) if name not in types[""].names(kinds.STRUCT))
        text = described(f"struct {struct}").c
        assert text.startswith("/* Of module ")
        assert f"\nstruct {struct} {{" in text
        for name in list(kernel_types.raw_tracepoints(btf))[:1]:
            assert described(f"tp_btf/{name}").c.startswith(f"{of}\nvoid {name}(")
        seen.add(module)
    assert not rights.IN_VM or {"9p", "9pnet"} <= seen


@pytest.mark.needs("fentry")
def test_cells_on_a_module_count_it() -> None:
    """In a guest, whose files come over 9p, from the module 9pnet: 23 reads are as many calls of it, or more."""
    host = registry.get(rights.host_name())
    if not any(row.startswith("9pnet\t") for row in host.find("module", "9pnet")):
        assert not rights.IN_VM
        return
    found = [described(target) for target in ("fentry/p9_client_read_once", "tp_btf/9p_client_req", "struct p9_client")]
    sessions = [em.run(each.source, f"of_{number}", on=host.name, max_cpu=8.0) for number, each in enumerate(found)]
    host.sh("for i in $(seq 23); do dd if=/usr/bin/python3 of=/dev/null bs=64k count=1 skip=$i iflag=direct; done")
    assert sessions[0].maps["hits"].df()["value"].sum() >= 23
    assert sessions[1].maps["hits"].df()["value"].sum() >= 23
    assert sessions[2].run("size_of_p9_client").retval > 64


@pytest.mark.needs("uprobe")
def test_the_cell_of_a_file_s_function_counts_it() -> None:
    found = described("uprobe:libc.so.6:getppid")
    session = em.run(found.source, "tested", on=rights.host_name())
    said: list[str] = []
    python = "import os; print(os.getpid()); [os.getppid() for _ in range(23)]"
    session.agent_host.sh(f'python3 -I -S -c "{python}"', on_output=said.append)
    assert session.maps["hits"].df().loc[int("".join(said)), "value"] == 23


@pytest.mark.needs("syscall")
def test_the_cell_of_a_type_tells_of_it() -> None:
    enum, size = described("enum tcp_ca_state"), described("typedef pid_t")
    assert em.run(enum.source, "tested", on=rights.host_name()).run("value_of_TCP_CA_Open").retval == 0
    assert em.run(size.source, "tested", on=rights.host_name()).run("size_of_pid_t").retval == 4


def test_a_kfunc_is_declared_as_programs_call_it() -> None:
    assert described("kfunc/tcp_slow_start").c.endswith(
        "extern u32 tcp_slow_start(struct tcp_sock *tp, u32 acked) __ksym;"
    )


def test_a_usdt_probe_has_its_arguments() -> None:
    found = described("usdt/python3:python:audit")
    assert found.c.endswith("void audit(u64 arg0, u64 arg1);")


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


def test_plain_types() -> None:
    assert described("enum tcp_ca_state").c.startswith("enum tcp_ca_state {\n\tTCP_CA_Open = 0,")
    assert described("typedef pid_t").c == "typedef __kernel_pid_t pid_t;"
    assert described("attach/struct_ops").cell == ""


def test_a_member_of_a_typedef() -> None:
    assert described("atomic_t.counter").c == "/* typedef atomic_t.counter: byte 0 */\nint counter;"


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
        ("kprobe:vfs_raed", "vfs_read"),
        ("kfunc/tcp_slow_strat", "tcp_slow_start"),
        ("uprobe/libc.so.6:malok", "malloc"),
        ("usdt/python3:python:gc_start", "gc__start"),
        ("attach/xpd", "xdp"),
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
    with pytest.raises(UsageError, match="written PATH:FUNCTION"):
        described("uprobe/libc.so.6")
    with pytest.raises(UsageError, match="no such file"):
        described("uprobe/libc.so.77:malloc")
    with pytest.raises(UsageError, match="it is no row of probes"):
        em.describe({"name": "vfs_read"}, on=rights.host_name())


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
