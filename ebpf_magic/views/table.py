"""A table that updates in place: the top N rows, totals with deltas and rates beside them."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ebpf_magic.views import units
from ebpf_magic.views.base import View, html_line, html_table, pack, text_table

if TYPE_CHECKING:
    import pandas as pd

# JavaScript's numbers are exact up to here; a larger integer travels as its digits.
_EXACT = 2**53
_RENAMED = {"total": "", "delta": "Δ", "rate": "per s"}
_MUTED = "color:#808080;font-size:90%;"


class TableView(View):
    """The top rows of a frame, moving.

    Parameters
    ----------
    title : str
        What the table shows, above it.
    by : str, optional
        The column the rows are chosen and sorted by, largest first; the first numeric one unless given. A click on
        a header changes it.
    top : int
        Rows shown.
    clock : callable
        Seconds, monotonic; for flow control.

    Notes
    -----
    A column ``x_delta`` or ``x_per_s`` stands beside the column ``x``. Names that end in ``_ns`` or ``_bytes``
    (before those endings) are shown in units of three digits, the exact value when pointed at. What only names
    something (``attrs["shown"]`` of the frame: a port, an inode) is shown as it is.
    """

    _stem = "table"

    def __init__(
        self, title: str, by: str | None = None, top: int = 20, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        super().__init__(clock=clock)
        self.title = title
        self.by = by
        self.top = top
        self.ascending = False
        self._frame_shown: pd.DataFrame | None = None
        self._notes: tuple[list[str], list[str]] = ([], [])
        self._state: dict[str, Any] = _empty(title)
        self.deliver(pack(self._state))

    def update(self, frame: pd.DataFrame, notes: Sequence[str] = (), warnings: Sequence[str] = ()) -> None:
        """Show `frame` from now on.

        Parameters
        ----------
        frame : DataFrame
            Keys in the index, values in the columns; it is kept, so it must not change afterwards.
        notes : sequence of str
            Shown below, quietly: when it was read, from where.
        warnings : sequence of str
            Shown below, in a warning colour: what was lost or refused.
        """
        self._frame_shown = frame
        self._notes = (list(notes), list(warnings))
        self._refresh()

    def text(self) -> str:
        """Return the latest rows as plain text."""
        header, rows, left = self._formatted()
        lines = [self.title] if self.title else []
        lines.append(text_table(header, rows, left) if header else "no data yet")
        return "\n".join([*lines, *self._footer()])

    def html(self) -> str:
        """Return the latest rows as an HTML table."""
        header, rows, left = self._formatted()
        parts = [html_line(self.title, "font-weight:600;")] if self.title else []
        parts.append(html_table(header, rows, left) if header else html_line("no data yet", _MUTED))
        return "".join([*parts, *(html_line(line, _MUTED) for line in self._footer())])

    def _refresh(self) -> None:
        if self._frame_shown is None:
            return
        state = _state(self._frame_shown, self.by, self.ascending, self.top)
        state.update(title=self.title, notes=self._notes[0], warnings=self._notes[1])
        self._state = state
        self.deliver(pack(state))

    def _on_message(self, content: dict[str, Any]) -> None:
        sort = content.get("sort")
        if isinstance(sort, str) and any(sort == column["name"] for column in self._state["columns"]):
            self.by = sort
            self.ascending = content.get("ascending") is True
            self._refresh()

    def _formatted(self) -> tuple[list[str], list[list[str]], int]:
        columns = self._state["columns"]
        rows = [
            [_shown(value, column) for value, column in zip(row, columns, strict=True)] for row in self._state["rows"]
        ]
        keys = sum(column["kind"] == "key" for column in columns)
        return [_header(column) for column in columns], rows, keys

    def _footer(self) -> list[str]:
        shown, total = len(self._state["rows"]), self._state["total"]
        count = [f"{shown:,} of {total:,} rows"] if self._state["columns"] else []
        return [*count, *self._state["warnings"], *self._state["notes"]]


def _empty(title: str) -> dict[str, Any]:
    state: dict[str, Any] = {"columns": [], "rows": [], "total": 0, "by": None, "ascending": False}
    return {**state, "title": title, "notes": [], "warnings": []}


def _state(frame: pd.DataFrame, by: str | None, ascending: bool, top: int) -> dict[str, Any]:
    keys = [str(name) if name is not None else "key" for name in frame.index.names]
    values = _beside(frame)
    by = by if by in keys or by in values else next((name for name, kind in values.items() if kind == "total"), keys[0])
    chosen = frame.iloc[_top(_column(frame, keys, by), top, ascending)]
    columns: list[dict[str, str]] = [{"name": name, "kind": "key", "unit": ""} for name in keys]
    columns += [{"name": name, "kind": kind, "unit": units.column_unit(name)} for name, kind in values.items()]
    cells = [_plain(_column(chosen, keys if column["kind"] == "key" else [], column["name"])) for column in columns]
    return {
        "columns": columns,
        "rows": [list(row) for row in zip(*cells, strict=True)],
        "total": len(frame),
        "by": by,
        "ascending": ascending,
    }


def _beside(frame: pd.DataFrame) -> dict[str, str]:
    """Return the value columns and what they are, each ``_delta`` and ``_per_s`` behind the column it was made from."""
    names = [str(name) for name in frame.columns]
    shown = frame.attrs.get("shown", {})
    kinds: dict[str, str] = {}
    for name in names:
        made_from = next((name.removesuffix(end) for end in ("_delta", "_per_s") if name.endswith(end)), name)
        if made_from != name and made_from in names:
            continue
        kinds[name] = "total" if name not in shown and _is_number(frame[name]) else "text"
        kinds.update(
            {f"{name}{end}": kind for end, kind in (("_delta", "delta"), ("_per_s", "rate")) if f"{name}{end}" in names}
        )
    return kinds


def _is_number(column: pd.Series[Any]) -> bool:
    """Whether a column can be counted with; integers of more than 64 bits are Python's own, as objects."""
    return column.dtype.kind in "iuf" or (column.dtype == object and _are_integers(column.to_numpy()))


def _are_integers(values: np.ndarray[Any, Any]) -> bool:
    from pandas.api.types import infer_dtype

    return infer_dtype(values, skipna=False) == "integer"


def _column(frame: pd.DataFrame, keys: list[str], name: str) -> np.ndarray[Any, Any]:
    if name in keys:
        return frame.index.get_level_values(keys.index(name)).to_numpy()
    return frame[name].to_numpy()


def _top(values: np.ndarray[Any, Any], top: int, ascending: bool) -> np.ndarray[Any, Any]:
    """Return the positions of the first `top` values in order; equal values keep the order they have in the frame."""
    if values.dtype == object and (_are_integers(values) or isinstance(next(iter(values), None), bytes)):
        values = np.unique(values, return_inverse=True)[1]
    elif values.dtype.kind not in "iufb":
        values = np.unique(values.astype(str), return_inverse=True)[1]
    elif values.dtype.kind == "f":
        values = np.where(np.isnan(values), math.inf if ascending else -math.inf, values)
    count = len(values)
    positions = np.arange(count)
    if ascending:
        if count > top:
            positions = np.sort(np.argpartition(values, top - 1)[:top])
        return positions[np.argsort(values[positions], kind="stable")]
    if count > top:
        positions = np.sort(np.argpartition(values, count - top)[count - top :])
    positions = positions[::-1]
    return positions[np.argsort(values[positions], kind="stable")][::-1]


def _plain(values: np.ndarray[Any, Any]) -> list[Any]:
    """Return what JSON can carry: numbers, text, None for not-a-number."""
    items = values.tolist()
    if values.dtype.kind == "f":
        return [value if math.isfinite(value) else None for value in items]
    if values.dtype.kind in "iu":
        return [value if abs(value) <= _EXACT else str(value) for value in items]
    return [value.hex(" ") if isinstance(value, bytes) else str(value) for value in items]


def _header(column: dict[str, str]) -> str:
    prefix = _RENAMED.get(column["kind"], "")
    return prefix or column["name"]


def _shown(value: Any, column: dict[str, str]) -> str:
    if value is None:
        return units.UNKNOWN
    if column["kind"] in ("key", "text"):
        return f"{value:,}" if isinstance(value, float) else str(value)
    if value == 0 and column["kind"] != "total":
        return "0"
    text = units.human(int(value) if isinstance(value, str) else value, column["unit"])
    if column["kind"] == "rate":
        return f"{text}/s"
    return f"+{text}" if column["kind"] == "delta" and not text.startswith("-") else text
