"""Map kinds that hold no plain keys and values: bytes as the kernel hands them out, and frames as people read them."""

from __future__ import annotations

import ipaddress
import struct

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ebpf_magic.data.layout import Column, Layout
from ebpf_magic.data.spec import MapSpec
from ebpf_magic.data.special import special_encode, special_frame, special_keys
from ebpf_magic.errors import UsageError

U64 = Layout(np.dtype("<u8"), (Column("", "", "int"),))
U32 = Layout(np.dtype("<u4"), (Column("", "", "int"),))
COUNTS = MapSpec("m", key=U32, value=U64)


def lpm(*prefixes: str) -> bytes:
    networks = [ipaddress.ip_network(prefix) for prefix in prefixes]
    return b"".join(struct.pack("<I", each.prefixlen) + each.network_address.packed for each in networks)


def test_prefixes_of_both_families() -> None:
    for prefixes in (["10.0.0.0/8", "0.0.0.0/0", "192.168.1.7/32"], ["2001:db8::/32", "::/0", "::1/128"]):
        frame = special_frame(COUNTS, "lpm_trie", lpm(*prefixes), struct.pack("<3Q", 1, 2, 3), 3, 1)
        assert frame.index.tolist() == prefixes
        assert frame.index.name == "prefix"
        assert frame["value"].tolist() == [1, 2, 3]


@given(st.lists(st.ip_addresses(), min_size=1, unique=True))
def test_prefixes_come_back(addresses: list[ipaddress.IPv4Address | ipaddress.IPv6Address]) -> None:
    for version in (4, 6):
        prefixes = [str(ipaddress.ip_network(each)) for each in addresses if each.version == version]
        size = 8 if version == 4 else 20
        frame = pd.DataFrame({"value": range(len(prefixes))}, index=pd.Index(prefixes, name="prefix"))
        keys, values, count = special_encode(COUNTS, "lpm_trie", size, frame, 1)
        assert keys == lpm(*prefixes)
        back = special_frame(COUNTS, "lpm_trie", keys, values, count, 1)
        assert [ipaddress.ip_network(text) for text in back.index] == [ipaddress.ip_network(text) for text in prefixes]
        assert special_keys(COUNTS, "lpm_trie", size, prefixes) == (keys, count)


@pytest.mark.parametrize(
    ("prefix", "says"),
    [
        ("10.0.0.1/8", "has host bits set"),
        ("ten", "does not appear to be an IPv4 or IPv6 network"),
        ("10.0.0.0/33", "does not appear to be"),
        ("2001:db8::/32", "addresses of 32 bits"),
    ],
)
def test_a_wrong_prefix_is_named(prefix: str, says: str) -> None:
    with pytest.raises(UsageError, match=says) as caught:
        special_keys(COUNTS, "lpm_trie", 8, [prefix])
    assert repr(prefix) in str(caught.value)


def test_a_trie_of_something_else_has_its_own_fields() -> None:
    key = Layout(
        np.dtype([("prefixlen", "<u4"), ("port", "<u2")]),
        (Column("prefixlen", "prefixlen", "int"), Column("port", "port", "int")),
    )
    spec = MapSpec("m", key=key, value=U64)
    frame = special_frame(spec, "lpm_trie", struct.pack("<IH", 16, 80), struct.pack("<Q", 7), 1, 1)
    assert frame.index.tolist() == [(16, 80)]


def test_a_queue_has_positions() -> None:
    spec = MapSpec("m", value=U32)
    frame = special_frame(spec, "queue", b"", struct.pack("<3I", 5, 6, 7), 3, 1)
    assert frame["value"].tolist() == [5, 6, 7]
    assert frame.index.tolist() == [0, 1, 2]
    assert frame.index.name == "position"
    assert special_encode(spec, "queue", 0, frame, 1) == (b"", struct.pack("<3I", 5, 6, 7), 3)
    assert special_frame(spec, "stack", b"", b"", 0, 1).empty


def test_a_stack_trace_is_a_row_for_each_frame() -> None:
    spec = MapSpec("m", key=None, value=None)
    values = struct.pack("<8Q", 11, 12, 13, 0, 21, 0, 0, 0)
    frame = special_frame(spec, "stack_trace", struct.pack("<2I", 900, 4), values, 2, 1)
    assert frame["address"].to_dict() == {(900, 0): 11, (900, 1): 12, (900, 2): 13, (4, 0): 21}
    assert frame.index.names == ["key", "frame"]
    assert special_frame(spec, "stack_trace", b"", b"", 0, 1).empty


@pytest.mark.parametrize(
    ("kind", "value", "columns"),
    [
        ("array_of_maps", struct.pack("<I", 9), {"map_id": 9}),
        ("prog_array", struct.pack("<I", 9), {"prog_id": 9}),
        ("devmap", struct.pack("<I", 9), {"ifindex": 9}),
        ("devmap_hash", struct.pack("<2I", 9, 3), {"ifindex": 9, "prog_id": 3}),
        ("cpumap", struct.pack("<2I", 192, 0), {"queue_size": 192, "prog_id": 0}),
        ("sockmap", struct.pack("<Q", 1 << 40), {"cookie": 1 << 40}),
    ],
)
def test_what_the_kernel_itself_puts_into_a_value(kind: str, value: bytes, columns: dict[str, int]) -> None:
    frame = special_frame(MapSpec("m", key=U32), kind, struct.pack("<I", 2), value, 1, 1)
    assert frame.loc[2].to_dict() == columns


@pytest.mark.parametrize(
    ("kind", "keys", "index", "name"),
    [
        ("task_storage", struct.pack("<2I", 1, 4_000_000), [1, 4_000_000], "pid"),
        ("sk_storage", struct.pack("<2Q", 1, 1 << 40), [1, 1 << 40], "cookie"),
        ("cgrp_storage", b"/\0\0/a/", ["/", "/a/"], "cgroup"),
    ],
)
def test_storage_is_filed_under_its_owner(kind: str, keys: bytes, index: list[object], name: str) -> None:
    spec = MapSpec("m", key=Layout(np.dtype("<i4"), (Column("", "", "int"),)), value=U64)
    frame = special_frame(spec, kind, keys, struct.pack("<2Q", 3, 4), 2, 1)
    assert frame.index.tolist() == index
    assert frame.index.name == name
    assert special_frame(spec, kind, b"", b"", 0, 1).index.name == name


def test_an_array_without_types_has_numbers_as_its_index() -> None:
    frame = special_frame(None, "array", struct.pack("<2I", 0, 1), b"abcdefgh", 2, 1)
    assert frame["value"].to_dict() == {0: b"abcd", 1: b"efgh"}
