"""What the agent knows of every map kind."""

from __future__ import annotations

import pytest

from ebpf_magic.agent import map_kinds, maps
from ebpf_magic.agent.maps import MapInfo
from ebpf_magic.data import special

KINDS = sorted(map_kinds.OFFERED)


def info(kind: str, value_size: int = 4) -> MapInfo:
    numbers = {name: number for number, name in map_kinds.TYPE_NAMES.items()}
    return MapInfo(numbers[kind], 1, 4, value_size, 10, 0, "m")


@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_is_read_or_says_why_not(kind: str) -> None:
    reading = map_kinds.reading(kind, 4)
    assert bool(reading.way) != bool(reading.why)
    assert "not known here" not in reading.why


@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_has_a_size(kind: str) -> None:
    assert map_kinds.memory_bytes(kind, 4, 8, 1 << 20, 4) > 0


def test_sizes_grow_with_what_they_hold() -> None:
    assert map_kinds.memory_bytes("ringbuf", 0, 0, 1 << 24, 4) == 1 << 24
    assert map_kinds.memory_bytes("arena", 0, 0, 100, 4) == 100 * 4096
    assert map_kinds.memory_bytes("queue", 0, 100, 1000, 4) == 1001 * 100
    assert map_kinds.memory_bytes("stack_trace", 4, 1016, 1000, 4) >= 1000 * 1016
    assert map_kinds.memory_bytes("bloom_filter", 0, 4, 1 << 20, 4) <= 4 << 20


def test_sockets_are_shown_as_cookies_where_these_fit() -> None:
    assert maps.unreadable(info("sockmap", 8)) is None
    why, hint = maps.unreadable(info("sockmap", 4)) or ("", "")
    assert "cookie" in why
    assert "__u64" in hint


def test_both_sides_agree_on_what_has_no_key() -> None:
    assert special.KEYLESS == map_kinds.KEYLESS


def test_what_only_the_agent_can_read() -> None:
    assert [kind for kind in KINDS if maps.reads_by_agent(kind)] == [
        "arena",
        "cgrp_storage",
        "inode_storage",
        "sk_storage",
        "task_storage",
    ]
