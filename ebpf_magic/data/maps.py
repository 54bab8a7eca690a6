"""A map's raw entries as a DataFrame: key fields as index, value fields as columns, typed as in C."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from ebpf_magic.data import levels, wide
from ebpf_magic.data.encode import PER_CPU, encode, encode_keys
from ebpf_magic.data.layout import Column, Layout, bytes_layout, label
from ebpf_magic.data.rates import Rates
from ebpf_magic.data.spec import MapSpec
from ebpf_magic.errors import MapError

__all__ = ["PER_CPU", "Rates", "encode", "encode_keys", "map_frame", "value_stride_bytes", "view_rows"]

Array = npt.NDArray[Any]
Buffer = Any  # bytes, memoryview, mmap: whatever NumPy can look into

_FEW_CPUS = 8


def map_frame(
    spec: MapSpec | None,
    type: str,
    keys: Buffer,
    values: Buffer,
    count: int,
    possible_cpus: int,
    per_cpu: bool = False,
) -> pd.DataFrame:
    """Turn a map's entries into a DataFrame.

    Parameters
    ----------
    spec : MapSpec, optional
        Types of key and value; without them both are bytes.
    type : str
        The map's type as libbpf names it.
    keys, values : buffer
        `count` keys and values, one behind the other. A value of a per-CPU map is `possible_cpus` values, each
        filled up to a multiple of 8 bytes.
    count : int
        The number of entries.
    possible_cpus : int
        The number of CPUs a per-CPU map has values for.
    per_cpu : bool
        A row for each entry and CPU (index level "cpu") instead of their sum.

    Returns
    -------
    pandas.DataFrame
        Index: "key", or a level for each field of a struct. Columns: "value", or one for each field of a struct
        (``outer.inner``, ``array[0]``; the members of a union side by side). Numbers keep their dtype, those of more
        than 64 bits are Python integers; `char[]`, pointers and what has a form (addresses) are text, an enum a
        categorical whose unknown values are their numbers. Summed over CPUs, integers become int64 or uint64 (and
        wrap as the kernel's do), bool is true if it is on any CPU; what is no number, or only names something, is
        that of the first CPU where it is not zero. ``attrs["unions"]`` names each union's columns,
        ``attrs["shown"]`` the form of each column that has one.

    Raises
    ------
    MapError
        When the bytes are not as many as the types need.

    Notes
    -----
    Numbers of a plain value are not copied: the frame keeps the buffer alive.
    """
    name = spec.name if spec else ""
    key_layout = _layout(spec.key if spec else None, keys, count)
    cpus = possible_cpus if type in PER_CPU else 1
    value_layout = _layout(spec.value if spec else None, values, count * cpus)

    rows = view_rows(name, "keys", key_layout.dtype, keys, count, key_layout.dtype.itemsize)
    index = _index(key_layout, rows)
    stride = value_layout.dtype.itemsize if type not in PER_CPU else value_stride_bytes(value_layout.dtype.itemsize)
    cells = view_rows(name, "values", value_layout.dtype, values, count * cpus, stride)
    if type not in PER_CPU:
        frame = _frame(value_layout, cells, index)
    elif per_cpu:
        frame = _frame(value_layout, cells, _with_cpu(index, cpus))
    else:
        frame = _summed(value_layout, cells.reshape(count, cpus), index)
    frame.attrs.update(_attrs(key_layout, value_layout))
    return frame


def _attrs(key: Layout, value: Layout) -> dict[str, Any]:
    of_key, of_value = key.attrs("key"), value.attrs("value")
    return {name: of_key.get(name, {}) | of_value.get(name, {}) for name in sorted({*of_key, *of_value})}


def value_stride_bytes(value_size_bytes: int) -> int:
    """Return the bytes one CPU's value takes in a per-CPU map's buffer."""
    return -(-value_size_bytes // 8) * 8


def _index(layout: Layout, rows: Array) -> pd.Index[Any]:
    """Return the index that keys become: plain for one column, a MultiIndex for several."""
    columns = layout.columns
    if len(columns) == 1:
        column = columns[0]
        plain: pd.Index[Any] = pd.Index(
            levels.values(column, layout.take(rows, column)), name=label(column, "key"), copy=False
        )
        return plain
    parts = [levels.level(column, layout.take(rows, column)) for column in columns]
    names = [label(column, "key") for column in columns]
    return levels.multi_index([part[0] for part in parts], [part[1] for part in parts], names)


def _layout(layout: Layout | None, buffer: Buffer, count: int) -> Layout:
    if layout is not None:
        return layout
    return bytes_layout(max(memoryview(buffer).nbytes // max(count, 1), 1))


def view_rows(name: str, side: str, dtype: np.dtype[Any], buffer: Buffer, count: int, stride: int) -> Array:
    """View a buffer as `count` values that lie `stride` bytes apart; MapError when it is too short."""
    size_bytes = memoryview(buffer).nbytes
    if size_bytes < count * stride:
        raise MapError(
            f"read map {name}", f"{count:,} {side} of {stride} bytes were expected, {size_bytes:,} bytes came"
        )
    if not count:
        return np.empty(0, dtype)
    return np.ndarray((count,), dtype, buffer, 0, (stride,))


def _frame(layout: Layout, rows: Array, index: pd.Index[Any]) -> pd.DataFrame:
    columns = {label(column, "value"): levels.values(column, layout.take(rows, column)) for column in layout.columns}
    return pd.DataFrame(columns, index=index, copy=False)


def _with_cpu(index: pd.Index[Any], cpus: int) -> pd.MultiIndex:
    """Repeat each key for every CPU, with the CPU as the last level."""
    if not isinstance(index, pd.MultiIndex):
        index = pd.MultiIndex.from_arrays([index], names=[index.name])
    codes = [*(np.repeat(code, cpus) for code in index.codes), np.tile(np.arange(cpus), len(index))]
    return levels.multi_index([*index.levels, pd.Index(np.arange(cpus))], codes, [*index.names, "cpu"])


def _summed(layout: Layout, cells: Array, index: pd.Index[Any]) -> pd.DataFrame:
    columns: dict[str, Any] = {}
    rows = np.arange(len(cells))
    for column in layout.columns:
        field = layout.take(cells, column)
        if column.is_number and not column.unions:
            columns[label(column, "value")] = _sum(column, field)
            continue
        # The members of a union are one thing: of which the numbers are meant, only the program knows.
        family = [column]
        if column.unions:
            union = column.unions[0][0]
            family = [each for each in layout.columns if each.unions and each.unions[0][0] == union]
        first = np.any([_is_set(layout.take(cells, each)) for each in family], axis=0).argmax(axis=1)
        columns[label(column, "value")] = levels.values(column, field[rows, first])
    return pd.DataFrame(columns, index=index, copy=False)


def _sum(column: Column, field: Array) -> Array:
    """Add up the CPUs of each row in the widest type of the field's kind."""
    if column.kind == "bool":
        return np.asarray((field != 0).any(axis=1))
    if field.dtype == object:
        assert column.bits is not None
        return wide.wrapped(field.sum(axis=1), column.bits)
    widest = np.dtype({"i": np.int64, "u": np.uint64, "f": np.float64}[field.dtype.kind])
    if field.shape[1] > _FEW_CPUS:
        return np.asarray(field.sum(axis=1, dtype=widest))
    total = field[:, 0].astype(widest)
    for cpu in range(1, field.shape[1]):  # a pass for each CPU beats a reduction of two numbers for each row
        total += field[:, cpu]
    return total


def _is_set(field: Array) -> Array:
    """Return for each value whether it is anything but zero."""
    if field.dtype == object:
        return np.asarray(field != 0, bool)
    as_bytes = np.ascontiguousarray(field).view(np.uint8).reshape(*field.shape, field.dtype.itemsize)
    return np.asarray(as_bytes.any(axis=2))
