"""Log-linear histograms: 16 buckets to a power of two, for all of u64, and percentiles with their error bound.

A value below 32 has a bucket of its own; above, a bucket is at most 1/16 of its lowest value wide. The
arithmetic is that of `ebpf_magic.h`: for ``e = floor(log2(v))``, ``index = (e - 3) * 16 + ((v >> (e - 4)) &
15)``, and ``index = v`` below 16.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from ebpf_magic.data import levels
from ebpf_magic.data.layout import Column, Layout, label
from ebpf_magic.data.maps import Buffer, view_rows
from ebpf_magic.data.spec import MapSpec
from ebpf_magic.errors import MapError, UsageError

BUCKETS = 976

U64 = npt.NDArray[np.uint64]
F64 = npt.NDArray[np.float64]


def _make_lows() -> U64:
    bucket = np.arange(BUCKETS, dtype=np.uint64)
    shift = np.maximum(bucket // 16, 1) - 1
    return np.where(bucket < 16, bucket, (bucket % 16 + 16) << shift).astype(np.uint64)


_LOWS = _make_lows()
_HIGHS = np.append(_LOWS[1:] - 1, np.uint64(2**64 - 1))
# Half a bucket is a power of two (or nothing) and its middle has six significant bits: as float64 both are exact.
_HALVES = (_HIGHS - _LOWS + 1) // 2
_MIDDLES = (_LOWS + _HALVES).astype(np.float64)
_ERRORS = _HALVES.astype(np.float64)
for _table in (_LOWS, _HIGHS, _MIDDLES, _ERRORS):
    _table.flags.writeable = False


def lows() -> U64:
    """Return the lowest value of each bucket, shape (976,)."""
    return _LOWS


def highs() -> U64:
    """Return the highest value of each bucket, inclusive, shape (976,)."""
    return _HIGHS


def index(value: int) -> int:
    """Return the bucket of one value from 0 to 2**64 - 1."""
    if value < 16:
        return value
    power = value.bit_length() - 1
    return (power - 3) * 16 + ((value >> (power - 4)) & 15)


def bucket_index(values: npt.ArrayLike) -> npt.NDArray[np.intp]:
    """Return the bucket of each value; exact for all of u64."""
    return np.searchsorted(_LOWS, np.asarray(values, np.uint64), side="right") - 1


class Histogram:
    """Counts of values by bucket.

    Parameters
    ----------
    counts : numpy.ndarray
        How many values fell into each bucket; shape (976,), uint64.
    unit : str
        The unit of the values, such as "ns"; may be empty.
    """

    def __init__(self, counts: U64, unit: str = "") -> None:
        self.counts = counts
        self.unit = unit

    @property
    def total(self) -> int:
        """The number of values."""
        return int(self.counts.sum())

    @property
    def max_value(self) -> int:
        """The highest value there may have been: the upper end of the top occupied bucket; 0 without values."""
        occupied = np.flatnonzero(self.counts)
        return int(_HIGHS[occupied[-1]]) if len(occupied) else 0

    def __repr__(self) -> str:
        return f"<Histogram of {self.total:,} values, at most {self.max_value:,} {self.unit}".rstrip() + ">"

    def percentiles(self, percentiles: Sequence[float] = (50, 90, 99)) -> pd.DataFrame:
        """Return percentiles, each with its error bound.

        Parameters
        ----------
        percentiles : sequence of float
            Each from 0 to 100.

        Returns
        -------
        pandas.DataFrame
            Index "percentile"; columns ``value_<unit>`` and ``error_<unit>``, float64 (NaN without values).
            What ``numpy.percentile(values, p, method="inverted_cdf")`` gives lies within value ± error; below
            32 the error is 0.
        """
        values, errors = self.quantiles(percentiles)
        columns = {_name("value", self.unit): values, _name("error", self.unit): errors}
        return pd.DataFrame(columns, index=pd.Index(list(percentiles), name="percentile"))

    def quantiles(self, percentiles: Sequence[float]) -> tuple[F64, F64]:
        """Return the values and the error bounds of :meth:`percentiles` as arrays, for who asks ten times a second."""
        wanted = _checked(percentiles)
        running = np.cumsum(self.counts, dtype=np.uint64)
        total = int(running[-1])
        if not total:
            return np.full(len(wanted), np.nan), np.full(len(wanted), np.nan)
        # The rank of "inverted_cdf", floating-point rounding included, but never past the last value.
        ranks = [min(max(math.ceil(float(total) * (percentile / 100)), 1), total) for percentile in wanted]
        bucket = np.searchsorted(running, np.array(ranks, np.uint64), side="left")
        return _MIDDLES[bucket], _ERRORS[bucket]

    def frame(self) -> pd.DataFrame:
        """Return the occupied buckets: index ``low_<unit>``, columns ``high_<unit>`` (inclusive), ``count``; uint64."""
        occupied = np.flatnonzero(self.counts)
        return pd.DataFrame(
            {_name("high", self.unit): _HIGHS[occupied], "count": self.counts[occupied]},
            index=pd.Index(_LOWS[occupied], name=_name("low", self.unit)),
        )


def from_percpu(values: Buffer, possible_cpus: int, unit: str = "") -> Histogram:
    """Add up the CPUs of a HIST map.

    Parameters
    ----------
    values : buffer
        The value of its one entry: 976 counts of u64 for each CPU.
    possible_cpus : int
        The number of CPUs.
    unit : str
        The unit of the values.
    """
    return Histogram(_cells(values, possible_cpus).sum(axis=0, dtype=np.uint64), unit)


def percpu_frame(values: Buffer, possible_cpus: int, unit: str = "") -> pd.DataFrame:
    """Return the occupied buckets of each CPU of a HIST map; `frame` with an index level ``cpu`` behind the first."""
    cells = _cells(values, possible_cpus).T
    bucket, cpu = np.nonzero(cells)
    return pd.DataFrame(
        {_name("high", unit): _HIGHS[bucket], "count": cells[bucket, cpu]},
        index=pd.MultiIndex.from_arrays([_LOWS[bucket], cpu], names=[_name("low", unit), "cpu"]),
    )


def _cells(values: Buffer, possible_cpus: int) -> U64:
    cells = view_rows("histogram", "counts", np.dtype("<u8"), values, BUCKETS * possible_cpus, 8)
    return cells.reshape(possible_cpus, BUCKETS)


def from_rows(spec: MapSpec, keys: Buffer, values: Buffer, count: int) -> Histogram:
    """Add up all keys of a HIST_BY map."""
    rows = _Rows(spec, keys, values, count)
    counts = np.zeros(BUCKETS, np.uint64)
    np.add.at(counts, rows.bucket, rows.count)
    return Histogram(counts, spec.unit)


def histogram_frame(spec: MapSpec, keys: Buffer, values: Buffer, count: int) -> pd.DataFrame:
    """Return the occupied buckets of a HIST_BY map by key.

    Parameters
    ----------
    spec : MapSpec
        The map; its key is a struct of ``key`` and ``bucket``.
    keys, values : buffer
        `count` keys and values, one behind the other.
    count : int
        The number of entries.

    Returns
    -------
    pandas.DataFrame
        Sorted by key and bucket. Index: the key's columns, then ``low_<unit>``; columns ``high_<unit>``
        (inclusive) and ``count``, uint64.
    """
    rows = _Rows(spec, keys, values, count)
    order = rows.order()
    bucket = rows.bucket[order]
    codes = [code[order] for code in rows.codes]
    return pd.DataFrame(
        {_name("high", spec.unit): _HIGHS[bucket], "count": rows.count[order]},
        index=rows.multi_index([*codes, bucket], pd.Index(_LOWS), _name("low", spec.unit)),
    )


def percentiles_by(
    spec: MapSpec, keys: Buffer, values: Buffer, count: int, percentiles: Sequence[float] = (50, 90, 99)
) -> pd.DataFrame:
    """Return percentiles of each key of a HIST_BY map.

    Parameters
    ----------
    spec, keys, values, count
        As for `histogram_frame`.
    percentiles : sequence of float
        Each from 0 to 100.

    Returns
    -------
    pandas.DataFrame
        Sorted by key. Index: the key's columns, then "percentile"; columns as `Histogram.percentiles` has them.
    """
    wanted = _checked(percentiles)
    rows = _Rows(spec, keys, values, count)
    order = rows.order()
    starts = rows.starts(order)
    found = order[_percentile_rows(rows.count[order], starts, wanted).ravel()]
    bucket = rows.bucket[found]
    codes = [np.repeat(code[order[starts]], len(wanted)) for code in rows.codes]
    which = np.tile(np.arange(len(wanted)), len(starts))
    return pd.DataFrame(
        {_name("value", spec.unit): _MIDDLES[bucket], _name("error", spec.unit): _ERRORS[bucket]},
        index=rows.multi_index([*codes, which], pd.Index(list(percentiles)), "percentile"),
    )


class _Rows:
    """The entries of a HIST_BY map: their key as index levels, bucket and count."""

    def __init__(self, spec: MapSpec, keys: Buffer, values: Buffer, count: int) -> None:
        layout, columns = _by_columns(spec)
        raw = view_rows(spec.name, "keys", layout.dtype, keys, count, layout.dtype.itemsize)
        counts = view_rows(spec.name, "counts", np.dtype("<u8"), values, count, 8)
        used = np.flatnonzero(counts)
        raw = raw[used]
        self.count = counts[used]
        self.bucket = raw["bucket"].astype(np.intp)
        if (self.bucket >= BUCKETS).any():
            raise MapError(f"read map {spec.name}", f"it has a bucket above {BUCKETS - 1}")
        parts = [levels.level(column, layout.take(raw, column)) for column in columns]
        self.levels = [part[0] for part in parts]
        self.codes = [part[1] for part in parts]
        self.names = [label(column, "key") for column in columns]

    def order(self) -> npt.NDArray[np.intp]:
        """Return the rows sorted by key, then bucket."""
        return np.lexsort((self.bucket, *self.codes[::-1]))

    def starts(self, order: npt.NDArray[np.intp]) -> npt.NDArray[np.intp]:
        """Return where in the sorted rows each key begins."""
        changes = np.zeros(len(order), bool)
        changes[:1] = True
        for code in self.codes:
            ordered = code[order]
            changes[1:] |= ordered[1:] != ordered[:-1]
        return np.flatnonzero(changes)

    def multi_index(self, codes: list[Any], last: pd.Index[Any], last_name: str) -> pd.MultiIndex:
        """Make an index of the key's levels and one more."""
        return levels.multi_index([*self.levels, last], codes, [*self.names, last_name])


def _by_columns(spec: MapSpec) -> tuple[Layout, list[Column]]:
    """Return a HIST_BY map's key layout and the columns of ``key``, named as if no struct were around them."""
    layout = spec.key
    if layout is None or layout.dtype.names is None or "bucket" not in layout.dtype.names:
        raise UsageError(f"read map {spec.name}", "its key is not a struct of key and bucket")
    return layout, [
        replace(column, name=column.name.removeprefix("key").removeprefix("."))
        for column in layout.columns
        if column.path != "bucket"
    ]


def _percentile_rows(counts: U64, starts: npt.NDArray[np.intp], percentiles: Sequence[float]) -> npt.NDArray[np.intp]:
    """Find for each group of rows, beginning at `starts`, those its percentiles fall into; (groups, percentiles).

    The rank is that of `numpy.percentile` with "inverted_cdf", floating-point rounding included.
    """
    if not len(starts):
        return np.empty((0, len(percentiles)), np.intp)
    running = np.cumsum(counts, dtype=np.uint64)
    ends = np.append(starts[1:], len(counts)) - 1
    before = (running[starts] - counts[starts])[:, None]
    totals = (running[ends][:, None] - before).astype(np.uint64)
    ranks = np.ceil(totals * (np.asarray(percentiles, np.float64) / 100))
    # Rounding may carry a rank past the last value, and past what u64 holds.
    capped = np.where(ranks >= totals.astype(np.float64), totals, np.minimum(ranks, 2.0**63).astype(np.uint64))
    return np.asarray(np.searchsorted(running, before + np.clip(capped, 1, totals), side="left"))


def _checked(percentiles: Sequence[float]) -> list[float]:
    wanted = [float(percentile) for percentile in percentiles]
    for percentile in wanted:
        if not 0 <= percentile <= 100:
            raise UsageError("percentiles", f"{percentile:g} is not between 0 and 100")
    return wanted


def _name(what: str, unit: str) -> str:
    return f"{what}_{unit}" if unit else what
