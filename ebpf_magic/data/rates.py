"""What changed between two frames of one map."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from pandas.api.types import is_bool_dtype, is_numeric_dtype

Array = npt.NDArray[Any]


class Rates:
    """Turns the totals of successive frames into differences and rates.

    Each call of :meth:`add` compares with the frame of the call before. Keys are matched, not rows: keys may
    come, go and move.
    """

    def __init__(self) -> None:
        self._index: pd.Index[Any] | None = None
        self._totals: dict[str, Array] = {}
        self._time_ns = 0

    def add(self, frame: pd.DataFrame, time_ns: int) -> pd.DataFrame:
        """Return the frame with two more columns beside each numeric one.

        Parameters
        ----------
        frame : pandas.DataFrame
            What `map_frame` gave.
        time_ns : int
            When it was read, on any steady clock.

        Returns
        -------
        pandas.DataFrame
            The same rows; a number that only names something (``attrs["shown"]``: a port, an inode) has no
            difference. ``<column>_delta`` is what was added since the frame before; for a key that was not
            there, and for a counter that became smaller (it was cleared), the whole total. ``<column>_per_s``
            (float64) is that by the second; NaN in the first frame.
        """
        place = self._places(frame.index)
        elapsed_s = (time_ns - self._time_ns) / 1e9 if self._index is not None else 0.0
        columns: dict[str, Any] = {}
        totals: dict[str, Array] = {}
        shown = frame.attrs.get("shown", {})
        for name in frame.columns:
            columns[name] = column = frame[name]
            if not is_numeric_dtype(column.dtype) or is_bool_dtype(column.dtype) or name in shown:
                continue
            totals[name] = now = column.to_numpy()
            before = self._totals.get(name)
            delta = now if before is None or place is None else _delta(now, _aligned(before, place))
            if f"{name}_delta" not in frame.columns:
                columns[f"{name}_delta"] = delta.copy() if delta is now else delta
            if f"{name}_per_s" not in frame.columns:
                columns[f"{name}_per_s"] = delta / elapsed_s if elapsed_s > 0 else np.full(len(now), np.nan)
        self._index, self._totals, self._time_ns = frame.index, totals, time_ns
        result = pd.DataFrame(columns, index=frame.index, copy=False)
        result.attrs.update(frame.attrs)
        return result

    def _places(self, index: pd.Index[Any]) -> Array | slice | None:
        """Return where each key stood in the frame before, -1 for new ones; a slice when nothing moved."""
        before = self._index
        if before is None:
            return None
        if before is index or before.equals(index):
            return slice(None)
        return np.asarray(_unique(before).get_indexer(_unique(index)))


def _unique(index: pd.Index[Any]) -> pd.Index[Any]:
    """Return labels that are each one row's own: equal ones (keys that differ only in padding) get a number."""
    if index.is_unique:
        return index
    parts = [index.get_level_values(i) for i in range(index.nlevels)]
    number = (
        pd.DataFrame(dict(enumerate(parts))).groupby(list(range(len(parts))), dropna=False, observed=True).cumcount()
    )
    return pd.MultiIndex.from_arrays([*parts, number.to_numpy()])


def _aligned(before: Array, place: Array | slice) -> Array:
    if isinstance(place, slice):
        return before
    if not len(before):
        return np.zeros(len(place), before.dtype)
    return np.where(place < 0, before.dtype.type(0), before[place])


def _delta(now: Array, before: Array) -> Array:
    if now.dtype.kind == "i":
        now, before = now.astype(np.int64), before.astype(np.int64)
    cleared = (now < before) & (now >= 0)
    return np.where(cleared, now, now - before)
