"""What holds a program to its target, and lets go of it: a libbpf link, or whatever else a kind needs."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple, Protocol

from ..libbpf import Library

if TYPE_CHECKING:
    from ..objects import LoadedMap

_THREADS = 64


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


class Context(NamedTuple):
    """What attaching a program may need beside it: libbpf, and the session's maps by name."""

    library: Library
    maps: Mapping[str, LoadedMap]


class Link(NamedTuple):
    """What holds one program to one target; several handles where one would not do (a CPU each)."""

    program: str
    target: str
    kind: str
    handles: Sequence[Handle]


def close_all(handles: Sequence[Handle]) -> None:
    """Let go of many, in parallel: each waits 70 to 120 ms for the kernel's grace periods."""
    left = list(handles)
    if len(left) < 2:
        for handle in left:
            handle.close()
        return

    def work() -> None:
        while True:
            try:
                handle = left.pop()
            except IndexError:
                return
            handle.close()

    threads = [threading.Thread(target=work) for _ in range(min(len(left), _THREADS))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
