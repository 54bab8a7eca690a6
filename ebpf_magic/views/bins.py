"""Bars of a log-linear histogram: whole buckets put together, never one split. histogram.js does the same.

The buckets are those of :mod:`ebpf_magic.data.histogram`.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from ebpf_magic.data.histogram import BUCKETS, highs, lows

_SUB = 16
# The first bucket of each bar, so that the bars are of nearly one width on a logarithmic axis: 16 19 23 27 32
# are within 12 % of a quarter of a doubling.
_STARTS = {
    4: ([*range(8), 8, 10, 12, 14], (0, 3, 7, 11)),
    2: ([0, 1, 2, 3, 4, 6, 8, 11], (0, 7)),
    1: ([0, 1, 2, 4, 8], (0,)),
}
# Up to this many doublings, bars of one width in the value itself say more.
_NARROW = 3
_WIDE = 35


class Bars(NamedTuple):
    """Bars side by side: edges (one more than counts, as float) and counts."""

    edges: np.ndarray[Any, np.dtype[np.float64]]
    counts: np.ndarray[Any, np.dtype[np.uint64]]
    width: float | None
    """The common width in the value's unit, where there is one."""


def log_bars(counts: np.ndarray[Any, np.dtype[np.uint64]], per_doubling: int = 4) -> Bars:
    """Return the bars for a logarithmic axis, from the first occupied bucket to the last.

    Parameters
    ----------
    counts : ndarray of uint64, shape (976,)
        Values counted in each bucket.
    per_doubling : int
        Bars for each doubling of the value, 4, 2 or 1; at most 2 where the range is very wide.
    """
    occupied = np.flatnonzero(counts)
    if not len(occupied):
        return Bars(np.zeros(1), np.zeros(0, dtype=np.uint64), None)
    first, last = int(occupied[0]), int(occupied[-1])
    low, high = max(int(lows()[first]), 1), int(highs()[last]) + 1
    if high <= low * 2**_NARROW:
        width = high - int(lows()[last])
        starts = np.flatnonzero(lows()[: last + 1] % np.uint64(width) == 0)
    else:
        width = 0
        below, within = _STARTS[per_doubling if high <= low * 2**_WIDE else min(per_doubling, 2)]
        bucket = np.arange(_SUB, BUCKETS)
        starts = np.concatenate([below, bucket[np.isin(bucket % _SUB, within)]])
    begin = int(np.searchsorted(starts, first, side="right")) - 1
    stop = int(np.searchsorted(starts, last, side="right"))
    end = int(starts[stop]) if stop < len(starts) else BUCKETS if not width else last + 1
    edges = np.append(lows()[starts[begin:stop]].astype(np.float64), float(int(highs()[end - 1]) + 1))
    return Bars(edges, np.add.reduceat(counts[:end], starts[begin:stop]), float(width) or None)
