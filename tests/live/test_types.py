"""Types and forms of real cells, by both compilers: what the kernel holds, as people read it, and written back."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Iterator

import pytest
import rights

import ebpf_magic as em
from ebpf_magic.errors import NoSuchNameError, UsageError
from ebpf_magic.session import Session

pytestmark = pytest.mark.live

CLANGS = ["clang", *(["zig"] if importlib.util.find_spec("ziglang") else [])]
CELL = """
enum wide { SMALL = 1, HUGE = 0x1234567890 };
struct flow {
    struct in_addr from;
    __be32 daddr;
    __be16 port;
    u16 sent AS(port);
    u8 mac[6] AS(mac);
    dev_t dev;
    u64 inode AS(inode);
    enum wide wide;
    unsigned __int128 total;
    u32 state : 4;
    s32 change : 4;
};
HASH(flows, u32, struct flow) KEY_AS(ipv4);
SEC("tracepoint/syscalls/sys_enter_getppid")
int on_getppid(void *ctx) {
    u32 key = 0x0100007f;
    struct flow flow = {
        .from = {0x0200000a}, .daddr = 0x0300000a, .port = 0xbb01, .sent = 0x5000, .mac = {2, 0, 0, 0, 0, 1},
        .dev = 8 << 20 | 1, .inode = 4026531840ULL, .wide = HUGE, .total = ((unsigned __int128)1 << 64) + 5,
        .state = 9, .change = -3,
    };
    if (PID() == %d)
        bpf_map_update_elem(&flows, &key, &flow, 0);
    return 0;
}
"""
OWN_INCLUDES = """
#include <linux/bpf.h>
#include "ebpf_magic.h"
char LICENSE[] SEC("license") = "GPL";
struct peer { __u32 address AS(ipv4); union { __u64 whole; struct { __u32 low, high; }; }; };
struct {
    __uint(type, BPF_MAP_TYPE_HASH);
    __uint(max_entries, 16);
    __type(key, __u64);
    __type(value, struct peer);
} peers SEC(".maps") KEY_AS(hex);
SEC("raw_tp/sys_enter") int probe(void *ctx) { __u64 key = 0; return bpf_map_lookup_elem(&peers, &key) != 0; }
"""


@pytest.fixture(autouse=True)
def stop_all() -> Iterator[None]:
    yield
    em.stop_all()


def run(source: str, **options: object) -> Session:
    found = em.run(source, "tested", on=rights.host_name(), **options)
    assert isinstance(found, Session)
    return found


@pytest.mark.parametrize("clang", CLANGS)
def test_a_struct_of_what_people_read(clang: str) -> None:
    session = run(CELL % os.getpid(), clang=None if clang == "clang" else clang)
    os.getppid()
    frame = session.maps["flows"].df()
    row = frame.loc["127.0.0.1"].to_dict()
    # clang before 15 has no enum64: of an enumerator above 32 bits it tells only the lower half.
    assert row.pop("wide") == ("HUGE" if clang == "zig" else str(0x1234567890))
    assert row == {
        "from": "10.0.0.2", "daddr": "10.0.0.3", "port": 443, "sent": 80, "mac": "02:00:00:00:00:01", "dev": "8:1",
        "inode": 4026531840, "total": 2**64 + 5, "state": 9, "change": -3,
    }  # fmt: skip
    before = bytes(session.maps["flows"].sample().values)
    session.maps["flows"].update(frame)
    assert bytes(session.maps["flows"].sample().values) == before
    session.maps["flows"].update(frame.rename(index={"127.0.0.1": "127.0.0.2"}).assign(daddr="10.0.0.9", dev="8:17"))
    assert session.maps["flows"].df().loc["127.0.0.2", ["daddr", "dev"]].tolist() == ["10.0.0.9", "8:17"]
    assert session.maps["flows"].delete(["127.0.0.1", "127.0.0.3"]) == 1
    with pytest.raises(UsageError, match=r"column 'daddr', row '127\.0\.0\.2': '10\.0\.0' is not an IPv4 address"):
        session.maps["flows"].update(session.maps["flows"].df().assign(daddr="10.0.0"))


def test_a_table_of_it_shows_what_is_no_amount_as_it_is() -> None:
    session = run(CELL % os.getpid())
    os.getppid()
    text = session.maps["flows"].live().text()
    for shown in ("127.0.0.1", "10.0.0.3", "443", "02:00:00:00:00:01", "8:1", "4026531840"):
        assert shown in text, text


def test_a_cell_with_its_own_includes() -> None:
    session = run(OWN_INCLUDES)
    frame = session.maps["peers"].df()
    assert list(frame.columns) == ["address", "whole", "low", "high"]
    assert len(frame.attrs["unions"]) == 1
    new = frame.drop(columns=["low", "high"]).reindex(["0x1f"]).assign(address="10.0.0.1", whole=2**40 + 1)
    session.maps["peers"].update(new)
    assert session.maps["peers"].df().loc["0x1f"].tolist() == ["10.0.0.1", 2**40 + 1, 1, 2**8]


def test_a_form_that_there_is_not_is_said_before_anything_is_attached() -> None:
    source = 'struct who { u32 pid; u32 peer AS(ipv5); };\nHASH(seen, struct who, u64);\nSEC("raw_tp/sys_enter")\n'
    program = "int f(void *ctx) { struct who who = {}; COUNT(seen, who); return 0; }"
    with pytest.raises(NoSuchNameError, match=r"show peer as 'ipv5': no such form \(near: ipv"):
        run(source + program)
    with pytest.raises(UsageError, match="show peer as 'mac': that takes 6 bytes, it has 4"):
        run(source.replace("ipv5", "mac") + program)
    assert em.sessions() == []
