"""Reading an iterator: each reading goes over the kernel's objects anew, in pieces that keep nobody waiting."""

from __future__ import annotations

import errno as errnos
import os
import time
from typing import NamedTuple

from . import bpf
from .fault import Fault

PIECE_BYTES = 16 << 20
_PIECE_S = 0.5
_READ_BYTES = 1 << 16  # the kernel makes at most 8 pages at a time
_AGAIN = 64
_WHY = {
    errnos.E2BIG: "what the program writes for one object does not fit the kernel's buffer of 8 pages",
    errnos.EAGAIN: "the program returned 1 again and again, which asks for the same object once more; return 0",
    errnos.EOPNOTSUPP: "the kernel cannot go on once its buffer of 8 pages is full: write less for each object",
}


class Piece(NamedTuple):
    """What came of a reading so far, and whether there is more."""

    data: bytes
    more: bool


class Readings:
    """The unfinished readings of a session, at most one a program; `close` is safe to call twice."""

    def __init__(self) -> None:
        self._fds: dict[str, int] = {}

    def read(self, program: str, label: str, link_fd: int, anew: bool) -> Piece:
        """Read on, or anew from the first object; raises `Fault`, which ends the reading."""
        if anew:
            self._end(program)
            try:
                self._fds[program] = bpf.create_iter(link_fd)
            except OSError as error:
                raise _failed(label, error, 0) from None
        elif program not in self._fds:
            raise Fault("usage", f"read {label}", "no reading of it has begun")
        pieces: list[bytes] = []
        try:
            more = _fill(self._fds[program], pieces)
        except OSError as error:
            self._end(program)
            raise _failed(label, error, sum(map(len, pieces))) from None
        if not more:
            self._end(program)
        return Piece(b"".join(pieces), more)

    def close(self) -> None:
        """End all of them: each holds its program in the kernel."""
        for program in list(self._fds):
            self._end(program)

    def _end(self, program: str) -> None:
        fd = self._fds.pop(program, None)
        if fd is not None:
            os.close(fd)


def _fill(fd: int, pieces: list[bytes]) -> bool:
    """Append what comes until a piece is full or its time is up; whether there may be more."""
    until = time.monotonic() + _PIECE_S
    size = again = 0
    while size < PIECE_BYTES and time.monotonic() < until:
        try:
            data = os.read(fd, _READ_BYTES)
        except BlockingIOError:  # also after a million objects for which nothing was written
            again += 1
            if again == _AGAIN:
                raise
            continue
        if not data:
            return False
        pieces.append(data)
        size += len(data)
    return True


def _failed(label: str, error: OSError, bytes_before: int) -> Fault:
    number = error.errno or 0
    why = _WHY.get(number, error.strerror or str(error))
    if bytes_before:
        why += f" (after {bytes_before:,} bytes)"
    return Fault("iter", f"read {label}", why, errno=number)
