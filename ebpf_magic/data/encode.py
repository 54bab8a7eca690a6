"""A DataFrame as a map's raw entries: the inverse of `map_frame`.

Either the whole frame can be written or nothing is: every value is checked before the first byte is handed out.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Set
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from ebpf_magic.data.cells import Rows, row_label, to_raw
from ebpf_magic.data.layout import Column, Layout, bytes_layout, label
from ebpf_magic.data.levels import values as values_of
from ebpf_magic.data.spec import MapSpec
from ebpf_magic.errors import NoSuchNameError, UsageError

Array = npt.NDArray[Any]

_SHOWS = {"bool": 0, "float": 1, "char": 2}  # a flag, a number but for a NaN, bytes up to a NUL; all others all

PER_CPU = frozenset(("percpu_hash", "percpu_array", "lru_percpu_hash", "percpu_cgroup_storage"))
"""Map types that hold a value for each possible CPU."""


def encode(spec: MapSpec | None, type: str, frame: pd.DataFrame, possible_cpus: int) -> tuple[bytes, bytes, int]:
    """Pack a frame's rows as `map_frame` would have read them.

    Parameters
    ----------
    spec : MapSpec, optional
        Types of key and value; without them both must be bytes.
    type : str
        The map's type as libbpf names it.
    frame : pandas.DataFrame
        Index and columns as `map_frame` gives them, columns in any order. For a per-CPU map either one row for
        each key, whose value goes to CPU 0 while the other CPUs become 0 (so that the sum is what the frame
        says), or, with an index level "cpu" at the end, a row for each key and each CPU.
    possible_cpus : int
        The number of CPUs a per-CPU map has values for.

    Returns
    -------
    keys, values : bytes
        One entry behind the other; padding is zero.
    count : int
        The number of entries.

    Raises
    ------
    UsageError
        A column is missing or too many, a key stands twice, or a value does not fit; it names the column and the row.
    """
    name = spec.name if spec else ""
    what = f"update map {name}".rstrip()
    if not len(frame):
        return b"", b"", 0
    index, cpu = _split_cpu(spec, type, frame.index)
    keys = _pack_keys(what, spec, index)
    value_layout = _layout(spec.value if spec else None, frame.get("value"))
    values = _pack_values(what, value_layout, frame)
    first, group = _distinct(what, keys, frame.index, cpu)
    if type not in PER_CPU:
        return keys.tobytes(), values.tobytes(), len(keys)
    stride = -(-value_layout.dtype.itemsize // 8) * 8
    buffer = np.zeros(len(first) * possible_cpus * stride, np.uint8)
    # As bytes: field by field, what lies between the fields and in unions would be copied as NumPy sees fit.
    plain = np.dtype(f"V{value_layout.dtype.itemsize}")
    cells = np.ndarray((len(first), possible_cpus), plain, buffer, 0, (possible_cpus * stride, stride))
    where = np.zeros(len(keys), np.intp) if cpu is None else _cpus(what, frame.index, cpu, group, possible_cpus)
    cells[group, where] = values.view(plain)
    return keys[first].tobytes(), buffer.tobytes(), len(first)


def encode_keys(spec: MapSpec | None, keys: Any) -> tuple[bytes, int]:
    """Pack keys.

    Parameters
    ----------
    spec : MapSpec, optional
        The map; without one, keys are bytes.
    keys : Index, iterable or one key
        Numbers, texts or bytes; tuples for a struct of several fields. One number, text or tuple is one key.

    Returns
    -------
    keys : bytes
        One behind the other.
    count : int
        How many.

    Raises
    ------
    UsageError
        When one of them does not fit the key's type.
    """
    what = f"delete from map {spec.name}" if spec else "delete from a map"
    layout = spec.key if spec else None
    several = layout is not None and len(layout.columns) > 1
    if not isinstance(keys, pd.Index):
        if isinstance(keys, (str, bytes)) or not isinstance(keys, Iterable) or (several and isinstance(keys, tuple)):
            keys = [keys]
        keys = list(keys)
        if not keys:
            return b"", 0
        keys = _tuples(what, layout, keys) if several and layout else pd.Index(keys, dtype=object)
    if not len(keys):
        return b"", 0
    packed = _pack_keys(what, spec, keys)
    return packed.tobytes(), len(packed)


def _tuples(what: str, layout: Layout, keys: list[Any]) -> pd.MultiIndex:
    wanted = len(layout.columns)
    for number, key in enumerate(keys):
        if not isinstance(key, (tuple, list)) or len(key) != wanted:
            names = ", ".join(label(column, "key") for column in layout.columns)
            raise UsageError(what, f"key {number} ({key!r}) is not a tuple of {wanted} ({names})")
    try:
        return pd.MultiIndex.from_arrays([pd.Index(part, dtype=object) for part in zip(*keys, strict=True)])
    except TypeError as error:  # what cannot be hashed, such as a list
        raise UsageError(what, f"a part of a key is neither a number nor a text: {error}") from None


def _split_cpu(spec: MapSpec | None, type: str, index: pd.Index[Any]) -> tuple[pd.Index[Any], Array | None]:
    """Take a last level "cpu" that is not the key's own off the index."""
    wanted = len(spec.key.columns) if spec and spec.key else 1
    if type in PER_CPU and index.nlevels == wanted + 1 and index.names[-1] == "cpu":
        whole: Any = index
        return whole.droplevel(-1), np.asarray(whole.get_level_values(-1))
    return index, None


def _layout(layout: Layout | None, column: Any) -> Layout:
    """Without a type, values are bytes, all as long as the first."""
    if layout is not None:
        return layout
    first = column.iloc[0] if isinstance(column, pd.Series) else column[0] if isinstance(column, pd.Index) else None
    return bytes_layout(len(first) if isinstance(first, bytes) and first else 1)


def _pack_keys(what: str, spec: MapSpec | None, index: pd.Index[Any]) -> Array:
    layout = _layout(spec.key if spec else None, index)
    names = [label(column, "key") for column in layout.columns]
    if index.nlevels != len(names):
        raise UsageError(
            what, f"its key has {len(names)} columns ({', '.join(names)}), the index has {index.nlevels} levels"
        )
    named = [name for name in index.names if name is not None]
    if named and sorted(map(str, named)) != sorted(names):
        raise UsageError(what, f"its key is {', '.join(names)}; the index is named {', '.join(map(str, index.names))}")
    parts = {}
    for number, column in enumerate(layout.columns):
        at = index.names.index(names[number]) if named else number
        rows = Rows(what, names[number], index, are_keys=True)
        parts[column.name] = (rows, index.get_level_values(at))
    return pack(layout, parts, len(index))


def _pack_values(what: str, layout: Layout, frame: pd.DataFrame) -> Array:
    names = {label(column, "value"): column for column in layout.columns}
    if absent := missing(layout, {column.name for name, column in names.items() if name in frame.columns}):
        has = ", ".join(map(str, frame.columns))
        raise NoSuchNameError(what, f"the frame has no column {label(absent[0], 'value')!r}", f"It has: {has}.")
    if not frame.columns.is_unique:
        twice = frame.columns[frame.columns.duplicated()][0]
        raise UsageError(what, f"column {twice!r} stands twice in the frame")
    for name in frame.columns:
        if name not in names:
            raise UsageError(what, f"the map has no field for column {name!r}", f"It has: {', '.join(names)}.")
    parts = {
        column.name: (Rows(what, name, frame.index), frame[name])
        for name, column in names.items()
        if name in frame.columns
    }
    return pack(layout, parts, len(frame))


def pack(layout: Layout, parts: Mapping[str, tuple[Rows, Any]], count: int) -> Array:
    """Pack columns into rows; what has no column stays zero.

    Parameters
    ----------
    layout : Layout
        How the rows lie in memory.
    parts : mapping
        A column's name in the layout -> its place in error messages, and its values.
    count : int
        The number of rows.

    Raises
    ------
    UsageError
        When a value does not fit, or the members of a union say different things.
    """
    packed = np.zeros(count, layout.dtype)
    columns = [column for column in layout.columns if column.name in parts]
    written = [
        to_raw(parts[column.name][0], column, _stored(layout, column), parts[column.name][1]) for column in columns
    ]
    # What shows least of its bits goes first, so that in a union those that show more have the last word.
    for column, raw in sorted(zip(columns, written, strict=True), key=lambda pair: _SHOWS.get(pair[0].kind, 3)):
        if column.unions and column.kind == "char":
            raw = _up_to_nul(raw, layout.take(packed, column))
        layout.put(packed, column, raw)
    for column, raw in zip(columns, written, strict=True):
        if column.unions:
            _check_agreement(layout, packed, column, parts[column.name][0], raw)
    return packed


def _up_to_nul(texts: Array, beneath: Array) -> Array:
    """Give texts, behind their first NUL, what another member of the union has there: they do not show it."""
    size = texts.dtype.itemsize
    new, old = (np.ascontiguousarray(each).view(np.uint8).reshape(-1, size) for each in (texts, beneath))
    nul = new == 0
    return np.where(np.cumsum(nul, axis=1) > nul, old, new).view(texts.dtype).ravel()


def _stored(layout: Layout, column: Column) -> np.dtype[Any]:
    """Return the dtype of a column's values before they are packed: floats as they lie, so that none is too large."""
    if column.kind == "float":
        return layout.dtype[column.path] if column.path else layout.dtype
    return layout.dtype_of(column)


def _check_agreement(layout: Layout, packed: Array, column: Column, rows: Rows, raw: Array) -> None:
    """Hold a union's member to what its bytes are now that the others are written too."""
    now = to_raw(rows, column, raw.dtype, values_of(column, layout.take(packed, column)))
    differs = now != raw
    if raw.dtype.kind == "f":
        differs &= ~(np.isnan(now) & np.isnan(raw))
    if differs.any():
        union = column.unions[-1][0] or "it"
        rows.refuse(
            int(np.flatnonzero(differs)[0]),
            f"the members of the union ({union}) say different things; leave out the columns that are not meant",
        )


def missing(layout: Layout, given: Set[str]) -> list[Column]:
    """Return the columns that are needed and not given: of a union, one whole member is enough."""

    def excused(column: Column, depth: int) -> bool:
        for level, (union, member) in enumerate(column.unions[depth:], depth):
            others: dict[str, list[Column]] = {}
            for other in layout.columns:
                if other.unions[:level] == column.unions[:level] and other.unions[level : level + 1]:
                    if other.unions[level][0] == union and other.unions[level][1] != member:
                        others.setdefault(other.unions[level][1], []).append(other)
            if any(all(each.name in given or excused(each, level + 1) for each in whole) for whole in others.values()):
                return True
        return False

    return [column for column in layout.columns if column.name not in given and not excused(column, 0)]


def _distinct(what: str, keys: Array, index: pd.Index[Any], cpu: Array | None) -> tuple[Array, Array]:
    """Return the first row of each key, and each row's number among the keys; only CPUs may share a key."""
    raw = np.empty(len(keys), object)
    raw[:] = keys.view(f"V{keys.dtype.itemsize}").tolist()
    group, found = pd.factorize(raw)
    if cpu is None and len(found) < len(keys):
        twice = int(np.flatnonzero(pd.Series(group).duplicated())[0])
        raise UsageError(what, f"the key {row_label(index, twice)} stands twice in the frame")
    first = np.empty(len(found), np.intp)
    first[group[::-1]] = np.arange(len(keys))[::-1]
    return first, group


def _cpus(what: str, index: pd.Index[Any], cpu: Array, group: Array, possible_cpus: int) -> Array:
    """Check that each key has each CPU once; return the CPUs as positions."""
    wrong = np.flatnonzero(~np.isin(cpu, np.arange(possible_cpus)))
    if len(wrong):
        raise UsageError(what, f"row {row_label(index, int(wrong[0]))}: CPUs are 0 to {possible_cpus - 1}")
    where = cpu.astype(np.intp)
    given = np.bincount(group * possible_cpus + where, minlength=(group.max() + 1) * possible_cpus)
    if (given != 1).any():
        key, which = divmod(int(np.flatnonzero(given != 1)[0]), possible_cpus)
        row = row_label(index, int(np.flatnonzero(group == key)[0]))
        number = "no row" if given[key * possible_cpus + which] == 0 else "more than one row"
        raise UsageError(what, f"the key of row {row} has {number} for CPU {which}")
    return where
