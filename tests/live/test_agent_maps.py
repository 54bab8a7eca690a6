"""Maps through a descriptor and through the agent: what is put in comes out, also while others change it."""

from __future__ import annotations

import struct
import threading
from array import array

import pytest
from objects import HASH_U64, compile_object, one_map

from ebpf_magic.agent import maps
from ebpf_magic.errors import MapError, StoppedError, UsageError
from ebpf_magic.hosts.base import AgentHost, MapHandle
from ebpf_magic.hosts.handles import FdMap

pytestmark = pytest.mark.live

KINDS = ["HASH", "LRU_HASH", "PERCPU_HASH", "LRU_PERCPU_HASH", "ARRAY", "PERCPU_ARRAY"]


def load_map(host: AgentHost, declaration: str, session: str = "s") -> MapHandle:
    return host.load(one_map(declaration), session=session, name="test").maps["m"]


def u64(view: memoryview) -> list[int]:
    return list(struct.unpack(f"<{len(view) // 8}Q", view))


def fill(handle: MapHandle, count: int, first: int = 0) -> None:
    handle.update(array("Q", range(first, first + count)), array("Q", range(7 + first, 7 + first + count)), count)


def test_handles_are_of_the_kind_asked_for(agent_host: AgentHost) -> None:
    assert isinstance(load_map(agent_host, HASH_U64.format(8)), FdMap) == agent_host.passes_fds


@pytest.mark.parametrize("kind", KINDS)
def test_update_read_clear(agent_host: AgentHost, kind: str) -> None:
    cpus = agent_host.info.possible_cpus
    declaration = (
        f"__uint(type, BPF_MAP_TYPE_{kind}); __uint(max_entries, 100); __type(key, __u32); __type(value, __u32[3]);"
    )
    handle = load_map(agent_host, declaration)
    assert (handle.type, handle.info.key_size, handle.info.value_size) == (kind.lower(), 4, 12)
    copies = cpus if kind.lower() in maps.PER_CPU else 1
    value = struct.pack("<3I", 1, 2, 3) + (bytes(4) if copies > 1 else b"")
    count = 100 if "ARRAY" in kind else 40
    handle.update(array("I", range(count)), value * copies * count, count)
    snapshot = handle.read()
    assert (snapshot.count, snapshot.read, snapshot.restarts) == (count, "batch", 0)
    assert sorted(struct.unpack(f"<{count}I", snapshot.keys)) == list(range(count))
    assert bytes(snapshot.values) == value * copies * count
    assert snapshot.began_ns <= snapshot.ended_ns
    handle.clear()
    after = handle.read()
    if "ARRAY" in kind:
        assert (after.count, bytes(after.values).strip(b"\0")) == (count, b"")
    else:
        assert after.count == 0


def test_clearing_what_has_indices_without_entries_ends(agent_host: AgentHost) -> None:
    source = """
        struct { __uint(type, BPF_MAP_TYPE_DEVMAP); __uint(max_entries, 4); __type(key, __u32); __type(value, __u32); }
            m SEC(".maps");
        SEC("syscall") int probe(void *ctx) { return 0; }
    """
    handle = agent_host.load(compile_object(source), session="s", name="test").maps["m"]
    loopback = 1
    for index in (1, 3):
        handle.update(array("I", [index]), array("I", [loopback]), 1)
    assert handle.read().count == 2
    drained = handle.read(delete=True)
    assert (list(drained.keys.cast("I")), list(drained.values.cast("I"))) == ([1, 3], [loopback, loopback])
    handle.clear()
    assert handle.read().count == 0


@pytest.mark.any_host
def test_delete_counts_what_was_there(agent_host: AgentHost) -> None:
    handle = load_map(agent_host, HASH_U64.format(1000))
    fill(handle, 100)
    assert handle.delete(array("Q", [5, 500, 501, 6, 502]), 5) == 2
    assert handle.delete(array("Q", [5]), 1) == 0
    assert sorted(u64(handle.read().keys)) == [key for key in range(100) if key not in (5, 6)]


@pytest.mark.any_host
def test_reading_with_delete_hands_out_each_entry_once(agent_host: AgentHost) -> None:
    handle = load_map(agent_host, HASH_U64.format(1000))
    fill(handle, 500)
    drained = handle.read(delete=True)
    assert sorted(u64(drained.keys)) == list(range(500))
    assert handle.read(delete=True).count == 0


@pytest.mark.any_host
def test_a_full_map_says_how_far_it_came(agent_host: AgentHost) -> None:
    handle = load_map(agent_host, HASH_U64.format(10))
    with pytest.raises(MapError, match="the map is full after 10 of 20 entries") as caught:
        fill(handle, 20)
    assert caught.value.errno == 7


@pytest.mark.any_host
def test_arrays_have_nothing_to_delete(agent_host: AgentHost) -> None:
    handle = load_map(
        agent_host,
        "__uint(type, BPF_MAP_TYPE_ARRAY); __uint(max_entries, 4); __type(key, __u32); __type(value, __u64);",
    )
    with pytest.raises(MapError, match="an array's entries cannot be deleted"):
        handle.delete(array("I", [1]), 1)
    with pytest.raises(MapError, match="an array's entries cannot be deleted"):
        handle.read(delete=True)


@pytest.mark.any_host
def test_wrong_sizes_are_refused(agent_host: AgentHost) -> None:
    handle = load_map(agent_host, HASH_U64.format(10))
    with pytest.raises(MapError, match="expected"):
        handle.update(array("Q", [1, 2]), array("Q", [1]), 2)
    with pytest.raises(MapError, match="expected"):
        handle.delete(b"1234567", 1)


@pytest.mark.any_host
def test_large_maps_are_read_in_chunks(agent_host: AgentHost) -> None:
    count = 300_000
    handle = load_map(agent_host, HASH_U64.format(count))
    fill(handle, count)
    snapshot = handle.read()
    keys, values = array("Q", bytes(snapshot.keys)), array("Q", bytes(snapshot.values))
    assert snapshot.count == count
    assert set(keys) == set(range(count))
    assert all(value == key + 7 for key, value in zip(keys, values, strict=True))


def test_a_chunk_smaller_than_a_bucket(agent_host: AgentHost, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(maps, "_CHUNK", 1)
    handle = load_map(agent_host, HASH_U64.format(2000))
    fill(handle, 2000)
    assert sorted(u64(handle.read().keys)) == list(range(2000))


def test_buffers_grow_beyond_their_first_size(start_host, monkeypatch: pytest.MonkeyPatch) -> None:  # type: ignore[no-untyped-def]
    monkeypatch.setattr(maps, "_FIRST_BYTES", 0)
    monkeypatch.setattr(maps, "_CHUNK", 64)
    handle = load_map(start_host(pass_fds=True), HASH_U64.format(20_000))
    fill(handle, 20_000)
    assert sorted(u64(handle.read().keys)) == list(range(20_000))


class Churn:
    """A thread that inserts and deletes keys from `first` on, beside what is in the map."""

    def __init__(self, handle: MapHandle, first: int, count: int) -> None:
        self._handle, self._keys, self._count = handle, array("Q", range(first, first + count)), count
        self._stop = threading.Event()
        self.rounds = 0
        self._thread = threading.Thread(target=self._work)

    def __enter__(self) -> Churn:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _work(self) -> None:
        fd, info = self._handle._fd, self._handle.info  # type: ignore[attr-defined]  # past the handle's lock
        while not self._stop.is_set():
            maps.update(fd, info, 1, self._keys, self._keys, self._count)
            maps.delete(fd, info, self._keys, self._count)
            self.rounds += 1


@pytest.mark.parametrize("element", [False, True], ids=["batch", "element"])
def test_under_churn_no_key_is_doubled_and_none_is_missed(start_host, monkeypatch, element: bool) -> None:  # type: ignore[no-untyped-def]
    if element:
        monkeypatch.setattr(maps, "_read_batches", lambda *_: None)
    else:
        monkeypatch.setattr(maps, "_CHUNK", 512)
    lasting = 5000
    handle = load_map(start_host(pass_fds=True), HASH_U64.format(20_000))
    fill(handle, lasting)
    # A walk starts over whenever the key at hand is deleted: it ends only under gentler churn.
    with Churn(handle, 1 << 32, 20 if element else 5000) as churn:
        for _ in range(10 if element else 100):
            snapshot = handle.read()
            keys = u64(snapshot.keys)
            assert snapshot.read == ("element" if element else "batch")
            assert len(keys) == len(set(keys)) == snapshot.count
            assert set(range(lasting)) <= set(keys)
            values = dict(zip(keys, u64(snapshot.values), strict=True))
            assert all(values[key] == key + 7 for key in range(lasting))
    assert churn.rounds > 0


def test_element_walk_and_drain(start_host, monkeypatch: pytest.MonkeyPatch) -> None:  # type: ignore[no-untyped-def]
    monkeypatch.setattr(maps, "_read_batches", lambda *_: None)
    handle = load_map(start_host(pass_fds=True), HASH_U64.format(1000))
    fill(handle, 300)
    assert sorted(u64(handle.read().keys)) == list(range(300))
    drained = handle.read(delete=True)
    assert (drained.read, sorted(u64(drained.keys))) == ("element", list(range(300)))
    assert handle.read().count == 0


def test_draining_under_insertion_hands_out_each_entry_once(start_host) -> None:  # type: ignore[no-untyped-def]
    handle = load_map(start_host(pass_fds=True), HASH_U64.format(100_000))
    total = 50_000
    inserting = threading.Thread(target=lambda: [fill_past_lock(handle, 100, first) for first in range(0, total, 100)])
    inserting.start()
    seen: list[int] = []
    while inserting.is_alive():
        seen += u64(handle.read(delete=True).keys)
    inserting.join()
    seen += u64(handle.read(delete=True).keys)
    assert sorted(seen) == list(range(total))


def fill_past_lock(handle: MapHandle, count: int, first: int) -> None:
    keys = array("Q", range(first, first + count))
    maps.update(handle._fd, handle.info, 1, keys, keys, count)  # type: ignore[attr-defined]


def test_hidden_maps_are_internal_and_named_by_section(agent_host: AgentHost) -> None:
    source = compile_object(
        '__u64 plain; __u64 own SEC(".bss.em"); const volatile __u64 fixed = 5; __u64 set = 3;'
        'SEC("syscall") int probe(void *ctx) { plain++; own++; set++; return fixed; }'
    )
    found = agent_host.load(source, session="s", name="a_rather_long_name").maps
    assert sorted(found) == [".bss", ".bss.em", ".data", ".rodata"]
    assert all(handle.internal for handle in found.values())
    assert agent_host.run_program("s", "probe")["retval"] == 5
    assert u64(found[".bss.em"].read().values)[0] == 1
    assert u64(found[".data"].read().values)[0] == 4


def test_reuse_carries_a_map_over(agent_host: AgentHost) -> None:
    old = load_map(agent_host, HASH_U64.format(100), "old")
    fill(old, 10)
    new = agent_host.load(one_map(HASH_U64.format(100)), session="new", name="test", reuse={"m": old.handle}).maps["m"]
    assert new.handle != old.handle
    assert new.info.id == old.info.id
    agent_host.close_session("old")
    assert sorted(u64(new.read().keys)) == list(range(10))


def test_reuse_of_another_shape_is_refused(agent_host: AgentHost) -> None:
    old = load_map(agent_host, HASH_U64.format(100), "old")
    with pytest.raises(UsageError, match="keep map m: its type or sizes changed"):
        agent_host.load(one_map(HASH_U64.format(200)), session="new", name="test", reuse={"m": old.handle})


def test_maps_of_a_closed_session(agent_host: AgentHost) -> None:
    handle = load_map(agent_host, HASH_U64.format(100))
    fill(handle, 3)
    agent_host.close_session("s")
    if agent_host.passes_fds:  # the descriptor holds the map
        assert handle.read().count == 3
        handle.close()
        handle.close()
    with pytest.raises(StoppedError):
        handle.read()


def test_handles_are_not_descriptors(agent_host: AgentHost) -> None:
    handle = load_map(agent_host, HASH_U64.format(100))
    assert not handle.handle.isdigit()
