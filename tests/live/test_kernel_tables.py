"""The kernel as tables, against work whose processes, files and sockets are known, and against /proc."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from typing import Any

import pandas as pd
import pytest
import rights
from working import working

import ebpf_magic as em
from ebpf_magic.hosts import registry
from ebpf_magic.hosts.base import AgentHost
from ebpf_magic.session import Session
from ebpf_magic.tools import unlisted

pytestmark = [pytest.mark.live, pytest.mark.any_host, pytest.mark.needs("iter")]

# What /proc says of each child: the fields of its stat, its status, and more.
PROC = """
made = children(23, "em-table-child")
def read(pid, name):
    with open(f"/proc/{pid}/{name}") as text:
        return text.read()
def about(pid):
    stat = read(pid, "stat").rpartition(")")[2].split()
    cgroup = next(line[3:] for line in read(pid, "cgroup").splitlines() if line.startswith("0::"))
    mount = next((line.split()[4] for line in read("self", "mountinfo").splitlines() if " - cgroup2 " in line), "")
    return {"state": stat[0], "ppid": int(stat[1]), "start_ticks": int(stat[19]), "rss_pages": int(stat[21]),
            "run_ns": int(read(pid, "schedstat").split()[0]), "uid": os.stat(f"/proc/{pid}").st_uid,
            "cgroup_id": os.stat(mount + cgroup).st_ino if mount else 0}
wait(children={pid: about(pid) for pid in made}, ticks=os.sysconf("SC_CLK_TCK"))
"""
FILES = """
import tempfile
folder = tempfile.mkdtemp()
made = {}
for number in range(17):
    file = open(f"{folder}/file-{number}", "wb+", buffering=0)
    file.write(b"x" * number * 10)
    about = os.fstat(file.fileno())
    made[os.dup(file.fileno())] = [f"{folder}/file-{number}", about.st_ino, number * 10,
                                   f"{os.major(about.st_dev)}:{os.minor(about.st_dev)}"]
    globals()[f"keep{number}"] = file
deep = folder + ("/" + "d" * 100) * 3
os.makedirs(deep)
long = os.open(deep + "/the-end", os.O_CREAT | os.O_APPEND | os.O_WRONLY)
folder_fd = os.open(folder, os.O_RDONLY)
wait(folder=folder, files=made, long=long, folder_fd=folder_fd)
"""
SOCKETS = """
import socket, tempfile
def inet(kind, family=socket.AF_INET, host="127.0.0.1"):
    made = socket.socket(family, kind)
    made.bind((host, 0))
    return made
keep = [inet(socket.SOCK_STREAM) for _ in range(9)]
for each in keep:
    each.listen()
datagrams = [inet(socket.SOCK_DGRAM) for _ in range(3)]
client = socket.create_connection(keep[0].getsockname())
server, _ = keep[0].accept()
client.sendall(b"x" * 100)
datagrams[0].connect(datagrams[1].getsockname())
datagrams[0].send(b"y" * 10)
six = []
try:
    six = [inet(socket.SOCK_STREAM, socket.AF_INET6, "::1")]
    six[0].listen()
except OSError:
    pass
path = tempfile.mkdtemp() + "/socket"
named, abstract = socket.socket(socket.AF_UNIX), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
named.bind(path); named.listen()
abstract.bind(b"\\0em-abstract-" + str(os.getpid()).encode())
def inode(made):
    return os.fstat(made.fileno()).st_ino
wait(listening={inode(each): each.getsockname()[1] for each in keep}, datagrams=[inode(each) for each in datagrams],
     client=inode(client), server=inode(server), client_port=client.getsockname()[1], uid=os.getuid(),
     six={inode(each): each.getsockname()[1] for each in six}, path=path, named=inode(named), abstract=inode(abstract))
"""


@pytest.fixture(autouse=True)
def stop_all() -> Iterator[None]:
    yield
    em.stop_all()


@pytest.fixture
def host() -> AgentHost:
    return registry.get(rights.host_name())


def test_threads_are_those_of_proc(host: AgentHost) -> None:
    with working(host, PROC) as made:
        frame = em.tasks(on=host.name).set_index("tid")
        said = pd.DataFrame(made["children"].values(), index=pd.Index([int(pid) for pid in made["children"]]))
    found = frame.loc[said.index]
    assert len(found) == 23
    assert (found["pid"] == found.index).all()
    assert set(found["comm"]) == {"em-table-child"}
    for column in ("state", "ppid", "uid", "run_ns"):
        assert found[column].tolist() == said[column].tolist(), column
    assert ((found["start_ns"] // (10**9 // made["ticks"])).astype("int64") - said["start_ticks"]).abs().max() <= 1
    if said["cgroup_id"].all():
        assert found["cgroup_id"].tolist() == said["cgroup_id"].tolist()
    pages = found["rss_bytes"] / host.info.page_size
    # The kernel's quick figure lacks what CPUs have not yet added: some dozens of pages each.
    assert ((pages - said["rss_pages"]).abs() <= 64 * host.info.possible_cpus).all()
    assert not found["is_kernel"].any()
    assert frame.loc[2, ["comm", "is_kernel", "rss_bytes"]].tolist() == ["kthreadd", True, 0]


def test_all_threads_of_a_process_are_listed(host: AgentHost) -> None:
    program = (
        "import threading\n"
        "for _ in range(6): threading.Thread(target=time.sleep, args=(1000,), daemon=True).start()\n"
        "wait(tids=[int(tid) for tid in os.listdir('/proc/self/task')])"
    )
    with working(host, program) as made:
        frame = em.tasks(on=host.name)
    assert sorted(frame.loc[frame["pid"] == made["pid"], "tid"]) == sorted(made["tids"])
    assert len(made["tids"]) == 7


def test_files_are_those_that_were_opened(host: AgentHost) -> None:
    with working(host, FILES) as made:
        frame = em.files(on=host.name)
        host.sh(f"rm -r {shlex.quote(made['folder'])}")
    mine = frame[frame["pid"] == made["pid"]].set_index("fd")
    for fd, (path, inode, pos, device) in made["files"].items():
        row = mine.loc[int(fd)]
        assert row[["kind", "path", "inode", "pos", "device"]].tolist() == ["file", path, inode, pos, device]
        assert row["flags"] & 0o3 == 2  # O_RDWR
    assert (mine["path"].str.startswith(f"{made['folder']}/file-")).sum() == 2 * 17
    assert mine.loc[made["long"], "path"] == ".../the-end"
    assert mine.loc[made["long"], "flags"] & 0o2003 == 0o2001  # O_APPEND | O_WRONLY
    assert mine.loc[made["folder_fd"], ["kind", "path"]].tolist() == ["directory", made["folder"]]


def test_sockets_and_who_has_them(host: AgentHost) -> None:
    with working(host, SOCKETS) as made:
        frame = em.sockets(on=host.name)
        files = em.files(on=host.name)
        host.sh(f"rm -r $(dirname {shlex.quote(made['path'])})")
    by_inode = frame[frame["inode"] > 0].set_index("inode")
    for inode, port in made["listening"].items():
        expected = ["tcp", "stream", "LISTEN", f"127.0.0.1:{port}", port, "0.0.0.0:0", 0, made["uid"]]
        columns = ["protocol", "type", "state", "local", "local_port", "remote", "remote_port", "uid"]
        assert by_inode.loc[int(inode), columns].tolist() == expected
    port = made["listening"][next(iter(made["listening"]))]
    server = by_inode.loc[made["server"]]
    ends = [f"127.0.0.1:{port}", f"127.0.0.1:{made['client_port']}"]
    assert server[["state", "local", "remote", "rx_queue_bytes"]].tolist() == ["ESTABLISHED", *ends, 100]
    assert by_inode.loc[made["client"], ["local", "remote", "rx_queue_bytes"]].tolist() == [*ends[::-1], 0]
    datagrams = by_inode.loc[made["datagrams"]]
    assert datagrams["state"].tolist() == ["ESTABLISHED", "CLOSE", "CLOSE"]
    assert datagrams["rx_queue_bytes"].tolist()[0] == datagrams["rx_queue_bytes"].tolist()[2] == 0
    assert datagrams["rx_queue_bytes"].tolist()[1] >= 10
    for inode, port in made["six"].items():
        assert by_inode.loc[int(inode), ["local", "state"]].tolist() == [f"[::1]:{port}", "LISTEN"]
    named = by_inode.loc[made["named"]]
    assert named[["protocol", "type", "state", "local"]].tolist() == ["unix", "stream", "LISTEN", made["path"]]
    assert named[["local_port", "rx_queue_bytes"]].isna().all()
    assert by_inode.loc[made["abstract"], ["type", "local"]].tolist() == ["dgram", f"@em-abstract-{made['pid']}"]
    # The tables join: which process has these sockets, by inode.
    owners = frame[frame["inode"].isin(map(int, made["listening"]))].merge(files[files["kind"] == "socket"], on="inode")
    assert owners["pid"].tolist() == [made["pid"]] * 9
    assert len(owners.merge(em.tasks(on=host.name)[["pid", "comm"]].drop_duplicates("pid"), on="pid", how="left")) == 9


def run(source: str, **options: Any) -> Session:
    found = em.run(source, "tested", on=rights.host_name(), **options)
    assert isinstance(found, Session)
    return found


def test_maps_and_programs_and_who_holds_them(host: AgentHost) -> None:
    session = run(
        "HASH(first_map, u32, u64, 512); PERCPU_ARRAY(second_map, u64, 8);\n"
        'SEC("syscall") int counted(void *ctx) { COUNT(first_map, 1); ADD(second_map, 0, 2); return 0; }'
    )
    for _ in range(23):
        session.run("counted")
    maps, programs = em.maps(on=host.name), em.programs(on=host.name)
    first = maps.set_index("id").loc[session.maps["first_map"].handle.info.id]
    assert first[["name", "type", "key_bytes", "value_bytes", "max_entries"]].tolist() == [
        "first_map",
        "hash",
        4,
        8,
        512,
    ]
    assert first["memory_bytes"] > 512 * 12
    assert host.info.pid in first["pids"]
    assert f"({host.info.pid})" in first["owner"]
    row = session.program_rows[0]
    counted = programs.set_index("id").loc[row["id"]]
    assert counted[["name", "type", "uid", "runs"]].tolist() == ["counted", "syscall", host.info.uid, 23]
    assert counted[["xlated_bytes", "jited_bytes"]].tolist() == [row["xlated_bytes"], row["jited_bytes"]]
    assert len(counted["tag"]) == 16
    assert counted["run_time_ns"] > 0
    # Programs join with their maps by id.
    used = programs[programs["id"] == row["id"]].explode("map_ids").merge(maps, left_on="map_ids", right_on="id")
    assert {"first_map", "second_map"} <= set(used["name_y"])
    assert maps.dtypes["id"] == programs.dtypes["id"] == "uint32"


def test_nothing_of_it_is_in_the_list_of_sessions_and_it_is_loaded_once(host: AgentHost) -> None:
    em.tasks(on=host.name)
    before = unlisted.session("tasks", host.name)
    em.tasks(on=host.name)
    assert unlisted.session("tasks", host.name) is before
    assert em.sessions() == []
    assert list(before.maps) == []  # so that it holds no descriptor here
    em.stop_all()
    assert before.state == "stopped"
    assert len(em.tasks(on=host.name)) > 2


def test_several_hosts_are_one_table(host: AgentHost) -> None:
    frame = em.tasks(on=[host.name])
    assert frame.index.names == ["host", None]
    assert set(frame.index.get_level_values("host")) == {host.name}


@pytest.mark.parametrize("name", ["tasks", "files", "sockets", "maps", "programs"])
def test_columns_that_join_have_one_type(host: AgentHost, name: str) -> None:
    types = {"pid": "uint32", "tid": "uint32", "ppid": "uint32", "inode": "uint64", "uid": "uint32", "id": "uint32"}
    frame = getattr(em, name)(on=host.name)
    shared = types.keys() & frame.columns
    assert shared
    assert {column: str(frame.dtypes[column]) for column in shared} == {column: types[column] for column in shared}
