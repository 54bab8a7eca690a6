"""What holds a program to its target, and lets go of it: a libbpf link, or whatever else a kind needs."""

from __future__ import annotations

import ctypes as C
import os
import platform
import sys
import threading
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple, Protocol

from ..libbpf import Library

if TYPE_CHECKING:
    from ..objects import LoadedMap
    from .links import Held

_THREADS = 64
_MEMBARRIER = {"x86_64": 324, "aarch64": 283, "riscv64": 283, "s390x": 356, "ppc64le": 365}.get(platform.machine(), 283)
_CMD_GLOBAL = 1
_libc = C.CDLL(None, use_errno=True)
_late: list[int] = []  # events whose links are gone


class Handle(Protocol):
    """One hold of a program on a target."""

    def close(self) -> None:
        """Let go: the program no longer runs there; safe to call twice."""


class KernelLink:
    """A link that libbpf made, by its pointer."""

    def __init__(self, library: Library, pointer: int) -> None:
        self._library = library
        self._pointer = pointer

    @property
    def fd(self) -> int:
        """Descriptor of the link; some old kinds have a perf event's."""
        return int(self._library.bpf_link__fd(self._pointer))

    def close(self) -> None:
        """Take the link out of the kernel."""
        pointer, self._pointer = self._pointer, 0
        if pointer:
            self._library.bpf_link__destroy(pointer)


class EventLink(KernelLink):
    """The link of a program to a perf event of its own.

    Closing a tracepoint's event waits for grace periods under a lock of the kernel's (event_mutex), so that ten events
    take ten times as long. The program is out once the link is gone; the bare event may follow when it can.
    """

    def __init__(self, library: Library, program: int, event_fd: int) -> None:
        pointer = library.bpf_program__attach_perf_event(program, event_fd)
        if not pointer:
            number = C.get_errno()
            os.close(event_fd)
            raise OSError(number, os.strerror(number))
        super().__init__(library, pointer)
        self._event_fd = os.dup(event_fd)  # libbpf closes the one it was given together with the link

    def close(self) -> None:
        """Take the link out of the kernel, and let the event go behind it."""
        super().close()
        event_fd, self._event_fd = self._event_fd, -1
        if event_fd >= 0:
            _late.append(event_fd)


class UsdtLink(KernelLink):
    """A USDT probe's link. Those of one object share what libbpf knows of them, and libbpf takes no lock for it."""

    _lock = threading.Lock()

    def close(self) -> None:
        """Take the link out of the kernel."""
        with self._lock:
            super().close()


class LinkFd:
    """A link that the kernel made for us, by its descriptor."""

    def __init__(self, fd: int, detail: str = "") -> None:
        self.fd = fd
        self.detail = detail

    def close(self) -> None:
        """Take the link out of the kernel."""
        fd, self.fd = self.fd, -1
        if fd >= 0:
            os.close(fd)


class Context(NamedTuple):
    """What attaching a program may need beside it: libbpf, the session's maps by name, and what it may take over."""

    library: Library
    maps: Mapping[str, LoadedMap]
    held: Mapping[tuple[str, str], Held] = {}  # by kind and target, see `Link`


class Link(NamedTuple):
    """What holds one program to one target; several handles where one would not do (a CPU each)."""

    program: str
    target: str
    kind: str
    handles: Sequence[Handle]
    detail: str = ""  # what the target does not say, such as how many functions a pattern matched


def close_all(handles: Sequence[Handle]) -> None:
    """Let go of many, in parallel, since each waits for grace periods; when it returns, none of their programs runs."""
    if not handles:
        return
    left = list(handles)

    def work() -> None:
        while True:
            try:
                handle = left.pop()
            except IndexError:
                return
            try:
                handle.close()
            except OSError as error:  # the others, and all that comes after them, must be let go of all the same
                sys.stderr.write(f"a {type(handle).__name__} was not let go of: {error}\n")

    threads = [threading.Thread(target=work) for _ in range(min(len(left) - 1, _THREADS))]
    for thread in threads:
        thread.start()
    work()
    for thread in threads:
        thread.join()
    _wait_for_runs()
    late = [_late.pop() for _ in range(len(_late))]
    if late:
        threading.Thread(target=_close_fds, args=(late,), daemon=True).start()


def _wait_for_runs() -> None:
    """Wait until no run is under way that began before: a link's end does not, and counters are read after it."""
    # One grace period. EINVAL with nohz_full, where a run under way is left to end by itself: it takes microseconds.
    _libc.syscall(C.c_long(_MEMBARRIER), C.c_int(_CMD_GLOBAL), C.c_uint(0), C.c_int(0))


def _close_fds(fds: Sequence[int]) -> None:
    for fd in fds:
        os.close(fd)
