"""Whatever a person hands to a running session and its parts: an answer, or one error of ours that says why."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pandas as pd
import pytest
import rights

import ebpf_magic as em
from ebpf_magic.errors import EbpfMagicError
from ebpf_magic.session import Session

pytestmark = pytest.mark.live

CELL = """
const volatile u32 limit = 1;
u32 seen;
struct who { u32 pid; char comm[8]; };
HASH(plain, u32, u64);
HASH(by_who, struct who, u64);
ARRAY(places, u64);
HIST(lengths, "ns");
struct { __uint(type, BPF_MAP_TYPE_PROG_ARRAY); __uint(max_entries, 4); __type(key, u32); __type(value, u32); }
    jump SEC(".maps");
struct { __uint(type, BPF_MAP_TYPE_BLOOM_FILTER); __uint(max_entries, 64); __type(value, u32); } bloom SEC(".maps");
struct { __uint(type, BPF_MAP_TYPE_QUEUE); __uint(max_entries, 64); __type(value, u32); } queue SEC(".maps");

SEC("iter/task") int tasks(struct bpf_iter__task *ctx) { u32 one = 1; ROW(ctx, one); return 0; }
SEC("xdp") int packets(struct xdp_md *ctx) { return XDP_PASS; }
SEC("syscall") int count(void *ctx)
{
    struct who who = {};
    u32 key = seen = limit;
    COUNT(plain, key);
    COUNT(by_who, who);
    OBSERVE(lengths, 7);
    return 0;
}
"""
VALUES: list[Any] = [
    None, 0, -1, 7, 3.5, float("nan"), True, "", "x", "\0", b"", b"x", [], ["x"], [1], [[]], [1, [2]], {}, {"a": 1},
    {1: "a"}, (), object(), pd.DataFrame(), pd.DataFrame({"value": [1]}), pd.DataFrame({"value": [[]]}),
    pd.Series([1]), np.array([1, 2]), np.int64(-5), 1 << 70, lambda: 1,
]  # fmt: skip
METHODS = ["df", "percentiles", "update", "delete", "contains", "lookup", "read", "inner", "live"]


@pytest.fixture
def session() -> Iterator[Session]:
    made = em.run(CELL, "fuzzed", on=rights.host_name(), attach=False, allow_change=True)
    assert isinstance(made, Session)
    made.run("count")
    yield made
    em.stop_all()


def hand_all(function: Callable[..., object], good: dict[str, object]) -> None:
    """Call with each value in the place of each argument, the others as they should be."""
    for name in good:
        for value in VALUES:
            try:
                function(**{**good, name: value})
            except EbpfMagicError as error:
                assert str(error).strip(), (name, value)


@pytest.mark.parametrize("method", METHODS)
def test_maps_of_each_kind(session: Session, method: str) -> None:
    for item in session.maps.values():
        function = getattr(item, method)
        given = {
            name: {"owner": "/", "key": 1, "frame": pd.DataFrame(), "keys": [1], "values": [1]}.get(name, each.default)
            for name, each in inspect.signature(function).parameters.items()
        }
        hand_all(function, given)
    assert session.state == "running"
    assert session.run("count").retval == 0


def test_programs_iterators_and_variables(session: Session) -> None:
    hand_all(session.run, {"program": "count", "ctx": None, "data": None, "repeat": 1})
    hand_all(session.run, {"program": "packets", "ctx": None, "data": [b"x" * 64], "repeat": 1})
    for read in (session.iter["tasks"].df, session.iter["tasks"].text):
        hand_all(read, {"max_bytes": 1 << 20, "deadline_s": 5.0})
    hand_all(session.vars.__setitem__, {"name": "seen", "value": 1})
    hand_all(session.vars.__getitem__, {"name": "seen"})
    hand_all(session.maps.__getitem__, {"name": "plain"})
    hand_all(session.on_end, {"call": lambda: None})
    assert session.state == "running"


@pytest.mark.parametrize(
    ("function", "good"),
    [
        (em.map, {"id": None, "pin": "/sys/fs/bpf/no_such_pin", "writable": False}),
        (em.probes, {"pattern": "vfs_read", "kind": "fentry"}),
        (em.describe, {"target": "task_struct"}),
        (em.load_object, {"path": "/no/such.o", "name": "loaded", "attach": False, "for_s": None, "set": None,
                          "max_cpu": 0.5, "map_budget_bytes": 1 << 20, "optional": (), "progress": None}),
        (em.read_pcap, {"path": "/no/such.pcap", "partial": False}),
    ],
    ids=["map", "probes", "describe", "load_object", "read_pcap"],
)  # fmt: skip
def test_what_is_asked_of_no_session(function: Callable[..., object], good: dict[str, object]) -> None:
    here = {} if function is em.read_pcap else {"on": rights.host_name()}
    hand_all(lambda **given: function(**here, **given), good)


@pytest.mark.parametrize(
    "function", [em.tasks, em.files, em.sockets, em.maps, em.programs, em.probes, em.describe, em.sh]
)
def test_no_place_is_an_error(function: Callable[..., object]) -> None:
    first = {"probes": ["*"], "describe": ["file"], "sh": ["true"]}.get(function.__name__, [])
    for on in (7, "", [], [None], {}, b"local", "lokal", ["local", 7]):
        with pytest.raises(EbpfMagicError):
            function(*first, on=on)
