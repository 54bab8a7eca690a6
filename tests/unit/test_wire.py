"""The protocol's frames: whole, cut, damaged, with descriptors; over sockets and over pipes."""

from __future__ import annotations

import json
import os
import socket
import struct
import threading
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ebpf_magic.agent import wire
from ebpf_magic.agent.wire import Channel, WireError


@pytest.fixture
def pair() -> Iterator[tuple[Channel, Channel]]:
    left, right = (Channel(sock=end) for end in socket.socketpair())
    yield left, right
    left.close()
    right.close()


def received(data: bytes) -> object:
    """What a channel makes of these bytes, sent in one go and then closed."""
    ours, theirs = socket.socketpair()
    channel = Channel(sock=theirs)
    sender = threading.Thread(target=lambda: (ours.sendall(data), ours.close()))
    sender.start()
    try:
        return channel.receive()
    finally:
        channel.close()
        sender.join()


def frame(header: object, payload: bytes = b"") -> bytes:
    text = json.dumps(header).encode()
    return struct.pack("<4sIQ", b"eBM1", len(text), len(payload)) + text + payload


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=10,
)
HEADERS = st.dictionaries(st.text(max_size=8).filter(lambda key: key != "fds"), JSON, max_size=5)


@given(HEADERS, st.lists(st.binary(max_size=300), max_size=5))
@settings(deadline=None)
def test_what_is_sent_is_received(header: dict[str, object], parts: list[bytes]) -> None:
    left, right = (Channel(sock=end) for end in socket.socketpair())
    left.send(header, parts)
    got = right.receive()
    assert got is not None
    assert (got.header, bytes(got.payload), got.fds) == (header, b"".join(parts), [])
    left.close()
    assert right.receive() is None
    right.close()


@given(st.binary(max_size=400))
@settings(deadline=None)
def test_noise_is_a_wire_error_or_the_end(data: bytes) -> None:
    try:
        assert received(data) is None
        assert data == b""
    except WireError:
        assert data != b""


@given(HEADERS, st.binary(max_size=50), st.data())
@settings(deadline=None)
def test_a_damaged_frame_is_a_wire_error_or_another_frame(
    header: dict[str, object], payload: bytes, data: st.DataObject
) -> None:
    whole = bytearray(frame(header, payload))
    position = data.draw(st.integers(0, len(whole) - 1))
    whole[position] ^= data.draw(st.integers(1, 255))
    try:
        got = received(bytes(whole))
    except WireError:
        return
    assert isinstance(got, wire.Frame)
    assert got.fds == []


@given(HEADERS, st.binary(max_size=50), st.data())
@settings(deadline=None)
def test_a_cut_frame_is_a_wire_error(header: dict[str, object], payload: bytes, data: st.DataObject) -> None:
    whole = frame(header, payload)
    cut = data.draw(st.integers(1, len(whole) - 1))
    with pytest.raises(WireError, match="ended within a frame"):
        received(whole[:cut])


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"HTTP/1.1 200 OK\r\n", "expected a frame"),
        (struct.pack("<4sIQ", b"eBM9", 2, 0) + b"{}", "protocol version"),
        (struct.pack("<4sIQ", b"eBM1", (1 << 20) + 1, 0), "beyond the bounds"),
        (struct.pack("<4sIQ", b"eBM1", 2, (1 << 30) + 1), "beyond the bounds"),
        (frame([1, 2]), "is a list, not an object"),
        (frame({"fds": 1}), "0 descriptors came, 1 were announced"),
        (struct.pack("<4sIQ", b"eBM1", 3, 0) + b"{x}", "is damaged"),
        (struct.pack("<4sIQ", b"eBM1", 200_000, 0) + b"[" * 200_000, "is damaged"),
        (struct.pack("<4sIQ", b"eBM1", 2, 0) + b"\xff\xff", "is damaged"),
    ],
)
def test_what_is_no_frame(data: bytes, message: str) -> None:
    with pytest.raises(WireError, match=message):
        received(data)


def test_an_announced_length_costs_no_memory() -> None:
    before = resident_kb()
    with pytest.raises(WireError, match="ended within a frame"):
        received(struct.pack("<4sIQ", b"eBM1", 2, 1 << 30) + b"{}")
    assert resident_kb() - before < 10_000


def resident_kb() -> int:
    with open("/proc/self/status") as lines:
        return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS:"))


def test_bounds_hold_for_the_sender_too(pair: tuple[Channel, Channel]) -> None:
    left, right = pair
    with pytest.raises(WireError, match="JSON text of"):
        left.send({"text": "x" * (1 << 20)})
    with pytest.raises(WireError, match="payload of"):
        left.send({}, [memoryview(bytes(1 << 20))] * 1025)
    with pytest.raises(WireError, match="cannot pass 254 descriptors"):
        left.send({}, [], [0] * 254)
    with pytest.raises(ValueError, match="JSON"):
        left.send({"number": float("nan")})
    left.send({"still": "good"})  # nothing of the refused ones went out
    assert right.receive() == wire.Frame({"still": "good"}, memoryview(b""), [])


def test_descriptors_arrive_as_other_numbers_of_the_same_file(pair: tuple[Channel, Channel]) -> None:
    left, right = pair
    read_end, write_end = os.pipe()
    payload = os.urandom(100_000)
    sender = threading.Thread(target=left.send, args=({"id": 1}, [payload], [write_end, read_end]))
    sender.start()
    got = right.receive()
    sender.join()
    assert got is not None
    assert got.header == {"id": 1, "fds": 2}
    assert bytes(got.payload) == payload
    os.write(got.fds[0], b"through")
    assert os.read(read_end, 7) == b"through"
    assert not os.get_inheritable(got.fds[0])
    for fd in (read_end, write_end, *got.fds):
        os.close(fd)


def test_descriptors_nobody_announced_are_closed() -> None:
    ours, theirs = socket.socketpair()
    channel = Channel(sock=theirs)
    before = set(os.listdir("/proc/self/fd"))
    with open(os.devnull) as file:
        socket.send_fds(ours, [frame({})], [file.fileno()])
    with pytest.raises(WireError, match="1 descriptors came"):
        channel.receive()
    assert set(os.listdir("/proc/self/fd")) == before
    ours.close()
    channel.close()


def test_a_byte_stream_carries_frames_but_no_descriptors() -> None:
    read_end, write_end = os.pipe()
    back_read, back_write = os.pipe()
    left, right = Channel(read_fd=back_read, write_fd=write_end), Channel(read_fd=read_end, write_fd=back_write)
    assert not left.passes_fds
    payload = os.urandom(500_000)
    sender = threading.Thread(target=left.send, args=({"id": 7}, [payload[:1000], payload[1000:]]))
    sender.start()
    got = right.receive()
    sender.join()
    assert got is not None
    assert (got.header, bytes(got.payload)) == ({"id": 7}, payload)
    with pytest.raises(WireError, match="cannot pass 1 descriptors"):
        left.send({}, [], [0])
    left.close()
    assert right.receive() is None
    right.close()
    right.close()


def test_waiting_is_asked_before_each_read_and_write() -> None:
    ours, theirs = socket.socketpair()
    theirs.setblocking(False)
    asked: list[str] = []
    channel = Channel(sock=theirs)

    def wait(direction: str) -> None:
        asked.append(direction)
        if len(asked) == 2:
            ours.sendall(frame({"id": 1}))

    channel.set_wait(wait)
    got = channel.receive()
    assert got is not None
    assert got.header == {"id": 1}
    assert asked[:3] == ["r", "r", "r"]
    channel.send({"id": 1})
    assert asked[-1] == "w"
    ours.close()
    channel.close()
