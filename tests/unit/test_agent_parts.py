"""The agent's parts that need no kernel: what it reads in text and ELF files, and what it computes."""

from __future__ import annotations

import importlib
import struct
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ebpf_magic.agent import cgroups, cpus, declared, elf, kinds, map_kinds, maps, near, trace_log
from ebpf_magic.agent.attach import Context, functions, perf, struct_ops, user
from ebpf_magic.agent.fault import Fault
from ebpf_magic.agent.maps import MapInfo


@pytest.mark.parametrize(
    ("text", "numbers"),
    [("0\n", [0]), ("0-3\n", [0, 1, 2, 3]), ("0-1,4,6-7\n", [0, 1, 4, 6, 7]), ("\n", [])],
)
def test_cpu_lists(text: str, numbers: list[int]) -> None:
    assert cpus.parse(text) == numbers


@pytest.mark.parametrize(
    ("target", "sampling"),
    [
        ("cpu-clock:99hz", perf.Sampling("cpu-clock", 99, True)),
        ("CPU-CLOCK:99HZ", perf.Sampling("cpu-clock", 99, True)),
        ("page-faults:1", perf.Sampling("page-faults", 1, False)),
        ("cpu-clock", None),
        ("cpu-clock:0hz", None),
        ("cpu-clock:-1", None),
        ("cpu-clock:99999999999999999999", None),
        ("", None),
    ],
)
def test_perf_targets(target: str, sampling: perf.Sampling | None) -> None:
    assert perf.parse(target) == sampling


@pytest.mark.parametrize(
    ("target", "parts"),
    [
        ("/bin/x:main", ("/bin/x", "main", None, None)),
        ("libc.so.6:malloc+0x10", ("libc.so.6", "malloc", "0x10", None)),
        ("/bin/x:0x1234", ("/bin/x", None, None, "0x1234")),
        ("/bin/x:a.part.0@V", ("/bin/x", "a.part.0@V", None, None)),
        ("/bin/x", None),
        ("/bin/x:", None),
        (":main", None),
    ],
)
def test_uprobe_targets(target: str, parts: tuple[str | None, ...] | None) -> None:
    match = user._UPROBE.fullmatch(target)
    assert (match and (match["path"], match["symbol"], match["plus"], match["offset"])) == parts


@pytest.mark.parametrize(
    ("target", "parts"),
    [
        ("do_nanosleep", ("do_nanosleep", None)),
        ("do_nanosleep+0x10", ("do_nanosleep", "0x10")),
        ("do_nanosleep+16", ("do_nanosleep", "16")),
        ("ext4:ext4_sync_file", ("ext4:ext4_sync_file", None)),
        ("f.isra.0", ("f.isra.0", None)),
        ("f+", None),
        ("f-1", None),
        ("a b", None),
        ("", None),
    ],
)
def test_kprobe_targets(target: str, parts: tuple[str | None, ...] | None) -> None:
    match = functions._KPROBE.fullmatch(target)
    assert (match and (match["symbol"], match["offset"])) == parts


def test_near_names_among_tens_of_thousands() -> None:
    names = [
        f"{verb}_{noun}_{number}" for verb in ("do", "get") for noun in ("page", "inode") for number in range(9999)
    ]
    assert near.close("do_sys_opnat2", [*names, "do_sys_openat2"])[0] == "do_sys_openat2"
    assert near.close("x", [*names, "do_sys_openat2"]) == []


def lsm_program() -> declared.Program:
    return declared.Program(0, "probe", "lsm/file_open", kinds.LSM, kinds.LSM_MAC, "lsm", "lsm")


def test_an_lsm_program_that_the_kernel_would_never_call(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(functions, "security_modules", lambda: ["lockdown", "yama"])
    with pytest.raises(Fault) as caught:
        functions.by_function(Context(None, {}), lsm_program(), "file_open")  # refused before libbpf is asked
    assert "bpf is not among its security modules (lockdown, yama)" in caught.value.fields["why"]
    assert "lsm=lockdown,yama,bpf" in caught.value.fields["hint"]


@pytest.mark.parametrize(
    ("log", "why"),
    [
        ("processed 0 insns (limit 1000000)\n", "the kernel lets no program be attached there"),
        ("f is not sleepable\nprocessed 0 insns (limit 1000000)\n", "f is not sleepable"),
    ],
)
def test_a_target_that_the_kernel_refuses_before_it_verifies(log: str, why: str) -> None:
    fault = functions.not_attachable(lsm_program(), log)
    assert fault is not None
    assert (fault.fields["kind"], fault.fields["why"], fault.log) == ("attach", why, log)
    assert functions.not_attachable(lsm_program(), "0: (b7) r0 = 0\nprocessed 10 insns\n") is None


def test_trace_lines() -> None:
    line = "          python-1234    [001] ....1  1234.567890: bpf_trace_printk: hello: world"
    assert trace_log.parse(line) == {
        "time_s": 1234.56789,
        "cpu": 1,
        "pid": 1234,
        "comm": "python",
        "text": "hello: world",
    }
    assert trace_log.parse("  a-b c-7   (   7) [000] d..2.  1.000001: bpf_trace_printk: ") == {
        "time_s": 1.000001,
        "cpu": 0,
        "pid": 7,
        "comm": "a-b c",
        "text": "",
    }
    assert trace_log.parse("second half") is None
    assert trace_log.parse("") is None


@given(st.text(max_size=200))
def test_any_text_is_a_trace_line_or_none(text: str) -> None:
    assert trace_log.parse(text) is None or isinstance(trace_log.parse(text), dict)


def insn(opcode: int, source: int, immediate: int) -> bytes:
    return struct.pack("<BBhi", opcode, source << 4, 0, immediate)


def small_elf(code: bytes, flags: int = 4) -> bytes:
    """An ELF file of one section with these bytes, and the names."""
    names = b"\0text\0names\0"
    header = struct.pack(
        "<16sHHIQQQIHHHHHH", b"\x7fELF\x02\x01\x01", 1, 247, 1, 0, 0, 64 + len(code) + len(names), 0, 64, 0, 0, 64, 3, 2
    )
    sections = struct.pack("<IIQQQQIIQQ", 0, 0, 0, 0, 0, 0, 0, 0, 0, 0)
    sections += struct.pack("<IIQQQQIIQQ", 1, 1, flags, 0, 64, len(code), 0, 0, 8, 0)
    sections += struct.pack("<IIQQQQIIQQ", 6, 3, 0, 0, 64 + len(code), len(names), 0, 0, 1, 0)
    return header + code + names + sections


def test_helper_calls_are_found_only_in_code() -> None:
    code = insn(0x85, 0, 36) + insn(0x85, 1, 109) + insn(0x18, 0, 58) + insn(0, 0, 0) + insn(0x85, 2, 117)
    assert elf.calls(memoryview(small_elf(code))).helpers == {36: "text"}
    assert elf.calls(memoryview(small_elf(code, flags=2))).helpers == {}


@given(st.binary(max_size=600))
def test_noise_is_damaged(data: bytes) -> None:
    with pytest.raises(elf.DamagedElf):
        elf.calls(memoryview(data))


@given(st.data())
def test_a_damaged_elf_is_read_or_refused(data: st.DataObject) -> None:
    whole = bytearray(small_elf(insn(0x85, 0, 36) * 4))
    for _ in range(data.draw(st.integers(1, 6))):
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    view = memoryview(bytes(whole))
    try:
        elf.calls(view)
        elf.function_names(view)
    except elf.DamagedElf:
        return


def usdt_note(provider: bytes, name: bytes, arguments: bytes = b"4@%eax") -> bytes:
    """A note as <sys/sdt.h> writes it: three addresses, then three texts."""
    text = bytes(24) + b"\0".join((provider, name, arguments)) + b"\0"
    padded = text + bytes(-len(text) % 4)
    return struct.pack("<III", 8, len(text), 3) + b"stapsdt\0" + padded


def library(notes: bytes, symbols: bytes) -> bytes:
    """An ELF file with code at address 0x2000 and file offset 64, notes, symbols and their names."""
    parts = {
        ".text": (1, 4, 0x2000, bytes(64), 0),
        ".note.stapsdt": (7, 0, 0, notes, 0),
        ".symtab": (2, 0, 0, symbols, 4),
        ".strtab": (3, 0, 0, b"\0first\0alias\0elsewhere\0data\0", 0),
        ".shstrtab": (3, 0, 0, b"\0.text\0.note.stapsdt\0.symtab\0.strtab\0.shstrtab\0", 0),
    }
    names = parts[".shstrtab"][3]
    body, headers = b"", struct.pack("<IIQQQQIIQQ", 0, 0, 0, 0, 0, 0, 0, 0, 0, 0)
    for name, (kind, flags, address, data, link) in parts.items():
        at = names.index(name.encode() + b"\0")
        headers += struct.pack("<IIQQQQIIQQ", at, kind, flags, address, 64 + len(body), len(data), link, 0, 1, 0)
        body += data
    start = 64 + len(body)
    header = struct.pack("<16sHHIQQQIHHHHHH", b"\x7fELF\x02\x01\x01", 3, 62, 1, 0, 0, start, 0, 64, 0, 0, 64, 6, 5)
    return header + body + headers


def symbol(name: int, kind: int, section: int, value: int) -> bytes:
    return struct.pack("<IBBHQQ", name, 1 << 4 | kind, 0, section, value, 8)


LIBRARY = library(
    usdt_note(b"python", b"gc__start") + usdt_note(b"app", b"request", b"") + usdt_note(b"app", b"request"),
    symbol(1, 2, 1, 0x2010) + symbol(7, 2, 1, 0x2010) + symbol(13, 2, 0, 0) + symbol(23, 1, 1, 0x2020),
)


def test_usdt_probes_of_a_file() -> None:
    # One place has arguments, the other has none.
    request = {("app", "request", ""), ("app", "request", "4@%eax")}
    assert elf.usdt_probes(memoryview(LIBRARY)) == {("python", "gc__start", "4@%eax")} | request
    assert elf.usdt_probes(memoryview(small_elf(b""))) == set()


def test_where_functions_begin_in_a_file() -> None:
    # Not the one from elsewhere, and no data.
    assert elf.function_offsets(memoryview(LIBRARY)) == {"first": 64 + 0x10, "alias": 64 + 0x10}


@given(st.data())
def test_a_damaged_library_is_read_or_refused(data: st.DataObject) -> None:
    whole = bytearray(LIBRARY)
    for _ in range(data.draw(st.integers(1, 6))):
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    view = memoryview(bytes(whole))
    try:
        elf.usdt_probes(view)
        elf.function_offsets(view)
    except elf.DamagedElf:
        return


def test_functions_of_a_real_library() -> None:
    path = user.resolve("libc.so.6")
    if path is None:
        pytest.skip("no libc.so.6 here")
    found = near.functions(path)
    assert {"malloc", "getppid", "printf"} <= found
    assert "malloc" in near.close("maloc", found)
    assert near.functions("/etc/passwd") == set()
    assert near.functions("/no/such/file") == set()
    assert user.resolve("/no/such/file") is None
    assert user.resolve("no-such-library.so.7") is None
    assert user.resolve("sh") in ("/usr/bin/sh", "/bin/sh")


@pytest.mark.parametrize(
    ("type_name", "cpu_count", "expected"),
    [
        ("array", 8, 1000 * 16),
        ("percpu_array", 8, 1000 * (16 * 8 + 8)),
        ("hash", 8, 1024 * 16 + 1008 * (48 + 8 + 16)),
        ("percpu_hash", 8, 1024 * 16 + 1000 * (48 + 8 + 8 + 16 * 8)),
        ("lru_hash", 8, 1024 * 16 + 1000 * (48 + 8 + 16)),
    ],
)
def test_map_memory(type_name: str, cpu_count: int, expected: int) -> None:
    assert map_kinds.memory_bytes(type_name, 4, 12, 1000, cpu_count) == expected


def test_value_strides() -> None:
    assert maps.value_stride(MapInfo(1, 0, 4, 12, 10, 0, "m"), 8) == 12
    assert maps.value_stride(MapInfo(5, 0, 4, 12, 10, 0, "m"), 8) == 128
    assert maps.TYPE_NAMES[5] == "percpu_hash"
    assert MapInfo(99, 0, 4, 12, 10, 0, "m").type_name == "99"
    assert {"percpu_hash", "percpu_array"} <= maps.PER_CPU


def test_kinds_by_section() -> None:
    assert kinds.attach_kind(kinds.KPROBE, 0, "uprobe.s//bin/x:f") == "uprobe"
    assert kinds.attach_kind(kinds.KPROBE, 0, "uretprobe//bin/x:f") == "uretprobe"
    assert kinds.attach_kind(kinds.KPROBE, 0, "kprobe/f") == "kprobe"
    assert kinds.attach_kind(kinds.KPROBE, 0, "kretprobe") == "kretprobe"
    assert kinds.attach_kind(kinds.KPROBE, 0, "kretprobe.multi/f*") == "kretprobe.multi"
    assert kinds.attach_kind(kinds.KPROBE, 0, "ksyscall/f") == "ksyscall"
    assert kinds.attach_kind(kinds.KPROBE, 0, "uprobe.multi.s//bin/x:f") == "uprobe.multi"
    assert kinds.attach_kind(kinds.KPROBE, 0, "usdt.s//bin/x:a:b") == "usdt"
    assert kinds.attach_kind(kinds.KPROBE, 0, "kprobe.session/f*") is None
    assert kinds.attach_kind(kinds.EXT, 0, "freplace/s:f") == "freplace"
    assert kinds.changes_behaviour(kinds.EXT, 0)
    assert kinds.attach_kind(kinds.TRACING, kinds.TRACE_RAW_TP, "tp_btf/x") == "tp_btf"
    assert kinds.attach_kind(kinds.TRACING, kinds.TRACE_FENTRY, "fentry.s/x") == "fentry"
    assert kinds.attach_kind(kinds.TRACING, kinds.TRACE_FEXIT, "fexit/x") == "fexit"
    assert kinds.attach_kind(kinds.TRACING, kinds.MODIFY_RETURN, "fmod_ret/x") == "fmod_ret"
    assert kinds.attach_kind(kinds.TRACING, kinds.TRACE_ITER, "iter.s/x") == "iter"
    assert kinds.attach_kind(kinds.LSM, kinds.LSM_MAC, "lsm.s/x") == "lsm"
    assert kinds.attach_kind(kinds.LSM, kinds.LSM_CGROUP, "lsm_cgroup/x") == "lsm_cgroup"
    assert kinds.attach_kind(kinds.LSM, 0, "lsm/x") is None
    assert kinds.changes_behaviour(kinds.TRACING, kinds.MODIFY_RETURN)
    assert not kinds.changes_behaviour(kinds.TRACING, kinds.TRACE_RAW_TP)
    assert kinds.attach_kind(kinds.XDP, 0, "xdp") == "xdp"
    assert kinds.attach_kind(kinds.XDP, kinds.XDP_CPUMAP, "xdp/cpumap") == "xdp_cpumap"
    assert kinds.attach_kind(*kinds.TYPED["tcx/egress"][:2], "tcx/egress") == "tc"
    assert kinds.attach_kind(*kinds.TYPED["netfilter"][:2], "netfilter") == "netfilter"
    network = {number for number, kind in kinds._BY_TYPE.items() if kinds.KINDS[kind].prefix or kind == "struct_ops"}
    assert len(network) == 16
    # A socket filter only takes away what its own socket would get.
    assert {number for number in network if not kinds.changes_behaviour(number, 0)} == {kinds.SOCKET_FILTER}


@pytest.mark.parametrize("kind", [kind for kind, row in kinds.KINDS.items() if row.attacher])
def test_every_attacher_is_there(kind: str) -> None:
    home, _, name = kinds.KINDS[kind].attacher.partition(".")
    assert callable(getattr(importlib.import_module(f"ebpf_magic.agent.attach.{home}"), name))


@pytest.mark.parametrize("kind", [kind for kind, row in kinds.KINDS.items() if row.prefix and row.example])
def test_every_example_has_the_prefix_of_its_kind(kind: str) -> None:
    assert kinds.KINDS[kind].example.startswith(f"{kinds.KINDS[kind].prefix}:")


def test_both_sections_of_struct_ops_get_one_name() -> None:
    found = bytes(struct_ops.as_one_section(memoryview(b"\0.rel.struct_ops.link\0.text\0")))
    assert found == b"\0.rel.struct_ops\0\0\0\0\0\0.text\0"
    plain = memoryview(b"\0.struct_ops\0")
    assert struct_ops.as_one_section(plain) is plain
    with pytest.raises(Fault):
        struct_ops.as_one_section(memoryview(b"\0.struct_ops\0.rel.struct_ops.link\0"))


def test_cgroups_by_the_inodes_of_their_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "user.slice" / "a b").mkdir(parents=True)
    (tmp_path / "cgroup.procs").touch()
    monkeypatch.setattr(cgroups, "mount_point", lambda: str(tmp_path))
    assert cgroups.paths() == {
        (tmp_path / path).stat().st_ino: f"/{path}" for path in ("", "user.slice", "user.slice/a b")
    }
    monkeypatch.setattr(cgroups, "mount_point", lambda: None)
    assert cgroups.paths() == {}


def test_where_cgroup2_is_mounted() -> None:
    lines = [
        "30 29 0:26 / /sys/fs/cgroup/cpu rw,relatime - cgroup cgroup rw,cpu\n",
        "41 31 0:38 / /sys/fs/my\\040cgroup rw,relatime shared:9 - cgroup2 cgroup2 rw\n",
    ]
    assert cgroups._cgroup2(lines) == "/sys/fs/my cgroup"
    assert cgroups._cgroup2(lines[:1]) is None
