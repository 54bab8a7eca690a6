"""Columns of raw values as distinct values and codes: what index levels, texts and categoricals are made of.

Everything here is a few passes of NumPy over the whole column, and its distinct values come out sorted, so that
an index made of them is an ordinary pandas index.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from ebpf_magic.data.forms import FORMS
from ebpf_magic.data.layout import Column

Array = npt.NDArray[Any]
Codes = npt.NDArray[np.intp]

_SAMPLE_ROWS = 1024


def level(column: Column, raw: Array) -> tuple[pd.Index[Any], Codes]:
    """Return the distinct values of a column, sorted, and for each row the position of its value among them.

    Parameters
    ----------
    column : Column
        What the values are.
    raw : numpy.ndarray
        One value a row, as `Layout.take` gives them; may be strided.
    """
    if column.show and FORMS[column.show].texts:
        texts, codes = _shown(column, raw)
        order, distinct = pd.factorize(np.array(texts, object), sort=True)
        return pd.Index(distinct, dtype="str"), order[codes]
    if column.kind == "char":
        texts, codes = texts_of(raw)
        return pd.Index(texts, dtype="str"), codes
    if column.kind == "enum":
        codes, names = enum_codes(raw, column.enum or {})
        return pd.CategoricalIndex(pd.Categorical.from_codes(np.arange(len(names)), pd.Index(names))), codes
    if column.kind == "bool":
        return pd.Index(np.array([False, True])), (raw != 0).astype(np.intp)
    if column.kind == "bytes":
        codes, distinct = pd.factorize(bytes_objects(raw), sort=True)
        return pd.Index(distinct), codes
    if column.kind == "float" or raw.dtype == object:
        codes, distinct = pd.factorize(raw, sort=True)
        return pd.Index(distinct), codes
    distinct, codes = distinct_ints(np.ascontiguousarray(raw))
    return pd.Index(distinct), codes


def multi_index(levels: list[pd.Index[Any]], codes: list[Any], names: list[Any]) -> pd.MultiIndex:
    """Make a MultiIndex of levels and codes as they are, without looking through them again."""
    parts: Any = levels
    return pd.MultiIndex(levels=parts, codes=codes, names=names, verify_integrity=False)


def values(column: Column, raw: Array) -> Any:
    """Return a column's values as a DataFrame or an Index takes them; numbers keep their dtype."""
    if column.show and FORMS[column.show].texts:
        texts, codes = _shown(column, raw)
        return pd.array(texts, dtype="str").take(codes)
    if column.kind == "char":
        texts, codes = texts_of(raw)
        return pd.array(texts, dtype="str").take(codes)
    if column.kind == "enum":
        codes, names = enum_codes(raw, column.enum or {})
        return pd.Categorical.from_codes(codes, pd.Index(names))
    if column.kind == "bool":
        return raw != 0
    if column.kind == "bytes":
        return bytes_objects(raw)
    # What a frame holds can be written to, also when the bytes came over the wire.
    return raw if raw.flags.carray else raw.copy()


def bytes_objects(raw: Array) -> Array:
    """Return raw values as Python `bytes`, in an array of objects."""
    found = np.empty(len(raw), object)
    found[:] = np.ascontiguousarray(raw).tolist()
    return found


def _shown(column: Column, raw: Array) -> tuple[list[str], Codes]:
    """Return the texts of the distinct values of a column that has a form, and each row's position among them."""
    form = FORMS[column.show]
    distinct: list[Any]
    if form.order == "bytes":
        words, codes = distinct_bytes(raw)
        distinct = [row.tobytes() for row in words[:, : raw.dtype.itemsize]]
    else:
        numbers, codes = distinct_ints(np.ascontiguousarray(raw))
        distinct = numbers.tolist()
    assert form.texts is not None
    return form.texts(distinct, column.enum or {}), codes


def distinct_ints(numbers: Array) -> tuple[Array, Codes]:
    """Return the distinct integers, sorted, and each row's position among them: a faster `np.unique`."""
    if not len(numbers):
        return numbers, np.empty(0, np.intp)
    low, high = numbers.min(), numbers.max()
    span = int(high) - int(low) + 1
    if span == 1:
        return numbers[:1], np.zeros(len(numbers), np.intp)
    if span <= 4 * len(numbers) + 65536:  # process ids, CPUs, small numbers: a table of the whole range
        wide = np.uint64 if numbers.dtype == np.uint64 else np.int64
        places = (numbers.astype(wide) - wide(low)).astype(np.intp)
        seen = np.zeros(span, bool)
        seen[places] = True
        table = np.cumsum(seen) - 1
        return (np.flatnonzero(seen).astype(wide) + wide(low)).astype(numbers.dtype), table[places]
    step = len(numbers) // _SAMPLE_ROWS + 1
    if 2 * len(np.unique(numbers[::step])) > len(numbers[::step]):  # mostly distinct: sorting beats hashing
        distinct, codes = np.unique(numbers, return_inverse=True)
        return distinct, codes
    codes, found = pd.factorize(numbers)
    order = np.argsort(found)
    rank = np.empty(len(order), np.intp)
    rank[order] = np.arange(len(order))
    return found[order], rank[codes]


def texts_of(raw: Array) -> tuple[list[str], Codes]:
    r"""Return the distinct texts of a `char[]` column, sorted as their bytes are, and each row's position among them.

    A text ends at its first NUL; bytes that are not UTF-8 stand as ``\xNN``. The bytes are compared as
    big-endian words, and each distinct text is decoded once.
    """
    if not len(raw):
        return [], np.zeros(0, np.intp)
    rows, codes = distinct_bytes(raw)
    texts, may_repeat = decode(rows)
    if may_repeat and len(set(texts)) < len(texts):
        first, unique = pd.factorize(np.array(texts, object), sort=True)
        return list(unique), first[codes]
    return texts, codes


def distinct_bytes(raw: Array) -> tuple[npt.NDArray[np.uint8], Codes]:
    """Return the distinct values of a column of raw bytes, sorted, and each row's position among them.

    The values are rows of bytes, filled up with NUL to a multiple of eight; they are compared as big-endian words.
    """
    words = _words(raw)
    codes = np.zeros(len(raw), np.intp)
    distinct = min(len(raw), 1)
    for word in words.T if distinct else ():
        found, part = distinct_ints(np.ascontiguousarray(word))
        if len(found) > 1:
            codes = part if distinct == 1 else distinct_ints(codes * len(found) + part)[1]
            distinct = int(codes.max()) + 1
    rows = np.empty(distinct, np.intp)
    rows[codes] = np.arange(len(raw))
    return words[rows].astype(">u8").view(np.uint8), codes


def _words(raw: Array) -> npt.NDArray[np.uint64]:
    """Return each row's bytes as big-endian 8-byte words, filled up with NUL, so that words compare as the bytes do."""
    size = raw.dtype.itemsize
    filled = np.zeros((len(raw), -(-size // 8) * 8), np.uint8)
    filled[:, :size] = np.ascontiguousarray(raw).view(np.uint8).reshape(len(raw), size)
    return filled.view(">u8").astype(np.uint64)


def decode(rows: npt.NDArray[np.uint8]) -> tuple[list[str], bool]:
    r"""Decode each row up to its first NUL, all in one go: NUL is never part of a longer UTF-8 character.

    Also say whether different rows may have given the same text: by bytes behind the NUL, or by bytes that
    stand as ``\xNN``.
    """
    count, width = rows.shape
    ended = np.zeros((count, width + 1), np.uint8)
    ended[:, :width] = rows
    lengths = (ended == 0).argmax(axis=1)
    kept = ended[np.arange(width + 1) <= lengths[:, None]]
    joined = kept.tobytes().decode("utf-8", "backslashreplace")
    may_repeat = "\\" in joined or np.count_nonzero(kept) != np.count_nonzero(ended)
    return joined.split("\0")[:-1], may_repeat


def enum_codes(raw: Array, enum: Mapping[int, str]) -> tuple[Codes, list[str]]:
    """Return each row's position among an enum's names, ordered by value; unknown values follow as their number."""
    limits = np.iinfo(raw.dtype)
    known = sorted(value for value in enum if limits.min <= value <= limits.max)
    names = [enum[value] for value in known]
    if not known:
        unknown, codes = distinct_ints(np.ascontiguousarray(raw))
        return codes, unknown.astype(str).tolist()
    numbers = np.array(known, raw.dtype)
    codes = np.minimum(np.searchsorted(numbers, raw), len(known) - 1)
    missing = numbers[codes] != raw
    if missing.any():
        unknown, places = distinct_ints(raw[missing])
        codes[missing] = len(known) + places
        names += unknown.astype(str).tolist()
    return codes, names
