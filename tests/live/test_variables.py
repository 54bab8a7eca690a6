"""Global variables of a running cell: exact values before, while and after it runs, and errors that say what to do."""

from __future__ import annotations

import itertools
import os
import threading
from collections.abc import Iterator

import pytest
import rights
from objects import GETPPID, compile_object

import ebpf_magic as em
from ebpf_magic.errors import MapError, NoSuchNameError, StoppedError, UsageError
from ebpf_magic.hosts.base import AgentHost
from ebpf_magic.session import Session

pytestmark = pytest.mark.live

CELL = """
struct peer { u32 address AS(ipv4); u16 port AS(port); char name[8]; u32 low : 3; };
const volatile u32 only = 0;
volatile u32 step = 1;
u64 calls;
struct peer peer = {0x0100007f, 0x5000, "abc"};
static volatile u32 quiet SEC(".data.quiet") = 4;
SEC("tracepoint/syscalls/sys_enter_getppid")
int on_getppid(void *ctx) {
    if (PID() == only)
        __sync_fetch_and_add(&calls, step + quiet);
    bpf_printk("%d", peer.low);
    return 0;
}
"""
OBJECT = f"""
__u32 first = 1, second = 2;
SEC("raw_tp/sys_enter") int probe(__u64 *ctx) {{ if (ctx[1] == {GETPPID}) __sync_fetch_and_add(&second, 1); return 0; }}
"""


@pytest.fixture(autouse=True)
def stop_all() -> Iterator[None]:
    yield
    em.stop_all()


def run(**options: object) -> Session:
    found = em.run(CELL, "tested", on=rights.host_name(), **{"set": {"only": os.getpid()}, **options})
    assert isinstance(found, Session)
    return found


def work(times: int) -> None:
    for _ in range(times):
        os.getppid()


def test_set_before_read_and_written_while_it_runs() -> None:
    session = run(set={"only": os.getpid(), "step": "3", "peer.name": "xyz"})
    assert session.vars["peer"].to_dict() == {"address": "127.0.0.1", "port": 80, "name": "xyz", "low": 0}
    work(10)
    assert session.vars["calls"] == 70
    session.vars["step"] = 96
    session.vars["peer.address"] = "10.0.0.1"
    work(10)
    assert session.vars["calls"] == 1070
    session.vars["calls"] = 0
    work(1)
    session.stop()
    work(1)
    assert (session.vars["calls"], session.vars["peer.address"]) == (100, "10.0.0.1")
    with pytest.raises(StoppedError, match="set variable step of tested: the session has ended"):
        session.vars["step"] = 1


def test_names_frame_and_text() -> None:
    session = run()
    assert set(session.vars) == {"only", "step", "calls", "peer", "quiet"}  # not the texts of bpf_printk
    frame = session.vars.df()
    assert frame.loc["peer.port"].tolist() == [80, ".data", True]
    assert frame.loc["only"].tolist() == [os.getpid(), ".rodata", False]
    assert not frame.loc["quiet", "writable"]
    assert "step = 1" in repr(session.vars)


@pytest.mark.parametrize(
    ("name", "value", "error", "why"),
    [
        ("stpe", 1, NoSuchNameError, r"set variable stpe of tested: no such variable \(near: step\)"),
        ("peer.prot", 1, NoSuchNameError, r"no such field \(near: peer.port"),
        (
            "only",
            1,
            UsageError,
            r"it lies in \.rodata, which nothing can change once it is loaded\nSet it before: --set",
        ),
        ("quiet", 1, UsageError, r"every variable in \.data\.quiet is static.*\nLeave out `static`"),
        ("step", -1, UsageError, "-1 is not from 0 to 4294967295"),
        ("step", "x", UsageError, "x is not an integer"),
        ("peer.low", 1, UsageError, "a bit field has no bytes of its own"),
    ],
)
def test_what_cannot_be_written(name: str, value: object, error: type[Exception], why: str) -> None:
    session = run()
    before = session.vars.df()
    with pytest.raises(error, match=why):
        session.vars[name] = value
    assert session.vars.df().equals(before)


def test_what_cannot_be_set_before() -> None:
    with pytest.raises(NoSuchNameError, match=r"set variable onyl: no such variable \(near: only\)"):
        run(set={"onyl": 1})
    with pytest.raises(UsageError, match="set variable only: 4294967296 is not from 0 to 4294967295"):
        run(set={"only": 1 << 32})
    source = 'const u32 table[2] = {1, 2};\nSEC("raw_tp") int f(u64 *ctx) { return table[ctx[1] & 1]; }'
    with pytest.raises(UsageError, match="it is const, and so its value is in the code already\nDeclare it `const vol"):
        em.run(source, on=rights.host_name(), set={"table[0]": 5})
    assert em.sessions() == []


def test_a_neighbour_is_never_overwritten(agent_host: AgentHost) -> None:
    """A variable is written again and again while the program counts in the one beside it: every count stays."""
    loaded = agent_host.load(compile_object(OBJECT), session="s", name="test")
    agent_host.attach("s")
    data = loaded.maps[".data"]
    over = threading.Event()

    def write() -> None:
        number = 0
        while not over.is_set():
            number += 1
            data.poke(0, number.to_bytes(4, "little"))

    def second() -> int:
        return int.from_bytes(bytes(data.read().values)[4:8], "little")

    writer = threading.Thread(target=write)
    writer.start()
    try:
        # Other processes may call it too: at least ours are there, and no count is taken back.
        seen = [second()]
        for _ in range(20):
            work(500)
            seen.append(second())
    finally:
        over.set()
        writer.join()
    assert all(after - before >= 500 for before, after in itertools.pairwise(seen))


def test_bytes_outside_are_refused(agent_host: AgentHost) -> None:
    loaded = agent_host.load(compile_object(OBJECT), session="s", name="test")
    with pytest.raises(MapError, match=r"write into map \.data: 8 bytes at 4 lie outside it"):
        loaded.maps[".data"].poke(4, bytes(8))
    for place, why in ((".data+8", "no such bytes"), (".nope+0", "no such bytes"), (".data+x", "invalid literal")):
        with pytest.raises(UsageError, match=why):
            agent_host.load(compile_object(OBJECT), session="t", name="test", initial={place: "00"})
    agent_host.load(compile_object(OBJECT), session="u", name="test", initial={".data+0": "0700"})


def test_a_cell_s_line_sets_variables(shell) -> None:
    shell.run_cell_magic("ebpf", f"tested --quiet --on {rights.host_name()} --set step=9 --set peer.port=443", CELL)
    session = shell.user_ns["tested"]
    assert (session.vars["step"], session.vars["peer.port"]) == (9, 443)
