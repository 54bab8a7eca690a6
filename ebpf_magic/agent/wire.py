"""The protocol between a host and its agent, used by both.

A frame is a 16-byte header (``<4sIQ``: the magic ``eBM1``, the length of the JSON text, the length of the payload),
then the JSON text (UTF-8, one object, at most 1 MiB), then the payload (raw bytes, at most 1 GiB). The last byte of
the magic is the version of the protocol. The host sends requests, the agent answers each with one reply, in order::

    request  {"id": 7, "verb": "read", "map": "m3", "delete": false}
    reply    {"id": 7, "count": 23, "key_bytes": 184, ...}            payload: keys, then values
    error    {"id": 7, "error": {"kind": "map", "what": ..., "why": ..., "hint": ..., "near": [...], ...}}
                                                                      payload: the complete log, UTF-8

Over a Unix socket, descriptors of maps ride with the first byte of a frame (SCM_RIGHTS); ``"fds"`` in the JSON says
how many. Any other byte stream carries the same frames without them. The end of the stream tells the agent to clean
up and end. What does not fit this description is a `WireError`, and the connection is of no use afterwards.
"""

from __future__ import annotations

import array
import json
import mmap
import os
import socket
import struct
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Union

PROTOCOL = 1
MAGIC = b"eBM%d" % PROTOCOL
HEADER = struct.Struct("<4sIQ")
MAX_JSON_BYTES = 1 << 20
MAX_PAYLOAD_BYTES = 1 << 30
MAX_FDS = 253  # SCM_MAX_FD of the kernel
# From here on a payload is received into an anonymous mapping, whose pages cost nothing before they are written.
_MAPPED_BYTES = 1 << 16
_SEND_BYTES = 1 << 20

Buffer = Union[bytes, bytearray, memoryview]
# Called before every read ("r") and write ("w") that could block.
Wait = Callable[[str], None]


class WireError(Exception):
    """What came is not the protocol, or what is to be sent does not fit it."""


class Frame(NamedTuple):
    """One frame as received: its JSON object, its payload, and the descriptors that came with it."""

    header: dict[str, Any]
    payload: memoryview
    fds: list[int]


def encode_header(header: dict[str, Any], payload_bytes: int) -> bytes:
    """Header and JSON text of a frame; raises `WireError` when a bound is passed."""
    text = json.dumps(header, separators=(",", ":"), allow_nan=False).encode()
    if len(text) > MAX_JSON_BYTES:
        raise WireError(f"JSON text of {len(text)} bytes; at most {MAX_JSON_BYTES} fit a frame")
    if payload_bytes > MAX_PAYLOAD_BYTES:
        raise WireError(f"payload of {payload_bytes} bytes; at most {MAX_PAYLOAD_BYTES} fit a frame")
    return HEADER.pack(MAGIC, len(text), payload_bytes) + text


def decode_lengths(header: bytes) -> tuple[int, int]:
    """Lengths of JSON text and payload; raises `WireError` when they are not within bounds."""
    magic, json_bytes, payload_bytes = HEADER.unpack(header)
    if magic[:3] != MAGIC[:3]:
        raise WireError(f"expected a frame, got {magic!r}")
    if magic != MAGIC:
        raise WireError(f"protocol version {magic[3:]!r}, expected {MAGIC[3:]!r}")
    if json_bytes > MAX_JSON_BYTES or payload_bytes > MAX_PAYLOAD_BYTES:
        raise WireError(f"a frame of {json_bytes} + {payload_bytes} bytes is beyond the bounds")
    return json_bytes, payload_bytes


def decode_json(text: bytes) -> dict[str, Any]:
    """JSON object of a frame; raises `WireError` for anything else."""
    try:
        header = json.loads(text)
        if b"\\ud" in text.lower():  # half a character: no text that can be shown or written
            header = json.loads(json.dumps(header, ensure_ascii=False).encode("utf-8", "replace"))
    except (ValueError, RecursionError) as error:
        raise WireError(f"the JSON text of a frame is damaged: {error}") from None
    if not isinstance(header, dict):
        raise WireError(f"the JSON text of a frame is a {type(header).__name__}, not an object")
    return header


class Channel:
    """Frames over a Unix socket (with descriptors) or over a pair of file descriptors (without).

    Parameters
    ----------
    sock : socket.socket, optional
        A connected stream socket; owned by the channel.
    read_fd, write_fd : int
        Where there is no socket: descriptors to read from and to write to; owned by the channel.
    """

    def __init__(
        self,
        sock: socket.socket | None = None,
        read_fd: int = -1,
        write_fd: int = -1,
    ) -> None:
        self._sock = sock
        self.read_fd = sock.fileno() if sock else read_fd
        self.write_fd = sock.fileno() if sock else write_fd
        self._wait: Wait | None = None
        self.passes_fds = sock is not None and sock.family == socket.AF_UNIX

    def set_wait(self, wait: Wait) -> None:
        """Call this before each read ("r") or write ("w"), to wait until it would not block; without it they block."""
        self._wait = wait

    def send(self, header: dict[str, Any], payload: Sequence[Buffer] = (), fds: Sequence[int] = ()) -> None:
        """Send one frame; raises OSError when the other end is gone."""
        parts = [memoryview(part).cast("B") for part in payload if len(part)]
        if fds:
            if not self.passes_fds or len(fds) > MAX_FDS:
                raise WireError(f"cannot pass {len(fds)} descriptors here")
            header = {**header, "fds": len(fds)}
        first = memoryview(encode_header(header, sum(map(len, parts))))
        # Small frames in one piece: one system call, one wake-up of the other end.
        if parts and len(parts) < 4 and sum(map(len, parts)) < _MAPPED_BYTES:
            first, parts = memoryview(b"".join([first, *parts])), []
        if fds:
            assert self._sock is not None
            rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))]
            sock = self._sock
            first = first[self._retry("w", lambda: sock.sendmsg([first], rights)) :]
        for part in [first, *parts]:
            self._send_all(part)

    def receive(self) -> Frame | None:
        """Receive one frame; None when the other end closed between two frames."""
        fds: list[int] = []
        try:
            start = bytearray(HEADER.size)
            first = self._receive_into(memoryview(start), fds)
            if first == 0:
                return None
            self._fill(memoryview(start)[first:], fds)
            json_bytes, payload_bytes = decode_lengths(bytes(start))
            text = bytearray(json_bytes)
            self._fill(memoryview(text), fds)
            header = decode_json(bytes(text))
            if header.get("fds", 0) != len(fds):
                raise WireError(f"{len(fds)} descriptors came, {header.get('fds', 0)!r} were announced")
            payload = allocate(payload_bytes)
            self._fill(payload, fds)
        except BaseException:
            for fd in fds:
                os.close(fd)
            raise
        return Frame(header, payload, fds)

    def close(self) -> None:
        """Close it; safe to call twice."""
        if self._sock is not None:
            self._sock.close()
        else:
            for fd in {self.read_fd, self.write_fd} - {-1}:
                os.close(fd)
        self.read_fd = self.write_fd = -1

    def _send_all(self, part: memoryview) -> None:
        while part:
            piece = part[:_SEND_BYTES]
            part = part[self._retry("w", lambda piece=piece: os.write(self.write_fd, piece)) :]  # type: ignore[misc]

    def _fill(self, buffer: memoryview, fds: list[int]) -> None:
        while buffer:
            count = self._receive_into(buffer, fds)
            if count == 0:
                raise WireError("the stream ended within a frame")
            buffer = buffer[count:]

    def _receive_into(self, buffer: memoryview, fds: list[int]) -> int:
        if not self.passes_fds:
            return self._retry("r", lambda: os.readv(self.read_fd, [buffer]))
        assert self._sock is not None
        sock = self._sock
        space = socket.CMSG_SPACE(MAX_FDS * 4)
        cloexec = getattr(socket, "MSG_CMSG_CLOEXEC", 0)
        messages: list[Any] = []

        def receive() -> int:
            count, messages[:], flags, _ = sock.recvmsg_into([buffer], space, cloexec)
            if flags & socket.MSG_CTRUNC:
                raise WireError("more descriptors came than a frame may carry")
            return count

        count = self._retry("r", receive)
        for level, kind, data in messages:
            if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                fds.extend(array.array("i", data[: len(data) // 4 * 4]))
        return count

    def _retry(self, direction: str, call: Callable[[], int]) -> int:
        while True:
            if self._wait is not None:
                self._wait(direction)
            try:
                return call()
            except BlockingIOError:
                if self._wait is None:
                    raise


def allocate(size: int) -> memoryview:
    """Writable zeroed bytes; large ones lazily, so that an announced length alone costs no memory."""
    if size < _MAPPED_BYTES:
        return memoryview(bytearray(size))
    return memoryview(mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS))
