"""Maps that another program owns: read by id, live, never changed unless asked, also when their owner is gone."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pandas as pd
import pytest
import rights
from objects import compile_object, eventually

import ebpf_magic as em
from ebpf_magic.errors import KernelError, MapError, StoppedError, UsageError
from ebpf_magic.opened import OpenedMap

pytestmark = pytest.mark.live
PACKAGE = Path(em.__file__).parent

# A process of its own with a hash of 100 entries and no BTF; it obeys lines: delete, add, end.
OWNER = """
import ctypes as C, sys
sys.path.insert(0, {package!r})
from agent import bpf
from agent.bpf import ElemAttr
fd = bpf.check(bpf.MAP_CREATE, bpf.CreateAttr(1, 4, 8, 1000, map_name=b"strangers"), "create")
key, value = C.c_uint32(), C.c_uint64()
def put(number):
    key.value, value.value = number, number * number
    bpf.check(bpf.MAP_UPDATE_ELEM, ElemAttr(fd, C.addressof(key), C.addressof(value), 0), "update")
for number in range(100): put(number)
print(bpf.map_info(fd).id, flush=True)
for line in sys.stdin:
    if line == "delete\\n":
        for number in range(100):
            key.value = number
            bpf.check(bpf.MAP_DELETE_ELEM, ElemAttr(fd, C.addressof(key), 0, 0), "delete")
    elif line == "turn\\n":
        for turn in range(20000):
            key.value = turn % 100
            bpf.check(bpf.MAP_DELETE_ELEM, ElemAttr(fd, C.addressof(key), 0, 0), "delete")
            put(turn % 100)
    elif line == "add\\n":
        put(500)
    print("done", flush=True)
"""
TYPED = """
struct where { u32 pid; char comm[16]; };
struct seen { u64 calls; s32 last; };
HASH(calls, struct where, struct seen);
HIST(sizes, "bytes");
SEC("tracepoint/syscalls/sys_enter_getppid")
int on_getppid(void *ctx)
{
	struct where where = { PID() };
	struct seen one = { 1, -5 }, *seen;

	COMM(where.comm);
	seen = bpf_map_lookup_elem(&calls, &where);
	if (seen)
		seen->calls++;
	else
		bpf_map_update_elem(&calls, &where, &one, 0);
	OBSERVE(sizes, 1000);
	return 0;
}
"""


@pytest.fixture(autouse=True)
def stop_all() -> Iterator[None]:
    yield
    em.stop_all()


class Stranger:
    """The process that owns the map."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self.map_id = int(self._line())

    def does(self, what: str) -> None:
        assert self.process.stdin
        self.process.stdin.write(what + "\n")
        self.process.stdin.flush()
        assert self._line() == "done\n"

    def ends(self) -> None:
        assert self.process.stdin
        self.process.stdin.close()
        self.process.wait(10)

    def _line(self) -> str:
        assert self.process.stdout
        return self.process.stdout.readline()


@contextmanager
def stranger() -> Iterator[Stranger]:
    command = [*rights.prefix(), sys.executable, "-c", OWNER.format(package=str(PACKAGE))]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield Stranger(process)
        finally:
            if process.stdin:
                process.stdin.close()
            process.wait(10)


def opened(map_id: int, writable: bool = False) -> OpenedMap:
    return em.map(id=map_id, on=rights.host_name(), writable=writable)


def is_gone(map_id: int) -> bool:
    """Whether the kernel has freed it, which it does after a grace period."""
    try:
        opened(map_id).close()
    except MapError as error:
        assert str(error).startswith(f"open map {map_id}: there is no map of that id: its owner may have let go of it")
        assert "%ebpf ls --all" in str(error)
        return True
    return False


def test_a_map_without_btf_is_bytes() -> None:
    with stranger() as owner, opened(owner.map_id) as found:
        frame = found.df()
        assert len(frame) == 100
        assert frame.loc[(7).to_bytes(4, "little"), "value"] == (49).to_bytes(8, "little")
        assert found.btf_problem == "its owner loaded it without BTF"
        assert found.info["name"] == found.name == "strangers"
        assert (found.type, found.max_entries, found.info["key_size"]) == ("hash", 1000, 4)
        assert repr(found) == f"<OpenedMap strangers: hash, id {owner.map_id}, on {rights.host_name()}>"


@pytest.mark.any_host
def test_a_map_is_typed_by_its_owner_s_btf() -> None:
    session = em.run(TYPED, name="owner", on=rights.host_name())
    session.agent_host.sh("python3 -c 'import os; [os.getppid() for _ in range(30)]'")
    with opened(session.maps["calls"].info["id"]) as found:
        frame = found.df()
        assert frame.index.names == ["pid", "comm"]
        mine = frame.xs("python3", level="comm")
        assert mine["calls"].max() == 30
        assert mine["last"].unique().tolist() == [-5]
        session.stop()
        # The map stays while it is open, though its owner has let go of it.
        assert found.df()["calls"].max() == 30
    assert eventually(lambda: is_gone(session.maps["calls"].info["id"]))


def test_it_is_never_changed_unless_asked() -> None:
    with stranger() as owner:
        with opened(owner.map_id) as found:
            row = pd.DataFrame({"value": [bytes(8)]}, index=[bytes(4)])
            for change in (lambda: found.update(row), found.clear, found.drain, lambda: found.delete([bytes(4)])):
                with pytest.raises(
                    UsageError, match=r"opened for reading alone\nIf it is meant to be changed: .*writable=True"
                ):
                    change()
            # And by whatever way: the kernel holds to it.
            for call in (found.handle.clear, found.handle.wire.clear):
                with pytest.raises(KernelError, match="Operation not permitted"):
                    call()
            assert len(found.df()) == 100
        with opened(owner.map_id, writable=True) as found:
            assert found.delete([(3).to_bytes(4, "little")]) == 1
            assert len(found.df()) == 99


def test_what_its_owner_does_is_seen() -> None:
    with stranger() as owner, opened(owner.map_id) as found:
        owner.does("add")
        assert len(found.df()) == 101
        owner.does("delete")
        assert len(found.df()) == 1


def test_entries_that_are_deleted_while_it_is_read() -> None:
    with stranger() as owner, opened(owner.map_id) as found:
        turning = threading.Thread(target=owner.does, args=("turn",))
        turning.start()
        counts = []
        while turning.is_alive():
            frame = found.df()
            assert frame.index.is_unique
            counts.append(len(frame))
        turning.join()
        assert counts
        # One key at a time is not there, but by the time all buckets have been read it was another one.
        assert all(50 <= count <= 100 for count in counts)


def test_its_owner_ends_while_it_is_read() -> None:
    with stranger() as owner, opened(owner.map_id) as found:
        live = found.live(interval_s=0.05)
        live.start()
        owner.ends()
        assert len(found.df()) == 100
        assert "100 rows" in live.text()
        found.close()
        found.close()
        assert "100 rows" in live.text()
        with pytest.raises(StoppedError, match="read map strangers: it has been closed"):
            found.df()
    assert eventually(lambda: is_gone(owner.map_id))


def test_a_live_view_moves_without_a_session() -> None:
    with stranger() as owner, opened(owner.map_id) as found:
        live = found.live(interval_s=0.05, top=200)
        live.start()
        owner.does("add")
        assert eventually(lambda: "101 of 101 rows" in live.text())
        live.stop()


def test_a_histogram_of_others_is_read_as_its_buckets() -> None:
    session = em.run(TYPED, name="owner", on=rights.host_name())
    os.getppid()
    with opened(session.maps["sizes"].info["id"]) as found:
        assert found.type == "percpu_array"
        assert len(found.df()) == 1


def test_near_ids_and_wrong_names() -> None:
    with stranger() as owner:
        with pytest.raises(MapError, match=r"\(near: .*strangers") as caught:
            opened(owner.map_id + 1)
        assert f"{owner.map_id} (strangers)" in caught.value.near
    for wrong in ({}, {"id": 1, "pin": "/x"}):
        with pytest.raises(UsageError, match="by its id or by its pin"):
            em.map(**wrong)
    for number in (0, -1, 1 << 32):
        with pytest.raises(UsageError, match="a number above 0"):
            em.map(id=number)


def test_pins_that_are_none() -> None:
    on = rights.host_name()
    with pytest.raises(MapError, match="/sys/fs/bpf/em_none: nothing is pinned there"):
        em.map(pin="/sys/fs/bpf/em_none", on=on)
    with pytest.raises(MapError, match="/etc/passwd: it is no pin: it lies in no bpffs"):
        em.map(pin="/etc/passwd", on=on)


def test_the_agent_lets_go_with_the_handle() -> None:
    with stranger() as owner:
        for _ in range(3):
            opened(owner.map_id).close()
        owner.ends()
        assert eventually(lambda: is_gone(owner.map_id))


# A cgroup with a program on its packets; it sends three, and holds everything until its input ends.
CGROUP_OWNER = """
import os, socket, sys
sys.path.insert(0, {package!r})
from agent import libbpf, map_owners, maps
library = libbpf.Library()
raw = bytearray(open({path!r}, "rb").read())
address, hold = libbpf.address_of(memoryview(raw))
opened = library.bpf_object__open_mem(address, len(raw), None)
assert opened and library.bpf_object__load(opened) == 0
folder = os.path.join(map_owners.cgroup_root(), "em_storage_test")
os.mkdir(folder)
try:
    with open(folder + "/cgroup.procs", "w") as procs: procs.write(str(os.getpid()))
    cgroup = os.open(folder, os.O_RDONLY)
    program = library.bpf_program__fd(library.bpf_object__next_program(opened, None))
    assert library.bpf_link_create(program, cgroup, 1, None) >= 0
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sends:
        for turn in range(3): sends.sendto(b"x", ("127.0.0.1", 9))
    ids, each = [], library.bpf_object__next_map(opened, None)
    while each:
        ids.append(maps.info(library.bpf_map__fd(each)).id)
        each = library.bpf_object__next_map(opened, each)
    print(*ids, os.stat(folder).st_ino, flush=True)
    sys.stdin.read()
finally:
    with open(map_owners.cgroup_root() + "/cgroup.procs", "w") as procs: procs.write(str(os.getpid()))
    os.rmdir(folder)
"""
CGROUP_STORAGE = """
struct {{
	__uint(type, {kind});
	__type(key, struct bpf_cgroup_storage_key);
	__type(value, __u64);
}} {name} SEC(".maps");
"""
COUNT_PACKETS = """
SEC("cgroup_skb/egress") int on_packet(void *ctx)
{
	__u64 *all = bpf_get_local_storage(&shared, 0), *one = bpf_get_local_storage(&each, 0);

	__sync_fetch_and_add(all, 1);
	*one += 1;
	return 1;
}
"""


def test_storage_of_cgroups_is_filed_under_their_ids(tmp_path: Path) -> None:
    path = tmp_path / "packets.o"
    path.write_bytes(
        compile_object(
            CGROUP_STORAGE.format(kind=19, name="shared") + CGROUP_STORAGE.format(kind=21, name="each") + COUNT_PACKETS
        )
    )
    command = [*rights.prefix(), sys.executable, "-c", CGROUP_OWNER.format(package=str(PACKAGE), path=str(path))]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin
        assert process.stdout
        shared_id, each_id, inode = (int(word) for word in process.stdout.readline().split())
        try:
            for map_id, kind in ((shared_id, "cgroup_storage"), (each_id, "percpu_cgroup_storage")):
                with opened(map_id) as found:
                    assert found.type == kind
                    frame = found.df()
                    assert frame.index.names == ["cgroup_inode_id", "attach_type"]
                    assert frame["value"].to_dict() == {(inode, 1): 3}
        finally:
            process.stdin.close()
            process.wait(10)
