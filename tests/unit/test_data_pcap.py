"""Capture files: of every form, exactly; and damaged ones, of which it is said where."""

from __future__ import annotations

import errno
import struct
from pathlib import Path

import pandas as pd
import pytest

import ebpf_magic as em
from ebpf_magic.errors import PcapError

PACKETS = [bytes([number]) * (number * 3 + 1) for number in range(40)]
TIMES_NS = [1_700_000_000_000_000_000 + number * 1_000_003_000 for number in range(40)]


def pcap(order: str = "<", nano: bool = False) -> bytes:
    unit = 1 if nano else 1000
    out = struct.pack(f"{order}IHHiIII", 0xA1B23C4D if nano else 0xA1B2C3D4, 2, 4, 0, 0, 65535, 1)
    for time_ns, data in zip(TIMES_NS, PACKETS, strict=True):
        seconds, rest = divmod(time_ns, 10**9)
        out += struct.pack(f"{order}IIII", seconds, rest // unit, len(data), len(data) + 5) + data
    return out


def block(order: str, kind: int, body: bytes) -> bytes:
    body += bytes(-len(body) % 4)
    size = struct.pack(f"{order}I", len(body) + 12)
    return struct.pack(f"{order}I", kind) + size + body + size


def option(order: str, code: int, value: bytes) -> bytes:
    return struct.pack(f"{order}HH", code, len(value)) + value + bytes(-len(value) % 4)


def section(order: str) -> bytes:
    return block(order, 0x0A0D0D0A, struct.pack(f"{order}IHHq", 0x1A2B3C4D, 1, 0, -1))


def interface(order: str, resolution: int | None = None, offset_s: int = 0) -> bytes:
    options = option(order, 2, b"eth0")
    if resolution is not None:
        options += option(order, 9, bytes([resolution]))
    if offset_s:
        options += option(order, 14, struct.pack(f"{order}q", offset_s))
    return block(order, 1, struct.pack(f"{order}HHI", 1, 0, 96) + options + option(order, 0, b""))


def packet(order: str, number: int, ticks: int, data: bytes) -> bytes:
    head = struct.pack(f"{order}IIIII", number, ticks >> 32, ticks & 0xFFFFFFFF, len(data), len(data) + 5)
    return block(order, 6, head + data + bytes(-len(data) % 4) + option(order, 1, b"a comment"))


def pcapng(order: str = "<", resolution: int | None = None, unit_ns: int = 1000) -> bytes:
    out = section(order) + interface(order, resolution) + block(order, 5, bytes(12))  # and statistics, passed over
    for time_ns, data in zip(TIMES_NS, PACKETS, strict=True):
        out += packet(order, 0, time_ns // unit_ns, data)
    return out


def read(tmp_path: Path, content: bytes, **options: bool) -> pd.DataFrame:
    path = tmp_path / "some.pcap"
    path.write_bytes(content)
    return em.read_pcap(path, **options)


@pytest.mark.parametrize(
    "content",
    [
        pcap("<"), pcap(">"), pcap("<", nano=True), pcap(">", nano=True),
        pcapng("<"), pcapng(">"), pcapng("<", resolution=9, unit_ns=1), pcapng(">", resolution=6),
    ],
    ids="pcap pcap-big pcap-ns pcap-ns-big ng ng-big ng-ns ng-big-us".split(),
)  # fmt: skip
def test_every_form_gives_the_same_rows(tmp_path: Path, content: bytes) -> None:
    frame = read(tmp_path, content)
    assert frame.columns.tolist() == ["time", "length", "captured", "data"]
    assert str(frame["time"].dtype) == "datetime64[ns, UTC]"
    assert frame["time"].astype("int64").tolist() == TIMES_NS
    assert frame["captured"].tolist() == [len(data) for data in PACKETS]
    assert frame["length"].tolist() == [len(data) + 5 for data in PACKETS]
    assert frame["data"].tolist() == PACKETS
    assert frame.attrs == {"damage": ""}


def test_sections_interfaces_and_older_blocks_of_pcapng(tmp_path: Path) -> None:
    little = section("<") + interface("<", 0x8A) + interface("<", 3, offset_s=100)  # 1/1,024 s; ms, and 100 s added
    little += packet("<", 0, 1024 * 5 + 512, b"a") + packet("<", 1, 2500, b"b")
    little += block("<", 2, struct.pack("<HHIIII", 1, 0, 0, 7000, 2, 9) + b"cc")
    little += block("<", 3, struct.pack("<I", 3) + b"ddd")
    big = (
        section(">")
        + interface(">")
        + packet(">", 0, 3_000_000, b"e")
        + block(">", 3, struct.pack(">I", 200) + bytes(96))
    )
    frame = read(tmp_path, little + big)
    assert frame["data"].tolist() == [b"a", b"b", b"cc", b"ddd", b"e", bytes(96)]
    seconds = [5.5, 102.5, 107.0, None, 3.0, None]
    assert frame["time"].tolist() == [pd.NaT if at is None else pd.Timestamp(at, unit="s", tz="UTC") for at in seconds]
    assert frame["length"].tolist() == [6, 6, 9, 3, 6, 200]


@pytest.mark.parametrize("content", [pcap(), pcapng()], ids=["pcap", "pcapng"])
def test_no_packets(tmp_path: Path, content: bytes) -> None:
    frame = read(tmp_path, content[:24] if content == pcap() else section("<"))
    assert len(frame) == 0
    assert str(frame["time"].dtype) == "datetime64[ns, UTC]"


@pytest.mark.parametrize("make", [pcap, pcapng])
def test_a_file_cut_anywhere_says_where_and_keeps_what_is_whole(tmp_path: Path, make: object) -> None:
    content = make()  # type: ignore[operator]
    whole = 0
    for end in range(4, len(content), 3):
        frame = read(tmp_path, content[:end], partial=True)
        assert frame["data"].tolist() == PACKETS[: len(frame)]
        assert len(frame) >= whole
        whole = len(frame)
        if frame.attrs["damage"]:
            with pytest.raises(PcapError, match=rf"byte \d+: .*; {whole} whole packets stand before it"):
                read(tmp_path, content[:end])
    assert whole >= 38


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "it is no capture file: it begins with nothing"),
        (b"PK\x03\x04", "it is no capture file: it begins with 50 4b 03 04"),
        (pcap()[:20], "byte 20: the file ends within its header; 0 whole packets stand before it"),
        (pcap()[:24] + struct.pack("<IIII", 1, 1, 1 << 31, 9), "byte 24: a packet of 2,147,483,648 bytes begins"),
        (section("<")[:8] + b"\0\0\0\0" + section("<")[12:], "byte 0: a section begins without its byte-order mark"),
        (section("<") + struct.pack("<II", 6, 8) + bytes(4), "byte 28: a block of 8 bytes, and 12 are left"),
        (section("<") + struct.pack("<IIII", 5, 16, 0, 20), "a block of 16 bytes does not end with that length"),
        (section("<") + packet("<", 0, 1, b"a"), "byte 28: a block of kind 6 is damaged"),
        (section("<") + block("<", 6, bytes(8)), "byte 28: a block of kind 6 is damaged"),
        (
            section("<") + interface("<") + block("<", 6, struct.pack("<IIIII", 0, 0, 0, 900, 900)),
            "it says 900 bytes of a packet, and has 0",
        ),
        (section("<") + interface("<", 1) + packet("<", 0, 1 << 63, b"a"), "its time is beyond the year 2262"),
    ],
)
def test_damaged_files(tmp_path: Path, content: bytes, message: str) -> None:
    with pytest.raises(PcapError) as caught:
        read(tmp_path, content)
    assert message in str(caught.value)
    assert "some.pcap" in str(caught.value)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(PcapError, match="No such file") as caught:
        em.read_pcap(tmp_path / "none.pcap")
    assert caught.value.errno == errno.ENOENT
    with pytest.raises(PcapError, match="null byte"):
        em.read_pcap("some\0.pcap")
