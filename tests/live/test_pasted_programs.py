"""Programs as books and repositories have them, for loaders of their own: they give data, or say what they lack."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import rights
from working import told

import ebpf_magic as em
from ebpf_magic.card import CardFeed
from ebpf_magic.errors import AttachError, CompileError, EbpfMagicError, LoadError, UsageError
from ebpf_magic.session import Session

pytestmark = [pytest.mark.live, pytest.mark.any_host]

WORK = """python3 -I -S -c '
import os
pid = os.getpid()
print(pid)
for _ in range(23): os.getppid(), os.getpgid(pid)'"""
HEAD = '#include "vmlinux.h"\n#include <bpf/bpf_helpers.h>\n#include <bpf/bpf_tracing.h>\n'
TRACEPOINT = 'SEC("tracepoint/syscalls/sys_enter_getppid")'
COUNTED = "{ COUNT(calls, PID()); return 0; }"


@pytest.fixture(autouse=True)
def stop_all() -> Iterator[None]:
    yield
    em.stop_all()


def run(cell: str, name: str = "cell", **options: object) -> Session:
    session = em.run(cell, name=name, on=rights.host_name(), **options)
    assert isinstance(session, Session)
    return session


def work(session: Session) -> int:
    """Call getppid() and getpgid() 23 times each; the process that did."""
    return int(told(session.agent_host, WORK))


def refused(cell: str, **options: object) -> EbpfMagicError:
    before = [session.name for session in em.sessions()]
    with pytest.raises(EbpfMagicError) as caught:
        run(cell, **options)
    assert [session.name for session in em.sessions()] == before
    return caught.value


# Headers


def test_headers_of_the_c_library_can_be_included() -> None:
    cell = f"""#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#include <sys/socket.h>
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
uint32_t number = ENOENT;
{TRACEPOINT} int f(void *ctx) {{ char text[16]; memset(text, 0, sizeof(text)); return text[3]; }}
"""
    assert run(cell).vars["number"] == 2


def test_a_header_that_has_the_kernels_types_once_more_says_so() -> None:
    error = refused(f"{HEAD}#include <linux/if_ether.h>\nint x;\n")
    assert isinstance(error, CompileError)
    assert error.line == 4
    assert "leave this #include out" in str(error)


def test_the_folders_of_a_repository_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "own.h").write_text('#include "deeper/more.h"\n')
    (tmp_path / "deeper").mkdir()
    (tmp_path / "deeper/more.h").write_text("#define OWN 41\n")
    cell = HEAD + "#include <own.h>\nint number = OWN;\nint next(int n) { return n + 1; }\n"
    assert "--include" in str(refused(cell))
    monkeypatch.chdir(tmp_path.parent)
    assert run(cell, name="library", include=[tmp_path.name]).vars["number"] == 41
    # A cell is linked with others as they were compiled.
    user = f'{HEAD}extern int next(int n);\nint got;\nSEC("syscall") int f(void *ctx) {{ got = next(1); return 0; }}\n'
    linked = run(user, name="user", with_cells=["library"])
    linked.run("f")
    assert linked.vars["got"] == 2


def test_a_folder_that_is_not_there() -> None:
    error = refused("int x;", include=["/no/such/folder"])
    assert isinstance(error, UsageError)
    assert "--include /no/such/folder: no such folder" in str(error)
    assert "include is to be a list of texts" in str(refused("int x;", include="/x"))


MODERN = f"""#include "vmlinux.h"
#include <bpf/bpf_core_read.h>
{HEAD.partition(chr(10))[2]}
int total, rounds, runs, has_none, is_itself;
extern int em_no_such_function(void) __ksym __weak;
SEC("syscall") int f(void *ctx)
{{
    struct task_struct *task = bpf_core_cast((void *)bpf_get_current_task(), struct task_struct);
    int i, j;

    bpf_for(i, 0, 10) {{
        if (i == 8)
            break;
        bpf_for(j, 0, 2)
            total += i;
    }}
    bpf_repeat(5)
        rounds++;
    is_itself = task->tgid == bpf_get_current_pid_tgid() >> 32;
    has_none = !bpf_ksym_exists(em_no_such_function);
    return 0;
}}
SEC("uprobe/libc.so.6:getppid") int BPF_UPROBE(g) {{ runs++; return 0; }}
"""


def test_what_libbpf_s_headers_have_today_is_there_with_an_older_libbpf() -> None:
    host = run("int x;").agent_host
    if b"\0bpf_iter_num_new\0" not in host.btf():
        error = refused(MODERN)
        assert isinstance(error, CompileError)
        assert "bpf_for() and its kin need Linux 6.4" in str(error)
        return
    session = run(MODERN, max_cpu=8.0)
    session.run("f")
    work(session)
    found = [session.vars[name] for name in ("total", "rounds", "has_none", "is_itself")]
    assert found == [2 * 28, 5, 1, 1]
    assert session.vars["runs"] >= 23


# Where programs go


@pytest.mark.parametrize("attach", [{}, {"asleep": "syscalls/sys_enter_getppid"}])
def test_a_program_whose_section_begins_with_a_question_mark(attach: dict[str, str]) -> None:
    cell = f"""HASH(calls, u32, u64);
SEC("?tracepoint/syscalls/sys_enter_getppid") int asleep(void *ctx) {COUNTED}
{TRACEPOINT} int awake(void *ctx) {COUNTED}
"""
    session = run(cell, attach=attach)
    pid = work(session)
    assert session.maps["calls"].df()["value"][pid] == (46 if attach else 23)
    assert session.programs.index.tolist() == (["asleep", "awake"] if attach else ["awake"])
    said = "asleep is left out, as the ? in its section says: --attach asleep=syscalls/sys_enter_getppid takes it in"
    assert session.warnings == ([] if attach else [said])


def test_one_of_several_ways_is_chosen() -> None:
    cell = f"""HASH(calls, u32, u64);
{TRACEPOINT} int one_way(void *ctx) {COUNTED}
{TRACEPOINT} int another(void *ctx) {COUNTED}
"""
    session = run(cell, attach={"another": "off"})
    pid = work(session)
    assert session.maps["calls"].df()["value"][pid] == 23
    assert session.programs.index.tolist() == ["one_way"]
    assert session.warnings == []
    assert "no such program" in str(refused(cell, attach={"anotter": "off"}))


def test_a_section_of_any_name_with_a_target_that_says_what_it_is() -> None:
    cell = f'HASH(calls, u32, u64);\nSEC("my_own_section") int f(void *ctx) {COUNTED}\n'
    error = refused(cell)
    assert (type(error), error.line) == (LoadError, 2)
    assert "--attach f=tc:eth0:egress" in str(error)
    session = run(cell, attach={"f": "tracepoint:syscalls/sys_enter_getppid"})
    pid = work(session)
    assert session.maps["calls"].df()["value"][pid] == 23


@pytest.mark.needs("tp_btf")
def test_a_target_given_beside_the_cell_takes_the_place_of_the_sections() -> None:
    cell = 'u64 calls;\nSEC("tp_btf/placeholder") int f(u64 *ctx) { if (ctx[1] == 110) calls++; return 0; }\n'
    assert (type(refused(cell)), refused(cell).line) == (AttachError, 2)
    session = run(cell, attach={"f": "sys_enter"})
    work(session)
    assert session.vars["calls"] >= 23
    assert session.programs.loc["f", ["section", "target"]].tolist() == ["tp_btf/sys_enter", "sys_enter"]


@pytest.mark.needs("fentry")
def test_fentry_has_its_target_beside_the_cell() -> None:
    cell = 'u64 calls;\nSEC("fentry/placeholder") int BPF_PROG(f, u64 a) { calls++; return 0; }\n'
    error = refused(cell)
    assert "the kernel's BTF has no such function" in str(error)
    assert "--attach f=vfs_read" in str(error)
    assert error.line == 2
    session = run(cell, attach={"f": "fentry:security_task_getpgid"})
    work(session)
    assert session.vars["calls"] >= 23
    assert "security_task_getpgid" in refused(cell, attach={"f": "security_task_getpgyd"}).near


@pytest.mark.needs("struct_ops")
def test_functions_of_a_table_are_loaded_whatever_their_section_begins_with() -> None:
    cell = """SEC("?struct_ops/ssthresh") u32 BPF_PROG(used, struct sock *sk) { return 2; }
SEC("?struct_ops/ssthresh") u32 BPF_PROG(spare, struct sock *sk) { return 3; }
SEC(".struct_ops") struct tcp_congestion_ops table = { .ssthresh = (void *)used, .name = "em_pasted" };
"""
    session = run(cell, attach=False, allow_change=True)
    assert session.programs.index.tolist() == ["used"]
    assert [note.partition(" ")[0] for note in session.warnings] == ["spare"]


@pytest.mark.needs("struct_ops")
def test_a_function_that_a_table_needs_cannot_be_left_out() -> None:
    cell = """SEC("struct_ops/ssthresh") u32 BPF_PROG(bad, struct sock *sk) { return *(u32 *)bpf_get_current_task(); }
SEC(".struct_ops") struct tcp_congestion_ops table = { .ssthresh = (void *)bad, .name = "em_pasted" };
"""
    assert "the verifier says" in str(refused(cell, attach=False, allow_change=True, optional=["bad"]))
    error = refused(cell, attach={"bad": "off"}, allow_change=True)
    assert isinstance(error, UsageError)
    assert "a table of struct_ops has this function" in str(error)


# What the kernel is to have


@pytest.mark.needs("tp_btf")
@pytest.mark.parametrize(
    ("extern", "use", "why"),
    [
        ("extern int bpf_task_acquirr(int n) __ksym;", "bpf_task_acquirr(1)", "no such function for programs to call"),
        (
            "extern const struct task_struct em_no_such __ksym;",
            "(int)(long)&em_no_such",
            "the kernel's BTF has no such variable",
        ),
        ("extern const void em_no_such __ksym;", "(int)(long)&em_no_such", "/proc/kallsyms has no such symbol"),
    ],
)
def test_an_extern_that_this_kernel_has_not(extern: str, use: str, why: str) -> None:
    error = refused(f'{HEAD}{extern}\nSEC("raw_tp/sys_enter") int f(void *ctx) {{ return {use}; }}\n')
    assert isinstance(error, LoadError)
    assert error.line == 4
    assert why in str(error)
    assert "__weak" in error.hint


def test_settings_of_the_kernel_are_variables() -> None:
    cell = f"""{HEAD}extern int LINUX_KERNEL_VERSION __kconfig;
extern _Bool CONFIG_EM_NO_SUCH __kconfig __weak;
extern char CONFIG_EM_NO_TEXT[7] __kconfig __weak;
u64 version;
SEC("syscall") int f(void *ctx) {{
    version = LINUX_KERNEL_VERSION;
    return CONFIG_EM_NO_SUCH + CONFIG_EM_NO_TEXT[0];
}}
"""
    session = run(cell)
    assert session.run("f").retval == 0
    major, minor = map(int, session.agent_host.info.release.split(".")[:2])
    assert session.vars["LINUX_KERNEL_VERSION"] == session.vars["version"]
    assert session.vars["version"] >> 8 == major << 8 | minor
    rows = session.vars.df()
    settings = rows[rows["section"] == ".kconfig"]
    assert settings["value"].to_dict() == {
        "LINUX_KERNEL_VERSION": session.vars["version"],
        "CONFIG_EM_NO_SUCH": False,
        "CONFIG_EM_NO_TEXT": "",
    }
    assert not settings["writable"].any()
    with pytest.raises(UsageError, match="a setting of the kernel"):
        session.vars["CONFIG_EM_NO_SUCH"] = True
    assert "a setting of the kernel" in str(refused(cell, name="other", set={"LINUX_KERNEL_VERSION": 1}))


@pytest.mark.needs("BTF")
def test_what_a_setting_of_the_kernel_is() -> None:
    cell = f"{HEAD}extern int CONFIG_HZ __kconfig __weak;\nextern enum libbpf_tristate CONFIG_BPF_SYSCALL __kconfig;\n"
    cell += 'SEC("syscall") int f(void *ctx) { return CONFIG_BPF_SYSCALL == TRI_YES ? CONFIG_HZ : 0; }\n'
    session = run(cell)
    assert session.vars["CONFIG_BPF_SYSCALL"] == "TRI_YES"
    assert session.vars["CONFIG_HZ"] == session.run("f").retval
    assert session.vars["CONFIG_HZ"] in (100, 250, 300, 1000)


def test_a_setting_that_must_be_there_is_missed_by_name() -> None:
    cell = f"{HEAD}extern int CONFIG_EM_NO_SUCH __kconfig;\n"
    cell += 'SEC("syscall") int f(void *ctx) { return CONFIG_EM_NO_SUCH; }\n'
    error = refused(cell)
    assert (type(error), error.line) == (LoadError, 4)
    assert "resolve extern CONFIG_EM_NO_SUCH" in str(error)


# Maps


@pytest.mark.parametrize(
    ("kind", "sides", "text"),
    [
        ("STACK_TRACE", "__type(key, u32);", "__uint(value_size, 127 * sizeof(__u64)); __uint(max_entries, 10240);"),
        ("RINGBUF", "", "__uint(max_entries, 256 * 1024);"),
        ("HASH", "__type(key, u32); __type(value, u64);", "__uint(max_entries, 10240);"),
        ("QUEUE", "__uint(max_entries, 4);", "__uint(value_size, sizeof(__u64));"),
    ],
)
def test_a_size_that_a_loader_would_set(kind: str, sides: str, text: str) -> None:
    cell = f'int x;\nstruct {{\n__uint(type, BPF_MAP_TYPE_{kind}); {sides}\n}} later SEC(".maps");\n'
    error = refused(cell)
    assert (type(error), error.line) == (LoadError, 4)
    assert "load map later: it has no " in str(error)
    assert text in error.hint


def test_maps_declared_as_they_once_were() -> None:
    cell = f"""struct bpf_map_def {{ u32 type, key_size, value_size, max_entries, map_flags; }};
struct bpf_map_def SEC("maps") calls = {{BPF_MAP_TYPE_HASH, sizeof(u32), sizeof(u64), 64}};
{TRACEPOINT} int f(void *ctx)
{{
    u32 pid = PID();
    u64 one = 1, *count = bpf_map_lookup_elem(&calls, &pid);

    if (count)
        __sync_fetch_and_add(count, 1);
    else
        bpf_map_update_elem(&calls, &pid, &one, BPF_ANY);
    return 0;
}}
"""
    session = run(cell)
    pid = work(session)
    found = session.maps["calls"].df()["value"].to_dict()
    assert found[pid.to_bytes(4, "little")] == (23).to_bytes(8, "little")


def test_the_card_says_why_keys_and_values_are_bytes() -> None:
    sizes = "__uint(max_entries, 4); __uint(key_size, 4);"
    session = run(f"""
struct {{ __uint(type, BPF_MAP_TYPE_HASH); {sizes} __uint(value_size, 8); }} by_size SEC(".maps");
struct {{ __uint(type, BPF_MAP_TYPE_ARRAY); {sizes} __type(value, u64); }} typed SEC(".maps");
struct {{ __uint(type, BPF_MAP_TYPE_PERF_EVENT_ARRAY); {sizes} __uint(value_size, 4); }} events SEC(".maps");
""")
    notes = {row["name"]: row["note"] for row in CardFeed(session).state()["maps"]}
    assert "key declared by size: shown as bytes" in notes["by_size"]
    assert "__type(value, ...) says what it is" in notes["by_size"]
    assert notes["typed"] == ""
    assert "by size" not in notes["events"]


def test_where_a_program_could_not_be_attached_is_shown() -> None:
    error = refused('int x;\n\nSEC("tracepoint/syscalls/sys_enter_getpppid")\nint f(void *ctx)\n{ return 0; }\n')
    assert (type(error), error.line) == (AttachError, 3)
    assert '    3 | SEC("tracepoint/syscalls/sys_enter_getpppid")' in str(error)
