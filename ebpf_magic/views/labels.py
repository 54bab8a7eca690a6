"""Where the labels of vertical lines go, so that none covers another or a line. histogram.js does the same."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import NamedTuple

ROWS = 4
_GAP = 8.0
_OFF_LINE = 4.0
_CLEAR = 3.0


class Placed(NamedTuple):
    """A label beside its line at `x`: its row above the chart (0 is the lowest), and the ends of its text."""

    x: float
    row: int
    left: float
    right: float


def place(lines: Sequence[tuple[float, float]], low: float, high: float) -> list[Placed]:
    """Choose a row and a side for each label, low rows and the right side first.

    A line runs from the chart up to its own label's row, so a label must also keep clear of the lines that pass
    its row.

    Parameters
    ----------
    lines : sequence of (float, float)
        Where each line stands and how wide its label is, in pixels.
    low, high : float
        The ends of the space for labels.

    Returns
    -------
    list of Placed
        In the order of `lines`. Where there is too little space, labels have a row each and may leave it.
    """
    options = [
        [Placed(x, row, left, left + width) for row in range(ROWS) for left in (x + _OFF_LINE, x - _OFF_LINE - width)]
        for x, width in lines
    ]
    inside = [[option for option in each if option.left >= low and option.right <= high] for each in options]
    return _search(inside) or [each[2 * (ROWS - 1 - index % ROWS)] for index, each in enumerate(options)]


def _search(options: Sequence[Sequence[Placed]]) -> list[Placed] | None:
    best: list[Placed] | None = None
    least = float("inf")
    stack: list[tuple[float, list[Placed]]] = [(0.0, [])]
    while stack:
        cost, chosen = stack.pop()
        if cost >= least:
            continue
        if len(chosen) == len(options):
            best, least = chosen, cost
            continue
        for option in options[len(chosen)]:
            if not any(_covers(option, other) or _covers(other, option) for other in chosen):
                stack.append((cost + 10 * option.row + (option.left < option.x), [*chosen, option]))
    return best


def _covers(label: Placed, other: Placed) -> bool:
    """Whether `label` covers the label or the line of `other`."""
    same_place = label.row == other.row and label.left < other.right + _GAP and other.left < label.right + _GAP
    return same_place or (other.row >= label.row and label.left - _CLEAR < other.x < label.right + _CLEAR)


def overlapping(placed: Sequence[Placed]) -> bool:
    """Whether any label covers another or a line."""
    return any(_covers(label, other) for label, other in itertools.permutations(placed, 2))
