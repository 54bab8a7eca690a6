"""A live histogram of log-linear buckets, with its percentiles marked."""

from __future__ import annotations

import base64
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from ebpf_magic.data.histogram import BUCKETS
from ebpf_magic.views import units
from ebpf_magic.views.base import View, html_line, html_table, pack
from ebpf_magic.views.bins import log_bars

_MUTED = "color:#808080;font-size:90%;"
_BLOCKS = " ▏▎▍▌▋▊▉█"
_TEXT_WIDTH = 40
_TEXT_ROWS = 32


class HistogramView(View):
    """A histogram, moving; p50, p90, p99 and max marked.

    Parameters
    ----------
    title : str
        What the chart shows, above it.
    unit : str
        Unit of the values: ``"ns"`` and ``"bytes"`` are shown in larger steps, another one as it is, ``""`` is
        a plain number.
    clock : callable
        Seconds, monotonic; for flow control.
    """

    _stem = "histogram"

    def __init__(self, title: str, unit: str = "", *, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__(clock=clock)
        self.title = title
        self.unit = unit
        self._counts = np.zeros(BUCKETS, dtype=np.uint64)
        self._marks: dict[str, float] = {}
        self._errors: dict[str, float] = {}
        self._notes: list[str] = []
        self._warnings: list[str] = []
        self._deliver_state()

    def update(
        self,
        counts: np.ndarray[Any, np.dtype[np.uint64]],
        percentiles: Mapping[float, float],
        max_value: float | None = None,
        notes: Sequence[str] = (),
        warnings: Sequence[str] = (),
        *,
        errors: Mapping[float, float] | None = None,
    ) -> None:
        """Show these counts from now on.

        Parameters
        ----------
        counts : ndarray of uint64, shape (976,)
            Values counted in each bucket; copied.
        percentiles : mapping of float to float
            Values of the percentiles to mark, by percentile: ``{50: 1200, 90: 5300, 99: 48000}``.
        max_value : float, optional
            The largest value, or the upper bound of the highest occupied bucket.
        notes : sequence of str
            Shown below, quietly.
        warnings : sequence of str
            Shown below, in a warning colour: what was lost or refused.
        errors : mapping of float to float, optional
            By how much a percentile may differ from the true one, for the table of the bundle.
        """
        self._counts = np.array(counts, dtype=np.uint64)
        self._marks = {f"p{percentile:g}": float(value) for percentile, value in percentiles.items()}
        if max_value is not None:
            self._marks["max"] = float(max_value)
        self._errors = {f"p{percentile:g}": float(error) for percentile, error in (errors or {}).items()}
        self._notes, self._warnings = list(notes), list(warnings)
        self._deliver_state()

    def text(self) -> str:
        """Return the latest state as plain text: bars of characters and the percentiles."""
        lines = [self.title] if self.title else []
        # The finest bars that a terminal shows at once.
        bars = next(
            (bars for bars in (log_bars(self._counts, 4), log_bars(self._counts, 2)) if len(bars.counts) <= _TEXT_ROWS),
            log_bars(self._counts, 1),
        )
        if not len(bars.counts):
            return "\n".join([*lines, "no values yet", *self._footer()])
        tallest = int(bars.counts.max())
        rows = [
            [
                f"{units.human(int(low), self.unit)} {units.UNKNOWN}",
                units.human(int(high), self.unit),
                f"{int(count):,}",
                _bar(int(count) / tallest),
            ]
            for low, high, count in zip(bars.edges, bars.edges[1:], bars.counts, strict=False)
        ]
        width = max(len(row[2]) for row in rows)
        rows = [[low.rjust(12), high.rjust(10), count.rjust(width), bar] for low, high, count, bar in rows]
        body = "\n".join("  ".join(row).rstrip() for row in rows)
        marks = "  ".join(f"{name} {units.human(value, self.unit)}" for name, value in self._marks.items())
        return "\n".join([*lines, body, *([marks] if marks else []), *self._footer()])

    def html(self) -> str:
        """Return the latest percentiles as an HTML table."""
        return self._html("")

    def bundle(self) -> dict[str, Any]:
        """Return text, a picture, and HTML with the picture and a table of the percentiles."""
        if not self._counts.any():
            return super().bundle()
        from ebpf_magic.views.chart import draw  # matplotlib takes a second

        picture = base64.b64encode(draw(self._counts, self.unit, self._marks, self.title)).decode("ascii")
        # JupyterLab shows HTML where there is both, so the picture is in there too.
        image = f'<img alt="{_alt(self._marks, self.unit)}" width="720" src="data:image/png;base64,{picture}">'
        return {"text/plain": self.text(), "text/html": self._html(image), "image/png": picture}

    def _html(self, image: str) -> str:
        title = [html_line(self.title, "font-weight:600;")] if self.title and not image else []
        header, rows = self._table()
        body = html_table(header, rows) if rows else html_line("no values yet", _MUTED)
        return "".join([*title, image, body, *(html_line(line, _MUTED) for line in self._footer())])

    def _table(self) -> tuple[list[str], list[list[str]]]:
        header = ["", "value", "±"] if self._errors else ["", "value"]
        rows = [
            [name, units.human(value, self.unit), self._error(name)][: len(header)]
            for name, value in self._marks.items()
        ]
        return header, rows if self._counts.any() else []

    def _error(self, name: str) -> str:
        return units.human(self._errors[name], self.unit) if name in self._errors else ""

    def _footer(self) -> list[str]:
        total = int(self._counts.sum())
        return [*([f"{total:,} values"] if total else []), *self._warnings, *self._notes]

    def _deliver_state(self) -> None:
        occupied = np.flatnonzero(self._counts)
        first, end = (int(occupied[0]), int(occupied[-1]) + 1) if len(occupied) else (0, 0)
        state = {
            "title": self.title,
            "unit": self.unit,
            "first": first,
            "marks": list(self._marks.items()),
            "notes": self._notes,
            "warnings": self._warnings,
        }
        self.deliver(pack(state, {"counts": ("<u8", self._counts[first:end].astype("<u8").tobytes())}))


def _bar(share: float) -> str:
    eighths = round(share * _TEXT_WIDTH * 8) or 1
    return "█" * (eighths // 8) + (_BLOCKS[eighths % 8] if eighths % 8 else "")


def _alt(marks: Mapping[str, float], unit: str) -> str:
    import html

    listed = ", ".join(f"{name} {units.human(value, unit)}" for name, value in marks.items())
    return html.escape(f"histogram: {listed}")
