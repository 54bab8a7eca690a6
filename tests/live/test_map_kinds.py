"""Map kinds beside hashes and arrays: what can be read, changed and asked of them, and what says why it cannot."""

from __future__ import annotations

from collections.abc import Iterator

import pandas as pd
import pytest
import rights

import ebpf_magic as em
from ebpf_magic.card import CardFeed
from ebpf_magic.errors import MapError, NoSuchNameError, StoppedError, UnsupportedError, UsageError
from ebpf_magic.session import Session
from ebpf_magic.views import CardView

pytestmark = [pytest.mark.live, pytest.mark.any_host]

# Each declares one map `m`; it takes no program to make it.
KINDS = {
    "lpm_trie": "map_flags, 1); __uint(max_entries, 8); __type(key, u64); __type(value, u64",
    "queue": "max_entries, 4); __type(value, u32",
    "stack": "max_entries, 4); __type(value, u32",
    "bloom_filter": "max_entries, 64); __type(value, u32",
    "task_storage": "map_flags, 1); __type(key, int); __type(value, u64",
    "inode_storage": "map_flags, 1); __type(key, int); __type(value, u64",
    "sk_storage": "map_flags, 1); __type(key, int); __type(value, u64",
    "cgrp_storage": "map_flags, 1); __type(key, int); __type(value, u64",
    "cgroup_storage": "max_entries, 0); __type(key, u64); __type(value, u64",
    "percpu_cgroup_storage": "max_entries, 0); __type(key, u64); __type(value, u64",
    "stack_trace": "max_entries, 8); __uint(key_size, 4); __uint(value_size, 64",
    "perf_event_array": "key_size, 4); __uint(value_size, 4",
    "ringbuf": "max_entries, 4096",
    "user_ringbuf": "max_entries, 4096",
    "devmap": "max_entries, 8); __type(key, u32); __type(value, u32",
    "devmap_hash": "max_entries, 8); __type(key, u32); __type(value, u64",
    "cpumap": "max_entries, 2); __type(key, u32); __type(value, u32",
    "sockmap": "max_entries, 8); __type(key, u32); __type(value, u64",
    "sockhash": "max_entries, 8); __type(key, u32); __type(value, u64",
    "xskmap": "max_entries, 8); __type(key, u32); __type(value, u32",
    "reuseport_sockarray": "max_entries, 8); __type(key, u32); __type(value, u64",
    "cgroup_array": "max_entries, 8); __type(key, u32); __type(value, u32",
    "prog_array": "max_entries, 8); __type(key, u32); __type(value, u32",
    "arena": "map_flags, 1 << 10); __uint(max_entries, 2",
}
MAY_BE_MISSING = (
    "bloom_filter",
    "task_storage",
    "inode_storage",
    "sk_storage",
    "cgrp_storage",
    "user_ringbuf",
    "arena",
)
NUMBERS = {"arena": 33, "cgrp_storage": 32}
UNREADABLE = {
    "bloom_filter": "only asked",
    "inode_storage": "file by file",
    "perf_event_array": "not offered yet",
    "ringbuf": "not offered yet",
    "user_ringbuf": "not offered yet",
    "xskmap": "does not hand out",
    "cgroup_array": "does not hand out",
    "arena": "memory without entries",
}


@pytest.fixture(autouse=True)
def stop_all() -> Iterator[None]:
    yield
    em.stop_all()


def start(declaration: str) -> Session:
    source = declaration + '\nSEC("tracepoint/syscalls/sys_enter_getppid") int idle(void *ctx) { return 0; }'
    session = em.run(source, name="kinds", on=rights.host_name(), attach=False)
    assert isinstance(session, Session)
    return session


def one(kind: str) -> Session:
    number = NUMBERS.get(kind, f"BPF_MAP_TYPE_{kind.upper()}")
    return start(f'struct {{ __uint(type, {number}); __uint({KINDS[kind]}); }} m SEC(".maps");')


@pytest.mark.parametrize(
    "kind",
    [pytest.param(kind, marks=pytest.mark.needs(kind) if kind in MAY_BE_MISSING else ()) for kind in KINDS],
)
def test_each_kind_is_listed_and_read_or_says_why_not(kind: str) -> None:
    session = one(kind)
    found = session.maps["m"]
    assert found.type == kind
    assert found.info["memory_bytes"] >= 0
    if kind in UNREADABLE:
        assert UNREADABLE[kind] in found.unreadable
        with pytest.raises(UnsupportedError, match=UNREADABLE[kind]) as caught:
            found.df()
        assert str(caught.value).startswith(f"read map m ({kind}): ")
        with pytest.raises(UnsupportedError):
            found.clear()
    else:
        assert found.unreadable == ""
        assert len(found.df()) == 0
    card = CardView()
    card.update(CardFeed(session).state())
    assert kind in card.text()
    session.stop()
    assert session.warnings == []
    if kind not in UNREADABLE:
        assert len(found.df()) == 0


def test_a_trie_takes_prefixes() -> None:
    declaration = "struct k { u32 bits; u8 data[4]; }; struct { __uint(type, 11); __uint(max_entries, 8); "
    session = start(declaration + '__uint(map_flags, 1); __type(key, struct k); __type(value, u64); } m SEC(".maps");')
    found = session.maps["m"]
    found.update(pd.DataFrame({"value": [1, 2, 3]}, index=["10.0.0.0/8", "10.1.0.0/16", "0.0.0.0/0"]))
    assert found.df()["value"].to_dict() == {"10.0.0.0/8": 1, "10.1.0.0/16": 2, "0.0.0.0/0": 3}
    assert found.delete(["10.1.0.0/16", "10.2.0.0/16"]) == 1
    with pytest.raises(UsageError, match=r"'10.0.0.1/8'.*host bits"):
        found.update(pd.DataFrame({"value": [1]}, index=["10.0.0.1/8"]))
    assert sorted(found.drain().index) == ["0.0.0.0/0", "10.0.0.0/8"]
    assert found.df().empty


@pytest.mark.parametrize(("kind", "order"), [("queue", [1, 2, 3]), ("stack", [3, 2, 1])])
def test_queues_and_stacks(kind: str, order: list[int]) -> None:
    found = one(kind).maps["m"]
    found.update(pd.DataFrame({"value": [1, 2, 3]}))
    assert found.df()["value"].tolist() == order[:1]
    assert found.df().attrs["read"] == "head"
    assert any("only its head" in note for note in found.notes(1))
    with pytest.raises(MapError, match="the map is full after 1 of 2 entries"):
        found.update(pd.DataFrame({"value": [4, 5]}))
    assert found.drain()["value"].tolist() == ([*order, 4] if kind == "queue" else [4, *order])
    found.update(pd.DataFrame({"value": [9]}))
    found.clear()
    assert found.df().empty


@pytest.mark.needs("bloom_filter")
def test_a_bloom_filter_is_asked() -> None:
    found = one("bloom_filter").maps["m"]
    found.update(pd.DataFrame({"value": [7, 8]}))
    assert found.contains([7, 8]).to_dict() == {7: True, 8: True}
    assert not found.contains(range(100, 200)).all()
    assert found.contains([]).empty
    with pytest.raises(UsageError, match="is not from 0 to"):
        found.contains([-1])


@pytest.mark.needs("inode_storage")
def test_a_lookup_says_what_is_missing() -> None:
    found = one("inode_storage").maps["m"]
    assert found.lookup("/etc/passwd") is None
    with pytest.raises(MapError, match=r"/etc/passwt in map m: No such file or directory \(near: passwd"):
        found.lookup("/etc/passwt")


@pytest.mark.needs("arena")
def test_an_arena_is_read_within_its_bounds() -> None:
    found = one("arena").maps["m"]
    assert found.read(4096, 16) == bytes(16)
    with pytest.raises(UsageError, match="the arena has 8,192 bytes"):
        found.read(8190, 4)


def test_what_a_kind_cannot_do_names_those_that_can() -> None:
    session = start("HASH(plain, u32, u64);")
    plain = session.maps["plain"]
    for call, kind in (
        (lambda: plain.contains([1]), "bloom_filter"),
        (lambda: plain.lookup("/etc"), "inode_storage"),
        (plain.read, "arena"),
        (lambda: plain.inner(0), "array_of_maps"),
    ):
        with pytest.raises(UsageError, match=f"map plain: it is a hash, not a .*{kind}"):
            call()
    sockets = one("sockmap").maps["m"]
    with pytest.raises(UsageError, match="goes in by a descriptor"):
        sockets.update(pd.DataFrame({"cookie": [1]}))


MAP_OF_MAPS = """
struct point { u32 x, y; };
struct inner { __uint(type, 1); __uint(max_entries, 4); __type(key, u32); __type(value, struct point); } a SEC(".maps");
struct { __uint(type, 12); __uint(max_entries, 2); __type(key, u32); __array(values, struct inner); }
	m SEC(".maps") = { .values = { [1] = &a } };
"""


def test_inner_maps_are_typed_and_close() -> None:
    session = start(MAP_OF_MAPS)
    with session.maps["m"].inner(1) as inner:
        inner.update(pd.DataFrame({"x": [1], "y": [2]}, index=[5]))
    assert session.maps["a"].df().loc[5].to_dict() == {"x": 1, "y": 2}
    with pytest.raises(StoppedError, match="has been closed"):
        inner.df()
    with pytest.raises(NoSuchNameError, match=r"nothing is there\nIts keys: 1\.$"):
        session.maps["m"].inner(0)
    session.stop()
    with pytest.raises(StoppedError):
        session.maps["m"].inner(1)


def test_the_inner_map_of_a_map_opened_for_reading_is_for_reading() -> None:
    session = start(MAP_OF_MAPS)
    for writable in (False, True):
        with (
            em.map(id=session.maps["m"].info["id"], on=rights.host_name(), writable=writable) as outer,
            outer.inner(1) as inner,
        ):
            assert inner.writable == writable
            if not writable:
                with pytest.raises(UsageError, match="opened for reading alone"):
                    inner.clear()


def test_what_has_no_keys_or_no_entries_says_so() -> None:
    for kind in ("queue", "bloom_filter"):
        with pytest.raises(UsageError, match=f"the entries of a {kind} have no keys"):
            one(kind).maps["m"].delete([1])
    with pytest.raises(UnsupportedError, match="a bloom filter cannot be listed, only asked\nAsk it"):
        one("bloom_filter").maps["m"].drain()


def test_the_budget_counts_every_kind() -> None:
    with pytest.raises(em.errors.GuardError, match="the largest is m: stack_trace of 1,048,576 entries"):
        start(
            "struct { __uint(type, 7); __uint(max_entries, 1 << 20); __uint(key_size, 4); __uint(value_size, 1016); }"
            ' m SEC(".maps");'
        )
