"""Capture files, pcap and pcapng, as frames.

Source: draft-ietf-opsawg-pcap and draft-ietf-opsawg-pcapng (IETF).
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from ebpf_magic.arguments import checked
from ebpf_magic.errors import PcapError

_MICRO, _NANO = 0xA1B2C3D4, 0xA1B23C4D
_SECTION, _INTERFACE, _OLD_PACKET, _SIMPLE_PACKET, _PACKET = 0x0A0D0D0A, 1, 2, 3, 6
_BYTE_ORDER = 0x1A2B3C4D
_END_OF_OPTIONS, _RESOLUTION, _OFFSET = 0, 9, 14
_MAX_BLOCK_BYTES = 1 << 28
_NO_TIME = np.iinfo(np.int64).min  # NaT


class _Row(NamedTuple):
    time_ns: int
    length: int
    data: bytes


class _Interface(NamedTuple):
    """What a pcapng section says of an interface: seconds a tick as a fraction, seconds to add, bytes kept."""

    ticks: int
    offset_s: int
    snap_length: int


class _Damaged(Exception):
    """At which byte, and what is wrong there."""


@checked
def read_pcap(path: str | os.PathLike[str], *, partial: bool = False) -> pd.DataFrame:
    """Read a capture file: pcap or pcapng, of either byte order.

    Parameters
    ----------
    path : str or path-like
        The file, such as ``tcpdump -w`` or Wireshark writes it.
    partial : bool
        Of a damaged file, such as one that was cut off, take what stands before the damage; ``attrs["damage"]`` says
        what is wrong with it.

    Returns
    -------
    pandas.DataFrame
        One row a packet, in the file's order; columns ``time`` (datetime64[ns, UTC]; NaT where the file has none),
        ``length`` (on the wire, bytes), ``captured`` (bytes kept of it) and ``data`` (those bytes).
        ``session.run("program", data=frame)`` takes it as it is.

    Raises
    ------
    PcapError
        The file is damaged (it says at which byte, and how many packets stand before), or it is no capture file.
        Or there is no such file, or it cannot be read (`.errno`).
    """
    what = f"read {os.fspath(path)!r}"
    try:
        content = Path(path).read_bytes()
    except OSError as error:
        raise PcapError(what, f"it cannot be read: {error.strerror}", errno=error.errno) from error
    except ValueError as error:  # no file has a NUL in its name
        raise PcapError(what, f"it cannot be read: {error}") from None
    rows: list[_Row] = []
    damage = ""
    try:
        # Packet by packet, though in Python: where one begins, only the length of the one before it tells.
        for row in _packets(content, what):
            rows.append(row)  # those before the damage are wanted, too
    except _Damaged as error:
        damage = str(error)
    if damage and not partial:
        hint = "partial=True takes what stands before." if rows else ""
        raise PcapError(what, f"{damage}; {len(rows):,} whole packets stand before it", hint)
    frame = _frame(rows)
    frame.attrs["damage"] = damage
    return frame


def _frame(rows: list[_Row]) -> pd.DataFrame:
    times = np.array([row.time_ns for row in rows], np.int64).view("datetime64[ns]")
    return pd.DataFrame(
        {
            "time": pd.DatetimeIndex(times).tz_localize("UTC"),
            "length": np.array([row.length for row in rows], np.int64),
            "captured": np.array([len(row.data) for row in rows], np.int64),
            "data": pd.Series([row.data for row in rows], dtype=object),
        }
    )


def _packets(content: bytes, what: str) -> Iterator[_Row]:
    for order in "<>":
        if len(content) < 4:
            break
        (magic,) = struct.unpack_from(f"{order}I", content)
        if magic in (_MICRO, _NANO):
            return _classic(content, order, 1 if magic == _NANO else 1000)
        if magic == _SECTION:
            return _next_generation(content)
    raise PcapError(what, f"it is no capture file: it begins with {content[:4].hex(' ') or 'nothing'}")


def _classic(content: bytes, order: str, unit_ns: int) -> Iterator[_Row]:
    if len(content) < 24:
        raise _Damaged(f"byte {len(content)}: the file ends within its header")
    header = struct.Struct(f"{order}IIII")
    at = 24
    while at < len(content):
        if len(content) - at < header.size:
            raise _Damaged(f"byte {at}: the file ends within the header of a packet")
        seconds, fraction, captured, length = header.unpack_from(content, at)
        start, end = at + header.size, at + header.size + captured
        if end > len(content):
            left = len(content) - start
            raise _Damaged(
                f"byte {at}: a packet of {captured:,} bytes begins, and the file ends after {left:,} of them"
            )
        yield _Row(seconds * 10**9 + fraction * unit_ns, length, content[start:end])
        at = end


def _next_generation(content: bytes) -> Iterator[_Row]:
    interfaces: list[_Interface] = []
    order, at = "<", 0
    while at < len(content):
        if len(content) - at < 12:
            raise _Damaged(f"byte {at}: the file ends within a block")
        if struct.unpack_from("<I", content, at)[0] == _SECTION:
            order, interfaces = _byte_order(content, at), []
        kind, size = struct.unpack_from(f"{order}II", content, at)
        if size < 12 or size % 4 or size > _MAX_BLOCK_BYTES or at + size > len(content):
            raise _Damaged(f"byte {at}: a block of {size:,} bytes, and {len(content) - at:,} are left")
        if struct.unpack_from(f"{order}I", content, at + size - 4)[0] != size:
            raise _Damaged(f"byte {at}: a block of {size:,} bytes does not end with that length")
        body = content[at + 8 : at + size - 4]
        try:
            if kind == _INTERFACE:
                interfaces.append(_interface(body, order))
            elif kind in (_PACKET, _OLD_PACKET, _SIMPLE_PACKET):
                yield _packet(kind, body, order, interfaces)
        except (struct.error, IndexError, OverflowError, _Damaged) as error:
            raise _Damaged(f"byte {at}: a block of kind {kind} is damaged: {error}") from None
        at += size


def _byte_order(content: bytes, at: int) -> str:
    for order in "<>":
        if struct.unpack_from(f"{order}I", content, at + 8)[0] == _BYTE_ORDER:
            return order
    raise _Damaged(f"byte {at}: a section begins without its byte-order mark")


def _interface(body: bytes, order: str) -> _Interface:
    _, _, snap_length = struct.unpack_from(f"{order}HHI", body)
    ticks, offset_s, at = 10**6, 0, 8
    while at + 4 <= len(body):
        code, size = struct.unpack_from(f"{order}HH", body, at)
        if code == _END_OF_OPTIONS:
            break
        if code == _RESOLUTION:
            (resolution,) = struct.unpack_from("B", body, at + 4)
            ticks = 2 ** (resolution & 0x7F) if resolution & 0x80 else 10**resolution
        elif code == _OFFSET:
            (offset_s,) = struct.unpack_from(f"{order}q", body, at + 4)
        at += 4 + (size + 3) // 4 * 4
    return _Interface(ticks, offset_s, snap_length)


def _packet(kind: int, body: bytes, order: str, interfaces: list[_Interface]) -> _Row:
    if kind == _SIMPLE_PACKET:
        (length,) = struct.unpack_from(f"{order}I", body)
        snap_length = interfaces[0].snap_length
        captured = min(length, snap_length) if snap_length else length
        start, time_ns = 4, _NO_TIME
    else:
        number, high, low, captured, length = struct.unpack_from(
            f"{order}{'I' if kind == _PACKET else 'H2x'}IIII", body
        )
        interface = interfaces[number]
        start = 20
        time_ns = (high << 32 | low) * 10**9 // interface.ticks + interface.offset_s * 10**9
        if not -(1 << 63) < time_ns < 1 << 63:
            raise _Damaged("its time is beyond the year 2262")
    if start + captured > len(body):
        raise _Damaged(f"it says {captured:,} bytes of a packet, and has {len(body) - start:,}")
    return _Row(time_ns, length, body[start : start + captured])
