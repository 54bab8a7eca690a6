"""Programs tested without a wire: packets whose verdict is known, many in one round trip."""

from __future__ import annotations

import random
import struct
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest
import rights

import ebpf_magic as em
from ebpf_magic.errors import LoadError, UnsupportedError, UsageError
from ebpf_magic.session import RunResult, Session

pytestmark = [pytest.mark.live, pytest.mark.any_host, pytest.mark.needs("xdp", "tc")]

# The verdict is the packet's byte 14; an XDP program marks byte 0, and cuts the last byte off or puts 4 in front.
CELL = """
SEC("xdp") int parse(struct xdp_md *ctx)
{
    u8 *packet = (void *)(long)ctx->data;
    if (packet + 16 > (u8 *)(long)ctx->data_end)
        return XDP_ABORTED;
    u8 verdict = packet[14];
    packet[0] = 0xee;
    if (packet[15] == 1)
        bpf_xdp_adjust_tail(ctx, -1);
    else if (packet[15] == 2)
        bpf_xdp_adjust_head(ctx, -4);
    return verdict;
}
SEC("tc") int judge(struct __sk_buff *skb)
{
    u8 verdict = 0;
    bpf_skb_load_bytes(skb, 14, &verdict, 1);
    return verdict == 9 ? -1 : verdict;
}
SEC("socket") int keep(struct __sk_buff *skb) { return skb->len; }
SEC("tracepoint/syscalls/sys_enter_openat") int other(void *ctx) { return 0; }
SEC("syscall") int alone(void *ctx) { return 0; }
"""
XDP = ["XDP_ABORTED", "XDP_DROP", "XDP_PASS", "XDP_TX", "XDP_REDIRECT", 5]
COUNT = 10_000


@pytest.fixture
def session() -> Iterator[Session]:
    made = em.run(CELL, "packets", on=rights.host_name(), attach=False)
    assert isinstance(made, Session)
    yield made
    made.stop()


def packet(verdict: int, change: int = 0, size: int = 60) -> bytes:
    return bytes(14) + bytes([verdict, change]) + bytes(size - 16)


def test_ten_thousand_packets_and_the_verdict_of_each(session: Session) -> None:
    chance = random.Random(7)
    rows = [(chance.randrange(6), chance.randrange(3), chance.randrange(60, 1400)) for _ in range(COUNT)]
    frame = pd.DataFrame(rows, columns=["wanted", "change", "size"], index=range(5, 5 + COUNT))
    frame["data"] = [packet(*row) for row in rows]
    found = session.run("parse", data=frame)
    assert found[["wanted", "change", "size", "data"]].equals(frame)
    assert found["verdict"].tolist() == [XDP[wanted] for wanted in frame["wanted"]]
    assert str(found["verdict"].dtype) == "category"
    grown = frame["change"].map({0: 0, 1: -1, 2: 4})
    assert (found["out"].map(len) == frame["size"] + grown).all()
    assert {out[4 * (change == 2)] for out, change in zip(found["out"], frame["change"], strict=True)} == {0xEE}
    assert (found["duration_ns"] >= 0).all() and found["duration_ns"].sum() > 0


def test_more_than_one_request_holds(session: Session) -> None:
    found = session.run("parse", data=[packet(number % 5) for number in range(40_000)])
    assert found["verdict"].value_counts().to_dict() == {**dict.fromkeys(XDP[:5], 8000)}
    with pytest.raises(LoadError, match="the kernel refused packet 39999, of 3 bytes: Invalid argument"):
        session.run("parse", data=[packet(2)] * 39_999 + [b"abc"])


def test_other_kinds(session: Session) -> None:
    given = [packet(verdict) for verdict in (0, 2, 7, 9)]
    assert session.run("judge", data=given)["verdict"].tolist() == [
        "TC_ACT_OK", "TC_ACT_SHOT", "TC_ACT_REDIRECT", "TC_ACT_UNSPEC",
    ]  # fmt: skip
    assert session.run("keep", data=given)["verdict"].tolist() == [46] * 4  # it sees no Ethernet header
    with pytest.raises(UnsupportedError, match="the kernel cannot run tracepoint programs over packets"):
        session.run("other", data=given)
    with pytest.raises(UnsupportedError, match="syscall programs see no packets"):
        session.run("alone", data=given)


def test_one_packet_is_as_before(session: Session) -> None:
    one = session.run("parse", data=packet(3))
    assert isinstance(one, RunResult)
    assert (one.retval, one.data[0], len(one.data)) == (3, 0xEE, 60)


def test_none_and_nonsense(session: Session) -> None:
    assert session.run("parse", data=[]).shape == (0, 4)
    with pytest.raises(UsageError, match="the frame has no column 'data'"):
        session.run("parse", data=pd.DataFrame({"x": [1]}))
    with pytest.raises(UsageError, match="packets and a ctx do not go together"):
        session.run("parse", bytes(8), [packet(2)])  # type: ignore[call-overload]
    for times in (-1, 1 << 31):
        with pytest.raises(UsageError, match="is no number of times"):
            session.run("parse", data=[packet(2)], repeat=times)
    with pytest.raises(UsageError, match="no such program"):
        session.run("prase", data=[packet(2)])


def test_a_capture_file_is_run_as_it_is(session: Session, tmp_path: Path) -> None:
    path = tmp_path / "some.pcap"
    content = struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, 1)
    for number in range(100):
        content += struct.pack("<IIII", number, 0, 60, 60) + packet(1 + number % 2)
    path.write_bytes(content)
    found = session.run("parse", data=em.read_pcap(path))
    assert found["verdict"].value_counts()[["XDP_DROP", "XDP_PASS"]].tolist() == [50, 50]
    assert found["time"].dt.second.tolist() == [number % 60 for number in range(100)]
