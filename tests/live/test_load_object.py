"""Objects that somebody else compiled: of clang with and without BTF, as bpf2go and aya make them, and damaged ones."""

from __future__ import annotations

import os
import random
import struct
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest
import rights
from IPython.core.interactiveshell import InteractiveShell
from objects import compile_object, counting, one_map

import ebpf_magic as em
from ebpf_magic.agent import wire
from ebpf_magic.data.elf import Elf
from ebpf_magic.errors import EbpfMagicError, GuardError, LoadError, UsageError, VerifierError
from ebpf_magic.hosts import registry
from ebpf_magic.session import Session

pytestmark = pytest.mark.live
DATA = Path(__file__).parents[1] / "unit" / "data"
CALLS = "python3 -c 'import os; print(os.getpid()); [os.getppid() for _ in range(40)]'"


@pytest.fixture(autouse=True)
def stop_all() -> Iterator[None]:
    yield
    em.stop_all()


def load(path: Path, **options: object) -> Session:
    session = em.load_object(path, on=rights.host_name(), **options)
    assert isinstance(session, Session)
    return session


def work(session: Session) -> int:
    said: list[str] = []
    session.agent_host.sh(CALLS, on_output=said.append)
    return int("".join(said))


def stripped(path: Path, *flags: str) -> Path:
    """Go's bpf2go keeps BTF and takes the debugging information out."""
    subprocess.run(["llvm-strip", *flags, str(path)], check=True)
    return path


@pytest.mark.any_host
@pytest.mark.parametrize("strip", [False, True], ids=["as compiled", "stripped as bpf2go does"])
def test_an_object_with_btf_is_typed(tmp_path: Path, strip: bool) -> None:
    path = tmp_path / "calls.bpf.o"
    path.write_bytes(counting("tp/syscalls/sys_enter_getppid"))
    if strip:
        stripped(path, "-g")
    session = load(path)
    assert session.name == "calls"
    assert [stage.name for stage in session.stages] == ["read", "loaded", "attached"]
    pid = work(session)
    assert session.maps["counts"].df().loc[pid, "value"] == 40
    session.stop()
    assert session.maps["counts"].df().loc[pid, "value"] == 40


@pytest.mark.any_host
@pytest.mark.parametrize("name", ["aya.bpf.o", "aya_btf.bpf.o"])
def test_an_object_of_aya_has_its_maps_as_bytes(name: str) -> None:
    session = load(DATA / name, name="rust")
    try:
        pid = work(session)
        counts = session.maps["COUNTS"].df()["value"]
        assert counts[pid.to_bytes(4, "little")] == (40).to_bytes(8, "little")
        total = int.from_bytes(session.maps["TOTAL"].df().loc[0, "value"], "little")
        assert total >= 40
        assert session.maps["PINNED"].pin_path == "/sys/fs/bpf/PINNED"
    finally:
        session.maps["PINNED"].unpin()


def test_an_object_without_maps_and_without_btf(tmp_path: Path) -> None:
    path = tmp_path / "plain.o"
    source = (
        'char LICENSE[] __attribute__((section("license"), used)) = "GPL";'
        '__attribute__((section("syscall"), used)) int answer(void *ctx) { return 42; }'
    )
    command = ["clang", "-target", "bpf", "-O2", "-x", "c", "-", "-c", "-o", str(path)]
    subprocess.run(command, input=source.encode(), check=True)
    assert Elf(path.read_bytes()).data(".BTF") is None
    session = load(path)
    assert session.run("answer").retval == 42
    assert dict(session.maps) == {}


def test_maps_that_libbpf_needs_btf_for_say_so(tmp_path: Path) -> None:
    path = tmp_path / "nobtf.o"
    path.write_bytes(one_map("__uint(type, 1); __uint(max_entries, 4); __type(key, int); __type(value, int);"))
    subprocess.run(["llvm-objcopy", "--remove-section=.BTF", "--remove-section=.BTF.ext", str(path)], check=True)
    with pytest.raises(LoadError, match="BTF is required"):
        load(path)


def test_more_maps_than_descriptors_go_into_a_message(tmp_path: Path) -> None:
    count = wire.MAX_FDS + 20
    declared = "\n".join(
        f"struct {{ __uint(type, BPF_MAP_TYPE_ARRAY); __uint(max_entries, 1); __type(key, __u32); __type(value, __u64);"
        f'{" __uint(pinning, 1);" if number == 0 else ""} }} em_many_{number} SEC(".maps");'
        for number in range(count)
    )
    groups = [range(first, min(first + 60, count)) for first in range(0, count, 60)]  # a program takes in 64 maps
    stores = [
        "".join(f"value = {each} + 1; bpf_map_update_elem(&em_many_{each}, &key, &value, 0);" for each in group)
        for group in groups
    ]
    programs = "\n".join(
        f'SEC("syscall") int put_{number}(void *ctx) {{ __u32 key = 0; __u64 value; {body} return 0; }}'
        for number, body in enumerate(stores)
    )
    path = tmp_path / "many.o"
    path.write_bytes(compile_object(declared + programs))
    session = load(path)
    try:
        for number in range(len(groups)):
            session.run(f"put_{number}")
        found = [session.maps[f"em_many_{number}"].df().loc[0, "value"] for number in range(count)]
        assert found == [number + 1 for number in range(count)]
        session.maps[f"em_many_{count - 1}"].update(pd.DataFrame({"value": [7]}, index=[0]))
        assert session.maps[f"em_many_{count - 1}"].df().loc[0, "value"] == 7
    finally:
        session.maps["em_many_0"].unpin()


def test_what_is_no_object_is_said_before_any_host_is_asked() -> None:
    with pytest.raises(LoadError, match=r"/bin/ls: it is for .*, not for BPF"):
        em.load_object("/bin/ls", on="local")
    with pytest.raises(UsageError, match="must be a Python name"):
        em.load_object(DATA / "aya.bpf.o", name="no name", on="local")


@pytest.mark.any_host
def test_the_guard_and_the_verifier_look_at_it_too(tmp_path: Path) -> None:
    path = tmp_path / "sig.o"
    path.write_bytes(compile_object('SEC("raw_tp/sys_enter") int probe(void *ctx) { return bpf_send_signal(0); }'))
    if rights.IN_VM:
        load(path, attach=False).stop()
    else:
        with pytest.raises(GuardError, match="bpf_send_signal"):
            load(path)
    path.write_bytes(compile_object('SEC("raw_tp/sys_enter") int probe(__u64 *ctx) { return *(int *)ctx[0]; }'))
    with pytest.raises(VerifierError, match=r"program probe.*invalid mem access") as caught:
        load(path)
    assert caught.value.log
    assert em.sessions() == []


def test_a_session_of_that_name_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "calls.o"
    path.write_bytes(counting("tp/syscalls/sys_enter_getppid"))
    first = load(path)
    os.getppid()
    second = load(path, keep_maps=True)
    assert (first.state, second.state) == ("stopped", "running")
    assert second.maps["counts"].df().loc[os.getpid(), "value"] >= 1


def test_the_magic(tmp_path: Path, shell: InteractiveShell, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "calls.o"
    path.write_bytes(counting("tp/syscalls/sys_enter_getppid"))
    shell.run_line_magic("ebpf", f"load {path} --on {rights.host_name()}")
    assert "calls: running" in capsys.readouterr().out
    assert shell.user_ns["calls"].state == "running"
    shell.run_line_magic("ebpf", f"load {path} mine --no-attach --quiet --on {rights.host_name()}")
    assert capsys.readouterr().out == ""
    assert shell.user_ns["mine"].links == []
    em.stop_all()


def test_no_damage_ends_the_agent(tmp_path: Path) -> None:
    pinned, not_pinned = struct.pack("<7I", 1, 4, 8, 16, 1, 0, 1), struct.pack("<7I", 1, 4, 8, 16, 1, 0, 0)
    aya = (DATA / "aya_btf.bpf.o").read_bytes().replace(pinned, not_pinned)
    whole = aya, counting("tp/syscalls/sys_enter_getppid")
    dice = random.Random(4)
    path = tmp_path / "damaged.o"
    host = registry.get(rights.host_name())
    loaded = refused = 0
    for turn in range(150):
        damaged = bytearray(whole[turn % 2])
        for _ in range(dice.choice((1, 3, 20))):
            # Half of them in the header and the section table, where libbpf is told what is where.
            table = struct.unpack_from("<Q", damaged, 40)[0] if turn % 4 < 2 else 0
            at = dice.randrange(len(damaged))
            if turn % 4 < 2:
                at = dice.choice((dice.randrange(64), min(table + dice.randrange(600), len(damaged) - 1)))
            damaged[at] = dice.randrange(256)
        path.write_bytes(damaged)
        try:
            load(path, attach=False).stop()
            loaded += 1
        except EbpfMagicError as error:
            assert error.why
            refused += 1
        assert host.alive
    assert loaded
    assert refused
