"""The picture of a histogram, for when there is no widget: readable on a light page and on a dark one."""

from __future__ import annotations

import io
import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from ebpf_magic.views import units
from ebpf_magic.views.bins import log_bars
from ebpf_magic.views.labels import place

# Middle tones on a transparent ground: one picture for both themes.
_INK = "#7d7d7d"
_FAINT = "#8a8a8a44"
_BARS = "#3f8fd0"
_MARKS = {"p50": "#2f9e6e", "p90": "#c98a16", "p99": "#d65f4a", "max": "#9a6bc9"}
_SIZE_INCHES = (7.2, 3.0)
# Parts of the picture: a row of labels, and where the chart ends without any.
_ROW_HEIGHT = 0.062
_TOP = 0.885
_BOTTOM = 0.15


def draw(counts: np.ndarray[Any, np.dtype[np.uint64]], unit: str, marks: Mapping[str, float], title: str = "") -> bytes:
    """Return the histogram as a PNG, 1,440 pixels wide, drawn without pyplot.

    Parameters
    ----------
    counts : ndarray of uint64, shape (976,)
        Values counted in each bucket; at least one.
    unit : str
        Unit of the values.
    marks : mapping of str to float
        Lines to draw, by name: p50, p90, p99, max.
    title : str
        Above the picture.

    Returns
    -------
    bytes
        The PNG file.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # matplotlib takes a second
    from matplotlib.figure import Figure

    figure = Figure(figsize=_SIZE_INCHES, dpi=200)
    FigureCanvasAgg(figure)
    axes = figure.add_axes((0.085, _BOTTOM, 0.9, _TOP - _BOTTOM))
    bars = log_bars(counts)
    edges = np.log2(np.maximum(bars.edges, 0.5))
    gap = min(0.06 * float(np.diff(edges).min()), 0.02 * float(edges[-1] - edges[0]))
    axes.bar(
        edges[:-1] + gap / 2, bars.counts.astype(float), np.diff(edges) - gap, align="edge", color=_BARS, linewidth=0
    )
    axes.set_xlim(float(edges[0]), float(edges[-1]))
    axes.set_ylim(0, float(bars.counts.max()) * 1.04)
    _dress(axes, unit, bars.width)
    _mark(axes, marks, unit)
    if title:
        figure.text(0.008, 0.975, _literal(title), color=_INK, fontsize=9.5, fontweight="bold", va="top")
    file = io.BytesIO()
    figure.savefig(file, format="png", transparent=True)
    return file.getvalue()


def _dress(axes: Any, unit: str, width: float | None) -> None:
    low, high = axes.get_xlim()
    ticks = log_ticks(2**low, 2**high, unit)
    axes.set_xticks([math.log2(tick) if tick else -0.5 for tick in ticks], [short(tick, unit) for tick in ticks])
    axes.yaxis.set_major_formatter(lambda value, _position: short(value, ""))
    axes.yaxis.get_major_locator().set_params(integer=True, nbins=5)
    axes.set_ylabel(_literal(f"count per {short(width, unit)}" if width else "count"), color=_INK, fontsize=8)
    axes.set_xlabel(_literal(f"{unit}, log scale" if unit else "value, log scale"), color=_INK, fontsize=8, labelpad=2)
    axes.tick_params(colors=_INK, labelsize=8, length=0, pad=4)
    axes.grid(axis="y", color=_FAINT, linewidth=0.6)
    axes.set_axisbelow(True)
    for side, spine in axes.spines.items():
        spine.set_visible(side == "bottom")
        spine.set_color(_FAINT)


def _mark(axes: Any, marks: Mapping[str, float], unit: str) -> None:
    """Draw the lines, and their labels above the chart."""
    renderer = axes.figure.canvas.get_renderer()
    frame = axes.get_window_extent(renderer)
    ordered = sorted(marks.items(), key=lambda item: item[1])
    labels, lines = [], []
    for name, value in ordered:
        words = _literal(f"{name} {units.human(value, unit)}")
        label = axes.text(0, 0, words, color=_MARKS.get(name, _INK), fontsize=8, fontweight="bold", va="bottom")
        labels.append(label)
        x = axes.transData.transform((math.log2(max(value, 0.5)), 0))[0]
        lines.append((min(max(x, frame.x0), frame.x1), label.get_window_extent(renderer).width))
    placed = place(lines, 0, axes.figure.bbox.width)
    height_of_chart = _TOP - _BOTTOM - _ROW_HEIGHT * (1 + max((spot.row for spot in placed), default=0))
    axes.set_position((0.085, _BOTTOM, 0.9, height_of_chart))
    pixel, row_height = 1 / frame.width, _ROW_HEIGHT / height_of_chart
    for label, spot in zip(labels, placed, strict=True):
        height = 1.02 + spot.row * row_height
        label.set(transform=axes.transAxes, x=(spot.left - frame.x0) * pixel, y=height)
        at = (spot.x - frame.x0) * pixel
        axes.plot(
            [at, at],
            [0, height + 0.8 * row_height],
            transform=axes.transAxes,
            color=label.get_color(),
            linewidth=1.1,
            linestyle=(0, (4, 2)),
            clip_on=False,
        )


def short(value: float, unit: str) -> str:
    """Return a value as a tick says it, without digits that say nothing: ``10 µs``, ``2.5k``."""
    if unit in ("ns", "bytes"):
        divisor, name = units.scale_of(value, unit)
        return f"{value / divisor:.3g} {name}" if value / divisor < 1000 else f"{value / divisor:,.0f} {name}"
    for divisor, name in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= divisor:
            return f"{value / divisor:.3g}{name}"
    return f"{value:.3g}"


def log_ticks(low: float, high: float, unit: str, most: int = 9) -> list[float]:
    """Return places for ticks on a logarithmic axis: powers of ten (two for bytes), finer where the range is short."""
    start = [0.0] if low < 1 else []
    low = max(low, 1.0)
    octaves = math.log2(high / low)
    if unit == "bytes" and octaves > 2:
        step = next(step for step in (1, 2, 5, 10, 20) if octaves / step <= most)
        first = math.ceil(math.log2(low) / step) * step
        return start + [2.0**power for power in range(first, math.floor(math.log2(high)) + 1, step)]
    decades = math.log10(high / low)
    if decades < 0.7:
        return start + linear_ticks(low, high, unit)
    wanted = (1, 2, 5) if decades < 2.6 else (1, 3) if decades < 4 else (1,)
    every = math.ceil(decades / most)
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    ticks = [10.0**power * digit for power in powers if power % every == 0 for digit in wanted]
    return start + [tick for tick in ticks if low <= tick <= high]


def linear_ticks(low: float, high: float, unit: str, most: int = 6) -> list[float]:
    """Return round places for ticks on a linear axis."""
    rough = (high - low) / most
    base = 2.0 if unit == "bytes" else 10.0
    power = base ** math.floor(math.log(rough, base)) if rough > 0 else 1.0
    step = next(power * digit for digit in ((1, 2) if base == 2 else (1, 2, 5, 10)) if power * digit >= rough)
    first = math.ceil(low / step - 1e-9)
    return [index * step for index in range(first, math.floor(high / step + 1e-9) + 1)]


def _literal(text: str) -> str:
    """Keep matplotlib from reading ``$...$`` as mathematics."""
    return text.replace("$", r"\$")
