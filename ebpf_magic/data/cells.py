"""One column of a frame as raw values of a C type, each checked; what does not fit is named by column and row."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, NamedTuple, NoReturn

import numpy as np
import numpy.typing as npt
import pandas as pd

from ebpf_magic.data.forms import FORMS, Names
from ebpf_magic.data.layout import Column
from ebpf_magic.errors import UsageError

Array = npt.NDArray[Any]

_ESCAPED = re.compile(rb"\\x([89a-f][0-9a-f])")


class Rows(NamedTuple):
    """Where a column's values stand, for error messages.

    What is being done, the column's name, the labels of its rows, and whether those are the keys themselves.
    """

    what: str
    column: str
    labels: pd.Index[Any]
    are_keys: bool = False

    def refuse(self, row: int, why: str) -> NoReturn:
        """Raise the UsageError for one row."""
        noun = "key" if self.are_keys else "row"
        raise UsageError(self.what, f"column {self.column!r}, {noun} {row_label(self.labels, row)}: {why}")


def row_label(labels: pd.Index[Any], row: int) -> str:
    """Return a row's label as Python writes it, without NumPy's names of types."""
    found = labels[row]
    parts = found if isinstance(found, tuple) else (found,)
    plain = [part.item() if isinstance(part, np.generic) else part for part in parts]
    return repr(tuple(plain) if isinstance(found, tuple) else plain[0])


def to_raw(rows: Rows, column: Column, dtype: np.dtype[Any], values: Any) -> Array:
    """Return a column's values as they lie in memory.

    Parameters
    ----------
    rows : Rows
        For error messages.
    column : Column
        What the values are.
    dtype : numpy.dtype
        What they become, as `Layout.dtype_of` says; of floats, how they lie in memory.
    values : Series or Index
        The values.

    Raises
    ------
    UsageError
        When a value is missing, of another kind, or out of range.
    """
    limits = column.bits.limits if column.bits else None
    if column.show and FORMS[column.show].parse:
        names = column.enum or {}
        return _by_distinct(rows, dtype, values, lambda value: _form(value, column.show, names, dtype))
    if column.kind == "char":
        return _by_distinct(rows, dtype, values, lambda value: _text(value, dtype.itemsize))
    if column.kind == "bytes":
        return _by_distinct(rows, dtype, values, lambda value: _bytes(value, dtype.itemsize))
    if column.kind == "enum":
        numbers = {name: number for number, name in (column.enum or {}).items()}
        return _by_distinct(rows, dtype, values, lambda value: _enum(value, numbers, limits or _limits(dtype)))
    if column.kind == "float":
        return _floats(rows, dtype, values)
    return _ints(rows, dtype, values, (0, 1) if column.kind == "bool" else limits or _limits(dtype))


def _limits(dtype: np.dtype[Any]) -> tuple[int, int]:
    found = np.iinfo(dtype)
    return int(found.min), int(found.max)


def _by_distinct(rows: Rows, dtype: np.dtype[Any], values: Any, convert: Callable[[Any], Any]) -> Array:
    """Convert each distinct value once."""
    codes, distinct = pd.factorize(values)
    if (codes < 0).any():
        rows.refuse(int(np.flatnonzero(codes < 0)[0]), "there is no value")
    raw = np.empty(len(distinct), dtype)
    for number, value in enumerate(distinct):
        try:
            raw[number] = convert(value)
        except ValueError as error:
            rows.refuse(int(np.flatnonzero(codes == number)[0]), str(error))
    return raw[codes]


def _text(value: Any, size: int) -> bytes:
    if not isinstance(value, str):
        raise ValueError(f"{value!r} is not text")
    raw = value.encode()
    # A byte that is not UTF-8 is shown as \xNN, and taken back where it would be shown so.
    plain = _ESCAPED.sub(lambda found: bytes.fromhex(found[1].decode()), raw)
    if plain != raw and plain.decode("utf-8", "backslashreplace") == value:
        raw = plain
    if "\0" in value:
        raise ValueError(f"{value!r} has a NUL in it")
    if len(raw) > size:
        raise ValueError(f"{value!r} is {len(raw)} bytes long, char[{size}] holds {size}")
    return raw


def _bytes(value: Any, size: int) -> bytes:
    if not isinstance(value, bytes) or len(value) != size:
        raise ValueError(f"{value!r} is not {size} bytes")
    return value


def _form(value: Any, show: str, names: Names, dtype: np.dtype[Any]) -> Any:
    """Take back what is shown in a form: bytes, or a number within its type."""
    parse = FORMS[show].parse
    assert parse is not None
    found = parse(value, names)
    return found if isinstance(found, bytes) else _within(found, _limits(dtype))


def _within(number: int, limits: tuple[int, int]) -> int:
    if not limits[0] <= number <= limits[1]:
        raise ValueError(f"{number} is not from {limits[0]} to {limits[1]}")
    return number


def _enum(value: Any, numbers: dict[str, int], limits: tuple[int, int]) -> int:
    number = numbers.get(value) if isinstance(value, str) else value
    if number is None:
        try:
            number = int(value)  # an unknown value is shown as its number
        except ValueError:
            raise ValueError(f"{value!r} is none of {', '.join(numbers)}") from None
    if not isinstance(number, (int, np.integer)):
        raise ValueError(f"{value!r} is none of {', '.join(numbers)}")
    if not limits[0] <= number <= limits[1]:
        raise ValueError(f"{value!r} is not from {limits[0]} to {limits[1]}")
    return int(number)


def _floats(rows: Rows, dtype: np.dtype[Any], values: Any) -> Array:
    """Convert to float; NaN is a float's own value and stays."""
    found = np.asarray(values)
    if found.dtype == dtype:
        return found
    if found.dtype.kind not in "iuf":
        wrong = [not isinstance(value, (int, float, np.number)) for value in found]
        if any(wrong):
            rows.refuse(wrong.index(True), f"{found[wrong.index(True)]!r} is not a number")
    with np.errstate(invalid="ignore"):  # of a signalling NaN, which becomes a quiet one
        wide = found.astype(np.float64)
    lost = np.isfinite(wide) & (np.abs(wide) > np.finfo(dtype).max)
    if lost.any():
        row = int(np.flatnonzero(lost)[0])
        rows.refuse(row, f"{found[row]} is too large for {dtype}")
    return wide.astype(dtype)


def _is_missing(value: Any) -> bool:
    """Whether a value is one that pandas takes for none; a list or a frame is not."""
    return bool(pd.api.types.is_scalar(value) and pd.isna(value))


def _ints(rows: Rows, dtype: np.dtype[Any], values: Any, limits: tuple[int, int]) -> Array:
    low, high = limits
    found = np.asarray(values)
    if dtype.kind == "O" and found.dtype.kind in "iub":  # NumPy does not compare with numbers beyond its own
        found = found.astype(object)
    kind = found.dtype.kind
    if kind == "f":
        wrong = ~np.isfinite(found) | (found != np.floor(found))
    elif kind == "O":
        wrong = np.array([not isinstance(value, (int, np.integer)) for value in found], bool)
    else:
        wrong = np.full(len(found), kind not in "iub")
    if wrong.any():
        row = int(np.flatnonzero(wrong)[0])
        rows.refuse(row, "there is no value" if _is_missing(found[row]) else f"{found[row]!s} is not an integer")
    # A float's upper limit is a power of two (exact), so it is compared with the first number that is too large.
    outside = (found < low) | (found >= float(high + 1) if kind == "f" else found > high)
    if outside.any():
        row = int(np.flatnonzero(outside)[0])
        rows.refuse(row, f"{found[row]!s} is not from {low} to {high}")
    return found.astype(dtype)
