"""The kernel's objects in pages: each is there once, whatever a page holds, and nothing is held in between."""

from __future__ import annotations

import pytest

from ebpf_magic.agent import kernel_list
from ebpf_magic.agent.fault import Fault


@pytest.fixture
def held(monkeypatch: pytest.MonkeyPatch) -> set[int]:
    """A kernel of 30 programs and 20,000 maps, of which map 7 is gone when it is opened; the open descriptors."""
    opened: set[int] = set()
    counts = {kernel_list.bpf.PROG_GET_NEXT_ID: 30, kernel_list.bpf.MAP_GET_NEXT_ID: 20_000}

    def fd_by_id(command: int, number: int) -> int | None:
        if command == kernel_list.bpf.MAP_GET_FD_BY_ID and number == 7:
            return None
        opened.add(number)
        return number

    monkeypatch.setattr(kernel_list, "_owners", dict)
    monkeypatch.setattr(kernel_list, "_program", lambda number, fd, owners: {"id": number, "name": "p" * 15})
    monkeypatch.setattr(kernel_list, "_map", lambda number, fd, owners: {"id": number, "name": "m" * 15})
    monkeypatch.setattr(
        kernel_list.bpf, "next_id", lambda command, after: after + 1 if after < counts[command] else None
    )
    monkeypatch.setattr(kernel_list.bpf, "fd_by_id", fd_by_id)
    monkeypatch.setattr(kernel_list.os, "close", opened.remove)
    return opened


@pytest.mark.parametrize("page_bytes", [1, 100, 1 << 12, kernel_list.PAGE_BYTES, 1 << 30])
def test_every_object_is_there_once(held: set[int], page_bytes: int) -> None:
    programs: list[int] = []
    maps: list[int] = []
    more = []
    for page in kernel_list.pages(page_bytes):
        assert not held
        assert page.programs or page.maps
        assert sum(len(str(row)) for row in [*page.programs, *page.maps]) <= max(page_bytes, 100)
        programs += [row["id"] for row in page.programs]
        maps += [row["id"] for row in page.maps]
        more.append(page.more)
    assert programs == list(range(1, 31))
    assert maps == [number for number in range(1, 20_001) if number != 7]
    assert more == [True] * (len(more) - 1) + [False]


def test_a_kernel_without_objects_is_one_page(held: set[int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernel_list.bpf, "next_id", lambda command, after: None)
    assert list(kernel_list.pages()) == [kernel_list.Page([], [], False)]


def test_without_the_right_it_says_so(held: set[int], monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(command: int, after: int) -> int:
        raise OSError(22, "Invalid argument")

    monkeypatch.setattr(kernel_list.bpf, "next_id", refuse)
    with pytest.raises(Fault) as caught:
        next(kernel_list.pages())
    assert caught.value.fields["what"] == "list the kernel's programs and maps"
