"""Where arenas lie, and what of one is read; without a kernel that has them."""

from __future__ import annotations

import ctypes as C
import mmap
import os
from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import pytest

from ebpf_magic.agent import arena, bpf


def arenas(count: int) -> list[Any]:
    return [SimpleNamespace(type_name="arena", extra=0, pointer=number) for number in range(count)]


def test_arenas_of_two_sessions_lie_apart() -> None:
    placed: list[int] = []
    library: Any = SimpleNamespace(bpf_map__set_map_extra=lambda pointer, place: placed.append(place))
    for _ in range(3):
        arena.place(library, arenas(2))
    assert len(set(placed)) == 6


@pytest.fixture
def one_page(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """An arena of one page, behind which nothing is mapped."""
    pages = mmap.mmap(-1, 2 * mmap.PAGESIZE)
    pages.write(b"arena" + bytes(mmap.PAGESIZE - 5) + b"beyond")
    address = C.addressof(C.c_char.from_buffer(pages))

    @contextmanager
    def mapped(fd: int, place: int, length: int) -> Iterator[int]:
        yield address

    monkeypatch.setattr(arena, "_mapped", mapped)
    monkeypatch.setattr(bpf, "map_info", lambda fd: SimpleNamespace(map_extra=0, max_entries=1))
    yield
    pages.close()


@pytest.mark.usefixtures("one_page")
@pytest.mark.parametrize(("offset", "size"), [(mmap.PAGESIZE, 6), (0, mmap.PAGESIZE + 1), (1 << 63, 1)])
def test_nothing_beyond_an_arena_is_read(offset: int, size: int) -> None:
    assert arena.read(-1, 0, 5) == b"arena"
    with pytest.raises(OSError, match="lie outside its 4,096"):
        arena.read(-1, offset, size)


@pytest.mark.usefixtures("one_page")
def test_an_arena_that_is_read_in_part_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "pread", lambda fd, size, offset: b"ar")
    with pytest.raises(OSError, match="no program has allocated what lies at 2"):
        arena.read(-1, 0, 5)
