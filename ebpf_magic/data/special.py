"""Map kinds whose entries are not plain keys and values: what stands for what, so that they become ordinary frames.

A queue has no keys, a stack trace is a list of addresses, a map of maps holds ids, a task's storage is filed under the
task. Each is turned into a declaration (`MapSpec`) that says what the bytes are, and into keys for it.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from ebpf_magic.data import prefixes
from ebpf_magic.data.encode import encode, encode_keys
from ebpf_magic.data.layout import Column, Layout, bytes_layout
from ebpf_magic.data.maps import map_frame, view_rows
from ebpf_magic.data.spec import MapSpec

KEYLESS = frozenset({"queue", "stack", "bloom_filter"})
"""Kinds whose entries have no key."""

# What an index into them is, however it was declared.
_INDEXED = frozenset(
    "array_of_maps prog_array devmap cpumap sockmap reuseport_sockarray stack_trace struct_ops".split()
)
_ARRAYS = frozenset({"array", "percpu_array"})
_OWNERS = {"task_storage": ("pid", "<u4"), "sk_storage": ("cookie", "<u8")}
# Names of the 32-bit parts of a value, or of the one value.
_VALUES = {
    "array_of_maps": ("map_id",),
    "hash_of_maps": ("map_id",),
    "prog_array": ("prog_id",),
    "devmap": ("ifindex", "prog_id"),
    "devmap_hash": ("ifindex", "prog_id"),
    "cpumap": ("queue_size", "prog_id"),
}
_COOKIES = frozenset({"sockmap", "sockhash", "reuseport_sockarray"})


class _Plain(NamedTuple):
    """Entries as those of a plain map, and the name of their index where it is not the declaration's."""

    spec: MapSpec
    keys: Any
    index_name: str = ""


def special_frame(
    spec: MapSpec | None, type: str, keys: Any, values: Any, count: int, possible_cpus: int, per_cpu: bool = False
) -> pd.DataFrame:
    """Turn a map's entries into a DataFrame; as `map_frame`, for every map kind whose entries can be read.

    Returns
    -------
    pandas.DataFrame
        As `map_frame`, but for: an LPM trie of addresses, whose index "prefix" is text (10.0.0.0/8); a queue or stack,
        whose index "position" counts from the head; stack traces, with a row for each frame (index "key" and "frame",
        0 the innermost; column "address"); maps of maps ("map_id"), program arrays ("prog_id"), device and CPU maps
        ("ifindex" or "queue_size", "prog_id"), socket maps ("cookie"); and storage, filed under "pid", "cookie" or
        "cgroup".
    """
    declared = spec or MapSpec("")
    if type == "stack_trace":
        return _stacks(declared, keys, values, count)
    plain = _plain(declared, type, keys, values, count)
    frame = map_frame(plain.spec, type, plain.keys, values, count, possible_cpus, per_cpu)
    if type == "lpm_trie" and count and prefixes.are_addresses(len(keys) // count):
        frame.index = prefixes.texts(keys, count, len(keys) // count)
    elif plain.index_name:
        frame.index = frame.index.rename(plain.index_name)
    return frame


def special_encode(
    spec: MapSpec | None, type: str, key_size: int, frame: pd.DataFrame, possible_cpus: int
) -> tuple[bytes, bytes, int]:
    """Pack a frame's rows as `special_frame` would have read them; as `encode`."""
    declared = spec or MapSpec("")
    if type in KEYLESS:
        numbered = frame.reset_index(drop=True)
        _, values, count = encode(replace(declared, key=_number("<u4")), type, numbered, possible_cpus)
        return b"", values, count
    if type == "lpm_trie" and prefixes.are_addresses(key_size) and len(frame):
        index = pd.Index(prefixes.packed(_what("update", declared), frame.index, key_size))
        declared, frame = replace(declared, key=bytes_layout(key_size)), frame.set_axis(index)
    size = declared.value.dtype.itemsize if declared.value else 4
    return encode(_valued(_keyed(declared, type), type, size), type, frame, possible_cpus)


def special_keys(spec: MapSpec | None, type: str, key_size: int, keys: Any) -> tuple[bytes, int]:
    """Pack keys as the index of `special_frame` has them; as `encode_keys`."""
    declared = spec or MapSpec("")
    if type == "lpm_trie" and prefixes.are_addresses(key_size):
        wanted = [keys] if isinstance(keys, str) else list(keys)
        return b"".join(prefixes.packed(_what("delete from", declared), wanted, key_size)), len(wanted)
    return encode_keys(_keyed(declared, type), keys)


def _plain(spec: MapSpec, type: str, keys: Any, values: Any, count: int) -> _Plain:
    if type in KEYLESS:
        return _Plain(replace(spec, key=_number("<u4")), np.arange(count, dtype="<u4"), "position")
    if type in _OWNERS:
        name, code = _OWNERS[type]
        return _Plain(replace(spec, key=_number(code)), keys, name)
    each = len(keys) // max(count, 1)
    if type == "cgrp_storage":
        return _Plain(
            replace(spec, key=Layout(np.dtype(f"S{max(each, 1)}"), (Column("", "", "char"),))), keys, "cgroup"
        )
    if type == "lpm_trie" and (prefixes.are_addresses(each) or not count):
        return _Plain(replace(spec, key=bytes_layout(max(each, 1))), keys, "prefix")
    size = len(values) // count if count else spec.value.dtype.itemsize if spec.value else 0
    return _Plain(_valued(_keyed(spec, type), type, size), keys)


def _keyed(spec: MapSpec, type: str) -> MapSpec:
    untyped = spec.key is None or spec.key.columns[0].kind == "bytes"
    return replace(spec, key=_number("<u4")) if type in _INDEXED or (type in _ARRAYS and untyped) else spec


def _valued(spec: MapSpec, type: str, size: int) -> MapSpec:
    """Say what the kernel's own values are, of which BTF knows no more than their size."""
    if type in _COOKIES and size == 8:
        return replace(spec, value=_named("cookie", "<u8"))
    names = _VALUES.get(type, ())[: max(size // 4, 1)]
    if not names:
        return spec
    dtype = np.dtype([(name, "<u4") for name in names])
    return replace(spec, value=Layout(dtype, tuple(Column(name, name, "int") for name in names)))


def _stacks(spec: MapSpec, keys: Any, values: Any, count: int) -> pd.DataFrame:
    """Return a row for each frame: addresses lie one behind the other, and zeros fill up what is left."""
    ids = view_rows(spec.name, "keys", np.dtype("<u4"), keys, count, 4)
    depth = len(values) // max(count, 1) // 8
    addresses = np.frombuffer(values, "<u8", count * depth).reshape(count, depth)
    row, frame = np.nonzero(addresses)
    index = pd.MultiIndex.from_arrays([ids[row], frame], names=["key", "frame"])
    return pd.DataFrame({"address": addresses[row, frame]}, index=index)


def _number(code: str) -> Layout:
    return Layout(np.dtype(code), (Column("", "", "int"),))


def _named(name: str, code: str) -> Layout:
    return Layout(np.dtype([(name, code)]), (Column(name, name, "int"),))


def _what(verb: str, spec: MapSpec) -> str:
    return f"{verb} map {spec.name}".rstrip()
